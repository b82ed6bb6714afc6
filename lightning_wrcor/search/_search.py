"""The search itself: propose, check, score, share, remember."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from numbers import Integral
from typing import Any

from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.proxies import Proxy
from lightning_wrcor.proxies._score import Batch, check_batch
from lightning_wrcor.search._evaluate import Candidate, Setting, count, count_classes, evaluate, read_proxies
from lightning_wrcor.search._messages import SearchError, notes, nothing_found, too_many_failed, troubles
from lightning_wrcor.search._ranks import Ranks
from lightning_wrcor.search._run import Run
from lightning_wrcor.search._votes import VotingProgress
from lightning_wrcor.search.constraints import COSTS, Constraints
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.journal import Journal
from lightning_wrcor.search.result import SearchResult, library_versions
from lightning_wrcor.search.strategies import ENUMERABLE, Strategy, get_strategy
from lightning_wrcor.spaces import Space, get_space

_LOG = logging.getLogger(__name__)

REDRAWS = 1000
"""Candidates in a row that may be rejected or repeated before a search without end gives up looking for another."""

FEW = 8
"""Candidates after which failures say something about the search, and not only about the candidate."""


def zero_shot_search(
    space: str | Space | Mapping[str, Any] | Sequence[Any],
    batch: Batch,
    proxy: str | Proxy | Mapping[str, Any] | Sequence[str | Proxy | Mapping[str, Any]] = "wrcor",
    strategy: str | Strategy | Mapping[str, Any] = "random",
    budget: int | None = None,
    constraints: Constraints | Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    num_classes: int | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> SearchResult:
    """Score untrained candidates of a search space on one batch and rank them.

    Every candidate's weights come from its own seed, derived from ``seed`` and the candidate, so that its score does not
    depend on the order or on who else is scored. Global random numbers are left as they were.

    Args:
        space: a space, its name (`lightning_wrcor.spaces.list_spaces`), or a list of timm names, modules and factories.
        batch: ``(images, labels)``, the probe batch; 64 images are usual. Candidates are scored on its device.
        proxy: a proxy, a vote, or a name of one, or several: the first ranks, all are recorded. A vote is counted over all
            candidates so far after each generation.
        strategy: who is scored next: ``"random"``, ``"exhaustive"``, or a strategy.
        budget: candidates that are scored (dead and failed ones count, rejected and repeated ones do not). None: the
            strategy's own default (100 for random search, all for exhaustive search).
        constraints: bounds on parameters, MACs and depth, checked before a candidate is scored.
        seed: the search's seed.
        num_classes: classes of the networks that are scored; by default one more than the largest label.
        journal: a file to which every evaluation is appended; if it exists, the search goes on where it was, and tries
            again what failed.
        progress: show one progress bar (on rank zero).
        ranks: the processes that share the search; by default this one alone.

    Returns:
        The ranking; ``.best`` is the winner.

    Raises:
        ValueError: for settings that cannot work, before anything is scored.
        SearchError: when no candidate meets the constraints, most candidates fail, or none gets a finite score.
    """
    start = time.perf_counter()
    check_batch(batch)
    if budget is not None and not (isinstance(budget, Integral) and budget >= 1):
        raise ValueError(f"A budget is the number of candidates that are scored, at least 1; got {budget}.")
    setting = Setting(get_space(space), read_proxies(proxy), batch, seed, count_classes(batch[1], num_classes))
    strategy = get_strategy(strategy)
    asked = budget is not None
    budget = strategy.default_budget if budget is None else budget
    run = Run(setting, strategy, budget, Constraints.read(constraints), ranks or Ranks(), journal, REDRAWS)
    # Seeded, so that a strategy or a space that draws from the global numbers still proposes the same everywhere.
    with own_random_numbers(derive_seed(seed, "search")):
        strategy.ranking = setting.ranking
        strategy.start(setting.space, seed)
        if not asked and run.budget is not None and strategy.total is not None:
            run.budget = min(run.budget, strategy.total)
        if run.budget is None and strategy.total is not None and strategy.total > ENUMERABLE:
            raise ValueError(
                f"{type(setting.space).__name__} has {strategy.total:,} candidates, too many to score them all. Set a "
                "budget; strategy='random' draws from all of them."
            )
        opened = run.open_journal()
        bar = VotingProgress(progress and run.ranks.rank == 0)
        with opened or nullcontext(), bar:
            try:
                _search(run, opened, bar)
            except KeyboardInterrupt:
                if opened is not None:
                    _LOG.warning(
                        "Interrupted. What was scored is in %s; the same search goes on from there.", opened.path
                    )
                raise
    result = SearchResult(
        space=setting.space.config(),
        proxies=[one.config() for one in setting.proxies],
        strategy=strategy.config(),
        constraints=run.constraints.to_dict(),
        seed=int(seed),
        num_classes=setting.num_classes,
        input_size=setting.input_size,
        history=run.history,
        funnel=run.funnel,
        seconds=time.perf_counter() - start,
        versions=library_versions(),
        notes=notes(run),
    )
    result.searched_space = setting.space
    return result


def _search(run: Run, journal: Journal | None, bar: VotingProgress) -> None:
    while run.budget is None or len(run.history) < run.budget:
        left = run.strategy.generation if run.budget is None else run.budget - len(run.history)
        wanted = min(left, run.strategy.generation)
        generation = _collect(run, wanted, bar)
        evaluations = _score_generation(run, generation, journal, bar)
        run.history += evaluations
        run.votes.count(evaluations)
        bar.lead(run.funnel, run.votes.leader)
        run.strategy.tell(evaluations)
        failed = sum(row.status == "failed" for row in run.history)
        if len(run.history) >= FEW and failed > len(run.history) / 2:
            raise SearchError(too_many_failed(run.history))
        if len(generation) < wanted:  # there are no others, or none was found
            break
    if not run.history:
        raise SearchError(nothing_found(run))
    if not run.funnel.scored:
        reasons = troubles(run.history, "dead", "failed")
        raise SearchError(f"None of {len(run.history)} candidates got a finite score ({run.funnel}). {reasons}.")


def _collect(run: Run, wanted: int, bar: VotingProgress) -> list[Candidate]:
    """Up to ``wanted`` new candidates that meet the constraints."""
    generation: list[Candidate] = []
    fruitless = 0
    while len(generation) < wanted and (fruitless < run.redraws or run.strategy.total is not None):
        asked = run.strategy.ask(wanted - len(generation))
        if not asked:
            break
        for genotype in asked:
            run.funnel.sampled += 1
            fruitless += 1
            key = run.setting.space.key(genotype)
            if key in run.seen:
                run.funnel.repeated += 1
                continue
            run.seen.add(key)
            candidate = count(run.setting, genotype, key)
            if candidate.costs is not None:
                for name in COSTS:
                    value = getattr(candidate.costs, name)
                    run.smallest[name] = min(run.smallest.get(name, value), value)
                    run.largest[name] = max(run.largest.get(name, value), value)
                broken = run.constraints.violated(candidate.costs)
                if broken is not None:
                    run.funnel.rejected[broken] = run.funnel.rejected.get(broken, 0) + 1
                    bar.look(run.funnel)
                    continue
            fruitless = 0
            generation.append(candidate)
    if run.strategy.total is not None:
        possible = run.strategy.total - run.funnel.repeated - sum(run.funnel.rejected.values())
        bar.expect(possible if run.budget is None else min(possible, run.budget))
    else:
        bar.expect(run.budget)
    return generation


def _score_generation(
    run: Run, generation: Sequence[Candidate], journal: Journal | None, bar: VotingProgress
) -> list[Evaluation]:
    """Score a generation, shared over the ranks; results are exchanged often, so that none waits for minutes."""
    results: dict[str, Evaluation] = {}
    open_candidates = []
    for candidate in generation:
        known = run.known.get(candidate.key)
        # What failed is tried again: its reason (no memory, a mistake in a proxy) may be gone.
        if known is None or known.status == "failed" or candidate.costs is None:
            open_candidates.append(candidate)
            continue
        if not any(name in known.scores for name in run.setting.ranking):  # another proxy ranked it, these refused it
            open_candidates.append(candidate)
            continue
        _check_same_network(run, known, candidate)
        known.rank_by(run.setting.ranking)
        results[candidate.key] = known
        run.funnel.resumed += 1
        _record(run, known, bar)
    size = run.ranks.world_size * (4 if run.ranks.world_size > 1 else 1)
    for first in range(0, len(open_candidates), size):
        mine = open_candidates[first : first + size][run.ranks.rank :: run.ranks.world_size]
        gathered = run.ranks.gather([evaluate(run.setting, candidate) for candidate in mine])
        new = [row for rows in gathered for row in rows]
        _write(run, journal, new)
        for evaluation in new:
            results[evaluation.key] = evaluation
            _record(run, evaluation, bar)
        # The first few in the order of proposal, so that any number of ranks stops at the same.
        begun = [results[candidate.key] for candidate in generation[:FEW] if candidate.key in results]
        if not run.history and len(begun) == FEW and all(row.status == "failed" for row in begun):
            raise SearchError(too_many_failed(begun))
    return [results[candidate.key] for candidate in generation]


def _write(run: Run, journal: Journal | None, evaluations: Sequence[Evaluation]) -> None:
    """Rank zero writes; if it cannot (a full disk), all ranks stop together, so that none waits for the others."""
    if run.journal is None:
        return
    problem = None
    try:
        for evaluation in evaluations if journal is not None else ():
            journal.add(evaluation)  # type: ignore[union-attr]
    except OSError as error:
        problem = error
    problem = run.ranks.broadcast(problem)
    if problem is not None:
        raise problem


def _check_same_network(run: Run, known: Evaluation, candidate: Candidate) -> None:
    costs = candidate.costs
    if costs is not None and (known.params, known.macs, known.depth) != (costs.params, costs.macs, costs.depth):
        raise ValueError(
            f"The journal {run.journal} is of other networks: in it {known.name} has {known.params:,} parameters, "
            f"{known.macs:,} MACs and depth {known.depth}, here {costs.params:,}, {costs.macs:,} and {costs.depth}. The "
            "code that builds it must have changed. Name another file with journal=..., or remove it."
        )


def _record(run: Run, evaluation: Evaluation, bar: VotingProgress) -> None:
    name = "scored" if evaluation.status == "ok" else evaluation.status
    setattr(run.funnel, name, getattr(run.funnel, name) + 1)
    bar.update(run.funnel, evaluation.score, evaluation.name)
