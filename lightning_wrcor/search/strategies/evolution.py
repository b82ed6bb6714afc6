"""Regularised evolution: children of good candidates, and the oldest dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.strategies._base import LearningStrategy, check_count, worth
from lightning_wrcor.spaces import Genotype, Space


class RegularisedEvolution(LearningStrategy):
    """Regularised (ageing) evolution (Real, Aggarwal, Huang and Le, AAAI 2019, arXiv 1802.01548, algorithm 1).

    The first population is drawn at random. Each child is one mutation (`Space.mutate`) of the best of a tournament,
    which draws from the population with replacement; it joins the population, and the oldest member leaves, however good
    it is. The best candidate that was ever scored is still the search's result.

    The population of 64 and tournaments of 10 are those of WRCor (arXiv 2507.08841), with budgets of 1,000 on the cell
    benchmarks and of 5,000 on ImageNet, the first population included.

    Args:
        population: members.
        tournament: draws of a tournament, with replacement.
        children: how many are proposed between one tell and the next. With 1 each child sees all that was scored before,
            as in the paper's algorithm; more can be scored by several processes at a time. The first population is one
            generation.

    Raises:
        ValueError: for a number below 1.
    """

    kind = "evolution"
    learns_after = "population"

    def __init__(self, population: int = 64, tournament: int = 10, children: int = 8) -> None:
        self.population = check_count("population", population)
        self.tournament = check_count("tournament", tournament)
        self.children = check_count("children", children)

    def start(self, space: Space, seed: int) -> None:
        """Begin with an empty population."""
        super().start(space, seed)
        self._members: deque[Evaluation] = deque(maxlen=self.population)  # which drops the oldest
        self.generation = self.population

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Let them join the population, in their order; the oldest members leave."""
        self._members.extend(evaluations)
        missing = self.population - len(self._members)
        self.generation = missing or self.children

    @property
    def _begun(self) -> bool:
        return len(self._members) == self.population

    def _propose(self) -> Genotype | None:
        return self._mutated(self._winner().genotype)

    def _winner(self) -> Evaluation:
        """The best of a tournament; of several equals the first that was drawn."""
        return max(self._rng.choices(self._members, k=self.tournament), key=worth)
