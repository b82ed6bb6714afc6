"""Networks of residual inverted bottlenecks: their modules, their costs in closed form, their text and their drawing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._cells import Size, strided_size, total
from lightning_wrcor.spaces._drawing import Drawing, Table
from lightning_wrcor.spaces._training import LayerPatterns, layer_patterns, maybe_dropped

_EPS = 1e-3  # of every BN
_STAGE = re.compile(r"E(\d+)K(\d+)\((\d+),(\d+),(\d+),(\d+),(\d+)\)")


class Stage(NamedTuple):
    """Equal blocks one after the other; the first of them has the stride and meets the width before it."""

    expansion: int
    kernel: int
    width: int
    stride: int
    bottleneck: int
    depth: int

    @property
    def inside(self) -> int:
        """Channels of the depthwise convolutions: a multiple of 8."""
        return 8 * max(1, round(self.bottleneck * self.expansion / 8))


class Network(NamedTuple):
    """A genotype whose type has been checked; equal to the plain nested tuple."""

    resolution: int
    stem: int
    stages: tuple[Stage, ...]
    head: int

    @property
    def widths(self) -> list[int]:
        """Channels before each stage, and after the last."""
        return [self.stem, *(stage.width for stage in self.stages)]


def conv_bn(
    c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
) -> list[nn.Module]:
    """A convolution with padding that keeps the size (at stride 1), and BN."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias)
    return [conv, nn.BatchNorm2d(c_out, eps=_EPS)]


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate that sees the mean of all of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = squeezed_width(channels)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *conv_bn(channels, squeezed),
            nn.ReLU(inplace=False),
            *conv_bn(squeezed, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.gate(x)
        return x


def squeezed_width(channels: int) -> int:
    """Channels inside squeeze-and-excitation."""
    return max(1, round(channels * 0.25))


class Block(nn.Module):
    """Widen by a 1x1 convolution, filter each channel, narrow by a 1x1 convolution, add the shortcut, ReLU."""

    def __init__(self, stage: Stage, c_in: int | None, se: bool) -> None:
        """Args: ``c_in`` of the first block of a stage; None for the others, whose shortcut is the identity."""
        super().__init__()
        first = c_in is not None
        c_in = stage.width if c_in is None else c_in
        stride, inside = stage.stride if first else 1, stage.inside
        self.expand = nn.Sequential(*conv_bn(c_in, inside), nn.ReLU(inplace=False))
        depthwise = conv_bn(inside, inside, stage.kernel, stride, groups=inside)
        self.depthwise = nn.Sequential(*depthwise, nn.ReLU(inplace=False))
        self.se = SqueezeExcitation(inside) if se else nn.Identity()
        self.project = nn.Sequential(*conv_bn(inside, stage.width))
        shortcut = nn.Sequential(*conv_bn(c_in, stage.width, stride=stride, bias=True))
        self.shortcut = shortcut if first else nn.Identity()
        self.act = nn.ReLU(inplace=False)
        self.drop_path: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.se(self.depthwise(self.expand(x))))
        x = self.act(maybe_dropped(out, self.drop_path) + self.shortcut(x))
        return x


