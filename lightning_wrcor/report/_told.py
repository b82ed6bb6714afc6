"""What figures call things: the proxy that ranks, costs with their units, the winner."""

from __future__ import annotations

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
