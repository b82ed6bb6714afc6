"""What a search says about itself: the notes of its result, and why it ended without one."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lightning_wrcor.proxies._score import LOW_COVERAGE, Batch
from lightning_wrcor.search._remarks import counts_depth, without_a_value
from lightning_wrcor.search._run import Run
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.result import BASELINES
from lightning_wrcor.search.strategies import Strategy

FEW_IMAGES = 16
"""Images in a probe batch below which a result says that they are few."""


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
    path = os.fspath(journal)
    if not _has_scores(path):
        return f"There are no scores in {path} yet: the same search begins anew."
    return f"What was scored is in {path}; the same search goes on from there."


def _has_scores(path: str) -> bool:
    """Whether a whole line stands below the header of a journal."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return sum(line.endswith(b"\n") for line in itertools.islice(file, 2)) == 2


def notes(run: Run) -> list[str]:
    """What a reader of the result should know."""
    # The usual one needs no word.
    said = [] if run.setting.precision == "float32" else [f"Scored in {run.setting.precision}."]
    if run.budget is not None and len(run.history) < run.budget:
        ended = f"The search ended after {len(run.history)} of {run.budget} candidates"
        why = "the space has no others" if run.nothing_left else f"{run.redraws} in a row were rejected or repeated"
        said.append(f"{ended}: {why}.")
    if drawn := all_at_random(run.strategy, len(run.history)):
        said.append(drawn)
    looked = any(set(row.scores) - set(BASELINES) for row in run.history)  # and did not only count
    if looked and (few := _few_images(images_of(run.history, run.setting.batch))):
        said.append(few)
    if run.misfit is not None:
        said.append(_misfits(run))
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
    elif counted := counts_depth(run):
        said.append(counted)
    return [*said, *without_a_value(run.setting.scored, run.history), *run.votes.notes()]


def all_at_random(strategy: Strategy | None, count: int) -> str:
    """That a strategy ended before it learned, in words; empty where it did not, and where that is not known.

    Args:
        strategy: the strategy.
        count: how many candidates it was told of.
    """
    if strategy is None or not 0 < count <= strategy.drawn_first:
        return ""
    kind, argument = type(strategy).__name__, strategy.learns_after
    what = f"All {count:,} candidates were" if count > 1 else "The only candidate was"
    return (
        f"{what} drawn at random: {kind} learns only after its first {strategy.drawn_first:,} ({argument}="
        f"{strategy.drawn_first}). Give it a larger budget, or a smaller {argument}."
    )


def images_of(history: Iterable[Evaluation], batch: Batch | None = None) -> int | None:
    """Images of the probe batch; without it, what the shares of a candidate's layers sum to; None where there are none."""
    if batch is not None:
        return len(batch[0])
    for row in history:
        if shares := row.details.get("shares"):
            return round(math.fsum(one.get(part, 0.0) for one in shares for part in ("activation", "gradient")))
    return None


def _few_images(count: int | None) -> str:
    if count is None or count >= FEW_IMAGES:
        return ""
    pairs = count * (count - 1) // 2
    only = f"Scored on only {count} image{'s' * (count != 1)}"
    return (
        f"{only}: what a proxy learns from images rests on {pairs} pair{'s' * (pairs != 1)} of them, and other images may give "
        "another ranking. 64 are usual."
    )


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
    if set(run.funnel.rejected) == {"image_size"}:
        return f"No candidate takes images of this size. {_misfits(run)}"
    found = ["Smallest found: " + _listed(run.smallest)]
    if any(name.startswith("min_") for name in run.funnel.rejected):
        found.append("largest: " + _listed(run.largest))
    return (
        f"No candidate meets the constraints {run.constraints.to_dict()}: of {tried} different ones, {rejected}. "
        f"{'; '.join(found)}. Loosen the constraints, or widen the space."
    )


def _misfits(run: Run) -> str:
    """How many candidates take no images of the search's size, and what can be done."""
    count = run.funnel.rejected["image_size"]
    were = "candidate was" if count == 1 else "candidates were"
    _, height, width = run.setting.input_size
    said = f"{count} {were} left out, which cannot run on images of {height}x{width} pixels."
    return f"{said} The first: {run.misfit}"


def _listed(costs: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}" for name, value in costs.items()
    )
