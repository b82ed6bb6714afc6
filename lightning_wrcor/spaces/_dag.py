"""Cells as directed acyclic graphs: pruning, shared channels, and one text for all isomorphic ones (NAS-Bench-101)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from lightning_wrcor.spaces._cells import orders


class Graph(NamedTuple):
    """A cell. Vertex 0 is its input, the last one its output, and edges lead from lower to higher vertices."""

    edges: tuple[tuple[int, int], ...]
    """Source and target, sorted."""
    operations: tuple[str, ...]
    """What the vertices between input and output do."""

    @property
    def output(self) -> int:
        """The number of the last vertex."""
        return len(self.operations) + 1

    def sources(self, vertex: int) -> list[int]:
        """The vertices that ``vertex`` reads."""
        return [source for source, target in self.edges if target == vertex]


@lru_cache(maxsize=16)
def pairs(vertices: int) -> tuple[tuple[int, int], ...]:
    """Every edge that there can be, in the order of the upper triangle of the matrix, row by row."""
    return tuple(combinations(range(vertices), 2))


def from_bits(bits: str, operations: tuple[str, ...]) -> Graph:
    """The graph of an upper triangle, written row by row with 0 and 1."""
    edges = zip(pairs(len(operations) + 2), bits, strict=True)
    return Graph(tuple(edge for edge, bit in edges if bit == "1"), operations)


def to_bits(graph: Graph) -> str:
    """The upper triangle of the graph's matrix, row by row, with 0 and 1."""
    edges = set(graph.edges)
    return "".join("1" if pair in edges else "0" for pair in pairs(graph.output + 1))


def add_unused(graph: Graph, operations: tuple[str, ...]) -> Graph:
    """The same cell with more vertices before the output, which no edge touches."""
    last = graph.output
    edges = ((source, target + len(operations) if target == last else target) for source, target in graph.edges)
    return Graph(tuple(edges), graph.operations + operations)


def prune(graph: Graph) -> Graph | None:
    """Leave out what is not on a path from input to output; None if there is no such path."""
    # Edges are sorted, so that forwards every vertex is complete before it is left, and backwards before it is entered.
    from_input, to_output = {0}, {graph.output}
    for source, target in graph.edges:
        if source in from_input:
            from_input.add(target)
    for source, target in reversed(graph.edges):
        if target in to_output:
            to_output.add(source)
    kept = sorted(from_input & to_output)
    if not kept:
        return None
    return _renumbered(graph, kept)


def _renumbered(graph: Graph, order: Sequence[int]) -> Graph:
    """The graph of the vertices in ``order``, numbered by their place in it."""
    number = {vertex: place for place, vertex in enumerate(order)}
    edges = sorted((number[s], number[t]) for s, t in graph.edges if s in number and t in number)
    return Graph(tuple(edges), tuple(graph.operations[vertex - 1] for vertex in order[1:-1]))


def share_channels(graph: Graph, c_in: int, c_out: int) -> list[int]:
    """Channels of every vertex of a pruned graph.

    The output concatenates the vertices that it reads, so these share its channels; when the division is not even, the
    first ones in vertex order get one more. Another vertex has as many as the widest of those that read it.
    """
    channels = [c_in, *[0] * len(graph.operations), c_out]
    joined = [vertex for vertex in graph.sources(graph.output) if vertex]
    for place, vertex in enumerate(joined):
        channels[vertex] = c_out // len(joined) + (place < c_out % len(joined))
    for source, target in reversed(graph.edges):
        if source and source not in joined:
            channels[source] = max(channels[source], channels[target])
    return channels


def canonical(graph: Graph, widths: Sequence[int]) -> str:
    """One text for all pruned graphs that are the same but for the order of their vertices.

    Args:
        graph: a pruned graph.
        widths: channels of the cell's output, for every width that the cell is used with. Vertices count as the same
            only if they have the same channels at all of these: which vertices get the channels that are left over
            depends on their order, so isomorphic graphs can be different networks.

    Returns:
        Upper triangle and operations of the representative, and (only where a division is not even) the channels of its
        vertices at every width.
    """
    shares = [share_channels(graph, 0, width) for width in widths]
    channels = [tuple(share[vertex] for share in shares) for vertex in range(graph.output + 1)]
    # Vertices are sorted by their height (so that edges still lead upwards) and by what they compute, written out in
    # full; those that look the same this way may differ in who reads them, so these are tried in every order.
    looks = [(0, "x")]
    for vertex, operation in enumerate(graph.operations, start=1):
        read = [looks[source] for source in graph.sources(vertex)]
        text = f"{operation}{channels[vertex]}({'+'.join(sorted(look for _, look in read))})"
        looks.append((1 + max(height for height, _ in read), text))

    def written(order: tuple[int, ...]) -> tuple[str, tuple[str, ...], list[tuple[int, ...]]]:
        order = (0, *(place + 1 for place in order), graph.output)
        ordered = _renumbered(graph, order)
        return to_bits(ordered), ordered.operations, [channels[vertex] for vertex in order[1:-1]]

    bits, operations, used = min(written(order) for order in orders(looks[1:]))
    parts = [bits, "-".join(operations)]
    joined = sum(1 for vertex in graph.sources(graph.output) if vertex)
    if joined and any(width % joined for width in widths):
        parts.append("|".join(":".join(map(str, vertex)) for vertex in used))
    return ";".join(parts)
