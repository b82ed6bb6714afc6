"""Who wins a race, and how that is said."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_wrcor.search.evaluation import TIE, Evaluation
from lightning_wrcor.search.racing import Standing


def settle(rows: Sequence[Evaluation]) -> None:
    """Compare finalists that have a `Standing` each, and give them their places. The order of the rows is of no matter.

    First the winner, then the others by their means. Where no mean is finite, nobody gets a place.
    """
    able = [(row, one) for row, one in _finalists(rows) if math.isfinite(one.mean)]
    if not able:
        return
    able.sort(key=lambda pair: (-pair[1].mean, _cost(pair[0])))
    best = able[0][1]
    for _, standing in able:
        standing.no_worse = gap(best, standing) <= standing.errors
    winner = min((pair for pair in able if pair[1].no_worse), key=lambda pair: _cost(pair[0]))
    for place, (_, standing) in enumerate([winner, *(pair for pair in able if pair is not winner)], start=1):
        standing.place = place


def gap(best: Standing, other: Standing) -> float:
    """How far ``other`` is behind ``best``, in standard errors of the difference; 0 for a tie."""
    behind = best.mean - other.mean
    if math.isclose(best.mean, other.mean, rel_tol=TIE):
        return 0.0
    error = math.hypot(best.error, other.error)
    return behind / error if error > 0 else math.copysign(math.inf, behind)


def in_race_order(rows: Sequence[Evaluation]) -> list[Evaluation]:
    """A ranking with the finalists first, by their places, and those that were left out of the race last.

    Without a race, or where nobody got a place, it stays as it is.
    """
    placed = {one.place: row for row, one in _finalists(rows) if one.place is not None}
    if not placed:
        return list(rows)
    others = [row for row in rows if row.race is None]
    left_out = [row for row, one in _finalists(rows) if one.place is None]
    return [*(placed[place] for place in sorted(placed)), *others, *left_out]


def verdict(rows: Sequence[Evaluation]) -> str:
    """How a race ended, in words; empty without one.

    Args:
        rows: candidates in race order.
    """
    finalists = _finalists(rows)
    if not finalists:
        return ""
    seeds = len(finalists[0][1].scores)
    said = [f"Race of {len(finalists)} finalists, {seeds} fresh seeds each:"]
    placed = [pair for pair in finalists if pair[1].place is not None]
    said.append(_outcome(placed) if placed else "none of them has a finite mean, so the first scores rank.")
    for row, standing in finalists:
        if standing.place is None:
            bad = sum(not math.isfinite(score) for score in standing.scores)
            reason = next((reason for reason in standing.reasons if reason), "no value")
            said.append(f"{row.name} was left out: dead or failed under {bad} of {seeds} seeds ({reason}).")
    return " ".join(said)


def _finalists(rows: Sequence[Evaluation]) -> list[tuple[Evaluation, Standing]]:
    return [(row, row.race) for row in rows if row.race is not None]


def _outcome(placed: Sequence[tuple[Evaluation, Standing]]) -> str:
    winner, won = placed[0]
    best, first = max(placed, key=lambda pair: (pair[1].mean, pair[0] is winner))
    tied = [row for row, one in placed if one.no_worse]
    within = f"{first.errors:g} standard errors of the difference"
    mean = f"{best.name} has the best mean, {first.mean:.6g} (standard error {first.error:.2g})"
    if len(placed) == 1:
        return f"{mean}."
    if len(tied) == 1:
        return f"{mean}; all others are worse by more than {within}."
    if best is winner:
        others = "1 other is" if len(tied) == 2 else f"{len(tied) - 1} others are"
        return f"{mean}; {others} no worse by more than {within}, and not cheaper."
    return (
        f"{mean}, and is no better than {winner.name}, {won.mean:.6g} ({won.error:.2g}): they are {gap(first, won):.1f} "
        f"standard errors of the difference apart, no more than {first.errors:g}. The cheaper one was taken, which "
        f"{_cheaper(winner, best)}."
    )


def _cheaper(one: Evaluation, other: Evaluation) -> str:
    if one.macs != other.macs:
        return f"has {one.macs:,} MACs instead of {other.macs:,}"
    if one.params != other.params:
        return f"has {one.params:,} parameters instead of {other.params:,}"
    return "costs the same and has the smaller key"


def _cost(row: Evaluation) -> tuple[int, int, str]:
    return row.macs, row.params, row.key
