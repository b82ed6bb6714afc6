"""Every candidate in the order of proposal, and the best so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lightning_wrcor.report._costs import MANY
from lightning_wrcor.report._generations import generations
from lightning_wrcor.report._sheet import BLUE, FAINT, INK, PALE, VERMILION, ScoreAxis, Sheet
from lightning_wrcor.report._told import counted, ranking_proxy, winner_line, winner_of
from lightning_wrcor.search import SearchResult

_NARROW = 0.22
"""Inches below which a band of one generation is too narrow to be seen as one."""


def draw(result: SearchResult, width: float) -> Figure:
    """The figure of `draw_progress`."""
    history = result.history
    alive = [(place, row.score) for place, row in enumerate(history, start=1) if row.status == "ok"]
    edges = {
        status: [place for place, row in enumerate(history, start=1) if row.status == status]
        for status in ("dead", "failed")
    }
    scores = ScoreAxis([score for _, score in alive], any(edges.values()))
    sheet = Sheet(width)
    sheet.heading("Progress of the search")
    axes = sheet.axes(winner_line(result), counted(len(history)) if history else "no candidate yet")
    handles: list[Artist] = []
    size = max(2.0, 4.5 - 0.8 * math.log10(len(history) or 1)) * sheet.scale
    if shown := [point for point in alive if not scores.below(point[1])]:
        handles += axes.plot(
            *zip(*shown, strict=True), "o", color=BLUE, markersize=size, alpha=0.45, markeredgewidth=0,
            label="candidates", rasterized=len(history) > MANY, zorder=2,
        )  # fmt: skip
    if alive:
        places, best = [place for place, _ in alive], list(accumulate((score for _, score in alive), max))
        handles += axes.plot(
            [*places, len(history)], [*best, best[-1]], color=INK, linewidth=1.1 * sheet.scale, drawstyle="steps-post",
            label="best so far", zorder=3,
        )  # fmt: skip
    if (winner := winner_of(result)) is not None:
        at = next(place for place, row in enumerate(history, start=1) if row is winner)
        handles += axes.plot(
            [at], [winner.score], "*", color=VERMILION, markersize=9 * sheet.scale, markeredgecolor=INK,
            markeredgewidth=0.5 * sheet.scale, label="winner", zorder=4, clip_on=False,
        )  # fmt: skip
    edge = axes.get_xaxis_transform()
    if low := [place for place, score in alive if scores.below(score)]:
        handles += axes.plot(
            low, [0.06] * len(low), "v", color=BLUE, markersize=0.8 * size, alpha=0.6, markeredgewidth=0, transform=edge,
            label=f"score lower than shown ({len(low):,})",
        )  # fmt: skip
    for status, marker, colour in (("dead", "x", VERMILION), ("failed", "+", INK)):
        if edges[status]:
            handles += axes.plot(
                edges[status], [0.02] * len(edges[status]), marker, color=colour, markersize=max(size, 3.2 * sheet.scale),
                markeredgewidth=0.9 * sheet.scale, transform=edge, label=f"{status} ({len(edges[status]):,})",
            )  # fmt: skip
    last = max(len(history), 1)
    axes.set_xlim(1 - 0.02 * last, last + 0.02 * last)
    starts = generations(result)
    if len(starts) > 1:
        handles.append(_shade(sheet, axes.axvspan, starts, last))
    scores.apply(axes, sheet)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    sheet.label(axes, "candidate, in order of proposal", f"{ranking_proxy(result)} (higher is better)")
    if handles:
        sheet.legend(handles)
    return sheet.figure


def _shade(sheet: Sheet, span: object, starts: Sequence[int], last: int) -> Patch:
    """Every other generation has a grey ground; several together where one would be too narrow."""
    typical = starts[-1] - starts[-2] if len(starts) > 2 else starts[1]
    narrow = typical / last * 0.8 * sheet.width < _NARROW * sheet.scale
    together = 1
    if narrow:
        wanted = _NARROW * sheet.scale / (typical / last * 0.8 * sheet.width)
        power = 10 ** math.floor(math.log10(wanted))
        together = next(int(step * power) for step in (1, 2, 5, 10) if step * power >= wanted)
    bands = [starts[0], *starts[1::together], last]
    for begin, end in list(pairwise(bands))[::2]:
        span(begin + 0.5, end + 0.5, facecolor=PALE, linewidth=0, zorder=0)  # type: ignore[operator]
    each = "generations" if together == 1 else f"generations, {together} to a band after the first"
    return Patch(facecolor=PALE, edgecolor=FAINT, linewidth=0.4 * sheet.scale, label=each)
