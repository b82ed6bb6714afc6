"""What a drawing of a genotype shows, as plain data: cells as graphs, stages and choices as tables.

Knows nothing of matplotlib: `lightning_wrcor.spaces._figure` turns a `Drawing` into a figure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightning_wrcor.inspection import Costs

_WORDS = {
    "none": "none",
    "skip_connect": "skip",
    "avg_pool_3x3": "avg pool 3×3",
    "max_pool_3x3": "max pool 3×3",
    "max_pool_5x5": "max pool 5×5",
    "max_pool_7x7": "max pool 7×7",
    "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3",
    "conv_1x1": "conv 1×1",
    "conv_3x3": "conv 3×3",
    "conv_3x1_1x3": "conv 1×3, 3×1",  # in the order in which they are run
    "conv_7x1_1x7": "conv 1×7, 7×1",
    "sep_conv_3x3": "separable 3×3",
    "sep_conv_5x5": "separable 5×5",
    "sep_conv_7x7": "separable 7×7",
    "dil_conv_3x3": "dilated 3×3",
    "dil_conv_5x5": "dilated 5×5",
    "dil_sep_conv_3x3": "dilated sep. 3×3",
    "conv3x3-bn-relu": "conv 3×3",
    "conv1x1-bn-relu": "conv 1×1",
    "maxpool3x3": "max pool 3×3",
}

_MOST_VALUES = 9
"""Values of a choice that a table shows; of longer lists it shows the ends and those around the chosen one."""

_MOST_CHARACTERS = 44
"""Characters of a line in a table."""


def words(operation: str) -> str:
    """The operation's name for readers, such as ``separable 3×3``; one that is not known as it is."""
    return _WORDS.get(operation, operation)


@dataclass(frozen=True)
class Vertex:
    """One vertex of a cell.

    Attributes:
        text: what is written on it.
        inputs: what it reads, as ``(operation, number of the vertex)``; the operation stands on the way, or is "" where
            there is none.
        kind: an "end" of the cell, a "node" that adds up what it reads, or an "operation" of its own.
    """

    text: str
    inputs: tuple[tuple[str, int], ...] = ()
    kind: Literal["end", "node", "operation"] = "node"


@dataclass(frozen=True)
class CellGraph:
    """A cell. Vertices read vertices of lower numbers; the last one is the output, those of kind "end" before it inputs.

    Attributes:
        vertices: in the order of their numbers.
        title: the line above it.
    """

    vertices: tuple[Vertex, ...]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        rows: they may differ in length; a text may have several lines.
        head: the first line, or nothing.
        marked: ``(row, column)`` of the cells that stand out.
    """

    rows: tuple[tuple[str, ...], ...]
    head: tuple[str, ...] = ()
    marked: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Drawing:
    """What is drawn of one genotype: some panels, and a line below them."""

    panels: tuple[CellGraph | Table, ...]
    caption: str = ""


def summed_cell(operations: Sequence[Sequence[tuple[str, int]]]) -> CellGraph:
    """A cell of one input whose further nodes each add up operations on earlier nodes; ``none`` is left out.

    Args:
        operations: for every node after the input ``(operation, number of the node that it reads)``.
    """
    nodes = [_node(number, inputs) for number, inputs in enumerate(operations, start=1)]
    return CellGraph(
        (Vertex("0: input", kind="end"), *nodes[:-1], Vertex(f"{len(nodes)}: output", nodes[-1].inputs, "end"))
    )


def stacked_cell(title: str, additions: Sequence[tuple[str, int]], concat: Sequence[int]) -> CellGraph:
    """A cell of two inputs whose nodes each add up two operations, and which concatenates some of them.

    Args:
        title: the line above it.
        additions: ``(operation, number of the node that it reads)``, two a node; ``none`` is left out.
        concat: numbers of the nodes that are concatenated.
    """
    inputs = (Vertex("0: two cells ago", kind="end"), Vertex("1: cell before", kind="end"))
    nodes = [_node(place // 2 + 2, additions[place : place + 2]) for place in range(0, len(additions), 2)]
    return CellGraph((*inputs, *nodes, Vertex("concat", tuple(("", node) for node in concat), "end")), title)


def _node(number: int, inputs: Sequence[tuple[str, int]]) -> Vertex:
    return Vertex(str(number), tuple((operation, node) for operation, node in inputs if operation != "none"))


def vertex_cell(operations: Sequence[str], sources: Sequence[Sequence[int]]) -> CellGraph:
    """A cell whose vertices between input and output are operations.

    Args:
        operations: those of the vertices from 1 on.
        sources: the vertices that each of these and the output read.
    """
    texts = [(operation, "operation") for operation in operations] + [("output", "end")]
    reading = [
        Vertex(text, tuple(("", vertex) for vertex in read), "operation" if kind == "operation" else "end")
        for (text, kind), read in zip(texts, sources, strict=True)
    ]
    return CellGraph((Vertex("input", kind="end"), *reading))


def costs_drawing(name: str, costs: Costs, input_size: tuple[int, int, int], num_classes: int) -> Drawing:
    """What is known of any network, and what for: an image ``(channels, height, width)``, and a number of classes."""
    numbers = (("parameters", costs.params), ("multiply-adds", costs.macs), ("non-linearities", costs.depth))
    rows = (("network", wrapped(name)), *((what, f"{number:,}") for what, number in numbers))
    size, classes = " × ".join(map(str, input_size)), f"{num_classes:,} class{'es' * (num_classes != 1)}"
    return Drawing((Table(rows),), f"for {classes} and an image of {size}")


def choices_table(choices: Sequence[tuple[str, Sequence[str], str]]) -> Table:
    """Lists to choose from, with what was chosen.

    Args:
        choices: of each the name, the values and the chosen value.
    """
    rows, marked = [], set()
    for row, (name, values, chosen) in enumerate(choices):
        shown = _around(values, values.index(chosen))
        marked.add((row, 1 + shown.index(chosen)))
        rows.append((name, *map(wrapped, shown)))
    return Table(tuple(rows), marked=frozenset(marked))


def _around(values: Sequence[str], place: int) -> list[str]:
    """All values, or of many the first, the last and those around a place."""
    if len(values) <= _MOST_VALUES:
        return list(values)
    inner = _MOST_VALUES - 4  # without the ends and the two gaps
    first = min(max(place - inner // 2, 1), len(values) - 1 - inner)
    shown = [values[0], "…", *values[first : first + inner], "…", values[-1]]
    if first == 1:
        shown[1:2] = []
    if first + inner == len(values) - 1:
        shown[-2:-1] = []
    return shown


def wrapped(text: str) -> str:
    """A text in lines that a table has room for."""
    return "\n".join(textwrap.wrap(text, _MOST_CHARACTERS)) or text
