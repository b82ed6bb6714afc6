"""Where the vertices of a small layered graph stand, so that no edge runs through a vertex.

As in Sugiyama, Tagawa and Toda (IEEE Transactions on Systems, Man, and Cybernetics, 1981): layers by the longest path,
here with a limit to their width; orders within layers by the means of neighbours, and swaps; places by least squares.
Edges that pass a layer have a lane there, and all edges from one vertex share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from typing import NamedTuple, TypeAlias

LANE = 0.9
"""Width of a lane. Like all lengths here, in heights of a letter (the font's size)."""

SPACE = 0.9
"""Between neighbours in a layer."""

_SWEEPS = 8


class Item(NamedTuple):
    """What stands in a layer: a vertex, or the lane of the edges from a vertex further up."""

    vertex: int
    lane: bool = False


_Rows: TypeAlias = "list[list[Item]]"
_Links: TypeAlias = "list[list[tuple[Item, Item]]]"


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Attributes:
        layers: of every vertex, counted from the input.
        centres: horizontal centre of everything that stands in a layer, by ``(layer, item)``.
        left: where the leftmost of these begins.
        width: from there to where the rightmost ends.
    """

    layers: list[int]
    centres: dict[tuple[int, Item], float]
    left: float
    width: float

    def centre(self, vertex: int) -> float:
        """Horizontal centre of a vertex."""
        return self.centres[self.layers[vertex], Item(vertex)]

    def lanes(self, source: int, target: int) -> Iterator[tuple[int, float]]:
        """The layers between two vertices from top to bottom, and where the edge between them passes these."""
        for layer in range(self.layers[source] + 1, self.layers[target]):
            yield layer, self.centres[layer, Item(source, lane=True)]


def arrange(
    sources: Sequence[Sequence[int]], widths: Sequence[float], inputs: int, limits: Sequence[float]
) -> Iterator[Layout]:
    """Place a graph, once for every limit.

    Args:
        sources: the vertices that each vertex reads, all of lower numbers.
        widths: of every vertex.
        inputs: so many vertices at the beginning stand in the first layer, and no others do.
        limits: a layer is no wider than this, unless its lanes and one vertex are.
    """
    ordered: dict[tuple[int, ...], tuple[_Rows, _Links]] = {}
    for limit in limits:
        layers = _layers(sources, widths, inputs, limit)
        if tuple(layers) not in ordered:
            ordered[tuple(layers)] = _ordered(sources, layers)
        yield _place(layers, *ordered[tuple(layers)], widths, limit)


def _ordered(sources: Sequence[Sequence[int]], layers: Sequence[int]) -> tuple[_Rows, _Links]:
    """Every layer's vertices and lanes from left to right, and what links them to the layer before."""
    rows: _Rows = [[] for _ in range(max(layers) + 1)]
    links: _Links = [[] for _ in rows]
    for vertex, layer in enumerate(layers):
        rows[layer].append(Item(vertex))
    for source, layer in enumerate(layers):
        targets = {target for target, read in enumerate(sources) if source in read}
        above = Item(source)
        for below in range(layer + 1, max((layers[target] for target in targets), default=layer) + 1):
            links[below] += [(above, Item(target)) for target in sorted(targets) if layers[target] == below]
            if any(layers[target] > below for target in targets):
                rows[below].append(Item(source, lane=True))
                links[below].append((above, Item(source, lane=True)))
                above = Item(source, lane=True)
    _order(rows, links)
    return rows, links


def _layers(sources: Sequence[Sequence[int]], widths: Sequence[float], inputs: int, limit: float) -> list[int]:
    layers = [0] * inputs
    taken: dict[int, float] = {}
    last = len(sources) - 1
    for vertex in range(inputs, len(sources)):
        layer = 1 + max((layers[source] for source in sources[vertex]), default=0)
        if vertex == last:
            layer = 1 + max(layers)  # the output stands below everything
        while layer in taken and taken[layer] + SPACE + widths[vertex] > limit:
            layer += 1
        taken[layer] = taken[layer] + SPACE + widths[vertex] if layer in taken else widths[vertex]
        layers.append(layer)
    # Not all layers need be taken: a vertex that reads nothing may have been pushed past an empty one.
    number = {layer: place for place, layer in enumerate(sorted(set(layers)))}
    return [number[layer] for layer in layers]


def _order(rows: _Rows, links: _Links) -> None:
    """Order every row so that few edges cross: means of neighbours, down and up, then swaps; the inputs stay in order."""

    def disorder(places: Iterable[int]) -> float:
        return sum(_disorder(rows[place - 1], rows[place], links[place]) for place in places if 0 < place < len(rows))

    best, least = [list(row) for row in rows], disorder(range(len(rows)))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for place in range(1, len(rows)) if down else range(len(rows) - 2, 0, -1):
            near = rows[place - 1] if down else rows[place + 1]
            pairs = links[place] if down else [(below, above) for above, below in links[place + 1]]
            where = {item: position for position, item in enumerate(near)}
            means = {}
            for position, item in enumerate(rows[place]):
                found = [where[other] for other, own in pairs if own == item]
                means[item] = sum(found) / len(found) if found else float(position)
            rows[place].sort(key=means.__getitem__)
        for place in range(1, len(rows)):
            row = rows[place]
            now = disorder((place, place + 1))
            for one, other in combinations(range(len(row)), 2):
                row[one], row[other] = row[other], row[one]
                if (swapped := disorder((place, place + 1))) < now:
                    now = swapped
                else:
                    row[one], row[other] = row[other], row[one]
        if (now := disorder(range(len(rows)))) < least:
            best, least = [list(row) for row in rows], now
    rows[:] = best


def _disorder(upper: list[Item], lower: list[Item], links: Sequence[tuple[Item, Item]]) -> float:
    """How many edges between two rows cross, and as a fraction how far they lead to the side."""
    above = {item: position for position, item in enumerate(upper)}
    below = {item: position for position, item in enumerate(lower)}
    ends = [(above[one], below[other]) for one, other in links]
    crossings = sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(ends, 2))
    middle = (len(upper) - len(lower)) / 2
    return crossings + 0.02 * sum(abs(a - b - middle) for a, b in ends)


