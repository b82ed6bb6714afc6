"""NAS-Bench-101: every cell of at most seven vertices and nine edges, 423,624 networks for small images."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_wrcor._config import closest
from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._base import Genotype, Space
from lightning_wrcor.spaces._cells import strided_size, total
from lightning_wrcor.spaces._dag import Graph, add_unused, canonical, from_bits, pairs, prune, share_channels, to_bits
from lightning_wrcor.spaces._drawing import Drawing, vertex_cell
from lightning_wrcor.spaces._training import LayerPatterns, layer_patterns, maybe_dropped

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""What a vertex can do, in the order of the paper."""

_SHORT = {"conv3x3-bn-relu": "c3", "conv1x1-bn-relu": "c1", "maxpool3x3": "mp"}
_LONG = {short: operation for operation, short in _SHORT.items()}
_KERNEL = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1}

_MOST_VERTICES = 7
_MOST_EDGES = 9
_STACKS = 3


class NASBench101(Space):
    """The networks of NAS-Bench-101 (Ying et al., ICML 2019, arXiv 1902.09635).

    A network is a 3x3 stem, three stacks of equal cells with a 2x2 max-pooling between them (channels double), global
    average pooling and a linear classifier. A cell is a directed acyclic graph of at most seven vertices (the first is
    its input, the last its output) and nine edges. The other vertices each do one of three operations on the sum of what
    they read; the output concatenates the vertices that it reads. Whatever reads the cell's input reads it through a
    1x1 convolution, BN and ReLU of its own, and the output adds such a projection where it reads the input itself.

    A genotype is ``(matrix, operations)``: the upper triangle of the adjacency matrix, row by row, as text of 0 and 1,
    and the names of the operations between input and output. Vertices and edges that are on no path from input to output
    are allowed in it; they are not part of the network (and do not count among the nine edges).

    BN has the momentum (0.997 of the old value, which torch writes as 0.003) and the epsilon (1e-5) of the benchmark.

    Args:
        width: channels of the stem and of the first stack; at least 5, so that five vertices can share them. The
            benchmark's networks have 128.
        cells: cells in each of the three stacks. The benchmark's networks have 3.
    """

    kind = "nasbench101"
    input_size = (3, 32, 32)

    def __init__(self, width: int = 128, cells: int = 3) -> None:
        for argument, value, smallest in (("width", width, _MOST_VERTICES - 2), ("cells", cells, 1)):
            if value < smallest:
                raise ValueError(f"{argument} must be at least {smallest}, got {value}.")
        self.width = width
        self.cells = cells

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype, uniformly over all valid ones of seven vertices (pruning can leave fewer).

        Matrix and operations are drawn uniformly until they are valid, as the benchmark's own random search does.
        Networks that have more such genotypes are therefore drawn more often.
        """
        edges = len(pairs(_MOST_VERTICES))
        while True:
            bits = f"{rng.getrandbits(edges):0{edges}b}"
            operations = tuple(rng.choice(OPERATIONS) for _ in range(_MOST_VERTICES - 2))
            if _valid(bits, operations):
                return (bits, operations)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change one operation to another one, and add or remove one edge, each drawn uniformly over what is valid.

        A cell of fewer than seven vertices gets unused ones first, so that every size can be reached from every other.
        """
        bits, given, _ = _read(genotype)
        unused = tuple(rng.choice(OPERATIONS) for _ in range(_MOST_VERTICES - 2 - len(given)))
        graph = add_unused(from_bits(bits, given), unused)
        bits, operations = to_bits(graph), list(graph.operations)
        vertex = rng.randrange(len(operations))
        operations[vertex] = rng.choice([other for other in OPERATIONS if other != operations[vertex]])
        # There is always a valid change: of nine edges between seven vertices, some can go.
        for edge in rng.sample(range(len(bits)), len(bits)):
            flipped = f"{bits[:edge]}{'10'[int(bits[edge])]}{bits[edge + 1 :]}"
            if _valid(flipped, graph.operations):
                return (flipped, tuple(operations))
        raise AssertionError("unreachable")

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained network, with torch's default initialisation.

        Args:
            genotype: matrix and operations.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images; any height and width will do.

        Raises:
            ValueError: if the genotype is not in this space; the message shows the offending part.
        """
        return _Network(_read(genotype)[2], self.width, self.cells, num_classes, in_chans)

    def parse(self, text: str) -> Genotype:
        """Read a matrix and operations, such as ``100011100011000100101;I-c1-mp-mp-c1-mp-O``.

        ``c3``, ``c1`` and ``mp`` are the operations, ``I`` and ``O`` the cell's input and output. A comma, a colon, a
        vertical bar or spaces will do in place of the semicolon, and commas or spaces in place of the hyphens.

        Raises:
            ValueError: if it cannot be read or is not valid; the message shows the part.
        """
        bits, _, rest = re.sub(r"[\s;,:|]+", " ", text.strip()).partition(" ")
        if not re.fullmatch("[01]+", bits) or not rest:
            raise ValueError(
                f"Expected a matrix of 0 and 1 and operations, such as '111;I-c3-O', got {_cut(bits)!r} in {_cut(text)!r}."
            )
        first, *names, last = re.split("[ -]", rest) if re.search("[ -]", rest) else ("", "")
        if (first, last) != ("I", "O"):
            raise ValueError(f"Operations stand between 'I' and 'O', as in 'I-c3-O', got {_cut(rest)!r}.")
        for name in names:
            if name not in _LONG:
                raise ValueError(f"No operation {_cut(name)!r} in {_cut(rest)!r}; there are: {', '.join(_LONG)}.")
        return _read((bits, tuple(_LONG[name] for name in names)))[:2]

    def name(self, genotype: Genotype) -> str:
        """Matrix and operations, as `parse` reads them; unused vertices included."""
        bits, operations, _ = _read(genotype)
        return f"{bits};{'-'.join(['I', *(_SHORT[operation] for operation in operations), 'O'])}"

    def key(self, genotype: Genotype) -> str:
        """One text for all genotypes of one network: pruned, and the vertices in a canonical order.

        The vertices that the output reads share its channels, and where the division is not even those with lower
        numbers get one more. Isomorphic cells can differ in parameters for that reason, and then have different keys,
        unlike their hashes in the benchmark: the key holds the channels of such a cell's vertices in every stack.
        """
        return canonical(_read(genotype)[2], [self.width * 2**stack for stack in range(_STACKS)])

    def _drawing(self, genotype: Genotype) -> Drawing:
        graph = _read(genotype)[2]
        return Drawing((vertex_cell(graph.operations, [graph.sources(v) for v in range(1, graph.output + 1)]),))

    def layers(self, genotype: Genotype) -> Mapping[str, int]:
        """The stem is 0; then every cell counts one, and so does every max-pooling between stacks."""
        return {"stem": 0, **{f"cells.{place}": place + 1 for place in range(_STACKS * self.cells + _STACKS - 1)}}

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and ReLU calls in closed form.

        Args:
            genotype: matrix and operations.
            input_size: ``(channels, height, width)`` of one image, by default (3, 32, 32).
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two).
        """
        graph = _read(genotype)[2]
        in_chans, high, wide = input_size or self.input_size
        parts = [_conv_costs(3, in_chans, self.width, high * wide)]
        c_in = self.width
        for stack in range(_STACKS):
            c_out = self.width * 2**stack
            if stack:
                high, wide = strided_size(high, 2), strided_size(wide, 2)
            for c_first, times in ((c_in, 1), (c_out, self.cells - 1)):
                convs = _convs(graph, c_first, c_out)
                parts += [total(_conv_costs(kernel, a, b, high * wide) for _, kernel, a, b in convs)] * times
            c_in = c_out
        parts.append(Costs((c_in + 1) * num_classes, c_in * num_classes, depth=0))
        return total(parts)


