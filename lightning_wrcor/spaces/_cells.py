"""The operations of the cell-based spaces: one description each, from which the modules and their costs both follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, permutations, product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._training import maybe_dropped

Size = tuple[int, int]
"""Height and width of a feature map."""


@dataclass(frozen=True)
class Conv:
    """One bias-free convolution with padding that keeps the size (at stride 1).

    Attributes:
        kernel: height and width.
        strided: whether the stride of the operation applies to the height and to the width.
        dilation: the same for both axes.
        depthwise: one filter a channel instead of full ones.
    """

    kernel: Size
    strided: tuple[bool, bool] = (True, True)
    dilation: int = 1
    depthwise: bool = False

    def build(self, c_in: int, c_out: int, stride: int) -> nn.Conv2d:
        """The module."""
        high, wide = self.kernel
        return nn.Conv2d(
            c_in,
            c_out,
            self.kernel,
            stride=(stride if self.strided[0] else 1, stride if self.strided[1] else 1),
            padding=(self.dilation * (high // 2), self.dilation * (wide // 2)),
            dilation=self.dilation,
            groups=c_in if self.depthwise else 1,
            bias=False,
        )

    def weights(self, c_in: int, c_out: int) -> int:
        """Number of weights."""
        return self.kernel[0] * self.kernel[1] * (c_out if self.depthwise else c_in * c_out)

    def shrink(self, size: Size, stride: int) -> Size:
        """Size of the output for an input of ``size``."""
        high, wide = size
        return (
            strided_size(high, stride) if self.strided[0] else high,
            strided_size(wide, stride) if self.strided[1] else wide,
        )


def strided_size(length: int, stride: int) -> int:
    """Length of one axis after a stride, rounded up: what every strided operation here gives."""
    return -(-length // stride)


_KEEP = (False, False)
_POINTWISE = Conv((1, 1), _KEEP)


def _separable(kernel: int, dilation: int = 1, strided: bool = True) -> tuple[Conv, ...]:
    """A depthwise convolution and a 1x1 one."""
    return Conv((kernel, kernel), (strided, strided), dilation, depthwise=True), _POINTWISE


def _twice(kernel: int, dilation: int = 1) -> tuple[tuple[Conv, ...], ...]:
    """The separable convolution of NASNet and its successors: two blocks, the stride in the first."""
    return _separable(kernel, dilation), _separable(kernel, dilation, strided=False)


def _crossed(length: int) -> tuple[tuple[Conv, ...], ...]:
    """A row filter and then a column filter, each with the stride of its own axis."""
    return ((Conv((1, length), (False, True)), Conv((length, 1), (True, False))),)


# Every operation with weights is a chain of blocks, and a block is ReLU, these convolutions, BN.
BLOCKS: dict[str, tuple[tuple[Conv, ...], ...]] = {
    "nor_conv_1x1": ((Conv((1, 1)),),),
    "nor_conv_3x3": ((Conv((3, 3)),),),
    "conv_1x1": ((Conv((1, 1)),),),
    "conv_3x3": ((Conv((3, 3)),),),
    "conv_3x1_1x3": _crossed(3),
    "conv_7x1_1x7": _crossed(7),
    "sep_conv_3x3": _twice(3),
    "sep_conv_5x5": _twice(5),
    "sep_conv_7x7": _twice(7),
    "dil_conv_3x3": (_separable(3, dilation=2),),
    "dil_conv_5x5": (_separable(5, dilation=2),),
    "dil_sep_conv_3x3": _twice(3, dilation=2),
}
POOLS = {"avg_pool_3x3": 3, "max_pool_3x3": 3, "max_pool_5x5": 5, "max_pool_7x7": 7}
OPERATIONS = ("none", "skip_connect", *POOLS, *BLOCKS)
"""Every operation that `build_operation` knows."""


class Zero(nn.Module):
    """The operation ``none``: zeros that stay connected to the input.

    Multiplying (rather than making new zeros) gives every parameter before it a gradient of zero instead of none at
    all, so that distributed data parallel does not wait for parameters that a cell cuts off.
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return x * 0.0

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class FactorisedReduction(nn.Module):
    """Halve the size without losing every other pixel: two strided 1x1 convolutions, one on the shifted image."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        high, wide = x.shape[-2:]
        shifted = x[:, :, 1:, 1:]
        if high % 2 or wide % 2:
            # The shifted image of an odd length is one step short: a border of zeros brings both halves to one size.
            shifted = F.pad(shifted, (0, wide % 2, 0, high % 2))
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return out


def conv_block(convs: Sequence[Conv], c_in: int, c_out: int, stride: int) -> list[nn.Module]:
    """ReLU, the convolutions (the first changes the number of channels), BN."""
    ends = [c_in] + [c_out] * len(convs)
    layers = [conv.build(a, b, stride) for conv, a, b in zip(convs, ends, ends[1:], strict=False)]
    # Never in place: the input of an operation is the input of other operations too.
    return [nn.ReLU(inplace=False), *layers, nn.BatchNorm2d(c_out)]


def relu_conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, one square convolution, BN."""
    return nn.Sequential(*conv_block((Conv((kernel, kernel)),), c_in, c_out, stride))


