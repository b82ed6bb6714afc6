"""New candidates that meet the constraints, the cheapest checks first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.inspection import Latency
from lightning_wrcor.search._evaluate import Candidate, count, count_memory, measure_latency
from lightning_wrcor.search._progress import Progress
from lightning_wrcor.search._ranks import stopping_together
from lightning_wrcor.search._run import Run
from lightning_wrcor.search.constraints import BOUNDED, MEASURED
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.journal import Journal
from lightning_wrcor.spaces import Genotype

T = TypeVar("T")


_LOG = logging.getLogger(__name__)
_MANY = 32
"""Measured candidates without one that is fast enough after which a person should know."""


class Collector:
    """Asks the strategy for candidates and lets pass who is new and meets the constraints.

    Counted costs come first, then the memory of activations, then latency, each for those only who met what came before, and
    only where it is bounded or the strategy reads it. Latency is shared over the ranks, and kept in a file beside the journal,
    so that a search that is started again decides as before.
    """

    def __init__(self, run: Run, bar: Progress) -> None:
        self._run = run
        self._bar = bar
        measured = {name for name in MEASURED if run.constraints.bounds(name) or name in run.strategy.measures}
        self._memory = "memory_mb" in measured
        wanted = "latency_ms" in measured or run.constraints.latency is not None
        self._latencies = _Latencies(run, run.constraints.latency or Latency()) if wanted else None

    def collect(self, wanted: int) -> list[Candidate]:
        """Up to ``wanted`` new candidates that meet the constraints."""
        run = self._run
        generation: list[Candidate] = []
        fruitless = 0
        # A space that can be enumerated is looked through to its end where that costs next to nothing.
        looked_through = run.strategy.total is not None and not self._memory and self._latencies is None
        while len(generation) < wanted and (fruitless < run.redraws or looked_through):
            asked = run.strategy.ask(wanted - len(generation))
            if not asked:
                run.nothing_left = True
                break
            accepted = self._measure(self._check(self._new(asked)))
            generation += accepted
            fruitless = 0 if accepted else fruitless + len(asked)
        if run.strategy.total is not None:
            possible = run.strategy.total - run.funnel.repeated - sum(run.funnel.rejected.values())
            self._bar.expect(possible if run.budget is None else min(possible, run.budget))
        else:
            self._bar.expect(run.budget)
        return generation

    def __enter__(self) -> Collector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._latencies is not None:
            self._latencies.close()

    def _new(self, asked: Sequence[Genotype]) -> list[tuple[Genotype, str]]:
        """Those of the proposals that have not been seen, with their keys."""
        run = self._run
        new = []
        for genotype in asked:
            run.funnel.sampled += 1
            key = run.setting.space.key(genotype)
            if key in run.seen:
                run.funnel.repeated += 1
                continue
            run.seen.add(key)
            new.append((genotype, key))
        return new

    def _check(self, proposals: Sequence[tuple[Genotype, str]]) -> list[Candidate]:
        """The candidates, without those that break a bound on what is counted."""
        run = self._run
        counted = self._shared(lambda one: count(run.setting, *one), proposals)
        if run.constraints.bounds("resolution") and any(
            one.resolution is None and one.misfit is None for one in counted
        ):
            raise ValueError(
                f"A bound on resolution needs a space in which it is part of the genotype (mobilenet_v2); the networks of "
                f"{type(run.setting.space).__name__} take images as they come."
            )
        left = [candidate for candidate in counted if not self._rejected(candidate)]
        if not self._memory:
            return left
        counted = self._shared(lambda one: one if one.problem else count_memory(run.setting, one), left)
        return [candidate for candidate in counted if not self._rejected(candidate)]

    def _shared(self, work: Callable[[T], Candidate], items: Sequence[T]) -> list[Candidate]:
        """Each process counts its share: without closed forms, counting takes up to a fifth of the time of scoring."""
        ranks = self._run.ranks
        if len(items) < ranks.world_size:
            return [work(one) for one in items]
        gathered = ranks.gather([work(one) for one in items[ranks.rank :: ranks.world_size]])
        return [gathered[place % ranks.world_size][place // ranks.world_size] for place in range(len(items))]

    def _measure(self, candidates: list[Candidate]) -> list[Candidate]:
        if self._latencies is None:
            return candidates
        return [candidate for candidate in self._latencies.measure(candidates) if not self._rejected(candidate)]

    def _rejected(self, candidate: Candidate) -> bool:
        """Whether it breaks a bound, which is counted. One that cannot be counted goes on, to be recorded as failed."""
        run, known = self._run, candidate.known
        for name in BOUNDED:
            if name in known:
                run.smallest[name] = min(run.smallest.get(name, known[name]), known[name])
                run.largest[name] = max(run.largest.get(name, known[name]), known[name])
        if candidate.misfit is not None:
            run.misfit = run.misfit or candidate.misfit
            broken: str | None = "image_size"
        else:
            broken = None if candidate.problem is not None else run.constraints.violated(known)
        if broken is None:
            return False
        run.funnel.rejected[broken] = run.funnel.rejected.get(broken, 0) + 1
        self._bar.look(run.funnel)
        slow = run.funnel.rejected[broken] if broken.endswith("latency_ms") else 0
        if slow == _MANY and run.ranks.rank == 0 and all(row.latency_ms is None for row in run.history):
            ends = f"{run.smallest['latency_ms']:.4g} to {run.largest['latency_ms']:.4g} ms"
            _LOG.warning(
                "%d candidates were measured, and %s=%g rejects all of them (%s). The search goes on looking.",
                slow,
                broken,
                getattr(run.constraints, broken),
                ends,
            )
        return True


class _Latencies:
    """Measures latencies, each once; they are kept in a journal of their own."""

    def __init__(self, run: Run, latency: Latency) -> None:
        self._run = run
        self._latency = latency
        self._journal: Journal | None = None
        self._known: dict[str, Evaluation] = {}
        if run.journal is not None:
            self._open(Path(run.journal))

    def _open(self, beside: Path) -> None:
        """Rank zero opens the file; all ranks learn what is in it, or that it cannot be used."""
        run, problem = self._run, None
        if run.ranks.rank == 0:
            setting = run.setting
            facts = {
                "space": setting.space.config(),
                "number of classes": setting.num_classes,
                "input size": list(setting.input_size),
                **self._latency.describe(setting.batch[0].device),
            }
            try:
                # Another way of measuring has another file: the journal's scores are good for both.
                name = f"{beside.stem}.latency-{derive_seed(0, facts):016x}{beside.suffix}"
                self._journal = Journal(beside.with_name(name), facts)
            except (OSError, ValueError) as error:
                problem = error
        self._known, problem = run.ranks.broadcast((self._journal.known if self._journal else {}, problem))
        if problem is not None:
            raise problem

    def measure(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with their latencies. All ranks call it together, with the same candidates."""
        run = self._run
        todo = [one for one in candidates if one.problem is None and one.key not in self._known]
        mine = todo[run.ranks.rank :: run.ranks.world_size]
        rows = [row for rank in run.ranks.gather([self._evaluation(one) for one in mine]) for row in rank]
        self._keep([row for row in rows if row.status == "ok"])
        found = {**self._known, **{row.key: row for row in rows}}
        return [
            replace(one, latency_ms=found[one.key].latency_ms, problem=found[one.key].reason)
            if one.key in found
            else one
            for one in candidates
        ]

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _evaluation(self, candidate: Candidate) -> Evaluation:
        with own_random_numbers(derive_seed(self._run.setting.seed, candidate.key)):
            measured = measure_latency(self._run.setting, candidate, self._latency)
        row = Evaluation(candidate.genotype, candidate.key, candidate.key, latency_ms=measured.latency_ms)
        if measured.latency_ms is None:
            row.status, row.reason = "failed", measured.problem
        else:
            row.scores, row.score = {"latency_ms": measured.latency_ms}, measured.latency_ms
        return row

    def _keep(self, rows: Sequence[Evaluation]) -> None:
        """Rank zero writes; if it cannot, all ranks stop together."""
        self._known |= {row.key: row for row in rows}
        if self._run.journal is None:
            return
        with stopping_together(self._run.ranks):
            for row in rows if self._journal is not None else ():
                self._journal.add(row)  # type: ignore[union-attr]
