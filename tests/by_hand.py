"""Small networks, each with a second forward pass written as plain arithmetic, without biases, with other normalisation.

``by_hand(weights, images, norm)`` gives ``(blocks, features, logits)``: ``weights`` are those of convolutions and linear
maps by the name of their module, ``norm`` stands in place of each normalisation; ``blocks`` are the outputs of the modules
in ``layers``, each made from the one before it, and ``features`` what the classifier sees pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_wrcor.proxies._initialise import DrawnWeights

Weights = dict[str, Tensor]
Norm = Callable[[Tensor], Tensor]
Parts = tuple[list[Tensor], Tensor, Tensor]


def weights_of(network: nn.Module, dtype: torch.dtype = torch.float64) -> Weights:
    kinds = (nn.Conv2d, nn.Linear)
    return {n: m.weight.detach().to(dtype) for n, m in network.named_modules() if isinstance(m, kinds)}


def conv_bn(c_in: int, c_out: int, stride: int = 1, inplace: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=inplace))


class Plain(nn.Module):
    """Convolution, batch normalisation, ReLU; the second block halves the size."""

    layers = {"stem": 0, "block": 1, "last": 2}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.last = conv_bn(3, 4), conv_bn(4, 6, 2, inplace=True), conv_bn(6, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.block(self.stem(x))).mean((2, 3)))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        a = norm(F.conv2d(x, w["stem.0"], padding=1)).clamp(min=0)
        b = norm(F.conv2d(a, w["block.0"], padding=1, stride=2)).clamp(min=0)
        c = norm(F.conv2d(b, w["last.0"], padding=1)).clamp(min=0)
        return [a, b, c], c, c.mean((2, 3)) @ w["head"].T


class _Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(F.silu(self.a(x), inplace=True))
        y += x
        return y


class Residual(nn.Module):
    """No normalisation; one branch runs twice, with the same weights."""

    layers = {"stem": 0, "block": 1, "other": 2}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.other = nn.Conv2d(3, 4, 3, padding=1), _Branch(), _Branch()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.block(F.relu(self.stem(x))))
        return self.head(F.adaptive_avg_pool2d(self.other(x), 1).flatten(1))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        def branch(name: str, x: Tensor) -> Tensor:
            y = F.conv2d(x, w[f"{name}.a"], padding=1)
            return F.conv2d(y * y.sigmoid(), w[f"{name}.b"]) + x

        a = F.conv2d(x, w["stem"], padding=1)
        b = branch("block", a.clamp(min=0))
        c = branch("other", b)
        d = branch("other", c)
        return [a, b, c], d, d.mean((2, 3)) @ w["head"].T


class _Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Tokens(nn.Module):
    """Patches as a sequence (B, N, C), layer normalisation."""

    layers = {"blocks.0": 0, "blocks.1": 1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(3, 6, 2, 2), nn.ModuleList([_Tokens(), _Tokens()])
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        x = F.conv2d(x, w["patches"], stride=2).flatten(2).mT
        blocks = []
        for name in ("blocks.0", "blocks.1"):
            y = norm(x) @ w[f"{name}.up"].T
            x = x + (0.5 * y * (1 + torch.erf(y / 2**0.5))) @ w[f"{name}.down"].T
            blocks.append(x)
        return blocks, x, x.mean(1) @ w["head"].T


class _Excited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.reduce, self.expand = conv_bn(4, 6), nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.between = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = x.mean((2, 3), keepdim=True)
        return torch.sigmoid(self.expand(F.relu(self.between(self.reduce(gate))))) * x


class Squeeze(nn.Module):
    """Squeeze-and-excitation (with a normalisation inside) just before the pooling."""

    layers = {"stem": 0, "block": 1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = conv_bn(3, 4), _Excited(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        a = norm(F.conv2d(x, w["stem.0"], padding=1)).clamp(min=0)
        b = norm(F.conv2d(a, w["block.conv.0"], padding=1)).clamp(min=0)
        gate = norm(F.conv2d(b.mean((2, 3), keepdim=True), w["block.reduce"])).clamp(min=0)
        b = b * torch.sigmoid(F.conv2d(gate, w["block.expand"]))
        return [a, b], b, b.mean((2, 3)) @ w["head"].T


class Behind(nn.Module):
    """Convolutions of 1x1 and a normalisation behind the pooling, as in MobileNetV3 and V4."""

    layers = {"stem": 0, "block": 1, "wide": 2}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = conv_bn(3, 4), conv_bn(4, 6, 2)
        self.wide = nn.Sequential(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.block(self.stem(x)), 1)
        return self.head(self.wide(x).flatten(1))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        a = norm(F.conv2d(x, w["stem.0"], padding=1)).clamp(min=0)
        b = norm(F.conv2d(a, w["block.0"], padding=1, stride=2)).clamp(min=0)
        c = norm(F.conv2d(b.mean((2, 3), keepdim=True), w["wide.0"])).clamp(min=0)
        return [a, b], b, c.flatten(1) @ w["head"].T


class Flat(nn.Module):
    """No pooling: the last map is flattened."""

    layers = {"stem": 0, "block": 1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = conv_bn(3, 2), conv_bn(2, 3, 2), nn.Linear(3 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.block(self.stem(x)), 1))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        a = norm(F.conv2d(x, w["stem.0"], padding=1)).clamp(min=0)
        b = norm(F.conv2d(a, w["block.0"], padding=1, stride=2)).clamp(min=0)
        return [a, b], b, b.flatten(1) @ w["head"].T


class _Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act, self.conv = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :2], (x + self.conv(self.act(self.norm(x))))[:, 2:]], dim=1)


class Joined(nn.Module):
    """Normalisation and activation (in place) before the convolution; the last map is joined of two."""

    layers = {"stem": 0, "block": 1, "other": 2}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.other = nn.Conv2d(3, 4, 3, padding=1), _Before(), _Before()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.block(self.stem(x)))
        return self.head(x.mean((2, 3)))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        blocks = [F.conv2d(x, w["stem"], padding=1)]
        for name in ("block", "other"):
            x = blocks[-1]
            moved = x + F.conv2d(norm(x).clamp(min=0), w[f"{name}.conv"], padding=1)
            blocks.append(torch.stack([x[:, 0], x[:, 1], moved[:, 2], moved[:, 3]], dim=1))
        return blocks, blocks[-1], blocks[-1].mean((2, 3)) @ w["head"].T


class Perceptron(nn.Module):
    """Images are scaled and flattened before the first linear map."""

    layers = {"first": 0, "second": 1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3 * 36, 8), nn.Linear(8, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = ((x - 0.5) / 0.5).flatten(1)
        return self.head(torch.tanh(self.second(F.relu(self.first(x)))))

    @staticmethod
    def by_hand(w: Weights, x: Tensor, norm: Norm) -> Parts:
        a = (2 * x - 1).flatten(1) @ w["first"].T
        b = torch.tanh(a.clamp(min=0) @ w["second"].T)
        return [], b, b @ w["head"].T


NETWORKS: list[Any] = [Plain, Residual, Tokens, Squeeze, Behind, Flat, Joined, Perceptron]


def batch(n: int = 6, size: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(5)), torch.arange(n) % 5


def noises(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]


def use_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that proxies prescribe are those that the network has, and the noise is that of `noises`."""

    def noise(self: Any, *shape: int, like: Tensor) -> Tensor:
        self.noises_used = getattr(self, "noises_used", 0) + 1
        return noises(*shape)[self.noises_used - 1].to(like)

    monkeypatch.setattr(DrawnWeights, "weight", lambda self, call, like: like)
    monkeypatch.setattr(DrawnWeights, "noise", noise)
