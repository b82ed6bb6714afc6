"""What a drawing is put together from: lines, boxes and text, and pieces of it side by side or one above the other.

All lengths are in heights of a letter, so that a drawing is laid out before its size is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from lightning_wrcor.spaces._layout import SPACE

INK, FAINT = "#000000", "#999999"

BOX, CIRCLE = 1.9, 1.6
"""Height of a box and of a circle."""

_FILL = 0.35  # of a colour in white, so that black text can be read on it
_EDGE = 0.6  # around everything


@dataclass(frozen=True)
class Canvas:
    axes: Axes
    size: float  # of the font, in points

    def text(self, x: float, y: float, text: str, align: str = "center", bold: bool = False) -> None:
        """One line with the middle of its small letters at ``y``."""
        weight = "bold" if bold else "normal"
        self.axes.text(
            x, y + 0.3, text, ha=align, va="baseline", fontsize=self.size, fontweight=weight, color=INK,
            parse_math=False, usetex=False, zorder=4,
        )  # fmt: skip

    def box(self, x: float, y: float, width: float, colour: str, height: float = BOX) -> None:
        """A box around a centre, filled with a tint of its colour (black ones with white)."""
        self.axes.add_artist(
            FancyBboxPatch(
                (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.4",
                facecolor="white" if colour == INK else _tint(colour), edgecolor=colour, linewidth=0.11 * self.size, zorder=3,
            )
        )  # fmt: skip

    def circle(self, x: float, y: float, dashed: bool) -> None:
        """The circle of a node, dashed where nothing arrives."""
        self.axes.add_artist(
            Circle(
                (x, y), CIRCLE / 2, facecolor="white", edgecolor=FAINT if dashed else INK,
                linestyle="--" if dashed else "-", linewidth=0.09 * self.size, zorder=3,
            )
        )  # fmt: skip

    def line(self, xs: Sequence[float], ys: Sequence[float], heavy: float = 0.08) -> None:
        """A line through some points."""
        self.axes.plot(xs, ys, color=INK, linewidth=heavy * self.size, solid_capstyle="butt", zorder=2)

    def arrow(self, path: Path) -> None:
        """A line with a head at its end."""
        self.axes.add_artist(
            FancyArrowPatch(
                path=path, arrowstyle="-|>,head_length=0.4,head_width=0.2", mutation_scale=self.size,
                linewidth=0.08 * self.size, color=INK, shrinkA=0, shrinkB=0, capstyle="butt", joinstyle="miter",
                zorder=2,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Something to paint, with the corner at the upper left given."""

    width: float
    height: float
    paint: Callable[[Canvas, float, float], None]


def beside(pieces: Sequence[Piece]) -> Piece:
    """From left to right."""
    lefts = [sum(piece.width + 2 * SPACE for piece in pieces[:place]) for place in range(len(pieces))]

    def paint(canvas: Canvas, x: float, y: float) -> None:
        for left, piece in zip(lefts, pieces, strict=True):
            piece.paint(canvas, x + left, y)

    return Piece(lefts[-1] + pieces[-1].width, max(piece.height for piece in pieces), paint)


def stacked(pieces: Sequence[Piece]) -> Piece:
    """From top to bottom, centred."""
    width = max(piece.width for piece in pieces)
    tops = [sum(piece.height + SPACE for piece in pieces[:place]) for place in range(len(pieces))]

    def paint(canvas: Canvas, x: float, y: float) -> None:
        for top, piece in zip(tops, pieces, strict=True):
            piece.paint(canvas, x + (width - piece.width) / 2, y + top)

    return Piece(width, tops[-1] + pieces[-1].height, paint)


def framed(piece: Piece) -> Piece:
    """With a margin."""

    def paint(canvas: Canvas, x: float, y: float) -> None:
        piece.paint(canvas, x + _EDGE, y + _EDGE)

    return Piece(piece.width + 2 * _EDGE, piece.height + 2 * _EDGE, paint)


def _tint(colour: str) -> tuple[float, float, float]:
    red, green, blue = (1 - _FILL + _FILL * part for part in to_rgb(colour))
    return red, green, blue


@lru_cache(maxsize=1024)
def text_width(text: str, bold: bool = False) -> float:
    """Width of a line in the reader's font."""
    font = FontProperties(weight="bold" if bold else "normal", size=100)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 100
