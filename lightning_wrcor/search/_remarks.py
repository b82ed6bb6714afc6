"""Notes of a result that look at the scores: proxies without a value, and raw scores that count depth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning_wrcor.proxies import Proxy
from lightning_wrcor.proxies._observed import never_called
from lightning_wrcor.search._run import Run
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.spaces import FiniteSpace, Space

MOSTLY = 0.95
"""Share of the pairs of networks of different depth, ranked by depth, from which on a ranking mostly counts depth."""


def without_a_value(proxies: Sequence[Proxy], history: Sequence[Evaluation]) -> list[str]:
    """A note for each proxy that has no finite value for any candidate: it refused them, or gave -inf.

    Args:
        proxies: those that scored candidates.
        history: the candidates; failed ones do not count.
    """
    rows = [row for row in history if row.status != "failed"]
    every = "the only candidate" if len(rows) == 1 else f"all {len(rows):,} candidates"
    said = []
    for proxy in proxies:
        name = proxy.name
        if not rows or any(math.isfinite(row.scores.get(name, -math.inf)) for row in rows):
            continue
        refused = [row for row in rows if name not in row.scores]
        reasons = Counter(row.details.get("refused", {}).get(name, "") for row in refused)
        reason = reasons.most_common(1)[0][0].removesuffix(".") if reasons else ""
        why = reason and (f": {reason}" if len(reasons) == 1 else f", mostly: {reason}")
        if len(refused) == len(rows):
            said.append(f"Warning: {name} refused {every}{why}.")
        elif refused:
            counts = f"{len(rows) - len(refused):,} -inf, {len(refused):,} refused{why}"
            said.append(f"Warning: {name} has a value for none of {len(rows):,} candidates: {counts}.")
        else:
            hint = never_called(proxy)
            said.append(f"Warning: {name} is -inf for {every}{hint and f': {hint}'}.")
    return said


def counts_depth(run: Run) -> str:
    """That raw scores rank the networks of a user's own class of space by depth, in words; else empty.

    Only where the class does not say whether its networks differ in depth, and neither does the proxy: who wrote
    ``mixed_depth`` or ``depth_normalised`` has decided.
    """
    space, first = run.setting.space, run.setting.ranking[0]
    proxy: Any = next((one for one in run.setting.scored if one.name == first), None)
    if not _undecided(space) or getattr(proxy, "depth_normalised", False) is not None:
        return ""
    rows = [row for row in run.history if row.status == "ok" and row.details.get("depth_normalised") is False]
    depths = {row.key: _layers(row) for row in rows}
    share = _ranked_by_depth([(row.scores.get(first, -math.inf), depths[row.key]) for row in rows])
    if share is None or share < MOSTLY:
        return ""
    low, high, percent = min(depths.values()), max(depths.values()), math.floor(100 * share)
    return (
        f"Warning: the networks have {low} to {high} layers, and in {percent}% of the pairs that differ in it the deeper one "
        f"has the better {first}, so that it mostly counts depth. Give {type(space).__name__} the line mixed_depth = True, or "
        f"{first} depth_normalised=True."
    )


def _undecided(space: Space) -> bool:
    """Whether a space is of a class that is not ours, nor made of one, and says nothing of depth."""
    kind = type(space)
    if not isinstance(space, Space) or kind.mixed_depth is not Space.mixed_depth:
        return False
    bases = [one for one in kind.__mro__ if issubclass(one, Space) and one not in (Space, FiniteSpace)]
    return not any(one.__module__.startswith("lightning_wrcor.") for one in bases)


def _layers(row: Evaluation) -> int:
    """How many layers the raw score weights, of which one more doubles the largest weight."""
    return 1 + max((int(one["layer"]) for one in row.details.get("shares") or []), default=0)


def _ranked_by_depth(rows: Sequence[tuple[float, int]]) -> float | None:
    """Share of the pairs of different depth in which the deeper network has the higher score; None without such pairs.

    Args:
        rows: ``(score, depth)`` of each network.
    """
    below: Counter[int] = Counter()
    deeper = pairs = 0
    # Of equal scores the deeper comes first: it is not higher.
    for _, depth in sorted(rows, key=lambda row: (row[0], -row[1])):
        pairs += sum(count for other, count in below.items() if other != depth)
        deeper += sum(count for other, count in below.items() if other < depth)
        below[depth] += 1
    return deeper / pairs if pairs else None
