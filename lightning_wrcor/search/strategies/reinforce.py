"""REINFORCE: a policy over the choices of a genotype, moved towards those that score well."""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Literal

import torch

from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.strategies._base import LearningStrategy, check_count, check_share
from lightning_wrcor.spaces import Genotype, Space


class Reinforce(LearningStrategy):
    """REINFORCE (Williams, Machine Learning 8, 1992), as the baseline of NAS-Bench-201 (arXiv 2001.00326) has it.

    The policy has one independent categorical distribution for each of the space's `places`, uniform at first. Each
    candidate moves it by one step of Adam along ``(reward - baseline) * grad log p(candidate) + entropy * grad H``; the
    baseline is the moving average of the rewards before, and begins at 0; H is the sum of the places' entropies.

    The first candidates are drawn at random, which is what the policy is at first: it learns from them as from those that
    follow. They count in the budget. While fewer than two of them are alive, drawing at random goes on.

    A reward is one of two. ``rank`` looks at the order alone: the k-th best of all n candidates so far has the reward
    ``log(n / (k - 1/2)) - 1``, with a mean of about 0 and a deviation of about 1 (ties share their place, and what is dead
    or failed is the last). It tells good from very good however low the worst are. Where several proxies rank, the members
    of a vote, it is the mean over them. ``z_score`` is the sum of their z-scores, with the means and deviations of the
    first candidates; what is dead or failed for a proxy has the lowest z-score that any of these has.

    WRCor (arXiv 2507.08841) has z-scores, 100 first candidates that set their scale and teach nothing, steps of 0.001, and
    budgets of 1,000 on the cell benchmarks and of 5,000 on ImageNet:
    ``Reinforce(learning_rate=0.001, first=100, reward="z_score", learn_first=False, entropy=0)``. Adam's steps move no
    logit by much more than their size, so that some hundreds of them hardly change such a policy.

    Args:
        learning_rate: size of Adam's steps.
        momentum: weight of what the baseline was, from 0 to below 1.
        first: candidates drawn at random.
        draws: candidates drawn from the policy between one tell and the next; each makes a step of its own.
        reward: ``rank`` or ``z_score``.
        learn_first: whether the first candidates make steps too.
        entropy: weight of the policy's entropy, from 0 to 1. It keeps the policy from settling on one candidate, after
            which nothing new would be proposed.

    Raises:
        ValueError: for numbers out of these ranges and other rewards.
    """

    kind = "reinforce"
    learns_after = "first"

    def __init__(
        self,
        learning_rate: float = 0.05,
        momentum: float = 0.9,
        first: int = 32,
        draws: int = 8,
        reward: Literal["rank", "z_score"] = "rank",
        learn_first: bool = True,
        entropy: float = 0.05,
    ) -> None:
        self.learning_rate = check_share("learning_rate", learning_rate, "(]")
        self.momentum = check_share("momentum", momentum, "[)")
        self.first = check_count("first", first, smallest=2)
        self.draws = check_count("draws", draws)
        if reward not in _REWARDS:
            raise ValueError(f"reward is one of {', '.join(_REWARDS)}; got {reward!r}.")
        self.reward = reward
        if not isinstance(learn_first, bool):
            raise ValueError(f"learn_first is true or false; got {learn_first!r}.")
        self.learn_first = learn_first
        self.entropy = check_share("entropy", entropy)

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
        self._policy = _Policy([len(options) for options in places], self.learning_rate, self.entropy)
        self._rewards: _Rewards | None = None
        self._drawn: list[Evaluation] = []
        self._baseline = 0.0

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn what rewards are from the first candidates; one step for each candidate, in their order."""
        if self._rewards is None:
            self._drawn += evaluations
            self.generation = max(self.first - len(self._drawn), self.draws)
            if len(self._drawn) >= self.first:
                self._rewards = _REWARDS[self.reward].read(self._drawn, self.ranking)
            if self._rewards is None or not self.learn_first:
                return
            evaluations = self._drawn
        else:
            self._rewards.add(evaluations)
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

    def __init__(self, sizes: Sequence[int], learning_rate: float, entropy: float = 0.0) -> None:
        self.entropy = entropy
        self.logits = torch.full((len(sizes), max(sizes)), -math.inf, dtype=torch.float64, device="cpu")
        for place, size in enumerate(sizes):
            self.logits[place, :size] = 0.0
        self._adam = torch.optim.Adam([self.logits], lr=learning_rate)
        self._settle()

    def step(self, chosen: Sequence[int], advantage: float) -> None:
        """One step of Adam along the gradient of ``advantage * log p(chosen) + entropy * H``."""
        # d log p / d logits is 1 at what was chosen, minus the probabilities; 0 where there is no option.
        probabilities = torch.softmax(self.logits, dim=1)
        gradient = probabilities.clone()
        gradient[range(len(chosen)), chosen] -= 1.0
        # d H / d logits is -p (log p + H).
        terms = torch.xlogy(probabilities, probabilities)
        spread = terms - probabilities * terms.sum(dim=1, keepdim=True)
        self.logits.grad = advantage * gradient + self.entropy * spread
        self._adam.step()
        self._settle()

    def _settle(self) -> None:
        self.probabilities: list[list[float]] = torch.softmax(self.logits, dim=1).tolist()


class _Rewards(ABC):
    """Scores to rewards. The column ``None`` is the score that ranks; the others are the members of a vote."""

    @classmethod
    @abstractmethod
    def read(cls, evaluations: Sequence[Evaluation], ranking: Sequence[str]) -> _Rewards | None:
        """From the first candidates; None where no column has two finite values."""

    @abstractmethod
    def add(self, evaluations: Sequence[Evaluation]) -> None:
        """Take note of more candidates."""

    @abstractmethod
    def of(self, evaluation: Evaluation) -> float:
        """The reward of a candidate."""


class _Ranks(_Rewards):
    """The mean over columns of ``log(n / (k - 1/2)) - 1`` for the k-th best of n.

    Args:
        values: all values of each column, sorted; -inf for what is dead, failed or refused.
    """

    def __init__(self, values: dict[str | None, list[float]]) -> None:
        self.values = values

    @classmethod
    def read(cls, evaluations: Sequence[Evaluation], ranking: Sequence[str]) -> _Ranks | None:
        """From the first candidates; None where no column has two finite values."""
        values = {column: sorted(_value(row, column) for row in evaluations) for column in _columns(ranking)}
        known = {column: own for column, own in values.items() if sum(map(math.isfinite, own)) >= 2}
        return cls(known) if known else None

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        """Rank among these too."""
        for column, own in self.values.items():
            for evaluation in evaluations:
                insort(own, _value(evaluation, column))

    def of(self, evaluation: Evaluation) -> float:
        """The reward of one candidate that was read or added."""
        rewards = []
        for column, own in self.values.items():
            value = _value(evaluation, column)
            # Those above, and half of those that tie with it, itself among them: k - 1/2 where nobody ties.
            above = len(own) - (bisect_left(own, value) + bisect_right(own, value)) / 2
            rewards.append(math.log(len(own) / above) - 1)
        return statistics.fmean(rewards)


class _ZScores(_Rewards):
    """The sum over columns of z-scores.

    Args:
        scales: mean, deviation and lowest z-score of each column.
    """

    def __init__(self, scales: dict[str | None, tuple[float, float, float]]) -> None:
        self.scales = scales

    @classmethod
    def read(cls, evaluations: Sequence[Evaluation], ranking: Sequence[str]) -> _ZScores | None:
        """The scales of these candidates; None where no column has two finite values."""
        scales: dict[str | None, tuple[float, float, float]] = {}
        for column in _columns(ranking):
            values = [value for row in evaluations if math.isfinite(value := _value(row, column))]
            if len(values) >= 2:
                mean, deviation = statistics.fmean(values), statistics.pstdev(values) or 1.0
                scales[column] = mean, deviation, (min(values) - mean) / deviation
        return cls(scales) if scales else None

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        """The scales stay those of the first candidates."""

    def of(self, evaluation: Evaluation) -> float:
        """The reward of one candidate."""
        total = 0.0
        for column, (mean, deviation, lowest) in self.scales.items():
            value = _value(evaluation, column)
            total += (value - mean) / deviation if math.isfinite(value) else lowest
        return total


_REWARDS: dict[str, type[_Rewards]] = {"rank": _Ranks, "z_score": _ZScores}


def _columns(ranking: Sequence[str]) -> list[str | None]:
    return [*ranking] or [None]


def _value(evaluation: Evaluation, column: str | None) -> float:
    """Its value in a column; -inf where there is none."""
    value = evaluation.score if column is None else evaluation.scores.get(column, -math.inf)
    return value if math.isfinite(value) else -math.inf
