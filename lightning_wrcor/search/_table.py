"""A search result as a table for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_wrcor.search.evaluation import Evaluation

if TYPE_CHECKING:
    from lightning_wrcor.search.result import SearchResult

_MEASURED = {"resolution": "pixels", "memory_mb": "MB", "latency_ms": "ms"}
"""Costs that not every search knows, and their columns."""


def table(result: SearchResult, rows: int) -> str:
    """The text of `SearchResult.table`."""
    proxy = next(iter(result.best.scores))
    shown = result.leaderboard[:rows]
    # A proxy may have refused some: those with the most columns say their order.
    columns = dict.fromkeys(name for row in sorted(shown, key=lambda row: -len(row.scores)) for name in row.scores)
    others = [name for name in columns if name != proxy]
    measured = {
        cost: title for cost, title in _MEASURED.items() if any(getattr(row, cost) is not None for row in shown)
    }
    raced = ["race mean", "race error"] if any(row.race is not None for row in shown) else []
    head = ["", "candidate", proxy, *raced, *others, "params", "MACs", "depth", *measured.values()]
    body = [
        [
            str(place),
            row.name if len(row.name) <= 70 else row.name[:67] + "...",
            f"{row.score:.4f}",
            *_race(row)[: len(raced)],
            *(f"{row.scores[name]:.4g}" if name in row.scores else "-" for name in others),
            short(row.params),
            short(row.macs),
            str(row.depth),
            *("-" if (value := getattr(row, cost)) is None else f"{value:.4g}" for cost in measured),
        ]
        for place, row in enumerate(shown, start=1)
    ]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [head, *body]
    ]
    # The whole text of the winner: what genotype=... takes.
    winner = [f"Best: {result.best.name}"] if len(result.best.name) > 70 else []
    race = [result.race] if result.race else []
    told = [f"{result.funnel}; {result.seconds:.1f} s.", *race, result.honesty, *result.notes]
    return "\n".join([*lines, *winner, *told])


def _race(row: Evaluation) -> list[str]:
    """Mean and standard error of the scores with fresh seeds."""
    if row.race is None or not math.isfinite(row.race.mean):
        return ["-", "-"]
    return [f"{row.race.mean:.4f}", f"{row.race.error:.2g}"]


def short(count: float) -> str:
    """A count of at most three digits before the point: thousands are ``k``, then ``M`` and ``G``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return str(int(count))
