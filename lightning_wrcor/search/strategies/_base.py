"""The contract of a strategy, and what strategies that learn have in common."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

from lightning_wrcor._config import Configurable
from lightning_wrcor._random import derive_seed
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.spaces import Genotype, Space

TRIES = 64
"""Proposals in a row that are known already before a strategy that learns draws a candidate at random instead."""


class Strategy(Configurable, ABC):
    """Proposes candidates and learns from their scores.

    Every process runs the same strategy from the same seed, so that all propose the same. Constructor arguments are
    stored in attributes of the same name.

    Attributes:
        generation: candidates that are proposed, and scored, before the strategy is told; the same for any number of
            processes. It may change in `start` and `tell`.
    """

    kind: ClassVar[str]
    generation: int = 64
    default_budget: int | None = 100
    """Candidates scored when the user names no budget; None: all that the strategy proposes."""
    total: int | None = None
    """How many candidates it proposes at most before it has no more, known after `start`. None: there is no end to them, and
    the search gives up after many in a row that are rejected or repeated."""
    learns_after: str | None = None
    """Name of the argument that says how many candidates are drawn at random before it learns; None where it learns nothing
    or where that is not known."""
    measures: Sequence[str] = ()
    """Costs that it reads of evaluations beside those that are always there: ``"memory_mb"``, ``"latency_ms"``."""
    ranking: Sequence[str] = ()
    """Names of the proxies that rank, of which `Evaluation.scores` holds the values: the one, or the members of a vote.
    The search sets it before `start`."""

    @property
    def drawn_first(self) -> int:
        """How many candidates it draws at random before it learns; 0 where it learns nothing or where that is not known."""
        return int(getattr(self, self.learns_after)) if self.learns_after else 0

    @abstractmethod
    def start(self, space: Space, seed: int) -> None:
        """Forget everything and begin a search of ``space``."""

    @abstractmethod
    def ask(self, n: int) -> list[Genotype]:
        """Propose up to ``n`` candidates; an empty list when there are no more. Some may have been proposed before."""

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation, in the order in which it was asked for.

        An evaluation may be kept. Where a vote ranks, its score changes with each generation: read it when it is needed.
        """


class LearningStrategy(Strategy):
    """What strategies have in common that begin at random and then learn: no network is proposed twice.

    A subclass says in `_propose` what it would try next. What is known already is proposed again with other random
    numbers, and after 64 in a row a candidate that is not known is drawn at random: so a search goes on where all that is
    near has been seen, and ends when a space that can be enumerated has no more. The first candidates are those of
    `RandomSearch` with the same seed.
    """

    default_budget = 1000

    def start(self, space: Space, seed: int) -> None:
        """Begin with random numbers derived from ``seed``."""
        from lightning_wrcor.search.strategies.simple import RandomSearch  # which knows this module

        self._space = space
        self._rng = random.Random(derive_seed(seed, self.kind))
        self._known: set[str] = set()
        self._draws = RandomSearch()
        self._draws.start(space, seed)
        self.total = self._draws.total

    def ask(self, n: int) -> list[Genotype]:
        """Up to ``n`` candidates that were not asked for before; in an endless space some of them may have been."""
        asked: list[Genotype] = []
        while len(asked) < n:
            genotype = self._next()
            if genotype is None:
                break
            asked.append(genotype)
        return asked

    @property
    @abstractmethod
    def _begun(self) -> bool:
        """Whether there is something to learn from; until then candidates are drawn at random."""

    @abstractmethod
    def _propose(self) -> Genotype | None:
        """What to try next; None where there is nothing this time."""

    def _next(self) -> Genotype | None:
        for _ in range(TRIES if self._begun else 0):
            genotype = self._propose()
            if genotype is not None and self._is_new(genotype):
                return genotype
        return self._draw()

    def _draw(self) -> Genotype | None:
        """Draw at random; None when the space has no more. Draws of an endless space may be known: the search counts."""
        while drawn := self._draws.ask(1):
            if self._is_new(drawn[0]) or self.total is None:
                return drawn[0]
        return None

    def _is_new(self, genotype: Genotype) -> bool:
        """Whether the network has not been proposed; from now on it has."""
        key = self._space.key(genotype)
        new = key not in self._known
        self._known.add(key)
        return new

    def _mutated(self, genotype: Genotype) -> Genotype | None:
        """One change; None for a genotype that nothing is one change away from."""
        try:
            return self._space.mutate(genotype, self._rng)
        except ValueError:  # what spaces say where nothing can change
            return None


def worth(evaluation: Evaluation) -> float:
    """The score as it is now; -inf for dead and failed candidates."""
    score = evaluation.score
    return -math.inf if evaluation.status != "ok" or math.isnan(score) else score


def check_count(name: str, value: Any, smallest: int = 1) -> int:
    """A whole number of at least ``smallest``, or a ValueError that names the argument."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < smallest:
        raise ValueError(f"{name} is a whole number of at least {smallest}; got {value!r}.")
    return int(value)


def check_share(name: str, value: Any, ends: str = "[]") -> float:
    """A number between 0 and 1, or a ValueError that names the argument; ``ends`` says which of these are allowed."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    above = number >= 0 if ends[0] == "[" else number > 0
    below = number <= 1 if ends[1] == "]" else number < 1
    if not (above and below):
        raise ValueError(f"{name} is a number in {ends[0]}0, 1{ends[1]}; got {value!r}.")
    return number
