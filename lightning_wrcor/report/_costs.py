"""Score against a cost, with the Pareto front."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_wrcor.report._sheet import (
    BLUE,
    INK,
    ORANGE,
    VERMILION,
    ScoreAxis,
    Sheet,
    set_scale,
    spans_decades,
    unit_of,
)
from lightning_wrcor.report._told import COSTS, FIXED, counted, listed, ranking_proxy, winner_line
from lightning_wrcor.search import SearchResult

_DECADE = 10.0
"""Costs whose middle nine tenths span more than this go on a logarithmic axis."""

MANY = 5000
"""Points from which on a figure in PDF or SVG holds them as a picture."""


def draw(result: SearchResult, cost: str, width: float) -> Figure:
    """The figure of `draw_costs`."""
    rows = result.leaderboard
    front = result.pareto(cost)  # type: ignore[arg-type]  # which also says whether the cost was measured
    dead = [row for row in result.history if row.status == "dead" and getattr(row, cost) is not None]
    values = [float(getattr(row, cost)) for row in rows]
    divisor, word = (1.0, FIXED[cost]) if cost in FIXED else unit_of(values)
    scores = ScoreAxis([row.score for row in rows], bool(dead))
    sheet = Sheet(width)
    sheet.heading(f"Score against {COSTS[cost]}")
    rho = result.baselines.get(cost)
    explained = "" if rho is None else f"rank correlation of score and {COSTS[cost]} {rho:+.2f}"
    axes = sheet.axes(winner_line(result), listed([counted(len(rows)) + " with a score", explained]))
    shown = [(value / divisor, row.score) for value, row in zip(values, rows, strict=True)]
    size = max(2.0, 4.5 - 0.8 * math.log10(len(rows))) * sheet.scale
    inside = [point for point in shown if not scores.below(point[1])]
    (points,) = axes.plot(
        [x for x, _ in inside], [y for _, y in inside], "o", color=BLUE, markersize=size, alpha=0.45, markeredgewidth=0,
        label="candidates", rasterized=len(rows) > MANY, zorder=2,
    )  # fmt: skip
    handles: list[Line2D] = [points]
    xs = [getattr(row, cost) / divisor for row in front]
    ys = [row.score for row in front]
    # On to the dearest candidate, so that the front is seen to hold there too.
    ends = [*xs, max(x for x, _ in shown)], [*ys, ys[-1]]
    (line,) = axes.plot(
        *ends, "-", drawstyle="steps-post", color=INK, linewidth=0.9 * sheet.scale, markevery=range(len(front)),
        marker="o", markersize=size, markerfacecolor=ORANGE, markeredgecolor=INK, markeredgewidth=0.5 * sheet.scale,
        label=f"Pareto front ({len(front):,})", zorder=3,
    )  # fmt: skip
    handles.append(line)
    best = rows[0]
    handles += axes.plot(
        [getattr(best, cost) / divisor], [best.score], "*", color=VERMILION, markersize=9 * sheet.scale,
        markeredgecolor=INK, markeredgewidth=0.5 * sheet.scale, label="winner", zorder=4, clip_on=False,
    )  # fmt: skip
    edge = axes.get_xaxis_transform()
    if low := [x for x, y in shown if scores.below(y)]:
        handles += axes.plot(
            low, [0.06] * len(low), "v", color=BLUE, markersize=0.8 * size, alpha=0.6, markeredgewidth=0, transform=edge,
            label=f"score lower than shown ({len(low):,})",
        )  # fmt: skip
    if dead:
        handles += axes.plot(
            [getattr(row, cost) / divisor for row in dead], [0.02] * len(dead), "x", color=VERMILION,
            markersize=max(size, 3.2 * sheet.scale), markeredgewidth=0.9 * sheet.scale, transform=edge,
            label=f"dead ({len(dead):,})",
        )  # fmt: skip
    scores.apply(axes, sheet)
    set_scale(axes.xaxis, spans_decades(values, _DECADE), 0.8 * width, sheet.scale)
    sheet.label(axes, f"{COSTS[cost]} ({word})" if word else COSTS[cost], f"{ranking_proxy(result)} (higher is better)")
    sheet.legend(handles)
    return sheet.figure
