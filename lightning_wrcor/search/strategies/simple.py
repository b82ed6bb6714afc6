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
