"""From a `Drawing` to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

from matplotlib.figure import Figure
from matplotlib.path import Path

from lightning_wrcor.spaces._canvas import BOX, CIRCLE, INK, Canvas, Piece, beside, framed, stacked, text_width
from lightning_wrcor.spaces._drawing import CellGraph, Drawing, Table, words
from lightning_wrcor.spaces._layout import Layout, arrange

# Colours of Okabe and Ito, which colour-blind readers tell apart; the first that an operation's name begins with.
_COLOURS = {
    "skip": "#999999",
    "conv": "#0072B2",
    "separable": "#E69F00",
    "dilated": "#009E73",
    "max pool": "#CC79A7",
    "avg pool": "#56B4E9",
}
_OTHER, _MARK = "#F0E442", "#E69F00"

_LARGEST, _GOOD = 8.0, 7.0
"""Points of the text of a figure of up to 7 inches: where there is room, and what is small enough to save room for."""

_STEM, _GAP = 0.7, 1.7
"""From the boxes of a node to its circle, and between layers."""

_LINE, _ROW, _COLUMN, _RULE, _TITLE = 1.25, 1.7, 1.3, 0.15, 1.9
"""From line to line, height of a row of a table, between its columns and next to its rules, height of a title."""

_LIMITS = (18.0, 24.0, 30.0, 36.0, 46.0, 60.0)
"""What a cell may be wide; the best of the drawings is kept."""


def render(drawing: Drawing, width: float) -> Figure:
    """Draw it at most so many inches wide; the text is smaller than 7 points only where it has to be."""
    text_width.cache_clear()  # the reader may have set another font
    scale = max(1.0, width / 7)
    drawn = list(_compositions(drawing))

    def points(piece: Piece) -> float:
        return min(_LARGEST * scale, width * 72 / piece.width)

    # As large as is good; then side by side rather than one above the other; then low.
    best = max(drawn, key=lambda each: (min(points(each[1]), _GOOD * scale), -each[0], -each[1].height))[1]
    size = points(best)
    figure = Figure(figsize=(best.width * size / 72, best.height * size / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, best.width)
    axes.set_ylim(best.height, 0)
    best.paint(Canvas(axes, size), 0.0, 0.0)
    return figure


def _compositions(drawing: Drawing) -> Iterator[tuple[int, Piece]]:
    """Every way to draw it, with the number of lines that its panels fill."""
    ways = [[_table(panel)] if isinstance(panel, Table) else _graphs(panel) for panel in drawing.panels]
    caption = [_caption(drawing.caption)] if drawing.caption else []
    for panels in product(*ways):
        yield 1, framed(stacked([beside(panels), *caption]))
        if len(panels) > 1:
            yield len(panels), framed(stacked([*panels, *caption]))


def _caption(text: str) -> Piece:
    width = text_width(text)
    return Piece(width, _LINE, lambda canvas, x, y: canvas.text(x + width / 2, y + _LINE / 2, text))


def _table(table: Table) -> Piece:
    """Numbers flush right, text flush left; rules above, below, and under the head."""
    lines = [*([table.head] if table.head else []), *table.rows]
    heads = len(lines) - len(table.rows)
    columns = range(max(map(len, lines)))

    def wide(place: int, column: int) -> float:
        """Width of a cell."""
        bold = place < heads or (place - heads, column) in table.marked
        return max(text_width(line, bold) for line in lines[place][column].split("\n"))

    widths = [max(wide(place, column) for place, row in enumerate(lines) if column < len(row)) for column in columns]
    lefts = [_COLUMN / 3 + sum(width + _COLUMN for width in widths[:column]) for column in columns]
    right = [all(_is_number(row[column]) for row in table.rows if column < len(row)) for column in columns]
    heights = [_ROW + _LINE * max(text.count("\n") for text in row) for row in lines]
    width = lefts[-1] + widths[-1] + _COLUMN / 3

    def paint(canvas: Canvas, x: float, y: float) -> None:
        canvas.line((x, x + width), (y, y), heavy=0.12)
        y += _RULE
        for place, (row, height) in enumerate(zip(lines, heights, strict=True)):
            for column, text in enumerate(row):
                marked = (place - heads, column) in table.marked
                at = x + lefts[column] + right[column] * widths[column]
                if marked:
                    middle = at + (0.5 - right[column]) * wide(place, column)
                    canvas.box(middle, y + height / 2, wide(place, column) + 0.9, _MARK, height=height - 0.3)
                for number, line in enumerate(text.split("\n")):
                    align = "right" if right[column] else "left"
                    canvas.text(at, y + _ROW / 2 + number * _LINE, line, align, bold=marked or place < heads)
            y += height
            if place == heads - 1:
                canvas.line((x, x + width), (y, y))
        y += _RULE
        canvas.line((x, x + width), (y, y), heavy=0.12)

    return Piece(width, sum(heights) + 2 * _RULE, paint)


def _is_number(text: str) -> bool:
    return text in ("", "…") or text.replace(",", "").replace(".", "", 1).isdigit()


def _graphs(graph: CellGraph) -> list[Piece]:
    """The drawings of a cell for several limits to its width."""
    inputs = sum(vertex.kind == "end" for vertex in graph.vertices[:-1])
    sources = [[source for _, source in vertex.inputs] for vertex in graph.vertices]
    widths = [_vertex_width(graph, number) for number in range(len(graph.vertices))]
    return [_graph(graph, layout) for layout in arrange(sources, widths, inputs, _LIMITS)]


def _box_width(text: str) -> float:
    return text_width(words(text)) + 1.0


def _vertex_width(graph: CellGraph, number: int) -> float:
    vertex = graph.vertices[number]
    boxes = [_box_width(operation) for operation, _ in vertex.inputs if operation]
    own = CIRCLE if vertex.kind == "node" else max(_box_width(vertex.text), 1.2 * (len(vertex.inputs) - len(boxes)))
    return max(own, sum(boxes) + 0.5 * (len(boxes) - 1))


def _vertex_height(graph: CellGraph, number: int) -> float:
    vertex = graph.vertices[number]
    own = CIRCLE if vertex.kind == "node" else BOX
    return own + (BOX + _STEM if any(operation for operation, _ in vertex.inputs) else 0.0)


def _graph(graph: CellGraph, layout: Layout) -> Piece:
    rows = range(max(layout.layers) + 1)
    heights = [
        max(_vertex_height(graph, number) for number, layer in enumerate(layout.layers) if layer == row) for row in rows
    ]
    title = _TITLE if graph.title else 0.0
    # An edge that leads far to the side needs height for it.
    steps = [0.0] * len(rows)
    for number, vertex in enumerate(graph.vertices):
        for _, source in vertex.inputs:
            ends = [layout.centre(source), *(lane for _, lane in layout.lanes(source, number)), layout.centre(number)]
            for row, (one, other) in enumerate(pairwise(ends), start=layout.layers[source] + 1):
                steps[row] = max(steps[row], abs(one - other))
    gaps = [0.0, *(_GAP + 0.04 * step for step in steps[1:])]
    bottoms = [title + sum(heights[: row + 1]) + sum(gaps[: row + 1]) for row in rows]
    width = max(layout.width, text_width(graph.title, bold=True))
    shift = (width - layout.width) / 2 - layout.left

    def paint(canvas: Canvas, x: float, y: float) -> None:
        if graph.title:
            canvas.text(x + width / 2, y + title / 2 - 0.2, graph.title, bold=True)
        for number, vertex in enumerate(graph.vertices):
            centre, bottom = x + shift + layout.centre(number), y + bottoms[layout.layers[number]]
            top = bottom - _vertex_height(graph, number)
            if vertex.kind == "node":
                canvas.circle(centre, bottom - CIRCLE / 2, dashed=not vertex.inputs)
                canvas.text(centre, bottom - CIRCLE / 2, vertex.text)
            else:
                colour = _colour(vertex.text) if vertex.kind == "operation" else INK
                own = max(_box_width(vertex.text), _vertex_width(graph, number) if not _boxed(graph, number) else 0.0)
                canvas.box(centre, bottom - BOX / 2, own, colour)
                canvas.text(centre, bottom - BOX / 2, words(vertex.text))
            for source, port, operation in _ports(graph, layout, number):
                if operation:
                    box = _box_width(operation)
                    canvas.box(centre + port, top + BOX / 2, box, _colour(operation))
                    canvas.text(centre + port, top + BOX / 2, words(operation))
                    middle = bottom - (CIRCLE if vertex.kind == "node" else BOX) / 2
                    canvas.line((centre + port, centre + port, centre), (top + BOX, middle, middle))
                corners = [(x + shift + layout.centre(source), y + bottoms[layout.layers[source]])]
                for layer, lane in layout.lanes(source, number):
                    corners += [(x + shift + lane, y + bottoms[layer] - height) for height in (heights[layer], 0.0)]
                layer_top = bottom - heights[layout.layers[number]]
                canvas.arrow(_curve([*corners, (centre + port, layer_top)], top))

    return Piece(width, bottoms[-1], paint)


def _boxed(graph: CellGraph, number: int) -> bool:
    return any(operation for operation, _ in graph.vertices[number].inputs)


def _ports(graph: CellGraph, layout: Layout, number: int) -> list[tuple[int, float, str]]:
    """Source, place (from the vertex's centre) and operation of everything that a vertex reads, from left to right."""
    inputs = graph.vertices[number].inputs

    def comes_from(source: int) -> float:
        lanes = [lane for _, lane in layout.lanes(source, number)]
        return lanes[-1] if lanes else layout.centre(source)

    ordered = sorted(inputs, key=lambda pair: comes_from(pair[1]))
    widths = [_box_width(operation) if operation else 1.2 for operation, _ in ordered]
    gap = 0.5 if _boxed(graph, number) else 0.0
    lefts = [sum(widths[:place]) + gap * place for place in range(len(widths))]
    whole = sum(widths) + gap * (len(widths) - 1)
    return [
        (source, left + width / 2 - whole / 2, operation)
        for (operation, source), left, width in zip(ordered, lefts, widths, strict=True)
    ]


def _curve(corners: Sequence[tuple[float, float]], end: float) -> Path:
    """Between layers a curve that is upright at both ends, and straight down in a lane and at the end."""
    vertices, codes = [corners[0]], [Path.MOVETO]
    for place in range(0, len(corners), 2):
        (x, y), (to_x, to_y) = corners[place : place + 2]
        middle = (y + to_y) / 2
        vertices += [(x, middle), (to_x, middle), (to_x, to_y)]
        codes += [Path.CURVE4] * 3
        if place + 2 < len(corners):
            vertices.append(corners[place + 2])
            codes.append(Path.LINETO)
    if end > corners[-1][1]:
        vertices.append((corners[-1][0], end))
        codes.append(Path.LINETO)
    return Path(vertices, codes)


def _colour(operation: str) -> str:
    return next((colour for start, colour in _COLOURS.items() if words(operation).startswith(start)), _OTHER)
