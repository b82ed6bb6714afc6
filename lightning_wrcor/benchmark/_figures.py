"""Figures of a correlation report: a scatter for every score, and all scores side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from lightning_wrcor.benchmark._compare import Agreement
from lightning_wrcor.benchmark._report import CorrelationReport
from lightning_wrcor.benchmark._scores import COSTS, Column, Scored
from lightning_wrcor.benchmark._statistics import rank_codes

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
"""Colours of Okabe and Ito, which colour-blind readers tell apart."""

DECADES = 100.0
"""Positive values whose middle nine tenths span more than this go on a logarithmic axis."""

STRETCHED = 5.0
"""Values that span more than this many times their middle eight tenths are drawn by their ranks."""


def draw_figures(report: CorrelationReport, folder: Path, scored: Scored, columns: Sequence[Column]) -> list[Path]:
    """Draw ``scatter_COLUMN_SCORE.png`` for every score, and ``spearman_COLUMN.png`` for every column of accuracies."""
    folder.mkdir(parents=True, exist_ok=True)
    params = next(column.values for column in columns if column.name == "params")
    drawn = []
    for name in report.columns:
        rows = {row.name: row for row in report.agreements if row.column == name}
        kept = [place for place, network in enumerate(scored.networks) if name in network.accuracies]
        accuracies = [scored.networks[place].accuracies[name] for place in kept]
        for column in columns:
            figure = _scatter(
                rows[column.name],
                [column.values[place] for place in kept],
                accuracies,
                [params[place] for place in kept],
            )
            drawn.append(_save(figure, folder / f"scatter_{_safe(name)}_{_safe(column.name)}.png"))
        drawn.append(_save(_overview(name, list(rows.values())), folder / f"spearman_{_safe(name)}.png"))
    return drawn


def axis_of(values: Sequence[float]) -> str:
    """How values are drawn so that they can be told apart: ``"linear"``, ``"log"``, or ``"rank"``."""
    ordered = sorted(values)
    if len(ordered) < 5:
        return "linear"

    def at(share: float) -> float:
        return ordered[round(share * (len(ordered) - 1))]

    if ordered[0] > 0 and at(0.95) > DECADES * at(0.05):
        return "log"
    middle = at(0.9) - at(0.1)
    return "rank" if middle > 0 and ordered[-1] - ordered[0] > STRETCHED * middle else "linear"


def _scatter(
    row: Agreement, values: Sequence[float | None], accuracies: Sequence[float], params: Sequence[float | None]
) -> Figure:
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    # A few networks that learned nothing would press all others into a line.
    if ranked := axis_of(accuracies) == "rank":
        accuracies = rank_codes(accuracies).double().tolist()
    known = [place for place, value in enumerate(values) if value is not None and math.isfinite(value)]
    shown: list[float] = [float(values[place] or 0.0) for place in known]
    kind = axis_of(shown)
    if kind == "rank":
        shown = rank_codes(shown).double().tolist()
    sizes = [params[place] for place in known]
    if known and all(size for size in sizes):
        scale: dict[str, Any] = {"c": sizes, "cmap": "viridis"}
        if len(set(sizes)) > 1:
            scale["norm"] = matplotlib.colors.LogNorm()
        points = axes.scatter(shown, [accuracies[place] for place in known], s=12, alpha=0.8, linewidths=0, **scale)
        figure.colorbar(points, label="parameters")
    elif known:
        axes.scatter(shown, [accuracies[place] for place in known], s=12, alpha=0.8, linewidths=0, c=BLUE)
    if kind == "log":
        axes.set_xscale("log")
    without = [accuracy for place, accuracy in enumerate(accuracies) if place not in set(known)]
    if without:  # at the left edge, wherever that is: they rank last
        edge = axes.get_xaxis_transform() if not known else None
        place = 0.0 if edge is not None else axes.get_xlim()[0]
        label = f"dead, refused or failed ({len(without)})"
        axes.scatter([place] * len(without), without, s=18, marker="x", color=ORANGE, label=label)
        axes.legend(loc="best", fontsize="small")
    axes.set_xlabel({"rank": f"{row.name} (rank)", "log": f"{row.name} (logarithmic)"}.get(kind, row.name))
    axes.set_ylabel(f"{row.column} (rank)" if ranked else row.column)
    rho = "undefined" if row.spearman is None else f"{row.spearman:.3f}"
    axes.set_title(f"{row.name}: Spearman {rho}, n = {row.n}", fontsize="medium")
    return figure


def _overview(name: str, rows: Sequence[Agreement]) -> Figure:
    """Spearman's correlation of all scores with its intervals, the highest at the top, params as a line."""
    known = sorted((row for row in rows if row.spearman is not None), key=lambda row: row.spearman or 0.0)
    figure = Figure(figsize=(6.0, 1.2 + 0.28 * max(len(known), 1)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(known):
        colour = ORANGE if row.name == "params" else GREY if row.name in COSTS or ":" in row.name else BLUE
        if row.spearman_interval is not None:
            axes.plot(row.spearman_interval, [place, place], color=colour, linewidth=2)
        axes.plot([row.spearman or 0.0], [place], "D" if row.name == "params" else "o", color=colour)
        if row.name == "params":
            axes.axvline(row.spearman or 0.0, color=ORANGE, linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(len(known)), [row.name for row in known])
    axes.set_xlabel("Spearman's rank correlation, 95 % bootstrap interval")
    axes.set_title(f"{name}, n = {rows[0].n}; dashed: parameters", fontsize="medium")
    axes.grid(axis="x", linewidth=0.4)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=130)  # a Figure without pyplot draws with Agg and needs no screen
    return path


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
