"""NSGA-II: a population that spreads along the front of score and cost."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from lightning_wrcor._config import closest
from lightning_wrcor.search.constraints import BOUNDED, MEASURED
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.strategies._base import LearningStrategy, check_count, check_share, worth
from lightning_wrcor.spaces import Genotype, Space

COSTS = tuple(name for name in BOUNDED if name != "resolution")
"""What a score can stand against."""

Point = tuple[float, ...]
"""What one candidate costs, in every sense: less is better."""


class NSGA2(LearningStrategy):
    """NSGA-II (Deb, Pratap, Agarwal and Meyarivan, IEEE Transactions on Evolutionary Computation 6, 2002).

    It looks for candidates that no other beats in score and in cost, which `SearchResult.pareto` then lists. The first
    population is drawn at random. Parents win binary tournaments: by the number of their front, then by how far they
    stand from others on it. A child mixes two parents place by place where the space has `places`, and has one mutation.
    Parents and children together are sorted into fronts, and the best become the next population; dead and failed
    candidates come after all fronts.

    The paper's population is 100, and its crossover probability 0.9. Expect some ten generations: budgets of 400 or
    more at the population of 40 here.

    Args:
        costs: what the score stands against: ``"macs"``, ``"params"``, ``"depth"``, ``"memory_mb"``, ``"latency_ms"``, or
            several of them. How latency is measured is the constraints' ``latency``.
        population: members, and children in each generation.
        crossover: probability that a child has two parents.

    Raises:
        ValueError: for a cost that there is not, and for numbers out of their range.
    """

    kind = "nsga2"
    learns_after = "population"

    def __init__(self, costs: str | Sequence[str] = "macs", population: int = 40, crossover: float = 0.9) -> None:
        self.costs = costs if isinstance(costs, str) else list(costs)
        self._costs = [costs] if isinstance(costs, str) else list(costs)
        for name in self._costs:
            if name not in COSTS:
                raise ValueError(f"There is no cost named {name!r}. Costs: {', '.join(closest(name, COSTS))}.")
        if not self._costs or len(set(self._costs)) < len(self._costs):
            raise ValueError(f"costs names one cost or several different ones; got {costs!r}.")
        self.measures = [name for name in self._costs if name in MEASURED]
        self.population = check_count("population", population, smallest=2)
        self.crossover = check_share("crossover", crossover)

    def start(self, space: Space, seed: int) -> None:
        """Begin with an empty population."""
        super().start(space, seed)
        self.generation = self.population
        self._mixes = space.places() is not None
        self._members: list[Evaluation] = []
        self._standing: list[tuple[int, float]] = []

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Choose the next population from the present one and these."""
        rows = [*self._members, *evaluations]
        standings = self._standings(rows)
        order = sorted(range(len(rows)), key=lambda index: standings[index])[: self.population]
        self._members = [rows[index] for index in order]
        self._standing = [standings[index] for index in order]

    def _standings(self, rows: Sequence[Evaluation]) -> list[tuple[int, float]]:
        """Front, and crowding distance with its sign changed: less is better in both."""
        alive = [index for index, row in enumerate(rows) if worth(row) > -math.inf]
        points = [self._point(rows[index]) for index in alive]
        fronts = non_dominated_fronts(points)
        standings = [(len(fronts), 0.0)] * len(rows)
        for number, front in enumerate(fronts):
            distances = crowding_distances([points[place] for place in front])
            for place, distance in zip(front, distances, strict=True):
                standings[alive[place]] = number, -distance
        return standings

    def _point(self, row: Evaluation) -> Point:
        return (-row.score, *(float(getattr(row, name)) for name in self._costs))

    @property
    def _begun(self) -> bool:
        return bool(self._members)

    def _propose(self) -> Genotype | None:
        child: Genotype | None = self._parent().genotype
        if self._mixes and self._rng.random() < self.crossover:
            child = self._mixed(self._parent().genotype, self._parent().genotype)
        return None if child is None else self._mutated(child)

    def _parent(self) -> Evaluation:
        """The winner of a binary tournament; of two equals the first that was drawn."""
        pair = self._rng.choices(range(len(self._members)), k=2)
        return self._members[min(pair, key=lambda index: self._standing[index])]

    def _mixed(self, first: Genotype, second: Genotype) -> Genotype | None:
        """Each place from either parent with equal chance."""
        parts = zip(self._space.parts(first), self._space.parts(second), strict=True)
        try:
            return self._space.assemble([self._rng.choice(pair) for pair in parts])
        except ValueError:  # a combination that the space rejects
            return None


def dominates(one: Point, other: Point) -> bool:
    """Whether ``one`` is no worse in anything and better in something."""
    return one != other and all(map(operator.le, one, other))


def non_dominated_fronts(points: Sequence[Point]) -> list[list[int]]:
    """Indices front by front: those that no point dominates, those that only these dominate, and so on.

    The fast non-dominated sort of the paper: each point counts who dominates it, once, and fronts are peeled off.
    """
    beaten_by = [0] * len(points)
    beats: list[list[int]] = [[] for _ in points]
    for first, one in enumerate(points):
        for second, other in enumerate(points):
            if dominates(one, other):
                beats[first].append(second)
                beaten_by[second] += 1
    fronts: list[list[int]] = []
    front = [index for index, count in enumerate(beaten_by) if count == 0]
    while front:
        fronts.append(front)
        for index in front:
            for beaten in beats[index]:
                beaten_by[beaten] -= 1
        following = {beaten for index in front for beaten in beats[index] if beaten_by[beaten] == 0}
        front = sorted(following)
    return fronts


def crowding_distances(points: Sequence[Point]) -> list[float]:
    """How far each point of a front stands from its neighbours, summed over what is measured.

    In each measure it is the gap between the two neighbours, as a share of the front's whole range; both ends stand
    infinitely far.
    """
    distances = [0.0] * len(points)
    for measure in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda index: points[index][measure])
        span = points[order[-1]][measure] - points[order[0]][measure]
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, index, after in zip(order, order[1:], order[2:], strict=False):
            if span > 0:
                distances[index] += (points[after][measure] - points[before][measure]) / span
    return distances
