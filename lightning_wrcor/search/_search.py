"""The search itself: propose, check, score, share, remember."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from typing import Any

from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.proxies import Proxy
from lightning_wrcor.proxies._precision import Precision, read_precision
from lightning_wrcor.proxies._score import Batch, check_batch
from lightning_wrcor.search._asked import Asked
from lightning_wrcor.search._collect import Collector
from lightning_wrcor.search._evaluate import Candidate, Setting, count_classes, evaluate, read_proxies
from lightning_wrcor.search._messages import (
    SearchError,
    SearchInterrupted,
    kept,
    notes,
    nothing_found,
    too_many_failed,
    troubles,
)
from lightning_wrcor.search._race import run_race
from lightning_wrcor.search._ranks import RankLostError, Ranks, stopping_together
from lightning_wrcor.search._run import Run
from lightning_wrcor.search._share import share
from lightning_wrcor.search._votes import VotingProgress
from lightning_wrcor.search.constraints import Constraints
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.journal import Journal
from lightning_wrcor.search.racing import Racing
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
    racing: Racing | Mapping[str, Any] | None = None,
    precision: Precision = "float32",
    progress: bool = True,
    devices: int | str | list[int] | None = None,
    accelerator: str = "auto",
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
        constraints: bounds on parameters, MACs, depth, resolution, memory of activations and latency, checked before a
            candidate is scored.
        seed: the search's seed.
        num_classes: classes of the networks that are scored; by default one more than the largest label.
        journal: a file to which every evaluation is appended; if it exists, the search goes on where it was, and tries
            again what failed.
        racing: score the best again with fresh weights, and take the cheapest of those that keep up; None takes the best
            score. It is not part of the budget.
        precision: ``"bfloat16"`` runs the pass that proxies share under torch's autocast, for devices that are fast in it;
            proxies with passes of their own stay in float32. A journal is of one precision.
        progress: show one progress bar (on rank zero).
        devices: where candidates are scored, in the form that Lightning Fabric takes: how many devices, a list of their
            numbers, -1 or ``"auto"`` for all. Several (on the CPU: several processes) share the search: a process for each is
            started, and ends with it; where several processes are there already (torchrun, ``fabric run``, SLURM, a process
            group), those share it instead. None: this process, and the batch's device.
        accelerator: the kind of ``devices``: ``"cpu"``, ``"gpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        ranks: the processes that share the search, where they are there already and all of them call this; by default this
            one alone.

    Returns:
        The ranking; ``.best`` is the winner.

    Raises:
        ValueError: for settings that cannot work, before anything is scored.
        SearchError: when no candidate meets the constraints, most candidates fail, none gets a finite score, or a process
            of the search dies.
    """
    start = time.perf_counter()
    check_batch(batch)
    if devices is None and accelerator != "auto":
        raise ValueError(f"accelerator={accelerator!r} says of which kind the devices are: give devices=... too.")
    if devices is not None and ranks is not None:
        raise ValueError("ranks are processes that are there already: leave out devices=..., or leave out ranks=....")
    asked = Asked(
        space=get_space(space),
        batch=batch,
        proxy=read_proxies(proxy),
        strategy=get_strategy(strategy),
        budget=budget,
        constraints=Constraints.read(constraints),
        seed=seed,
        num_classes=num_classes,
        journal=journal,
        racing=Racing.read(racing),
        progress=progress,
        precision=read_precision(precision),
    )
    try:
        if devices is None:
            result = search_as_asked(asked, ranks or Ranks())
        else:
            from lightning_wrcor.search._fabric import search_on_devices  # which imports Lightning

            result = search_on_devices(asked, devices, accelerator, search_as_asked, check)
    except RankLostError as error:
        raise SearchError(f"{error} {kept(journal)}") from error
    except KeyboardInterrupt as error:
        said = f"Interrupted. {kept(journal)}"
        if journal is not None and (ranks is None or ranks.rank == 0):
            _LOG.warning(said)  # a Trainer swallows the error
        raise SearchInterrupted(said) from error
    result.seconds = time.perf_counter() - start
    result.searched_space = asked.space
    return result


def check(asked: Asked) -> None:
    """Raise what is wrong with the settings, without a search."""
    with own_random_numbers(derive_seed(asked.seed, "search")):
        journal = _prepare(asked, Ranks()).open_journal()
    if journal is not None:
        journal.close()


def search_as_asked(asked: Asked, ranks: Ranks) -> SearchResult:
    """Search with processes that are there; all of them call this together."""
    # Seeded, so that a strategy or a space that draws from the global numbers still proposes the same everywhere.
    with ranks, own_random_numbers(derive_seed(asked.seed, "search")):
        run = _prepare(asked, ranks)
        opened = run.open_journal()
        bar = VotingProgress(asked.progress and ranks.rank == 0)
        with opened or nullcontext(), bar:
            _search(run, opened, bar)
            run_race(run, asked.racing, opened, bar)
    return SearchResult(
        space=run.setting.space.config(),
        proxies=[one.config() for one in run.setting.proxies],
        strategy=run.strategy.config(),
        constraints=run.constraints.to_dict(),
        seed=int(asked.seed),
        num_classes=run.setting.num_classes,
        input_size=run.setting.input_size,
        history=run.history,
        funnel=run.funnel,
        seconds=0.0,  # only who asked knows
        versions=library_versions(),
        notes=notes(run),
        precision=run.setting.precision,
    )


