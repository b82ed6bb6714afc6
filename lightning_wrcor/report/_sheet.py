"""What all figures of a search have in common: sizes of text in proportion to the width, colours, axes, a legend below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

# Colours of Okabe and Ito, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, GREY, FAINT, PALE = "#000000", "#555555", "#999999", "#EEEEEE"

LARGE, SMALL = 8.0, 7.0
"""Points of the text of a figure of 3.5 to 7 inches: labels of axes and the heading, and all the rest."""

_DECADES, _FEW = 100.0, 10
"""Positive scores whose middle nine tenths span more than this go on a logarithmic axis; fewer than these are all shown."""

UNITS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1.0, ""))


class Sheet:
    """A figure with a heading, which is filled and then finished.

    Text has 7 to 8 points between 3.5 and 7 inches, the widths of a paper; above and below that it keeps its proportion.

    Args:
        width: inches.
        height: inches at a scale of 1; None takes what suits a diagram.
        layout: matplotlib's layout engine; None where the axes are placed by hand.
    """

    def __init__(
        self, width: float, height: float | None = None, layout: Literal["constrained"] | None = "constrained"
    ):
        self.width = width
        self.scale = scale_of(width)
        units = width / self.scale
        self.height = (1.68 + 0.32 * units if height is None else height) * self.scale
        self.figure = Figure(figsize=(width, self.height), facecolor="white", layout=layout)
        if (engine := self.figure.get_layout_engine()) is not None:
            pad = 0.05 * self.scale
            engine.set(w_pad=pad, h_pad=pad)  # type: ignore[call-arg]

    @property
    def large(self) -> float:
        """Points of the heading and of the labels of axes."""
        return LARGE * self.scale

    @property
    def small(self) -> float:
        """Points of all other text."""
        return SMALL * self.scale

    def heading(self, text: str) -> None:
        """The first line, at the upper left."""
        self.figure.suptitle(
            text, x=0.07 * self.scale / self.width, ha="left", fontsize=self.large, fontweight="bold", color=INK
        )

    def axes(self, name: str = "", details: str = "") -> Axes:
        """Axes that fill the sheet, below a name, which is cut so that it fits, and details, in as many lines as they take."""
        axes = self.figure.add_subplot()
        self.style(axes)
        room = self.width - 0.9 * self.scale
        lines = [shortened(name, room, self.small)] * bool(name) + wrapped(details, room, self.small)
        axes.set_title(
            "\n".join(lines), loc="left", fontsize=self.small, color=GREY, parse_math=False, pad=5 * self.scale
        )
        return axes

    def style(self, axes: Axes) -> None:
        """Lines and ticks in proportion."""
        axes.set_facecolor("white")
        line = 0.6 * self.scale
        for name, spine in axes.spines.items():
            spine.set_linewidth(line)
            spine.set_color(INK)
            spine.set_visible(name in ("left", "bottom"))
        size = 3 * self.scale
        axes.tick_params(
            which="both", labelsize=self.small, width=line, length=size, pad=size, colors=INK, labelcolor=INK
        )
        axes.tick_params(which="minor", length=size / 2)

    def label(self, axes: Axes, x: str = "", y: str = "") -> None:
        """Say what the axes show, in words that may hold any letters."""
        for text, put, room in ((x, axes.set_xlabel, 0.8 * self.width), (y, axes.set_ylabel, 0.6 * self.height)):
            put(
                "\n".join(wrapped(text, room, self.large)),
                fontsize=self.large,
                color=INK,
                labelpad=3 * self.scale,
                parse_math=False,
            )

    def legend(self, handles: Sequence[Any]) -> None:
        """A legend below everything, with as many columns as the width has room for."""
        renderer = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        for columns in range(len(handles), 0, -1):
            legend: Legend = self.figure.legend(
                handles=list(handles), loc="outside lower center", ncols=columns, fontsize=self.small,
                frameon=False, handlelength=1.6, columnspacing=1.4, handletextpad=0.5, labelcolor=INK, borderpad=0.2,
            )  # fmt: skip
            for text in legend.get_texts():
                text.set_parse_math(False)
            for handle in legend.legend_handles:
                if isinstance(handle, Line2D):  # points of many candidates are too small to be told apart
                    handle.set_markersize(max(handle.get_markersize(), 4 * self.scale))
            if columns == 1 or legend.get_window_extent(renderer).width < 0.94 * self.figure.bbox.width:
                return
            legend.remove()


def scale_of(width: float) -> float:
    """What text is multiplied by in a figure of so many inches."""
    return min(width / 3.5, max(1.0, width / 7))


def text_width(text: str, size: float) -> float:
    """Most that a line of text of so many points is wide, in inches: letters that are drawn as pixels are a little wider."""
    families = (*matplotlib.rcParams["font.family"], *matplotlib.rcParams["font.sans-serif"])
    return _exact_width(text, families) * size * 1.06


@lru_cache(4096)
def _exact_width(text: str, families: tuple[str, ...]) -> float:
    """Inches at a size of 1 point; the reader may set other fonts from one figure to the next."""
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=1), ismath=False)[0]) / 72


def wrapped(text: str, room: float, size: float) -> list[str]:
    """The text in lines of at most so many inches, each as full as it goes; a word that is wider is cut.

    A space that does not break (U+00A0) holds words together.
    """
    lines: list[str] = []
    for word in text.split(" ") if text else ():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(shortened(word, room, size))
    return lines


def shortened(text: str, room: float, size: float) -> str:
    """The text, with an ellipsis in its middle where it is wider than so many inches."""
    if text_width(text, size) <= room:
        return text
    fewest, most = 0, len(text)
    while most - fewest > 1:
        kept = (fewest + most) // 2
        if text_width(_cut(text, kept), size) <= room:
            fewest = kept
        else:
            most = kept
    return _cut(text, fewest)


def _cut(text: str, kept: int) -> str:
    head = math.ceil(kept * 0.6)
    return f"{text[:head]}…{text[len(text) - (kept - head) :]}"


# ---- axes of numbers


def unit_of(values: Sequence[float]) -> tuple[float, str]:
    """What counts are divided by so that the largest are short numbers, and the word for it."""
    most = max(values, default=0.0)
    return next(((size, word) for size, word in UNITS if most >= size), UNITS[-1])


def spans_decades(values: Sequence[float], ratio: float) -> bool:
    """Whether values are positive and their middle nine tenths span more than a ratio."""
    ordered = sorted(values)
    if len(ordered) < 5 or ordered[0] <= 0:
        return False
    return ordered[round(0.95 * (len(ordered) - 1))] > ratio * ordered[round(0.05 * (len(ordered) - 1))]


def set_scale(axis: Axis, logarithmic: bool, room: float, scale: float) -> None:
    """Linear, or logarithmic with labels in plain numbers where there is room for them.

    Args:
        axis: of axes that hold all that they are to show.
        logarithmic: which of the two.
        room: inches of the axis.
        scale: of the text.
    """
    if not logarithmic:
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10]))
        return
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades * 3 < room / (0.45 * scale) else (1.0, 3.0) if decades < 2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    plain: Callable[[float, Any], str] = lambda value, _: f"{value:,.10g}"  # noqa: E731
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))


class ScoreAxis:
    """The upright axis of scores: where it begins, and who stands on its lower edge.

    A few scores far below all others would press these into a line. The axis then ends at twice the distance between the
    best score and the lowest tenth below that tenth, and those below stand on its edge. The best are always shown.

    Args:
        scores: finite ones.
        edge: whether something else stands on the lower edge.
    """

    def __init__(self, scores: Sequence[float], edge: bool) -> None:
        ordered = sorted(scores) or [0.0, 1.0]
        self.logarithmic = spans_decades(ordered, _DECADES)
        lowest, highest = ordered[0], ordered[-1]
        tenth = ordered[len(ordered) // 10]
        cut = tenth - 2 * (highest - tenth)
        if len(ordered) >= _FEW and not self.logarithmic and highest > tenth and lowest < cut:
            lowest = cut
        self.lowest = lowest
        bottom, top = (math.log(lowest), math.log(highest)) if self.logarithmic else (lowest, highest)
        span = top - bottom or abs(top) or 1.0
        edge = edge or ordered[0] < lowest
        ends = bottom - (0.12 if edge else 0.05) * span, top + 0.06 * span
        self.limits = (math.exp(ends[0]), math.exp(ends[1])) if self.logarithmic else ends

    def below(self, score: float) -> bool:
        """Whether a score is lower than the axis shows."""
        return score < self.lowest

    def apply(self, axes: Axes, sheet: Sheet) -> None:
        """Set the limits and the ticks."""
        if self.logarithmic:
            axes.set_yscale("log")
        axes.set_ylim(self.limits)
        set_scale(axes.yaxis, self.logarithmic, sheet.height, sheet.scale)
