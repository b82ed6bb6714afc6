"""The search itself: propose, check, score, share, remember."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies import Proxy, get_proxy
from lightning_wrcor.proxies._score import Batch, check_batch, score_prepared
from lightning_wrcor.search._progress import Progress
from lightning_wrcor.search._ranks import Ranks
from lightning_wrcor.search.constraints import Constraints
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.journal import Journal, fingerprint
from lightning_wrcor.search.result import Funnel, SearchResult, library_versions
from lightning_wrcor.search.strategies import Strategy, get_strategy
from lightning_wrcor.spaces import Genotype, Space, get_space

REDRAWS = 1000
"""Candidates in a row that may be rejected or repeated before the search gives up looking for another."""


class SearchError(RuntimeError):
    """A search that found no winner; the message says why and what to change."""


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
        proxy: a proxy or its name, or several: the first ranks, all are recorded.
        strategy: who is scored next: ``"random"``, ``"exhaustive"``, or a strategy.
        budget: candidates that are scored (rejected and repeated ones do not count). None: the strategy's own default
            (100 for random search, all for exhaustive search).
        constraints: bounds on parameters, MACs and depth, checked before a candidate is scored.
        seed: the search's seed.
        num_classes: classes of the networks that are scored; by default one more than the largest label.
        journal: a file to which every evaluation is appended; if it exists, the search goes on where it was.
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
    if budget is not None and budget < 1:
        raise ValueError(f"A budget is the number of candidates that are scored, at least 1; got {budget}.")
    several = isinstance(proxy, Sequence) and not isinstance(proxy, str)
    proxies = [get_proxy(spec) for spec in (proxy if several else [proxy])]  # type: ignore[union-attr, list-item]
    space, strategy, ranks = get_space(space), get_strategy(strategy), ranks or Ranks()
    channels, height, width = batch[0].shape[1:]
    run = _Run(
        space=space,
        proxies=proxies,
        batch=batch,
        constraints=Constraints.read(constraints),
        seed=seed,
        num_classes=_count_classes(batch[1]) if num_classes is None else num_classes,
        input_size=(channels, height, width),
        ranks=ranks,
    )
    budget = strategy.default_budget if budget is None else budget
    with own_random_numbers():
        opened = run.open_journal(journal)
        with opened or nullcontext(), Progress(budget, progress and ranks.rank == 0) as bar:
            strategy.start(space, seed)
            _search(run, strategy, budget, opened, bar)
    return SearchResult(
        space=space.config(),
        proxies=[one.config() for one in proxies],
        strategy=strategy.config(),
        constraints=run.constraints.to_dict(),
        seed=seed,
        num_classes=run.num_classes,
        input_size=run.input_size,
        history=run.history,
        funnel=run.funnel,
        seconds=time.perf_counter() - start,
        versions=library_versions(),
        notes=run.notes,
    )


@dataclass
class _Run:
    """What stays the same during a search, and what it has found."""

    space: Space
    proxies: list[Proxy]
    batch: Batch
    constraints: Constraints
    seed: int
    num_classes: int
    input_size: tuple[int, int, int]
    ranks: Ranks
    history: list[Evaluation] = field(default_factory=list)
    funnel: Funnel = field(default_factory=Funnel)
    notes: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    known: dict[str, Evaluation] = field(default_factory=dict)
    smallest: dict[str, float] = field(default_factory=dict)

    def open_journal(self, path: str | os.PathLike[str] | None) -> Journal | None:
        """Rank zero opens the journal; all ranks learn what is in it, or that it cannot be used."""
        if path is None:
            return None
        search = {
            "space": self.space.config(),
            "proxies": [one.config() for one in self.proxies],
            "seed": self.seed,
            "num_classes": self.num_classes,
            "batch": fingerprint(self.batch),
        }
        journal, problem = None, None
        if self.ranks.rank == 0:
            try:
                journal = Journal(path, search)
            except (OSError, ValueError) as error:
                problem = error
        self.known, problem = self.ranks.broadcast((journal.known if journal else {}, problem))
        if problem is not None:
            raise problem
        return journal


def _search(run: _Run, strategy: Strategy, budget: int | None, journal: Journal | None, bar: Progress) -> None:
    while budget is None or len(run.history) < budget:
        wanted = strategy.generation if budget is None else min(strategy.generation, budget - len(run.history))
        generation = _collect(run, strategy, wanted)
        if not generation:
            break
        evaluations = _score_generation(run, generation, journal, bar)
        run.history += evaluations
        strategy.tell(evaluations)
        _check_failures(run)
    if not run.history:
        raise SearchError(_nothing_found(run))
    if not run.funnel.scored:
        reasons = Counter(row.reason for row in run.history).most_common(3)
        listed = "; ".join(f"{count} times: {reason}" for reason, count in reasons)
        raise SearchError(f"None of {len(run.history)} candidates got a finite score ({run.funnel}). {listed}.")
    if budget is not None and len(run.history) < budget:
        run.notes.append(f"The search ended after {len(run.history)} of {budget} candidates: no others were found.")


def _collect(run: _Run, strategy: Strategy, wanted: int) -> list[tuple[Genotype, str, Costs | None, str]]:
    """Up to ``wanted`` new candidates that meet the constraints: genotype, key, costs, and why costs are unknown."""
    generation: list[tuple[Genotype, str, Costs | None, str]] = []
    fruitless = 0
    while len(generation) < wanted and fruitless < REDRAWS:
        asked = strategy.ask(wanted - len(generation))
        if not asked:
            break
        for genotype in asked:
            run.funnel.sampled += 1
            fruitless += 1
            key = run.space.key(genotype)
            if key in run.seen:
                run.funnel.repeated += 1
                continue
            run.seen.add(key)
            try:
                with own_random_numbers(0):
                    costs = run.space.costs(genotype, run.input_size, run.num_classes)
            except Exception as error:  # a candidate that cannot be counted is recorded as failed
                generation.append((genotype, key, None, _describe(error)))
                continue
            for name in ("params", "macs", "depth"):
                run.smallest[name] = min(run.smallest.get(name, float("inf")), getattr(costs, name))
            broken = run.constraints.violated(costs)
            if broken is not None:
                run.funnel.rejected[broken] = run.funnel.rejected.get(broken, 0) + 1
                continue
            fruitless = 0
            generation.append((genotype, key, costs, ""))
    return generation


def _score_generation(
    run: _Run,
    generation: Sequence[tuple[Genotype, str, Costs | None, str]],
    journal: Journal | None,
    bar: Progress,
) -> list[Evaluation]:
    """Score a generation, shared over the ranks; results are exchanged often, so that none waits for minutes."""
    results: dict[str, Evaluation] = {}
    open_candidates = []
    for candidate in generation:
        if candidate[1] in run.known:
            results[candidate[1]] = run.known[candidate[1]]
            run.funnel.resumed += 1
            _count(run, results[candidate[1]], bar)
        else:
            open_candidates.append(candidate)
    size = run.ranks.world_size * (4 if run.ranks.world_size > 1 else 1)
    for first in range(0, len(open_candidates), size):
        mine = open_candidates[first : first + size][run.ranks.rank :: run.ranks.world_size]
        gathered = run.ranks.gather([_evaluate(run, *candidate) for candidate in mine])
        for evaluation in (row for rows in gathered for row in rows):
            results[evaluation.key] = evaluation
            if journal is not None:
                journal.add(evaluation)
            _count(run, evaluation, bar)
    return [results[key] for _, key, _, _ in generation]


def _count(run: _Run, evaluation: Evaluation, bar: Progress) -> None:
    field_name = "scored" if evaluation.status == "ok" else evaluation.status
    setattr(run.funnel, field_name, getattr(run.funnel, field_name) + 1)
    bar.update(1, run.funnel, evaluation.score, evaluation.name)


def _evaluate(run: _Run, genotype: Genotype, key: str, costs: Costs | None, problem: str) -> Evaluation:
    """Build and score one candidate; whatever goes wrong with it is written into the evaluation."""
    start = time.perf_counter()
    evaluation = Evaluation(genotype, run.space.name(genotype), key)
    if costs is None:
        evaluation.status, evaluation.reason = "failed", problem
        return evaluation
    evaluation.params, evaluation.macs, evaluation.depth = costs.params, costs.macs, costs.depth
    seed = derive_seed(run.seed, key)
    try:
        with own_random_numbers(seed):
            # Built on the CPU, whatever the device, so that the same seed gives the same weights everywhere.
            network = run.space.build(genotype, num_classes=run.num_classes, in_chans=run.input_size[0])
            network = network.to(run.batch[0].device)
            report = score_prepared(
                network,
                run.batch,
                run.proxies,
                seed=seed,
                layers=run.space.layers(genotype),
                mixed_depth=run.space.mixed_depth,
                costs=costs,
            )
        evaluation.add_report(report)
    except Exception as error:  # out of memory, a shape that does not fit, NaN: this candidate's own trouble
        evaluation.status, evaluation.reason = "failed", _describe(error)
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
    evaluation.seconds = time.perf_counter() - start
    return evaluation


def _check_failures(run: _Run) -> None:
    failed = [row for row in run.history if row.status == "failed"]
    if len(run.history) >= 8 and len(failed) > len(run.history) / 2:
        reason, count = Counter(row.reason for row in failed).most_common(1)[0]
        raise SearchError(
            f"{len(failed)} of {len(run.history)} candidates could not be scored, so the search stopped. Most common "
            f"reason ({count} times): {reason}. First such candidate: {failed[0].name}."
        )


def _nothing_found(run: _Run) -> str:
    if not run.funnel.sampled:
        return f"The space is empty: {run.space!r} proposed no candidate."
    tried = run.funnel.sampled - run.funnel.repeated
    rejected = ", ".join(f"{name} rejects {count}" for name, count in run.funnel.rejected.items())
    smallest = ", ".join(f"{name} {value:,.0f}" for name, value in run.smallest.items())
    return (
        f"No candidate meets the constraints {run.constraints.to_dict()}: of {tried} different ones, {rejected}. Smallest "
        f"found: {smallest}. Loosen the constraints, or widen the space."
    )


def _describe(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _count_classes(labels: Tensor) -> int:
    return int(labels.shape[1]) if labels.is_floating_point() else int(labels.max()) + 1