def _convs(graph: Graph, c_in: int, c_out: int) -> Iterator[tuple[str, int, int, int]]:
    """Every convolution of a cell: its name, kernel and channels. Those of the input's projections come first."""
    channels = share_channels(graph, c_in, c_out)
    for source, target in graph.edges:
        if source == 0:
            yield f"project_{target}", 1, c_in, channels[target]
    for vertex, operation in enumerate(graph.operations, start=1):
        if operation in _KERNEL:
            yield f"vertex_{vertex}", _KERNEL[operation], channels[vertex], channels[vertex]


def _conv_bn_relu(kernel: int, c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(c_out, momentum=0.003),
        nn.ReLU(inplace=False),
    )


def _conv_costs(kernel: int, c_in: int, c_out: int, pixels: int) -> Costs:
    weights = kernel * kernel * c_in * c_out
    return Costs(weights + 2 * c_out, weights * pixels, depth=1)


class _Cell(nn.Module):
    """A vertex adds up what it reads, cut to its own channels, and applies its operation."""

    def __init__(self, graph: Graph, c_in: int, c_out: int) -> None:
        super().__init__()
        self.graph = graph
        self.channels = share_channels(graph, c_in, c_out)
        self.convs = nn.ModuleDict(
            {name: _conv_bn_relu(kernel, a, b) for name, kernel, a, b in _convs(graph, c_in, c_out)}
        )
        # The only sum of two ways through the cell of which one is short: the output's with the cell's input.
        self.residual = {0} < set(graph.sources(graph.output))
        if self.residual:
            self.drop_path: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        graph, values = self.graph, [x]
        for vertex, operation in enumerate(graph.operations, start=1):
            first, *others = (self._read(values, source, vertex) for source in graph.sources(vertex))
            value = sum(others, first)
            values.append(
                self.convs[f"vertex_{vertex}"](value) if operation in _KERNEL else F.max_pool2d(value, 3, 1, padding=1)
            )
        read = graph.sources(graph.output)
        joined = [values[source] for source in read if source]
        projected = [self._read(values, 0, graph.output)] if 0 in read else []
        if not joined:
            return projected[0]
        whole = joined[0] if len(joined) == 1 else torch.cat(joined, dim=1)
        return sum(projected, maybe_dropped(whole, self.drop_path) if self.residual else whole)

    def _read(self, values: list[Tensor], source: int, target: int) -> Tensor:
        if source == 0:
            projected: Tensor = self.convs[f"project_{target}"](values[0])
            return projected
        return values[source][:, : self.channels[target]]  # the source may have one channel more


