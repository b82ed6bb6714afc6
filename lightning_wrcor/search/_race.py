"""A race at the end of a search: the finalists are scored again, and compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lightning_wrcor._random import derive_seed
from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search._evaluate import Candidate, Setting, evaluate
from lightning_wrcor.search._ranks import stopping_together
from lightning_wrcor.search._run import Run
from lightning_wrcor.search._share import share
from lightning_wrcor.search._standings import settle
from lightning_wrcor.search._votes import VotingProgress
from lightning_wrcor.search.evaluation import Evaluation, ranked
from lightning_wrcor.search.journal import Journal
from lightning_wrcor.search.racing import Racing, Standing

Repeat = tuple[str, int]
"""A candidate's key, and the number of the repetition, from 1."""


def run_race(run: Run, racing: Racing | None, journal: Journal | None, bar: VotingProgress) -> None:
    """Score the best of a finished search again and write into their evaluations how they came out; None does nothing.

    Shared over the processes; each score is in the journal as soon as it is known, and is not computed again.

    Raises:
        OSError: where the journal cannot be written; on all processes together.
    """
    if racing is None:
        return
    finalists = ranked(run.history)[: racing.finalists]
    numbers = range(1, racing.seeds + 1)
    bar.expect(len(run.history) + len(finalists) * racing.seeds)
    scored = _score(run, [(row, number) for number in numbers for row in finalists], journal, bar)
    rounds = [_values(run.setting, [scored[row.key, number] for row in finalists]) for number in numbers]
    for place, row in enumerate(finalists):
        reasons = [scored[row.key, number].reason for number in numbers]
        row.race = Standing.of([values[place] for values in rounds], reasons, racing.errors)
    settle(finalists)


def _score(
    run: Run, wanted: Sequence[tuple[Evaluation, int]], journal: Journal | None, bar: VotingProgress
) -> dict[Repeat, Evaluation]:
    """The repetitions that are wanted, from the journal or computed."""
    stored: dict[Repeat, Evaluation] = {}
    if run.journal is not None:  # which rank zero alone has open
        stored = run.ranks.broadcast(journal.repeated if journal is not None else {})
    found: dict[Repeat, Evaluation] = {}
    left = []
    for row, number in wanted:
        known = stored.get((row.key, number))
        # As in the search: what failed, and has no score, is tried again; so is what those that rank now had refused.
        if known is None or not set(run.setting.ranking) & set(known.scores):
            left.append((row, number))
            continue
        known.rank_by(run.setting.ranking)
        found[row.key, number] = known
        bar.update(run.funnel, -math.inf, known.name)
    if run.ranks.world_size > 1:  # the largest first, so that they end at the same time
        left.sort(key=lambda task: task[0].macs, reverse=True)
    seconds = statistics.fmean(row.seconds for row in run.history)
    for new in share(run.ranks, left, partial(_repeat, run.setting), seconds):
        _write(run, journal, new)
        for number, evaluation in new:
            found[evaluation.key, number] = evaluation
            bar.update(run.funnel, -math.inf, evaluation.name)  # it leads nothing: the search is over
    return found


def _repeat(setting: Setting, task: tuple[Evaluation, int]) -> tuple[int, Evaluation]:
    """One finalist with fresh weights: their seed is derived from the search's, the repetition and the candidate."""
    row, number = task
    fresh = replace(setting, seed=derive_seed(setting.seed, "race", number))
    costs = Costs(row.params, row.macs, row.depth)
    measured = {"resolution": row.resolution, "memory_mb": row.memory_mb, "latency_ms": row.latency_ms}
    candidate = Candidate(row.genotype, row.key, costs, **measured)  # type: ignore[arg-type]
    return number, evaluate(fresh, candidate)


def _values(setting: Setting, rows: Sequence[Evaluation]) -> list[float]:
    """What ranks the finalists under one seed; NaN for a failed one. A vote is counted among those that have not failed."""
    first = setting.proxies[0]
    if not isinstance(first, Vote):
        return [row.score for row in rows]
    alive = [row for row in rows if row.status != "failed"]
    voted = first.combine({name: [row.scores.get(name, math.nan) for row in alive] for name in first.names})
    values = dict(zip((row.key for row in alive), voted, strict=True))
    return [values.get(row.key, math.nan) for row in rows]


def _write(run: Run, journal: Journal | None, new: Sequence[tuple[int, Evaluation]]) -> None:
    """Rank zero writes; if it cannot (a full disk), all ranks stop together, so that none waits for the others."""
    if run.journal is None:
        return
    with stopping_together(run.ranks):
        for number, evaluation in new if journal is not None else ():
            journal.add(evaluation, repetition=number)  # type: ignore[union-attr]
