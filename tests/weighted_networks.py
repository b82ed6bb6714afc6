"""Small networks whose layers with weights and non-linearities are marked by hand, and what a reference takes of them.

``by_hand(images, hand)`` computes a network once more: ``hand.layer`` stands where a convolution or a linear map is
called, ``hand.act`` where a non-linearity is, ``hand.norm`` where a normalisation is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Apply = Callable[[Tensor, Tensor], Tensor]


@dataclass
class LayerHere:
    """One call: the name of its weight, what it computes of input and weight, both, its output, where the channels are."""

    key: str
    apply: Apply
    images: Tensor
    weight: Tensor
    out: Tensor
    channels: int

    def maps(self, value: Tensor) -> np.ndarray:
        """Output or gradient as (images, channels, positions)."""
        return np.moveaxis(value.detach().numpy(), self.channels, 1).reshape(len(value), value.shape[self.channels], -1)


class Hand:
    """One forward pass by hand.

    Args:
        weights: values in place of those that layers have, by key.
        bare: leave normalisations out.
    """

    def __init__(self, weights: dict[str, Tensor] | None = None, bare: bool = False) -> None:
        self.weights = {} if weights is None else weights
        self.bare = bare
        self.layers: list[LayerHere] = []
        self.before: list[np.ndarray] = []
        self.after: list[np.ndarray] = []
        self.places: list[int] = []

    def layer(self, key: str, apply: Apply, x: Tensor, weight: Tensor, channels: int = 1) -> Tensor:
        used = self.weights.setdefault(key, weight.detach().clone().requires_grad_())
        out = apply(x, used)
        out.retain_grad()
        self.layers.append(LayerHere(key, apply, x.detach().clone(), used, out, channels))
        return out

    def linear(self, key: str, module: nn.Linear, x: Tensor) -> Tensor:
        return self.layer(key, lambda x, w: F.linear(x, w, module.bias), x, module.weight, x.dim() - 1)

    def conv(self, key: str, module: nn.Conv2d, x: Tensor) -> Tensor:
        def apply(x: Tensor, w: Tensor) -> Tensor:
            return F.conv2d(x, w, module.bias, module.stride, module.padding, module.dilation, module.groups)

        return self.layer(key, apply, x, module.weight)

    def act(self, function: Callable[[Tensor], Tensor], x: Tensor, channels: int = 1) -> Tensor:
        out = function(x)
        self.before.append(x.detach().numpy().copy())
        self.after.append(out.detach().numpy().copy())
        self.places.append(channels)
        return out

    def norm(self, module: nn.Module, x: Tensor) -> Tensor:
        return x if self.bare else module(x)


def seen_by_hand(network: nn.Module, images: Tensor, labels: Tensor, **options: object) -> Hand:
    """The pass by hand in float64, with the gradients of the cross-entropy."""
    hand = Hand(**options)  # type: ignore[arg-type]
    labels = labels.double() if labels.is_floating_point() else labels
    F.cross_entropy(in_double(network).by_hand(images.double(), hand), labels).backward()
    return hand


def in_double(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).double().train()


def gradients_of(hand: Hand, parts: list[list[int]]) -> dict[str, np.ndarray]:
    """Gradients of each weight, ``(parts, ...)``: each image's own contribution at each layer, the others masked."""
    found: dict[str, np.ndarray] = {}
    for call in hand.layers:
        if call.out.grad is None:
            continue
        rows = []
        for part in parts:
            mask = torch.zeros_like(call.out)
            mask[part] = 1.0
            weight = call.weight.detach().clone().requires_grad_()
            given = call.apply(call.images, weight)
            rows.append(torch.autograd.grad(given, weight, mask * call.out.grad)[0].numpy())
        found[call.key] = found.get(call.key, 0.0) + np.stack(rows)
    return found


class ConvNorm(nn.Module):
    """Convolutions and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.norm_a, self.norm_b = nn.BatchNorm2d(4), nn.BatchNorm2d(5)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm_a(self.a(x)))
        return self.head(torch.relu(self.norm_b(self.b(x))).mean((2, 3)))

    def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
        x = hand.act(F.relu, hand.norm(self.norm_a, hand.conv("a", self.a, x)))
        x = hand.act(F.relu, hand.norm(self.norm_b, hand.conv("b", self.b, x)))
        return hand.linear("head", self.head, x.mean((2, 3)))


class Bare(nn.Module):
    """No normalisation; activations directly behind the layers, in place; linear layers between images and logits."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, bias=bias), nn.Conv2d(4, 4, 3, bias=bias)
        self.c, self.head = nn.Linear(16, 7, bias=bias), nn.Linear(7, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x), inplace=True)
        x = self.b(x).relu_()
        return self.head(F.relu_(self.c(x.flatten(1))))

    def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
        x = hand.act(F.relu, hand.conv("a", self.a, x))
        x = hand.act(F.relu, hand.conv("b", self.b, x))
        return hand.linear("head", self.head, hand.act(F.relu, hand.linear("c", self.c, x.flatten(1))))


