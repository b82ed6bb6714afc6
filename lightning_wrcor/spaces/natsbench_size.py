"""NATS-Bench's size space: one cell, and the width of each of five places; 32,768 networks for small images."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._base import FiniteSpace, Genotype
from lightning_wrcor.spaces._cells import (
    ResidualReduction,
    Size,
    relu_conv_bn,
    relu_conv_bn_costs,
    residual_reduction_costs,
    strided_size,
    total,
)
from lightning_wrcor.spaces._drawing import Drawing, Table
from lightning_wrcor.spaces._training import LayerPatterns, layer_patterns, maybe_dropped

_PLACES = 5
_REDUCTIONS = (1, 3)


class NATSBenchSize(FiniteSpace):
    """The 32,768 networks of NATS-Bench's size space (Dong, Liu, Musial and Gabrys, TPAMI 2021, arXiv 2009.00437).

    A network has the skeleton of `NASBench201` with one cell a stage: a 3x3 stem, cell, residual block of stride 2, cell,
    residual block of stride 2, cell; then BN, ReLU, pooling and a linear classifier. All cells are alike,
    ``|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|``; what differs are
    the five widths. A cell that changes the width does so in the operations on its input, and its skip is then a 1x1
    convolution and BN.

    A genotype is a tuple of five widths: of the stem and the first cell, the first residual block, the second cell, the
    second residual block, and the last cell.

    Args:
        widths: the widths to choose from; the benchmark's networks have 8 to 64 in steps of 8.
    """

    kind = "natsbench_size"
    input_size = (3, 32, 32)

    def __init__(self, widths: Sequence[int] = (8, 16, 24, 32, 40, 48, 56, 64)) -> None:
        self.widths = tuple(widths)
        fitting = {width for width in self.widths if isinstance(width, int) and width >= 1}
        if len(fitting) < len(self.widths) or len(fitting) < 2:
            raise ValueError(f"widths is a list of at least two different whole numbers, got {widths!r}.")

    def __len__(self) -> int:
        return int(len(self.widths) ** _PLACES)

    def __iter__(self) -> Iterator[Genotype]:
        return iter(product(self.widths, repeat=_PLACES))

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype; all are equally likely."""
        return tuple(rng.choice(self.widths) for _ in range(_PLACES))

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change one width to another one, both drawn uniformly."""
        widths = list(self._read(genotype))
        place = rng.randrange(_PLACES)
        widths[place] = rng.choice([width for width in self.widths if width != widths[place]])
        return tuple(widths)

    def places(self) -> tuple[tuple[Genotype, ...], ...]:
        """The widths, at each of the five places."""
        return (self.widths,) * _PLACES

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """The genotype itself: five widths."""
        return self._read(genotype)

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """Five widths as a genotype."""
        return self._read(tuple(parts))

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained network, with torch's default initialisation as the benchmark's own has.

        Args:
            genotype: five widths.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images; any height and width will do.

        Raises:
            ValueError: if the genotype is not in this space; the message shows the offending part.
        """
        return _Network(self._read(genotype), num_classes, in_chans)

    def parse(self, text: str) -> Genotype:
        """Read five widths, such as ``16:16:32:32:64``.

        Raises:
            ValueError: if they are not; the message shows the part that cannot be read.
        """
        widths = []
        for part in text.strip().split(":"):
            if not (part.isascii() and part.isdigit() and len(part) < 10):
                raise ValueError(
                    f"Expected five widths such as '16:16:32:32:64', got {part[:100]!r} in {text[:100]!r}."
                )
            widths.append(int(part))
        return self._read(tuple(widths))

    def name(self, genotype: Genotype) -> str:
        """The five widths with colons between them, as the benchmark's users write them."""
        return ":".join(map(str, self._read(genotype)))

    def _drawing(self, genotype: Genotype) -> Drawing:
        rows = [("stem", "conv 3×3", "1", str(self._read(genotype)[0]))]
        for place, width in enumerate(self._read(genotype)):
            block = ("residual", "2") if place in _REDUCTIONS else ("cell", "1")
            rows.append((str(place + 1), *block, str(width)))
        return Drawing((Table(tuple(rows), ("place", "block", "stride", "width")),))

    def layers(self, genotype: Genotype) -> Mapping[str, int]:
        """As in `NASBench201`: the stem and the first cell are 0, then every place counts one, ``last_act`` last."""
        return {"stem": 0, **{f"cells.{place}": place for place in range(_PLACES)}, "last_act": _PLACES}

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and ReLU calls in closed form.

        Args:
            genotype: five widths.
            input_size: ``(channels, height, width)`` of one image, by default (3, 32, 32).
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two).
        """
        widths = self._read(genotype)
        in_chans, high, wide = input_size or self.input_size
        weights = 9 * in_chans * widths[0]
        parts = [Costs(weights + 2 * widths[0], weights * high * wide, depth=0)]
        c_in = widths[0]
        for place, c_out in enumerate(widths):
            if place in _REDUCTIONS:
                parts.append(residual_reduction_costs(c_in, c_out, (high, wide)))
                high, wide = strided_size(high, 2), strided_size(wide, 2)
            else:
                parts.append(_cell_costs(c_in, c_out, (high, wide)))
            c_in = c_out
        parts.append(Costs(2 * c_in + (c_in + 1) * num_classes, c_in * num_classes, depth=1))
        return total(parts)

    def _read(self, genotype: Genotype) -> tuple[int, ...]:
        """The genotype with its type checked; ValueError shows what does not belong."""
        if not isinstance(genotype, tuple) or len(genotype) != _PLACES:
            raise ValueError(f"A genotype of NATSBenchSize is a tuple of {_PLACES} widths, got {genotype!r}.")
        widths = []
        for width in genotype:
            if not isinstance(width, int) or width not in self.widths:
                known = ", ".join(map(str, self.widths))
                raise ValueError(f"The width {width!r} is not in this NATSBenchSize, which has: {known}.")
            widths.append(width)
        return tuple(widths)


class _Cell(nn.Module):
    """Four nodes: the value of a node is the sum of five 3x3 convolutions' outputs and one skip, as they are wired."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        # Named by source and target node.
        self.conv_01 = relu_conv_bn(c_in, c_out, 3)
        self.conv_02 = relu_conv_bn(c_in, c_out, 3)
        self.conv_12 = relu_conv_bn(c_out, c_out, 3)
        self.skip_03 = (
            nn.Identity()
            if c_in == c_out
            else nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        )
        self.conv_13 = relu_conv_bn(c_out, c_out, 3)
        self.conv_23 = relu_conv_bn(c_out, c_out, 3)
        self.drop_path: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.conv_01(x)
        second: Tensor = self.conv_02(x) + self.conv_12(first)
        third: Tensor = self.skip_03(x) + maybe_dropped(self.conv_13(first), self.drop_path)
        third = third + maybe_dropped(self.conv_23(second), self.drop_path)
        return third