def _place(layers: list[int], rows: _Rows, links: _Links, widths: Sequence[float], limit: float) -> Layout:
    def width(item: Item) -> float:
        return LANE if item.lane else widths[item.vertex]

    gaps = [[(width(a) + width(b)) / 2 + SPACE for a, b in pairwise(row)] for row in rows]
    # Of every row the places at which it is packed from the left; no row needs more room than the widest of these.
    packed = [list(accumulate(gap, initial=width(row[0]) / 2)) for row, gap in zip(rows, gaps, strict=True)]
    needed = [places[-1] + width(row[-1]) / 2 for places, row in zip(packed, rows, strict=True)]
    whole = max(limit, *needed)
    centres = {(place, item): whole / 2 for place, row in enumerate(rows) for item in row}
    neighbours: dict[tuple[int, Item], list[tuple[float, tuple[int, Item]]]] = {key: [] for key in centres}
    for place, pairs in enumerate(links):
        for above, below in pairs:
            # Lanes are straight before vertices are centred.
            weight = 8.0 if above.lane and below.lane else 2.0 if above.lane or below.lane else 1.0
            neighbours[place, below].append((weight, (place - 1, above)))
            neighbours[place - 1, above].append((weight, (place, below)))
    for sweep in range(16):
        for place in range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1):
            wanted, weights = [], []
            for item in rows[place]:
                found = neighbours[place, item] or [(0.1, (place, item))]
                weights.append(sum(weight for weight, _ in found))
                wanted.append(sum(weight * centres[key] for weight, key in found) / weights[-1])
            free = whole - needed[place]
            for item, centre, least in zip(
                rows[place], _apart(wanted, weights, gaps[place]), packed[place], strict=True
            ):
                centres[place, item] = min(max(centre, least), least + free)
    left = min(centre - width(item) / 2 for (_, item), centre in centres.items())
    right = max(centre + width(item) / 2 for (_, item), centre in centres.items())
    return Layout(layers, centres, left, right - left)


def _apart(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The numbers nearest to those wanted (least squares) of which each exceeds the one before by a gap at least."""
    offsets = [sum(gaps[:place]) for place in range(len(wanted))]
    groups: list[tuple[float, float, int]] = []  # mean, weight and length of a run that stands together
    for value, offset, weight in zip(wanted, offsets, weights, strict=True):
        mean, length = value - offset, 1
        while groups and groups[-1][0] >= mean:
            before, heavy, long = groups.pop()
            mean = (mean * weight + before * heavy) / (weight + heavy)
            weight, length = weight + heavy, length + long
        groups.append((mean, weight, length))
    means = [mean for mean, _, length in groups for _ in range(length)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
