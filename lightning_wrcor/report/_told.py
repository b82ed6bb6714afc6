"""What figures call things: the proxy that ranks, costs with their units, the winner."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_wrcor.search import SearchResult
from lightning_wrcor.search.evaluation import Evaluation

COSTS = {
    "macs": "MACs",
    "params": "parameters",
    "latency_ms": "latency",
    "memory_mb": "memory of activations",
    "depth": "depth",
}
"""The costs of a candidate and their names."""

SHORT = {**COSTS, "memory_mb": "memory", "resolution": "resolution"}
"""The same in few words, and what else can be bounded."""

FIXED = {"latency_ms": "ms", "memory_mb": "MB", "depth": "non-linearities"}
"""Units of those that are not counted in thousands, millions or billions."""


def ranking_proxy(result: SearchResult) -> str:
    """The name of what ranks; ``"score"`` as long as nothing has one."""
    return next(iter(result.leaderboard[0].scores)) if result.leaderboard else "score"


def winner_of(result: SearchResult) -> Evaluation | None:
    """The winner, or None as long as there is none."""
    return result.leaderboard[0] if result.leaderboard else None


def explained(row: Evaluation) -> str | None:
    """The proxy whose value is the size and the shape term in a candidate's details; None where there are none.

    Details are those of the first proxy that was scored, which need not be the one that ranks.
    """
    size, shape = (row.details.get(f"{term}_term") for term in ("size", "shape"))
    if size is None or shape is None:
        return None
    return next((name for name, value in row.scores.items() if math.isclose(value, size + shape, rel_tol=1e-6)), None)


def winner_line(result: SearchResult) -> str:
    """``winner: NAME``, or nothing."""
    winner = winner_of(result)
    return "" if winner is None else f"Winner: {winner.name}"


def counted(number: int, word: str = "candidate") -> str:
    """``1,234 candidates``."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence that are not empty, with semicolons between."""
    return "; ".join(part for part in parts if part)