@lru_cache(maxsize=4096)
def relu_conv_bn_costs(c_in: int, c_out: int, kernel: int, size: Size, stride: int = 1) -> Costs:
    """Costs of `relu_conv_bn` on an input of ``size``."""
    return _block_costs((Conv((kernel, kernel)),), c_in, c_out, stride, size)[0]


def _block_costs(convs: Sequence[Conv], c_in: int, c_out: int, stride: int, size: Size) -> tuple[Costs, Size]:
    params, macs = 2 * c_out, 0
    for conv in convs:
        size = conv.shrink(size, stride)
        weights = conv.weights(c_in, c_out)
        params, macs, c_in = params + weights, macs + weights * size[0] * size[1], c_out
    return Costs(params, macs, depth=1), size


def factorised_reduction_costs(c_in: int, c_out: int, size: Size) -> Costs:
    """Costs of `FactorisedReduction` on an input of ``size``: both halves together are one strided 1x1 block."""
    return relu_conv_bn_costs(c_in, c_out, 1, size, stride=2)


class ResidualReduction(nn.Module):
    """A pre-activation residual block that halves the size (NAS-Bench-201's, between its stages)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_a = relu_conv_bn(c_in, c_out, 3, stride=2)
        self.conv_b = relu_conv_bn(c_out, c_out, 3)
        # Rounding up changes nothing at even sizes, and at odd ones it meets the strided convolution's size.
        pool = nn.AvgPool2d(2, stride=2, ceil_mode=True)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(c_in, c_out, 1, bias=False))
        self.drop_path: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + maybe_dropped(self.conv_b(self.conv_a(x)), self.drop_path)
        return out


def residual_reduction_costs(c_in: int, c_out: int, size: Size) -> Costs:
    """Costs of `ResidualReduction` on an input of ``size``."""
    half = strided_size(size[0], 2), strided_size(size[1], 2)
    first = relu_conv_bn_costs(c_in, c_out, 3, size, stride=2)
    second = relu_conv_bn_costs(c_out, c_out, 3, half)
    return total([first, second, Costs(c_in * c_out, c_in * c_out * half[0] * half[1], depth=0)])


def build_operation(name: str, channels: int, stride: int) -> nn.Module:
    """Build the operation ``name`` from ``channels`` to ``channels``; stride 2 halves the size, rounding up."""
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorisedReduction(channels, channels)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
    if name in POOLS:
        return nn.MaxPool2d(POOLS[name], stride=stride, padding=POOLS[name] // 2)
    return nn.Sequential(*(layer for convs in BLOCKS[name] for layer in conv_block(convs, channels, channels, stride)))


@lru_cache(maxsize=4096)
def operation_costs(name: str, channels: int, stride: int, size: Size) -> Costs:
    """Costs of `build_operation` on an input of ``size``; MACs of one image."""
    if name == "skip_connect" and stride > 1:
        return factorised_reduction_costs(channels, channels, size)
    blocks = []
    for convs in BLOCKS.get(name, ()):
        block, size = _block_costs(convs, channels, channels, stride, size)
        blocks.append(block)
    return total(blocks)


def total(costs: Iterable[Costs]) -> Costs:
    """Add up costs."""
    params = macs = depth = 0
    for cost in costs:
        params, macs, depth = params + cost.params, macs + cost.macs, depth + cost.depth
    return Costs(params, macs, depth)


def orders(signatures: Sequence[tuple[int, str]]) -> Iterator[tuple[int, ...]]:
    """Every order of the positions that sorts ``signatures``; equal ones stand in every possible order."""
    ranked = sorted(range(len(signatures)), key=lambda position: signatures[position])
    ties = [permutations(group) for _, group in groupby(ranked, key=lambda position: signatures[position])]
    for parts in product(*ties):
        yield tuple(position for part in parts for position in part)