class Tokens(nn.Module):
    """Patches, layer normalisation, and linear maps on (images, tokens, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, 2)
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))

    def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
        x = hand.conv("patches", self.patches, x).flatten(2).transpose(1, 2)
        y = hand.act(F.gelu, hand.linear("up", self.up, hand.norm(self.norm, x)), channels=2)
        return hand.linear("head", self.head, (x + hand.linear("down", self.down, y)).mean(1))


class Grouped(nn.Module):
    """Depthwise, grouped and transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.deep = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4)
        self.b, self.up = nn.Conv2d(4, 6, 1, groups=2), nn.ConvTranspose2d(6, 4, 2, 2, groups=2)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.b(self.deep(self.a(x)).relu()))
        return self.head(F.leaky_relu(self.norm(self.up(x)), 0.2).mean((2, 3)))

    def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
        x = hand.act(F.relu, hand.conv("deep", self.deep, hand.conv("a", self.a, x)))
        x = hand.act(F.silu, hand.conv("b", self.b, x))
        x = hand.layer("up", lambda x, w: F.conv_transpose2d(x, w, self.up.bias, 2, groups=2), x, self.up.weight)
        x = hand.act(lambda x: F.leaky_relu(x, 0.2), hand.norm(self.norm, x))
        return hand.linear("head", self.head, x.mean((2, 3)))


class Functional(nn.Module):
    """Functions with parameters of the network's own, arguments by name, one dimension as well as two."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3) / 5)
        self.line, self.shift = nn.Parameter(torch.randn(5, 4, 3) / 3), nn.Parameter(torch.randn(5))
        self.matrix = nn.Parameter(torch.randn(4, 5) / 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.conv2d(input=x, weight=self.kernel, stride=2, padding=1).relu()
        x = F.conv1d(x.flatten(2), self.line, bias=self.shift, padding=1)
        return F.linear(input=F.softplus(x).mean(2), weight=self.matrix)

    def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
        x = hand.layer("kernel", lambda x, w: F.conv2d(x, w, None, 2, 1), x, self.kernel)
        x = hand.act(F.relu, x).flatten(2)
        x = hand.layer("line", lambda x, w: F.conv1d(x, w, self.shift, 1, 1), x, self.line)
        return hand.layer("matrix", F.linear, hand.act(F.softplus, x).mean(2), self.matrix)


class Shared(nn.Module):
    """One convolution called twice, one matrix called with different inputs, a branch that the loss does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 1)
        self.norm, self.matrix, self.head = nn.BatchNorm2d(4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        x = self.b(x).relu_()
        x = self.norm(self.b(x))
        torch.relu(self.unused(x))
        x = F.elu(x).mean((2, 3))
        return self.head(self.matrix(self.matrix(x) + x))

    def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
        x = hand.act(F.relu, hand.conv("a", self.a, x))
        x = hand.act(F.relu, hand.conv("b", self.b, x))
        x = hand.norm(self.norm, hand.conv("b", self.b, x))
        hand.act(F.relu, hand.conv("unused", self.unused, x))
        x = hand.act(F.elu, x).mean((2, 3))
        return hand.linear("head", self.head, hand.linear("m", self.matrix, hand.linear("m", self.matrix, x) + x))


class Standardised(nn.Module):
    """The weights of a convolution are made from a parameter, anew at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.raw, self.head = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Linear(4, 4)

    def weight(self) -> Tensor:
        mean = self.raw.mean((1, 2, 3), keepdim=True)
        return (self.raw - mean) / (self.raw.std((1, 2, 3), keepdim=True) * 27**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.hardswish(F.conv2d(x, self.weight()), inplace=True).mean((2, 3)))

    def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
        x = hand.act(F.hardswish, hand.layer("raw", F.conv2d, x, self.weight()))
        return hand.linear("head", self.head, x.mean((2, 3)))


NETWORKS = (ConvNorm, Bare, Tokens, Grouped, Functional, Shared, Standardised)


def batch(n: int = 7, size: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of 6 x 6, and labels of 4 classes of which the first has most images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, generator=generator), torch.arange(n) ** 2 % 7 % 4


def both_precisions(network: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor, float]]:
    """The network and its images in float32 and float64, each with the rounding to expect of a value."""
    return [(network, images, 2e-4), (in_double(network), images.double(), 1e-9)]
