"""Strategies that learn nothing: random draws, and all candidates in their order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from lightning_wrcor._random import derive_seed
from lightning_wrcor.search.strategies._base import Strategy
from lightning_wrcor.spaces import FiniteSpace, Genotype, Space

ENUMERABLE = 1_000_000
"""Finite spaces up to this size are drawn from without replacement, and may be searched as a whole."""


class RandomSearch(Strategy):
    """Uniform draws from the space; finite spaces (up to a million) without replacement, until none is left."""

    kind = "random"

    def start(self, space: Space, seed: int) -> None:
        """Begin with random numbers derived from ``seed``."""
        self._space = space
        self._rng = random.Random(derive_seed(seed, "random search"))
        self._rest: Iterator[Genotype] | None = None
        self.total = None
        if isinstance(space, FiniteSpace) and space.most() <= ENUMERABLE:
            self._rest, self.total = space.shuffled(self._rng), space.most()

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
        self.total = space.most()
        self._rest = iter(space)

    def ask(self, n: int) -> list[Genotype]:
        """The next ``n`` candidates."""
        return list(islice(self._rest, n))