def _prepare(asked: Asked, ranks: Ranks) -> Run:
    """A search that can begin."""
    budget, strategy = asked.budget, asked.strategy
    check_budget(budget)
    classes = count_classes(asked.batch[1], asked.num_classes)
    setting = Setting(asked.space, asked.proxy, asked.batch, asked.seed, classes, asked.precision)
    most = strategy.default_budget if budget is None else budget
    run = Run(setting, strategy, most, asked.constraints, ranks, asked.journal, REDRAWS)
    strategy.ranking = setting.ranking
    strategy.start(setting.space, asked.seed)
    if budget is None and run.budget is not None and strategy.total is not None:
        run.budget = min(run.budget, strategy.total)
    if run.budget is None and strategy.total is not None and strategy.total > ENUMERABLE:
        raise ValueError(
            f"{type(setting.space).__name__} has {strategy.total:,} candidates, too many to score them all. Set a budget; "
            "strategy='random' draws from all of them."
        )
    return run


def _search(run: Run, journal: Journal | None, bar: VotingProgress) -> None:
    with Collector(run, bar) as collector:
        _go_on(run, collector, journal, bar)
    if not run.history:
        raise SearchError(nothing_found(run))
    if not run.funnel.scored:
        reasons = troubles(run.history, "dead", "failed")
        raise SearchError(f"None of {len(run.history)} candidates got a finite score ({run.funnel}). {reasons}.")


def _go_on(run: Run, collector: Collector, journal: Journal | None, bar: VotingProgress) -> None:
    while run.budget is None or len(run.history) < run.budget:
        left = run.strategy.generation if run.budget is None else run.budget - len(run.history)
        wanted = min(left, run.strategy.generation)
        generation = collector.collect(wanted)
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


def _score_generation(
    run: Run, generation: Sequence[Candidate], journal: Journal | None, bar: VotingProgress
) -> list[Evaluation]:
    """Score a generation, shared over the ranks."""
    results: dict[str, Evaluation] = {}
    open_candidates = []
    for candidate in generation:
        known = run.known.get(candidate.key)
        # What failed is tried again: its reason (no memory, a mistake in a proxy) may be gone.
        if known is None or known.status == "failed" or candidate.problem is not None:
            open_candidates.append(candidate)
            continue
        if not any(name in known.scores for name in run.setting.ranking):  # another proxy ranked it, these refused it
            open_candidates.append(candidate)
            continue
        _check_same_network(run, known, candidate)
        known.rank_by(run.setting.ranking)
        candidate.write_costs(known)
        results[candidate.key] = known
        run.funnel.resumed += 1
        _record(run, known, bar)
    taken = [row.seconds for row in run.history]
    seconds = sum(taken) / len(taken) if taken else 0.0
    for new in share(run.ranks, _in_turn(run, open_candidates), partial(evaluate, run.setting), seconds):
        _write(run, journal, new)
        for evaluation in new:
            results[evaluation.key] = evaluation
            _record(run, evaluation, bar)
        # The first few in the order of proposal, so that any number of ranks stops for the same reason.
        begun = [results[candidate.key] for candidate in generation[:FEW] if candidate.key in results]
        if not run.history and len(begun) == FEW and all(row.status == "failed" for row in begun):
            raise SearchError(too_many_failed(begun))
    return [results[candidate.key] for candidate in generation]


def _in_turn(run: Run, candidates: list[Candidate]) -> list[Candidate]:
    """In the order in which they are scored: with several ranks the largest first, so that they end at the same time."""
    if run.ranks.world_size == 1:
        return candidates
    few = 0 if run.history else FEW  # which say whether the search can work at all
    rest = sorted(candidates[few:], key=lambda one: one.costs.macs if one.costs is not None else 0, reverse=True)
    return [*candidates[:few], *rest]


def _write(run: Run, journal: Journal | None, evaluations: Sequence[Evaluation]) -> None:
    """Rank zero writes; if it cannot (a full disk), all ranks stop together, so that none waits for the others."""
    if run.journal is None:
        return
    with stopping_together(run.ranks):
        for evaluation in evaluations if journal is not None else ():
            journal.add(evaluation)  # type: ignore[union-attr]


def _check_same_network(run: Run, known: Evaluation, candidate: Candidate) -> None:
    costs = candidate.costs
    if costs is not None and (known.params, known.macs, known.depth) != (costs.params, costs.macs, costs.depth):
        raise ValueError(
            f"The journal {run.journal} is of other networks: in it {known.name} has {known.params:,} parameters, "
            f"{known.macs:,} MACs and depth {known.depth}, here {costs.params:,}, {costs.macs:,} and {costs.depth}. The "
            "code that builds it must have changed. Name another file with journal=..., or remove it."
        )
    was, now = known.details.get("depth_normalised"), run.setting.space.mixed_depth
    by_space = all(getattr(one, "depth_normalised", None) is None for one in run.setting.scored)
    if by_space and was is not None and was != now:
        raise ValueError(
            f"The journal {run.journal} is of the time when mixed_depth was {was} in {type(run.setting.space).__name__}; it is "
            f"{now} now, and scores that are normalised by depth cannot be ranked with others. Name another file with "
            "journal=..., or remove it."
        )


def _record(run: Run, evaluation: Evaluation, bar: VotingProgress) -> None:
    name = "scored" if evaluation.status == "ok" else evaluation.status
    setattr(run.funnel, name, getattr(run.funnel, name) + 1)
    bar.update(run.funnel, evaluation.score, evaluation.name)


def check_budget(budget: Any) -> None:
    """Refuse what is no number of candidates; None leaves it to the strategy.

    Raises:
        ValueError: with the value.
    """
    if budget is not None and (isinstance(budget, bool) or not (isinstance(budget, Integral) and int(budget) >= 1)):
        raise ValueError(f"A budget is the number of candidates that are scored, at least 1; got {budget!r}.")
