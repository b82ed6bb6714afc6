"""Which layers the winner's score rests on."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_wrcor.report._sheet import BLUE, INK, ORANGE, Sheet
from lightning_wrcor.report._told import explained, ranking_proxy, winner_line
from lightning_wrcor.search import SearchResult

PARTS = {"activation": ("activations", BLUE), "gradient": ("gradients", ORANGE)}
"""The two kinds of responses, what they are called, and their colours."""


def shares_of(result: SearchResult) -> list[dict[str, Any]]:
    """The winner's layer shares.

    Raises:
        ValueError: where the search kept none, or there is no winner.
    """
    best = result.best
    shares = best.details.get("shares")
    if not shares:
        raise ValueError(
            f"The search kept no layer shares of {best.name}: those are of a search that wrcor, rcor, acor or gcor ranks. "
            "draw_correlations(result, batch) shows the winner's responses after any search."
        )
    return list(shares)


def draw(result: SearchResult, width: float) -> Figure:
    """The figure of `draw_shares`."""
    shares = shares_of(result)
    parts = [part for part in PARTS if any(part in row for row in shares)]
    total = sum(row.get(part, 0.0) for row in shares for part in parts)
    sheet = Sheet(width)
    of = explained(result.best)
    sheet.heading(f"Layers that the winner's {of if of not in (None, ranking_proxy(result)) else 'score'} rests on")
    axes = sheet.axes(winner_line(result), f"All shares together are {total:.4g}, the number of images.")
    wide = 0.84 / len(parts)
    handles = []
    for number, part in enumerate(parts):
        name, colour = PARTS[part]
        places = [row["layer"] - 0.42 + wide * (number + 0.5) for row in shares]
        heights = [row.get(part, 0.0) for row in shares]
        handles.append(axes.bar(places, heights, width=wide, color=colour, linewidth=0, label=name))
    axes.axhline(0.0, color=INK, linewidth=0.6 * sheet.scale)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlim(min(row["layer"] for row in shares) - 0.6, max(row["layer"] for row in shares) + 0.6)
    sheet.label(axes, "layer, counted from the input", "share of the score")
    sheet.legend(handles)
    return sheet.figure
