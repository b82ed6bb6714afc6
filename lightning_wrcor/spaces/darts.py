"""The DARTS space: normal and reduction cells of two additions a node, for ImageNet and for CIFAR."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from torch import nn

from lightning_wrcor._config import closest
from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._base import Genotype, Space
from lightning_wrcor.spaces._cell_network import Cell, CellGenotype, CellNetwork, Form, cell_network_costs
from lightning_wrcor.spaces._cell_text import read_genotype, write_genotype
from lightning_wrcor.spaces._cells import orders
from lightning_wrcor.spaces._drawing import Drawing, stacked_cell


class DARTS(Space):
    """Networks of stacked cells as in DARTS (Liu, Simonyan and Yang, ICLR 2019, arXiv 1806.09055).

    Two cells are searched, a normal and a reduction cell, and stacked ``depth`` times; the reduction cell stands at one
    and two thirds of the depth, where the width doubles. A cell has two inputs (nodes 0 and 1: the outputs of two
    cells ago and of the cell before) and ``nodes`` more nodes. Each of these adds up two operations on earlier nodes,
    and the cell's output concatenates them. The networks are those of NDS (Radosavovic et al., ICCV 2019,
    arXiv 1905.13214), whose 5,000 random members are the published measurements of this space.

    A genotype is ``(normal, normal_concat, reduce, reduce_concat, width, depth)``: a cell is a tuple of
    ``(operation, input node)`` pairs, two a node, and its concat the tuple of the nodes that it concatenates.

    A width or depth given as a list is a choice that belongs to the search; given as a number it is fixed.

    Args:
        form: "imagenet" (a stem that divides the size by 8) or "cifar" (a stem that keeps the size).
        width: channels of the nodes before the first reduction, or a list to choose from; by default the paper's, 48
            for ImageNet and 36 for CIFAR.
        depth: cells in the network, or a list to choose from; by default the paper's, 14 and 20.
        nodes: nodes of a cell between its inputs and its output.
    """

    kind = "darts"

    operations: ClassVar[tuple[str, ...]] = (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    """What an addition can do, in the order of the paper's code."""

    _paper: ClassVar[Mapping[str, tuple[int, int]]] = {"imagenet": (48, 14), "cifar": (36, 20)}

    def __init__(
        self,
        form: Literal["imagenet", "cifar"] = "imagenet",
        width: int | Sequence[int] | None = None,
        depth: int | Sequence[int] | None = None,
        nodes: int = 4,
    ) -> None:
        if form not in get_args(Form):
            raise ValueError(f"form must be 'imagenet' or 'cifar', got {form!r}.")
        if nodes < 1:
            raise ValueError(f"nodes must be at least 1, got {nodes}.")
        self.form: Form = form
        self.width = tuple(width) if isinstance(width, Sequence) else width
        self.depth = tuple(depth) if isinstance(depth, Sequence) else depth
        self.nodes = nodes
        self.input_size = (3, 224, 224) if form == "imagenet" else (3, 32, 32)
        # Half the width is the stem's first convolution.
        self._widths = _choices("width", self.width, self._paper[form][0], smallest=2)
        self._depths = _choices("depth", self.depth, self._paper[form][1], smallest=1)

    @property
    def mixed_depth(self) -> bool:
        """Whether the depth is a choice."""
        return len(self._depths) > 1

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype, uniformly over all genotypes, as NDS does.

        Every addition takes any of the operations (``none`` included) on any earlier node with equal chance; the two
        additions of a node are independent and may be equal. DARTS's own search never ends with ``none`` or with equal
        inputs, so its results are a subset of what is drawn here. Width and depth are drawn uniformly too.
        """
        normal, reduce = self._sample_cell(rng), self._sample_cell(rng)
        width, depth = rng.choice(self._widths), rng.choice(self._depths)
        return (normal, self._concat(normal), reduce, self._concat(reduce), width, depth)

    def _sample_cell(self, rng: random.Random) -> Cell:
        return tuple(
            (rng.choice(self.operations), rng.randrange(addition // 2 + 2)) for addition in range(2 * self.nodes)
        )

    def _concat(self, cell: Cell) -> tuple[int, ...]:
        """The nodes that a cell concatenates: here all but its inputs (in most sister spaces those that no node reads)."""
        return tuple(range(2, self.nodes + 2))

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change one operation or one input of one addition (or the width or depth, where these are choices).

        What changes is drawn uniformly over all of these places, and then its new value over the other values. The
        result is another genotype; it can be the same network (see `key`).
        """
        normal, _, reduce, _, width, depth = self._read(genotype)
        cells = [list(normal), list(reduce)]
        places = [
            (cell, addition, part) for cell in range(2) for addition in range(2 * self.nodes) for part in range(2)
        ]
        numbers = [which for which, choices in (("width", self._widths), ("depth", self._depths)) if len(choices) > 1]
        drawn = rng.randrange(len(places) + len(numbers))
        if drawn >= len(places):
            if numbers[drawn - len(places)] == "width":
                width = rng.choice([other for other in self._widths if other != width])
            else:
                depth = rng.choice([other for other in self._depths if other != depth])
        else:
            index, addition, part = places[drawn]
            operation, node = cells[index][addition]
            if part == 0:
                operation = rng.choice([other for other in self.operations if other != operation])
            else:
                node = rng.choice([other for other in range(addition // 2 + 2) if other != node])
            cells[index][addition] = (operation, node)
        normal, reduce = tuple(cells[0]), tuple(cells[1])
        return (normal, self._concat(normal), reduce, self._concat(reduce), width, depth)

    def places(self) -> tuple[tuple[Genotype, ...], ...]:
        """Operation and input of each addition, of the normal and then the reduction cell; then the width and depth."""
        additions = range(2 * self.nodes)
        cell = tuple(
            options for addition in additions for options in (self.operations, tuple(range(addition // 2 + 2)))
        )
        return (*cell, *cell, self._widths, self._depths)

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """Operations and inputs in their order, the width and the depth."""
        read = self._read(genotype)
        return (*(part for pair in (*read.normal, *read.reduce) for part in pair), read.width, read.depth)

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """The genotype of these operations, inputs, width and depth; what a cell concatenates follows from them."""
        *values, width, depth = parts
        pairs: tuple[Any, ...] = tuple(zip(values[::2], values[1::2], strict=True))
        normal, reduce = pairs[: 2 * self.nodes], pairs[2 * self.nodes :]
        return tuple(self._read((normal, self._concat(normal), reduce, self._concat(reduce), width, depth)))

    def build(
        self,
        genotype: Genotype,
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> nn.Module:
        """Build the untrained network, with torch's default initialisation.

        A search builds networks without the last two arguments, which belong to the paper's training recipe.

        Args:
            genotype: a member of this space.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images; any height and width will do.
            auxiliary: add DARTS's auxiliary classifier, after the second reduction. In training mode the network then
                returns ``(logits, auxiliary logits)``, in evaluation mode the logits as ever. Images must be about as
                large as the form's own.
            drop_path: probability that, in training mode, the output of an operation (unless it is the identity) is
                zero for a sample; the others are scaled up. It can be changed later: ``network.drop_path = 0.1``.

        Raises:
            ValueError: if the genotype is not in this space; the message shows the offending part.
        """
        return CellNetwork(self._read(genotype), self.form, num_classes, in_chans, auxiliary, drop_path)

    def parse(self, text: str) -> Genotype:
        """Read ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], ...)``.

        Concats may be lists or ranges. ``width=`` and ``depth=`` may follow; where they are choices of this space they
        must.

        Raises:
            ValueError: if the text cannot be read or is not in this space; the message shows the offending part.
        """
        fields = read_genotype(text)
        for number, choices in (("width", self._widths), ("depth", self._depths)):
            if number not in fields and len(choices) > 1:
                raise ValueError(f"The {number} is a choice of this space: write {number}=, one of {choices}.")
            fields.setdefault(number, choices[0])
        return tuple(self._read(tuple(CellGenotype(**fields))))

    def name(self, genotype: Genotype) -> str:
        """The community's text; it names the width and the depth where they are choices of this space."""
        return write_genotype(self._read(genotype), width=len(self._widths) > 1, depth=len(self._depths) > 1)

    def key(self, genotype: Genotype) -> str:
        """The name of one genotype that stands for all genotypes of one network.

        The two additions of a node may swap, nodes may be renumbered (which permutes channels of the output), and the
        input of a ``none`` makes no difference.
        """
        checked = self._read(genotype)
        normal, reduce = _canonical(checked.normal), _canonical(checked.reduce)
        return self.name((normal, self._concat(normal), reduce, self._concat(reduce), checked.width, checked.depth))

    def _drawing(self, genotype: Genotype) -> Drawing:
        normal, normal_concat, reduce, reduce_concat, width, depth = self._read(genotype)
        cells = ("normal cell", normal, normal_concat), ("reduction cell", reduce, reduce_concat)
        return Drawing(tuple(stacked_cell(*cell) for cell in cells), f"{width} channels, {depth} cells")

    def layers(self, genotype: Genotype) -> Mapping[str, int]:
        """The stem is layer 0, and each cell counts one."""
        return {"stem": 0, **{f"cells.{index}": index + 1 for index in range(self._read(genotype).depth)}}

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and ReLU calls in closed form.

        Args:
            genotype: a member of this space.
            input_size: ``(channels, height, width)`` of one image, by default that of the form.
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two; NDS's
            own FLOPs count a few per cent more).
        """
        return cell_network_costs(self._read(genotype), self.form, input_size or self.input_size, num_classes)

    def _read(self, genotype: Genotype) -> CellGenotype:
        """The genotype with its type checked; ValueError shows what does not belong."""
        if not isinstance(genotype, tuple) or len(genotype) != 6:
            raise ValueError(
                f"A genotype of {type(self).__name__} is (normal, normal_concat, reduce, reduce_concat, width, depth), "
                f"got {genotype!r}."
            )
        normal, reduce = self._read_cell("normal", genotype[0]), self._read_cell("reduce", genotype[2])
        concats = self._concat(normal), self._concat(reduce)
        for which, concat, given in zip(("normal", "reduce"), concats, (genotype[1], genotype[3]), strict=True):
            if given != concat:
                raise ValueError(f"The {which} cell concatenates the nodes {concat} in this space, got {given!r}.")
        width = _one_of("width", genotype[4], self._widths)
        depth = _one_of("depth", genotype[5], self._depths)
        return CellGenotype(normal, concats[0], reduce, concats[1], width, depth)

    def _read_cell(self, which: str, cell: Genotype) -> Cell:
        if not isinstance(cell, tuple) or len(cell) != 2 * self.nodes:
            raise ValueError(
                f"The {which} cell is a tuple of {2 * self.nodes} (operation, input) pairs, two for each of "
                f"{self.nodes} nodes, got {cell!r}."
            )
        pairs = []
        for addition, pair in enumerate(cell):
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"Expected an (operation, input) pair in the {which} cell, got {pair!r}.")
            operation, node = pair
            if not isinstance(operation, str) or operation not in self.operations:
                known = ", ".join(closest(operation, self.operations))
                raise ValueError(f"{type(self).__name__} has no operation {operation!r}; it has: {known}.")
            if not isinstance(node, int) or not 0 <= node < addition // 2 + 2:
                raise ValueError(
                    f"Node {addition // 2 + 2} of the {which} cell reads nodes 0 to {addition // 2 + 1}, got {pair!r}."
                )
            pairs.append((operation, node))
        return tuple(pairs)


def _choices(argument: str, given: int | tuple[int, ...] | None, default: int, smallest: int) -> tuple[int, ...]:
    choices = (default,) if given is None else given if isinstance(given, tuple) else (given,)
    fitting = {choice for choice in choices if isinstance(choice, int) and choice >= smallest}
    if not choices or len(fitting) < len(choices):
        raise ValueError(f"{argument} is a number of at least {smallest} or a list of different ones, got {given!r}.")
    return choices


def _one_of(which: str, value: Genotype, choices: tuple[int, ...]) -> int:
    for choice in choices:
        if value == choice:
            return choice
    raise ValueError(f"The {which} {value!r} is not in this space, which has: {', '.join(map(str, choices))}.")


def _canonical(cell: Cell) -> Cell:
    """One cell for all that differ only in the order of additions, the numbers of nodes and the inputs of ``none``."""
    # Nodes are sorted by their height above the inputs (so that each still reads earlier ones) and by what they
    # compute, written out in full. Nodes that look the same this way may still differ in who reads them, so these, and
    # only these, are tried in every order.
    pairs = [(operation, 0 if operation == "none" else node) for operation, node in cell]
    nodes = range(len(pairs) // 2)
    looks = [(0, "0"), (0, "1")]
    for node in nodes:
        two = pairs[2 * node : 2 * node + 2]
        parts = sorted(f"{operation}({looks[source][1]})" for operation, source in two)
        looks.append((1 + max(looks[source][0] for _, source in two), "+".join(parts)))

    def renumber(order: tuple[int, ...]) -> Cell:
        numbers = {0: 0, 1: 1} | {node + 2: position + 2 for position, node in enumerate(order)}
        return tuple(
            pair
            for node in order
            for pair in sorted((operation, numbers[source]) for operation, source in pairs[2 * node : 2 * node + 2])
        )

    return min(renumber(order) for order in orders(looks[2:]))
