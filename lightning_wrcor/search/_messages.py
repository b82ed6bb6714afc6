"""What a search says about itself: the notes of its result, and why it ended without one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lightning_wrcor.proxies._score import LOW_COVERAGE
from lightning_wrcor.search._run import Run
from lightning_wrcor.search.evaluation import Evaluation


class SearchError(RuntimeError):
    """A search that found no winner; the message says why and what to change."""


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C in a search; the message says where its scores are."""


def kept(journal: str | os.PathLike[str] | None) -> str:
    """What is left of a search that ended before its time, and how to go on."""
    if journal is None:
        return (
            "Nothing of the search is kept without a journal: name a file with journal=... to go on after such an end."
        )
    return f"What was scored is in {os.fspath(journal)}; the same search goes on from there."


def notes(run: Run) -> list[str]:
    """What a reader of the result should know."""
    # The usual one needs no word.
    said = [] if run.setting.precision == "float32" else [f"Scored in {run.setting.precision}."]
    if run.budget is not None and len(run.history) < run.budget:
        ended = f"The search ended after {len(run.history)} of {run.budget} candidates"
        why = "the space has no others" if run.nothing_left else f"{run.redraws} in a row were rejected or repeated"
        said.append(f"{ended}: {why}.")
    if run.funnel.failed:
        reasons = troubles(run.history, "failed")
        said.append(f"{run.funnel.failed} of {len(run.history)} candidates could not be scored. {reasons}.")
    scored = [row.details for row in run.history if row.status == "ok"]
    low = sum(details.get("coverage", 1.0) < LOW_COVERAGE for details in scored)
    if low:
        said.append(
            f"Warning: for {low} of {len(scored)} candidates less than {LOW_COVERAGE:.0%} of the non-linearities was seen."
        )
    if run.setting.space.mixed_depth and any(details.get("depth_normalised") is False for details in scored):
        raw = next((one.name for one in run.setting.scored if hasattr(one, "depth_normalised")), run.setting.ranking[0])
        said.append(
            f"Warning: these are raw {raw} scores of networks that differ in depth, so they mostly count depth; use "
            "depth_normalised=True."
        )
    return [*said, *run.votes.notes()]


def too_many_failed(history: Sequence[Evaluation]) -> str:
    failed = [row for row in history if row.status == "failed"]
    return (
        f"{len(failed)} of {len(history)} candidates could not be scored, so the search stopped. "
        f"{troubles(failed, 'failed')}. First such candidate: {failed[0].name}."
    )


def troubles(history: Iterable[Evaluation], *statuses: str) -> str:
    """The most common reasons."""
    most = Counter(row.reason for row in history if row.status in statuses).most_common(3)
    return "Most common reasons: " + "; ".join(f"{reason} ({times} time{'s' * (times > 1)})" for reason, times in most)


def nothing_found(run: Run) -> str:
    if not run.funnel.sampled:
        return f"The space is empty: {run.setting.space!r} proposed no candidate."
    tried = run.funnel.sampled - run.funnel.repeated
    rejected = ", ".join(f"{name} rejects {times}" for name, times in run.funnel.rejected.items())
    found = ["Smallest found: " + _listed(run.smallest)]
    if any(name.startswith("min_") for name in run.funnel.rejected):
        found.append("largest: " + _listed(run.largest))
    return (
        f"No candidate meets the constraints {run.constraints.to_dict()}: of {tried} different ones, {rejected}. "
        f"{'; '.join(found)}. Loosen the constraints, or widen the space."
    )


def _listed(costs: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}" for name, value in costs.items()
    )
