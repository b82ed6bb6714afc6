"""The correlation matrices of responses, side by side."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from lightning_wrcor.proxies import WRCor
from lightning_wrcor.report._responses import PARTS, Responses, parts_of
from lightning_wrcor.report._sheet import FAINT, GREY, INK, SMALL, Sheet, scale_of, shortened, wrapped

_MAP = "viridis"
_LINES = 4
"""At most so many lines of layers; of more layers some are left out."""

# Inches at a scale of 1.
_EDGE, _GAP, _TITLE, _ROOM, _CELL, _LARGEST = 0.08, 0.07, 0.17, 0.2, 0.55, 1.1
_LINE, _BAR, _K = 0.145, 0.09, 1.3


def draw(responses: Responses, labels: Tensor, width: float) -> Figure:
    """The figure of `draw_correlations`; samples are sorted by class."""
    classes = labels.argmax(1) if labels.is_floating_point() else labels
    order = classes.cpu().argsort(stable=True)
    scale = scale_of(width)
    units = width / scale
    beside = units >= 5.0
    k_side = 0.25 * units if beside else _K
    left = _EDGE + _ROOM + (k_side + 0.2 if beside else 0.0)
    columns, lines, shown, cell = _grid(responses.layers, units - left - _EDGE)
    line = _TITLE + 2 * cell + _GAP
    below_k = _TITLE * 2 + k_side + 0.5
    wide, small = width - 2 * _EDGE * scale, SMALL * scale
    head = [shortened(f"Winner: {responses.name}", wide, small)] if responses.name else []
    head += wrapped(_details(responses, len(order)), wide, small)
    above = 0.27 + _LINE * len(head)
    grid = lines * line
    height = above + (max(grid, below_k) if beside else 2 * _TITLE + k_side + 0.1 + grid) + _EDGE
    sheet = Sheet(width, height, layout=None)
    page = _Page(sheet, units, height)
    page.text(_EDGE, 0.12, _heading(responses, shown), sheet.large, bold=True)
    for place, text in enumerate(head):
        page.text(_EDGE, 0.29 + _LINE * place, text)
    top = above + 2 * _TITLE
    if responses.kernel is not None:
        x = _EDGE + (0.02 if beside else 0.0)
        page.text(x, above + 0.1, _kernel_title(responses), size=sheet.small)
        page.matrix(x, top, k_side, responses.kernel[order][:, order], "K")
    _bar(page, beside, k_side, top)
    begin = above if beside else top + k_side + 0.1
    for place, layer in enumerate(shown):
        x, y = left + place % columns * (cell + _GAP), begin + place // columns * line
        page.text(x + cell / 2, y + _TITLE / 2, f"layer {layer}", centre=True)
        for row, part in enumerate(PARTS):
            at = y + _TITLE + row * (cell + _GAP / 2)
            mean = responses.means.get((layer, part))
            page.matrix(x, at, cell, None if mean is None else mean[order][:, order], f"{part} {layer}")
            if place % columns == 0:
                page.text(x - 0.1, at + cell / 2, f"{part}s", centre=True, rotation=90)
    return sheet.figure


def _grid(layers: list[int], room: float) -> tuple[int, int, list[int], float]:
    """Columns, lines, the layers shown and the side of a matrix."""
    most = max(1, int((room + _GAP) / (_CELL + _GAP)))
    shown = layers
    if len(layers) > most * _LINES:
        step = (len(layers) - 1) / (most * _LINES - 1)
        shown = [layers[round(place * step)] for place in range(most * _LINES)]
    lines = math.ceil(len(shown) / most)
    columns = math.ceil(len(shown) / lines)
    return columns, lines, shown, min(_LARGEST, (room + _GAP) / columns - _GAP)


class _Page:
    """A sheet on which things are placed in inches at a scale of 1, from the upper left."""

    def __init__(self, sheet: Sheet, width: float, height: float) -> None:
        self.sheet, self.width, self.height = sheet, width, height

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        bottom = 1 - (y + height) / self.height
        return self.sheet.figure.add_axes((x / self.width, bottom, width / self.width, height / self.height))

    def text(
        self, x: float, y: float, text: str, size: float | None = None, *, bold: bool = False, centre: bool = False,
        rotation: float = 0.0,
    ) -> None:  # fmt: skip
        self.sheet.figure.text(
            x / self.width, 1 - y / self.height, text, fontsize=size or self.sheet.small, rotation=rotation,
            fontweight="bold" if bold else "normal", ha="center" if centre else "left", va="center",
            color=INK if bold or centre else GREY, parse_math=False,
        )  # fmt: skip

    def matrix(self, x: float, y: float, side: float, matrix: Tensor | None, name: str) -> None:
        axes = self.axes(x, y, side, side)
        axes.set(xticks=[], yticks=[], label=name)
        for spine in axes.spines.values():
            spine.set_linewidth(0.4 * self.sheet.scale)
            spine.set_color(FAINT)
        if matrix is None:
            axes.text(0.5, 0.5, "none", ha="center", va="center", fontsize=self.sheet.small, color=GREY)
            axes.set(xlim=(0, 1), ylim=(0, 1))
        else:
            axes.imshow(matrix.numpy(), cmap=_MAP, vmin=0.0, vmax=1.0, interpolation="nearest")


def _bar(page: _Page, beside: bool, k_side: float, top: float) -> None:
    """What the colours mean: under K, or to its right."""
    sheet = page.sheet
    if beside:
        axes = page.axes(_EDGE + 0.06, top + k_side + 0.12, k_side - 0.08, _BAR)
    else:
        axes = page.axes(_EDGE + k_side + 0.2, top, _BAR, k_side)
    bar = sheet.figure.colorbar(
        ScalarMappable(Normalize(0, 1), _MAP), cax=axes, orientation="horizontal" if beside else "vertical",
        ticks=[0, 0.5, 1],
    )  # fmt: skip
    bar.outline.set_linewidth(0.4 * sheet.scale)
    axes.tick_params(
        labelsize=sheet.small, width=0.6 * sheet.scale, length=2.5 * sheet.scale, pad=2 * sheet.scale, colors=INK
    )
    bar.set_label("absolute correlation", fontsize=sheet.small, color=INK, labelpad=2 * sheet.scale)


def _heading(responses: Responses, shown: list[int]) -> str:
    some = f", {len(shown)} of {len(responses.layers)} layers" if len(shown) < len(responses.layers) else ""
    return f"Correlations between samples{some}"


def _kernel_title(responses: Responses) -> str:
    parts = parts_of(responses.proxy)
    of = "all responses" if len(parts) == 2 else f"all {parts[0]}s"
    weights = "weighted by 2^layer" if isinstance(responses.proxy, WRCor) else "weighted alike"
    return f"K: {of},\n{weights}"


def _details(responses: Responses, samples: int) -> str:
    said = f"{samples} samples, sorted by class"
    if responses.value is not None:
        said += f"; {responses.proxy.name} {responses.value:.4f}"
    if not responses.as_stored:
        said += f" ({responses.stored:.4f} in the search)"
    return said
