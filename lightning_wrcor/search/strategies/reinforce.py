"""REINFORCE: a policy over the choices of a genotype, moved towards those that score well."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch

from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.strategies._base import LearningStrategy, check_count, check_share
from lightning_wrcor.spaces import Genotype, Space


class Reinforce(LearningStrategy):
    """REINFORCE (Williams, Machine Learning 8, 1992), as the baseline of NAS-Bench-201 (arXiv 2001.00326) has it.

    The policy has one independent categorical distribution for each of the space's `places`, uniform at first. Each
    candidate moves it by one step of Adam along ``(reward - baseline) * grad log p(candidate)``; the baseline is the
    moving average of the rewards before, and begins at 0.

    A reward is the sum of z-scores of the proxies that rank (one, or the members of a vote). Their means and deviations
    are those of the first candidates, drawn at random, from which the policy learns nothing else; they count in the
    budget. What is dead or failed for a proxy has the lowest z-score that any of the first candidates has. While fewer
    than two of these are alive, candidates are drawn at random.

    WRCor (arXiv 2507.08841) uses a moving average of 0.9, steps of 0.001, 100 first candidates, and budgets of 1,000 on
    the cell benchmarks and of 5,000 on ImageNet. Adam's steps move no choice's logit by much more than the step's size,
    so at 0.001 a search of some hundreds of candidates remains close to random search: give it steps of 0.05 or so.

    Args:
        learning_rate: size of Adam's steps.
        momentum: weight of what the baseline was, from 0 to below 1.
        first: candidates drawn at random, from which the scale of the rewards is taken.
        draws: candidates drawn from the policy between one tell and the next; each makes a step of its own.

    Raises:
        ValueError: for numbers out of these ranges.
    """

    kind = "reinforce"

    def __init__(self, learning_rate: float = 1e-3, momentum: float = 0.9, first: int = 100, draws: int = 8) -> None:
        self.learning_rate = check_share("learning_rate", learning_rate, "(]")
        self.momentum = check_share("momentum", momentum, "[)")
        self.first = check_count("first", first, smallest=2)
        self.draws = check_count("draws", draws)

    def start(self, space: Space, seed: int) -> None:
        """Begin with the uniform policy.

        Raises:
            ValueError: for a space whose genotypes are not made of places.
        """
        places = space.places()
        if places is None:
            raise ValueError(
                f"The genotypes of {type(space).__name__} are not made of places with options of their own "
                "(Space.places), which strategy='reinforce' needs; use strategy='evolution'."
            )
        super().start(space, seed)
        self.generation = self.first
        self._places = places
        self._index = [{option: index for index, option in enumerate(options)} for options in places]
        self._policy = _Policy([len(options) for options in places], self.learning_rate)
        self._rewards: _Rewards | None = None
        self._drawn: list[Evaluation] = []
        self._baseline = 0.0

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take the scale of the rewards from the first candidates; then one step for each candidate, in their order."""
        if self._rewards is None:
            self._drawn += evaluations
            self.generation = max(self.first - len(self._drawn), self.draws)
            if len(self._drawn) >= self.first:
                self._rewards = _Rewards.read(self._drawn, self.ranking)
            return
        for evaluation in evaluations:
            reward = self._rewards.of(evaluation)
            parts = self._space.parts(evaluation.genotype)
            chosen = [index[part] for index, part in zip(self._index, parts, strict=True)]
            self._policy.step(chosen, reward - self._baseline)
            self._baseline = self.momentum * self._baseline + (1 - self.momentum) * reward

    @property
    def _begun(self) -> bool:
        return self._rewards is not None

    def _propose(self) -> Genotype | None:
        chosen = [
            self._rng.choices(options, weights[: len(options)])[0]
            for options, weights in zip(self._places, self._policy.probabilities, strict=True)
        ]
        try:
            return self._space.assemble(chosen)
        except ValueError:  # a combination that the space rejects
            return None


class _Policy:
    """One categorical distribution for each place.

    Attributes:
        logits: ``(places, most options)`` float64; -inf where a place has fewer options.
        probabilities: the same as probabilities, in lists.
    """

    def __init__(self, sizes: Sequence[int], learning_rate: float) -> None:
        self.logits = torch.full((len(sizes), max(sizes)), -math.inf, dtype=torch.float64, device="cpu")
        for place, size in enumerate(sizes):
            self.logits[place, :size] = 0.0
        self._adam = torch.optim.Adam([self.logits], lr=learning_rate)
        self._settle()

    def step(self, chosen: Sequence[int], advantage: float) -> None:
        """One step of Adam along the gradient of ``advantage * log p(chosen)``."""
        # d log p / d logits is 1 at what was chosen, minus the probabilities; 0 where there is no option.
        gradient = torch.softmax(self.logits, dim=1)
        gradient[range(len(chosen)), chosen] -= 1.0
        self.logits.grad = advantage * gradient
        self._adam.step()
        self._settle()

    def _settle(self) -> None:
        self.probabilities: list[list[float]] = torch.softmax(self.logits, dim=1).tolist()


class _Rewards:
    """Scores to rewards: the sum over columns of z-scores.

    Args:
        scales: mean, deviation and lowest z-score of each column. The column ``None`` is the score that ranks.
    """

    def __init__(self, scales: dict[str | None, tuple[float, float, float]]) -> None:
        self.scales = scales

    @classmethod
    def read(cls, evaluations: Sequence[Evaluation], ranking: Sequence[str]) -> _Rewards | None:
        """The scales of these candidates; None where no column has two finite values."""
        columns: list[str | None] = [*ranking] or [None]
        scales: dict[str | None, tuple[float, float, float]] = {}
        for column in columns:
            values = [value for row in evaluations if math.isfinite(value := _value(row, column))]
            if len(values) >= 2:
                mean, deviation = statistics.fmean(values), statistics.pstdev(values) or 1.0
                scales[column] = mean, deviation, (min(values) - mean) / deviation
        return cls(scales) if scales else None

    def of(self, evaluation: Evaluation) -> float:
        """The reward of one candidate."""
        total = 0.0
        for column, (mean, deviation, lowest) in self.scales.items():
            value = _value(evaluation, column)
            total += (value - mean) / deviation if math.isfinite(value) else lowest
        return total


def _value(evaluation: Evaluation, column: str | None) -> float:
    return evaluation.score if column is None else evaluation.scores.get(column, -math.inf)
