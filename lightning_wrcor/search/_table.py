"""A search result as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lightning_wrcor.search.evaluation import Evaluation

if TYPE_CHECKING:
    from lightning_wrcor.search.result import SearchResult

_COUNTED = {"params": "params", "macs": "MACs", "depth": "depth"}
"""Costs that every search knows, and their columns."""

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
    # A proxy that only counts a cost has its column already.
    counted = {cost: title for cost, title in _COUNTED.items() if not _only_counts(shown, cost)}
    head = ["", "candidate", proxy, *raced, *others, *counted.values(), *measured.values()]
    body = [
        [
            str(place),
            row.name if len(row.name) <= 70 else row.name[:67] + "...",
            f"{row.score:.4f}",
            *_race(row)[: len(raced)],
            *(_value(row, name, counted) for name in others),
            *(str(row.depth) if cost == "depth" else short(getattr(row, cost)) for cost in counted),
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


def _value(row: Evaluation, name: str, counted: Mapping[str, str]) -> str:
    """A proxy's value; one that stands for a cost is written as costs are."""
    if name in _COUNTED and name not in counted:
        return short(getattr(row, name))
    return f"{row.scores[name]:.4g}" if name in row.scores else "-"


def _only_counts(rows: Sequence[Evaluation], cost: str) -> bool:
    """Whether a proxy of the cost's name is the cost."""
    return all(row.scores.get(cost) == getattr(row, cost) for row in rows)


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
