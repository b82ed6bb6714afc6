"""Small networks for the tests of scoring, each with a second forward pass that marks its non-linearities by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

At = Callable[..., Tensor]


def images_and_labels(n: int = 12, size: int = 8, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, generator=generator), torch.arange(n) % classes


def conv(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out))


class Functions(nn.Module):
    """Functional calls of every kind, in place or not."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([conv(3, 6), *(conv(6, 6) for _ in range(6))])
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f, g = self.convs
        x = F.relu(a(x))
        x = torch.relu(b(x))
        x = c(x).relu()
        x = d(x).relu_()
        x = e(x)
        F.silu(x, inplace=True)
        x = F.leaky_relu(f(x), 0.2, True)
        x = F.gelu(input=g(x))
        return self.head(x.mean((2, 3)))

    def by_hand(self, x: Tensor, at: At) -> Tensor:
        a, b, c, d, e, f, g = self.convs
        for layer in (a, b, c, d):
            x = torch.clamp(at(0, layer(x)), min=0)
        x = at(0, e(x))
        x = x * torch.sigmoid(x)
        x = at(0, f(x))
        x = torch.where(x > 0, x, 0.2 * x)
        x = at(0, g(x))
        x = 0.5 * x * (1 + torch.erf(x / 2**0.5))
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """One tensor with several consumers, one module and one block called several times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = conv(3, 6), conv(6, 6)
        self.act = nn.ReLU()
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.act(x) + F.silu(x) + 0.3 * x + F.gelu(-x)
        for _ in range(3):
            x = x + self.act(self.block(x))
        return self.head(x.mean((2, 3)))

    def by_hand(self, x: Tensor, at: At) -> Tensor:
        x = self.stem(x)
        x = F.relu(at(0, x)) + F.silu(at(0, x)) + 0.3 * x + F.gelu(at(0, -x))
        for _ in range(3):
            x = x + F.relu(at(0, self.block(x)))
        return self.head(x.mean((2, 3)))


class Overwriting(nn.Module):
    """Goes on using tensors after in-place activations have overwritten them, also through views.

    Args:
        in_place: False computes the same without overwriting anything.
    """

    def __init__(self, in_place: bool = True) -> None:
        super().__init__()
        self.in_place = in_place
        self.a, self.b, self.c = conv(3, 6), conv(6, 6), conv(6, 6)
        self.act, self.silu = nn.ReLU(inplace=in_place), nn.SiLU(inplace=in_place)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.act(x)
        if not self.in_place:
            x = y
        x = self.b(x) + x + 0.5 * y  # x holds what ReLU wrote
        view = x.flatten(1)
        z = self.silu(view)
        if not self.in_place:
            x = z.view_as(x)
        x = self.c(x) + x  # x was overwritten through its view
        if self.in_place:
            x[:, 2:5].relu_()
        else:
            x = torch.cat([x[:, :2], x[:, 2:5].relu(), x[:, 5:]], 1)
        return self.head(x.mean((2, 3)))

    def by_hand(self, x: Tensor, at: At) -> Tensor:
        x = F.relu(at(0, self.a(x)))
        x = self.b(x) + 1.5 * x
        x = F.silu(at(0, x.flatten(1))).view_as(x)
        x = self.c(x) + x
        x = torch.cat([x[:, :2], F.relu(at(0, x[:, 2:5])), x[:, 5:]], 1)
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """torch's encoder layers on patches; dropout is on by default, the sequence comes first."""

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.patches = nn.Conv2d(3, 8, 2, 2)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, activation=kind, batch_first=batch_first)
            for kind in ("relu", "gelu")
        )
        self.head = nn.Linear(8, 5)

    def tokens(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        return x.transpose(1, 2) if self.batch_first else x.permute(2, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1 if self.batch_first else 0))

    def by_hand(self, x: Tensor, at: At) -> Tensor:
        x = self.tokens(x)
        for layer, (block, act) in enumerate(zip(self.blocks, (F.relu, F.gelu), strict=True)):
            attention = nn.MultiheadAttention(8, 2, batch_first=self.batch_first)
            attention.load_state_dict(block.self_attn.state_dict())
            x = block.norm1(x + attention(x, x, x, need_weights=False)[0])
            hidden = act(at(layer, block.linear1(x), samples=0 if self.batch_first else 1))
            x = block.norm2(x + block.linear2(hidden))
        return self.head(x.mean(1 if self.batch_first else 0))
