"""Who is scored next: strategies by ask and tell."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

from lightning_wrcor._config import Configurable, Registry
from lightning_wrcor._random import derive_seed
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.spaces import FiniteSpace, Genotype, Space

ENUMERABLE = 1_000_000
"""Finite spaces up to this size are drawn from without replacement, and may be searched as a whole."""


class Strategy(Configurable, ABC):
    """Proposes candidates and learns from their scores.

    Every process runs the same strategy from the same seed, so that all propose the same. Constructor arguments are
    stored in attributes of the same name.

    Attributes:
        generation: candidates that are proposed, and scored, before the strategy is told; the same for any number of
            processes.
    """

    kind: ClassVar[str]
    generation: int = 64
    default_budget: int | None = 100
    """Candidates scored when the user names no budget; None: all that the strategy proposes."""
    total: int | None = None
    """How many candidates it proposes before it has no more, known after `start`. None: there is no end to them, and
    the search gives up after many in a row that are rejected or repeated."""

    @abstractmethod
    def start(self, space: Space, seed: int) -> None:
        """Forget everything and begin a search of ``space``."""

    @abstractmethod
    def ask(self, n: int) -> list[Genotype]:
        """Propose up to ``n`` candidates; an empty list when there are no more. Some may have been proposed before."""

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation, in the order in which it was asked for."""


class RandomSearch(Strategy):
    """Uniform draws from the space; finite spaces (up to a million) without replacement, until none is left."""

    kind = "random"

    def start(self, space: Space, seed: int) -> None:
        """Begin with random numbers derived from ``seed``."""
        self._space = space
        self._rng = random.Random(derive_seed(seed, "random search"))
        self._rest: Iterator[Genotype] | None = None
        self.total = None
        size = _size(space)
        if isinstance(space, FiniteSpace) and size is not None and size <= ENUMERABLE:
            candidates = list(space)
            self._rng.shuffle(candidates)
            self._rest, self.total = iter(candidates), len(candidates)

    def ask(self, n: int) -> list[Genotype]:
        """Up to ``n`` draws."""
        if self._rest is None:
            return [self._space.sample(self._rng) for _ in range(n)]
        return list(islice(self._rest, n))


class ExhaustiveSearch(Strategy):
    """Every candidate of a finite space, in its order."""

    kind = "exhaustive"
    default_budget = None

    def start(self, space: Space, seed: int) -> None:
        """Begin with the first candidate.

        Raises:
            ValueError: for a space that is not finite.
        """
        if not isinstance(space, FiniteSpace):
            raise ValueError(f"{type(space).__name__} cannot be enumerated; use strategy='random' with a budget.")
        self.total = _size(space)
        self._rest = iter(space)

    def ask(self, n: int) -> list[Genotype]:
        """The next ``n`` candidates."""
        return list(islice(self._rest, n))


def _size(space: Space) -> int | None:
    # Not len(space), which fails beyond 2^63.
    return type(space).__len__(space) if isinstance(space, FiniteSpace) else None


_STRATEGIES: Registry[Strategy] = Registry(Strategy, "strategy", "strategies")
for _cls in (RandomSearch, ExhaustiveSearch):
    _STRATEGIES.add(_cls.kind)(_cls)


def get_strategy(spec: str | Strategy | Mapping[str, Any] | type[Strategy], **init_args: Any) -> Strategy:
    """Build a strategy from its name (`list_strategies`), a class path, a mapping of both kinds, or return the object.

    Raises:
        ValueError: for an unknown name; the message lists all names, closest first.
    """
    return _STRATEGIES.get(spec, **init_args)


def list_strategies() -> list[str]:
    """Names of all strategies, sorted."""
    return _STRATEGIES.names()