@lru_cache(maxsize=4096)
def _cell_costs(c_in: int, c_out: int, size: Size) -> Costs:
    skip = Costs(0, 0, 0)
    if c_in != c_out:
        skip = Costs(c_in * c_out + 2 * c_out, c_in * c_out * size[0] * size[1], depth=0)
    outer, inner = relu_conv_bn_costs(c_in, c_out, 3, size), relu_conv_bn_costs(c_out, c_out, 3, size)
    return total([skip, outer, outer, inner, inner, inner])


class _Network(nn.Module):
    """Images ``(batch, in_chans, height, width)`` to logits ``(batch, num_classes)``."""

    def __init__(self, widths: tuple[int, ...], num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(nn.Conv2d(in_chans, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]))
        ends = (widths[0], *widths)
        self.cells = nn.ModuleList(
            ResidualReduction(c_in, c_out) if place in _REDUCTIONS else _Cell(c_in, c_out)
            for place, (c_in, c_out) in enumerate(zip(ends, widths, strict=False))
        )
        self.last_act = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=False))
        self.classifier = nn.Linear(widths[-1], num_classes)

    def group_matcher(self, coarse: bool = False) -> LayerPatterns:
        """The stem, every cell and reduction block, and the head are one layer each; the convention is timm's."""
        return layer_patterns(coarse, r"^cells\.(\d+)", after=r"^last_act")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, ``(batch, last width, height / 4, width / 4)``."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        x = self.last_act(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.forward_features(x), 1).flatten(1)
        x = self.classifier(x)
        return x
