"""NAS-Bench-201: every cell of four nodes with five operations, 15,625 networks for small images."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TypeAlias, Union

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_wrcor._config import closest
from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._base import FiniteSpace, Genotype
from lightning_wrcor.spaces._cells import (
    ResidualReduction,
    build_operation,
    operation_costs,
    orders,
    residual_reduction_costs,
    strided_size,
    total,
)
from lightning_wrcor.spaces._drawing import Drawing, summed_cell
from lightning_wrcor.spaces._training import LayerPatterns, layer_patterns, maybe_dropped

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge can do, in the order of the paper."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Source and target node of each edge, in the order of the arch string; node 0 is the input, node 3 the output."""

_NODES = (1, 2, 3)

# The value of a node as a sum: the text "x" is the cell's input, a number the output of that convolution, a tuple the
# average pooling of a sum.
_Term: TypeAlias = Union[str, int, "tuple[_Term, ...]"]
_Sum: TypeAlias = "tuple[_Term, ...]"


class NASBench201(FiniteSpace):
    """The 15,625 networks of NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv 2001.00326).

    A network is a 3x3 stem, three stages of equal cells with a residual block of stride 2 between them, BN, ReLU,
    pooling and a linear classifier. A cell has four nodes, and each of its six edges holds one of five operations.

    A genotype is a tuple of six operation names in the order of the arch string: edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3.
    Convolutions that the output does not depend on stay in the network, as in the benchmark's own: they are run, and
    their parameters and MACs count. Edges of ``none`` multiply by zero instead of being left out, so that distributed
    data parallel finds a gradient (of zero) for every parameter.

    Args:
        width: channels of the first stage; the second has twice, the third four times as many. The benchmark's
            networks have 16.
        cells: cells in each of the three stages. The benchmark's networks have 5.
    """

    kind = "nasbench201"
    input_size = (3, 32, 32)

    def __init__(self, width: int = 16, cells: int = 5) -> None:
        for argument, value in (("width", width), ("cells", cells)):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}.")
        self.width = width
        self.cells = cells

    def __len__(self) -> int:
        return int(len(OPERATIONS) ** len(EDGES))

    def __iter__(self) -> Iterator[Genotype]:
        return iter(product(OPERATIONS, repeat=len(EDGES)))

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype; each of the 15,625 is equally likely (networks with several genotypes are not)."""
        return tuple(rng.choice(OPERATIONS) for _ in EDGES)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change the operation of one edge to another one, both drawn uniformly."""
        edges = list(_read(genotype))
        edge = rng.randrange(len(edges))
        edges[edge] = rng.choice([operation for operation in OPERATIONS if operation != edges[edge]])
        return tuple(edges)

    def places(self) -> tuple[tuple[Genotype, ...], ...]:
        """The five operations, on each of the six edges."""
        return (OPERATIONS,) * len(EDGES)

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """The genotype itself: six operation names."""
        return _read(genotype)

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """Six operation names as a genotype."""
        return _read(tuple(parts))

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained network, with torch's default initialisation as the benchmark's own has.

        Args:
            genotype: six operation names.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images; any height and width will do.

        Raises:
            ValueError: if the genotype is not in this space; the message shows the offending part.
        """
        return _Network(_read(genotype), self.width, self.cells, num_classes, in_chans)

    def parse(self, text: str) -> Genotype:
        """Read an arch string, such as ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|``.

        Raises:
            ValueError: if it is not one; the message shows the part that cannot be read.
        """
        nodes = text.strip().split("+")
        if len(nodes) != len(_NODES):
            raise ValueError(f"An arch string has 3 parts joined by '+', got {len(nodes)} in {text!r}.")
        operations = []
        for target, node in zip(_NODES, nodes, strict=True):
            if len(node) < 2 or node[0] != "|" or node[-1] != "|":
                raise ValueError(f"A node of an arch string stands between '|' signs, got {node!r} in {text!r}.")
            edges = node[1:-1].split("|")
            if len(edges) != target:
                raise ValueError(f"Node {target} of an arch string has {target} edges, got {len(edges)}: {node!r}.")
            for source, edge in enumerate(edges):
                operation, tilde, number = edge.partition("~")
                if not tilde or number != str(source):
                    raise ValueError(f"Expected an operation and '~{source}', got {edge!r} in {node!r}.")
                operations.append(operation)
        return _read(tuple(operations))

    def name(self, genotype: Genotype) -> str:
        """The arch string, as the benchmark's users write it."""
        edges = dict(zip(EDGES, _read(genotype), strict=True))
        nodes = ("".join(f"{edges[source, target]}~{source}|" for source in range(target)) for target in _NODES)
        return "+".join(f"|{node}" for node in nodes)

    def key(self, genotype: Genotype) -> str:
        """One text for all genotypes of one network: the same convolutions, fed and added up in the same way.

        Nodes are renamed, sums reordered and skips resolved, and poolings without a use or of nothing dropped; what
        has parameters is kept, reachable or not, and shared results stay shared. Networks with one key therefore have
        equal parameters, MACs and (up to rounding) outputs. The benchmark's own unique string is coarser: it forgets
        sharing and so joins networks with different parameters.
        """
        return _canonical(_read(genotype))[0]

    def _drawing(self, genotype: Genotype) -> Drawing:
        edges = list(zip(_read(genotype), EDGES, strict=True))
        read = [[(operation, source) for operation, (source, end) in edges if end == node] for node in _NODES]
        return Drawing((summed_cell(read),))

    def layers(self, genotype: Genotype) -> Mapping[str, int]:
        """The stem is 0 and so is the first cell; then every cell and reduction block counts one, ``last_act`` last."""
        places = 3 * self.cells + 2
        return {"stem": 0, **{f"cells.{place}": place for place in range(places)}, "last_act": places}

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and ReLU calls in closed form; unreachable convolutions count.

        Args:
            genotype: six operation names.
            input_size: ``(channels, height, width)`` of one image, by default (3, 32, 32).
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two).
        """
        operations = _read(genotype)
        in_chans, high, wide = input_size or self.input_size
        channels = self.width
        stem = Costs(9 * in_chans * channels + 2 * channels, 9 * in_chans * channels * high * wide, depth=0)
        parts = [stem]
        for stage in range(3):
            if stage:
                c_in, channels, before = channels, 2 * channels, (high, wide)
                high, wide = strided_size(high, 2), strided_size(wide, 2)
                parts.append(residual_reduction_costs(c_in, channels, before))
            cell = total(operation_costs(operation, channels, 1, (high, wide)) for operation in operations)
            parts.append(Costs(self.cells * cell.params, self.cells * cell.macs, self.cells * cell.depth))
        parts.append(Costs(2 * channels + (channels + 1) * num_classes, channels * num_classes, depth=1))
        return total(parts)


class _Cell(nn.Module):
    """Four nodes; the value of a node is the sum of its edges' outputs."""

    def __init__(self, operations: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(build_operation(operation, channels, 1) for operation in operations)
        # In training, what a node adds to a skip connection may be dropped; without one nothing would be left.
        ended = list(zip(operations, (end for _, end in EDGES), strict=True))
        skipping = {node for operation, node in ended if operation == "skip_connect"}
        self.droppable = [node in skipping and operation not in ("skip_connect", "none") for operation, node in ended]
        if any(self.droppable):
            self.drop_path: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        edges = iter(zip(self.edges, self.droppable, strict=True))
        for _ in _NODES:
            first, *others = (self._along(node, *next(edges)) for node in nodes)
            nodes.append(sum(others, first))
        return nodes[-1]

    def _along(self, node: Tensor, operation: nn.Module, droppable: bool) -> Tensor:
        return maybe_dropped(operation(node), self.drop_path if droppable else None)


class _Network(nn.Module):
    """Images ``(batch, in_chans, height, width)`` to logits ``(batch, num_classes)``."""

    def __init__(self, operations: tuple[str, ...], width: int, cells: int, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        places: list[nn.Module] = []
        for stage in range(3):
            channels = width * 2**stage
            if stage:
                places.append(ResidualReduction(channels // 2, channels))
            places += [_Cell(operations, channels) for _ in range(cells)]
        self.cells = nn.ModuleList(places)
        self.last_act = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=False))
        self.classifier = nn.Linear(channels, num_classes)

    def group_matcher(self, coarse: bool = False) -> LayerPatterns:
        """The stem, every cell and reduction block, and the head are one layer each; the convention is timm's."""
        return layer_patterns(coarse, r"^cells\.(\d+)", after=r"^last_act")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, ``(batch, 4 width, height / 4, width / 4)``."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        x = self.last_act(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.forward_features(x), 1).flatten(1)
        x = self.classifier(x)
        return x


def _read(genotype: Genotype) -> tuple[str, ...]:
    """The genotype with its type checked; ValueError shows what does not belong."""
    if not isinstance(genotype, tuple) or len(genotype) != len(EDGES):
        raise ValueError(f"A genotype of NASBench201 is a tuple of 6 operation names, got {genotype!r}.")
    operations = []
    for operation in genotype:
        if not isinstance(operation, str) or operation not in OPERATIONS:
            known = ", ".join(closest(operation, OPERATIONS))
            raise ValueError(f"NASBench201 has no operation {operation!r}; it has: {known}.")
        operations.append(operation)
    return tuple(operations)


def _canonical(operations: tuple[str, ...]) -> tuple[str, tuple[int, ...]]:
    """The canonical text of a cell, and its convolutions (as positions in `EDGES`) in the order of that text."""
    sums: dict[int, _Sum] = {0: ("x",)}
    convs: list[tuple[int, str, _Sum]] = []
    for target in _NODES:
        terms: list[_Term] = []
        for edge, (source, end) in enumerate(EDGES):
            operation = operations[edge]
            if end != target or operation == "none":
                continue
            if operation == "skip_connect":
                terms += sums[source]
            elif operation == "avg_pool_3x3":
                terms += [sums[source]] if sums[source] else []  # the average of zeros is zero
            else:
                # A convolution of zeros is not zero: its BN has a bias, so it stays.
                terms.append(len(convs))
                convs.append((edge, operation, sums[source]))
        sums[target] = tuple(terms)

    # What a convolution computes, written out in full, orders the convolutions; only those that look the same this way
    # (they may still differ in who uses them) need trying in every order.
    unfolded: list[str] = []
    for _, operation, source_sum in convs:
        unfolded.append(f"{operation}({_text(source_sum, unfolded)})")

    def serialise(order: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        labels = [""] * len(convs)
        for label, conv in enumerate(order):
            labels[conv] = f"#{label}"
        parts = [f"{convs[conv][1]}({_text(convs[conv][2], labels)})" for conv in order]
        return ";".join([*parts, f"out({_text(sums[3], labels)})"]), tuple(convs[conv][0] for conv in order)

    return min(serialise(order) for order in orders([(0, text) for text in unfolded]))


def _text(terms: _Sum, labels: list[str]) -> str:
    """A sum as text that does not depend on the order of its terms."""
    texts = []
    for term in terms:
        if isinstance(term, int):
            texts.append(labels[term])
        else:
            texts.append(term if isinstance(term, str) else f"pool({_text(term, labels)})")
    return "+".join(sorted(texts))