class _Network(nn.Module):
    """Images ``(batch, in_chans, height, width)`` to logits ``(batch, num_classes)``."""

    def __init__(self, graph: Graph, width: int, cells: int, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = _conv_bn_relu(3, in_chans, width)
        places: list[nn.Module] = []
        c_in = width
        for stack in range(_STACKS):
            c_out = width * 2**stack
            if stack:
                places.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
            for _ in range(cells):
                places.append(_Cell(graph, c_in, c_out))
                c_in = c_out
        self.cells = nn.ModuleList(places)
        self.classifier = nn.Linear(c_in, num_classes)

    def group_matcher(self, coarse: bool = False) -> LayerPatterns:
        """The stem, every cell and the head are one layer each; the convention is timm's."""
        return layer_patterns(coarse, r"^cells\.(\d+)")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, ``(batch, 4 width, height / 4, width / 4)``."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.forward_features(x), 1).flatten(1)
        x = self.classifier(x)
        return x


def _valid(bits: str, operations: tuple[str, ...]) -> bool:
    graph = prune(from_bits(bits, operations))
    return graph is not None and len(graph.edges) <= _MOST_EDGES


def _read(genotype: Genotype) -> tuple[str, tuple[str, ...], Graph]:
    """The genotype with its type checked, and its pruned graph; ValueError shows what does not belong."""
    if not isinstance(genotype, tuple) or len(genotype) != 2:
        raise ValueError(f"A genotype of NASBench101 is (matrix, operations), got {genotype!r}.")
    bits, given = genotype
    if not isinstance(given, tuple) or len(given) > _MOST_VERTICES - 2:
        raise ValueError(f"A cell of NASBench101 has a tuple of at most 5 operations, got {given!r}.")
    operations = []
    for operation in given:
        if not isinstance(operation, str) or operation not in OPERATIONS:
            known = ", ".join(closest(operation, OPERATIONS))
            raise ValueError(f"NASBench101 has no operation {operation!r}; it has: {known}.")
        operations.append(operation)
    vertices = len(operations) + 2
    length = len(pairs(vertices))
    if not isinstance(bits, str) or len(bits) != length or set(bits) - {"0", "1"}:
        raise ValueError(
            f"The matrix of {vertices} vertices is a text of {length} times 0 or 1 (the upper triangle, row by row), "
            f"got {_cut(repr(bits))}."
        )
    graph = prune(from_bits(bits, tuple(operations)))
    if graph is None:
        raise ValueError(f"There is no path from input to output in the matrix {bits!r}.")
    if len(graph.edges) > _MOST_EDGES:
        raise ValueError(
            f"A cell of NASBench101 has at most {_MOST_EDGES} edges on its paths from input to output, the matrix "
            f"{bits!r} has {len(graph.edges)}."
        )
    return bits, tuple(operations), graph


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