class InvertedResidualNetwork(nn.Module):
    """Images ``(batch, in_chans, height, width)`` to logits ``(batch, num_classes)``.

    Attributes:
        resolution: height and width in pixels that the network is meant for.
        resize: whether images of another size are brought to it first, bilinearly.
    """

    def __init__(self, network: Network, num_classes: int, in_chans: int, se: bool, resize: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.resolution = network.resolution
        self.resize = resize
        self.stem = nn.Sequential(*conv_bn(in_chans, network.stem, 3, stride=2), nn.ReLU(inplace=False))
        self.stages = nn.Sequential()
        for stage, c_in in zip(network.stages, network.widths, strict=False):
            entries = [c_in, *[None] * (stage.depth - 1)]
            self.stages.append(nn.Sequential(*(Block(stage, entry, se) for entry in entries)))
        self.head = nn.Sequential(*conv_bn(network.widths[-1], network.head), nn.ReLU(inplace=False))
        self.classifier = nn.Linear(network.head, num_classes)

    def group_matcher(self, coarse: bool = False) -> LayerPatterns:
        """The stem, every block, and the head are one layer each; the convention is timm's."""
        return layer_patterns(coarse, r"^stages\.(\d+)\.(\d+)", after=r"^head")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, ``(batch, head channels, height, width)``."""
        if self.resize and x.shape[-2:] != (self.resolution, self.resolution):
            x = F.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear", align_corners=False)
        x = self.stages(self.stem(x))
        x = self.head(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.forward_features(x), 1).flatten(1)
        x = self.classifier(x)
        return x


def network_costs(network: Network, in_chans: int, size: Size, num_classes: int, se: bool) -> Costs:
    """Costs of `InvertedResidualNetwork` for one image that reaches its stem with ``size``."""
    size = _halved(size)
    parts = [_conv_costs(9 * in_chans * network.stem, network.stem, size, acts=1)]
    for stage, c_in in zip(network.stages, network.widths, strict=False):
        parts.append(_stage_costs(stage, c_in, size, se))
        size = _halved(size) if stage.stride == 2 else size
    parts.append(_conv_costs(network.widths[-1] * network.head, network.head, size, acts=1))
    parts.append(Costs((network.head + 1) * num_classes, network.head * num_classes, depth=0))
    return total(parts)


@lru_cache(maxsize=65536)
def _stage_costs(stage: Stage, c_in: int, size: Size, se: bool) -> Costs:
    out = _halved(size) if stage.stride == 2 else size
    shortcut = _conv_costs(c_in * stage.width, stage.width, out)
    shortcut = Costs(shortcut.params + stage.width, shortcut.macs, 0)  # the only convolution with a bias
    first, other = _block_costs(stage, c_in, size, out, se), _block_costs(stage, stage.width, out, out, se)
    return total([first, shortcut, *[other] * (stage.depth - 1)])


def _block_costs(stage: Stage, c_in: int, size: Size, out: Size, se: bool) -> Costs:
    """Costs of a block without its shortcut's projection."""
    inside, squeezed = stage.inside, squeezed_width(stage.inside)
    parts = [
        _conv_costs(c_in * inside, inside, size, acts=1),
        _conv_costs(stage.kernel**2 * inside, inside, out, acts=1),
        _conv_costs(inside * stage.width, stage.width, out, acts=1),  # the ReLU after the sum
    ]
    if se:
        parts += [
            _conv_costs(inside * squeezed, squeezed, (1, 1), acts=1),
            _conv_costs(squeezed * inside, inside, (1, 1)),
        ]
    return total(parts)


def _conv_costs(weights: int, c_out: int, size: Size, acts: int = 0) -> Costs:
    """Costs of a convolution that gives ``size``, and of BN."""
    return Costs(weights + 2 * c_out, weights * size[0] * size[1], acts)


def _halved(size: Size) -> Size:
    return strided_size(size[0], 2), strided_size(size[1], 2)


def read_network(text: str, names: Iterable[str]) -> Network:
    """Read ``stem 48; E2K7(48,32,2,40,2) ...; head 1264; resolution 224``; numbers are not checked.

    Args:
        text: the whole network.
        names: names that it could have been called by, for the message.

    Raises:
        ValueError: showing the part that cannot be read, and where a stage does not take what the one before gives.
    """
    parts = [part.strip() for part in text.split(";")]
    if len(parts) != 4:
        raise ValueError(
            f"A network is written 'stem <width>; <seven stages>; head <width>; resolution <pixels>', or goes by its "
            f"name ({', '.join(names)}); got {text!r}."
        )
    stem = _labelled("stem", parts[0])
    stages, c_in = [], stem
    for place, written in enumerate(parts[1].split(), start=1):
        found = _STAGE.fullmatch(written)
        if not found:
            form = "E<expansion>K<kernel>(<in>,<out>,<stride>,<bottleneck>,<depth>)"
            raise ValueError(f"Stage {place} is written {form}; got {written!r}.")
        expansion, kernel, entering, width, stride, bottleneck, depth = map(int, found.groups())
        if entering != c_in:
            raise ValueError(f"Stage {place} follows {c_in} channels, but says that {entering} come in: {written!r}.")
        stages.append(Stage(expansion, kernel, width, stride, bottleneck, depth))
        c_in = width
    return Network(_labelled("resolution", parts[3]), stem, tuple(stages), _labelled("head", parts[2]))


def write_network(network: Network) -> str:
    """The text that `read_network` reads."""
    stages = " ".join(
        f"E{s.expansion}K{s.kernel}({c_in},{s.width},{s.stride},{s.bottleneck},{s.depth})"
        for s, c_in in zip(network.stages, network.widths, strict=False)
    )
    return f"stem {network.stem}; {stages}; head {network.head}; resolution {network.resolution}"


def draw_network(network: Network) -> Drawing:
    """A table of the stages."""
    stem = ("stem", "", "3", str(network.stem), "2", "", "")
    stages = [(str(place), *map(str, stage)) for place, stage in enumerate(network.stages, start=1)]
    last = ("head", "", "1", str(network.head), "1", "", "")
    table = Table((stem, *stages, last), ("stage", *Stage._fields))
    return Drawing((table,), f"images of {network.resolution} × {network.resolution} pixels")


def _labelled(label: str, part: str) -> int:
    found = re.fullmatch(rf"{label} (\d+)", part)
    if not found:
        raise ValueError(f"Expected '{label} <number>', got {part!r}.")
    return int(found[1])
