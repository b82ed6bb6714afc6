"""REINFORCE by hand: rewards, the baseline, and the steps of the policy."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from search_toys import Widths
from strategy_toys import evaluation, names, table_search

from lightning_wrcor.proxies import MACs, Params, Vote
from lightning_wrcor.search import Evaluation, Reinforce
from lightning_wrcor.search.strategies.reinforce import _Policy, _Ranks, _ZScores
from lightning_wrcor.spaces import FiniteSpace, Genotype, NATSBenchSize

PAPER: dict[str, Any] = {"learning_rate": 1e-3, "reward": "z_score", "learn_first": False, "entropy": 0.0}
"""WRCor's settings, without the number of first candidates."""


class Coins(Widths):
    """Three places, two options each."""

    def places(self) -> tuple[tuple[Genotype, ...], ...]:
        return (("head", "tail"),) * 3

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        assert isinstance(genotype, tuple)
        return genotype

    def assemble(self, parts: object) -> Genotype:
        return tuple(parts)  # type: ignore[arg-type]

    def key(self, genotype: Genotype) -> str:
        return "".join(str(part)[0] for part in self.parts(genotype))

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter([(a, b, c) for a in ("head", "tail") for b in ("head", "tail") for c in ("head", "tail")])

    def __len__(self) -> int:
        return 8


def test_a_step_of_a_policy_of_two_options_by_hand() -> None:
    policy = _Policy([2], learning_rate=0.1)
    assert policy.probabilities == [[0.5, 0.5]]
    # Ascent along 2 * (1 - p, -p) = (1, -1): Adam's first step is its size times the sign.
    policy.step([0], 2.0)
    assert policy.logits[0].tolist() == pytest.approx([0.1, -0.1], abs=1e-7)
    first = 1 / (1 + math.exp(-0.2))
    assert policy.probabilities[0] == pytest.approx([first, 1 - first], abs=1e-7)
    # The second step, of the formulas in the paper of Adam (beta 0.9 and 0.999, epsilon 1e-8).
    policy.step([1], 3.0)
    gradients = [-1.0, 3.0 * first]  # of the loss, by the first logit
    mean = (0.9 * 0.1 * gradients[0] + 0.1 * gradients[1]) / (1 - 0.9**2)
    square = (0.999 * 0.001 * gradients[0] ** 2 + 0.001 * gradients[1] ** 2) / (1 - 0.999**2)
    moved = 0.1 - 0.1 * mean / (math.sqrt(square) + 1e-8)
    assert policy.logits[0].tolist() == pytest.approx([moved, -moved], abs=1e-6)


@pytest.mark.parametrize("entropy", [0.0, 0.4])
def test_the_gradient_is_that_of_autograd_and_places_with_fewer_options_keep_to_them(entropy: float) -> None:
    sizes, chosen, advantage = [3, 2, 5], [2, 0, 3], -1.7
    policy = _Policy(sizes, learning_rate=0.05, entropy=entropy)
    logits = [torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    adam = torch.optim.Adam(logits, lr=0.05)
    for _ in range(5):
        policy.step(chosen, advantage)
        adam.zero_grad()
        loss = -advantage * sum(torch.log_softmax(own, 0)[one] for own, one in zip(logits, chosen, strict=True))
        loss -= entropy * sum(torch.distributions.Categorical(logits=own).entropy() for own in logits)
        loss.backward()  # type: ignore[union-attr]
        adam.step()
        chosen = [(one + 1) % size for one, size in zip(chosen, sizes, strict=True)]
    for place, size in enumerate(sizes):
        assert policy.logits[place, :size].tolist() == pytest.approx(logits[place].tolist(), abs=1e-12)
        assert sum(policy.probabilities[place][:size]) == pytest.approx(1.0)
        assert policy.probabilities[place][size:] == [0.0] * (5 - size)


def test_the_baseline_is_a_moving_average_of_the_rewards_before(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = Reinforce(**PAPER, first=4, draws=2)
    strategy.start(Coins(), 0)
    coins: list[Genotype] = list(Coins())
    strategy.tell([evaluation(score, coin) for score, coin in zip((1.0, 3.0, 1.0, 3.0), coins, strict=False)])
    steps: list[float] = []
    monkeypatch.setattr(strategy._policy, "step", lambda chosen, advantage: steps.append(advantage))
    strategy.tell([evaluation(4.0, coins[4]), evaluation(1.0, coins[5]), evaluation(2.5, coins[6])])
    # Mean 2 and deviation 1, so that the rewards are 2, -1 and 0.5; the baseline is 0, 0.2 and 0.08.
    assert steps == pytest.approx([2.0, -1.2, 0.42])
    assert strategy._baseline == pytest.approx(0.9 * 0.08 + 0.1 * 0.5)


def test_the_first_candidates_set_the_scale_and_move_nothing() -> None:
    strategy = Reinforce(**PAPER, first=6, draws=4)
    strategy.start(Coins(), 0)
    assert strategy.generation == 6
    strategy.tell([evaluation(1.0, coin) for coin in list(Coins())[:4]])
    assert strategy.generation == 4, "two are missing; a generation is never smaller than the draws"
    assert not strategy._begun
    strategy.tell([evaluation(2.0, coin) for coin in list(Coins())[4:6]])
    assert strategy._begun
    assert strategy._policy.probabilities == [[0.5, 0.5]] * 3


def test_the_first_candidates_teach_as_all_others_do() -> None:
    strategy = Reinforce(learning_rate=0.1, first=4, entropy=0.2)
    strategy.start(Coins(), 0)
    coins: list[Genotype] = list(Coins())
    scores = [7.0, -math.inf, 9.0, 8.0]
    strategy.tell([evaluation(score, coin) for score, coin in zip(scores[:3], coins, strict=False)])
    assert strategy._policy.probabilities == [[0.5, 0.5]] * 3, "one is missing"
    strategy.tell([evaluation(scores[3], coins[3])])
    policy, baseline = _Policy([2, 2, 2], 0.1, 0.2), 0.0
    for place, coin in zip((3, 4, 1, 2), coins, strict=False):  # the best is the first of four
        reward = math.log(4 / (place - 0.5)) - 1
        policy.step([("head", "tail").index(side) for side in coin], reward - baseline)  # type: ignore[union-attr, arg-type]
        baseline = 0.9 * baseline + 0.1 * reward
    assert strategy._policy.logits.tolist() == policy.logits.tolist()
    assert strategy._baseline == pytest.approx(baseline)


def row(first: float, second: float | None) -> Evaluation:
    """Two members of a vote, of which the second may have refused it."""
    scored = evaluation(0.5)
    scored.scores = {"vote": 0.5, "a": first} | ({} if second is None else {"b": second})
    return scored


def test_rewards_are_sums_of_z_scores_and_the_lowest_stands_for_the_dead() -> None:
    rows = [row(1.0, 10.0), row(3.0, -math.inf), row(2.0, 30.0), evaluation(math.nan)]
    rewards = _ZScores.read(rows, ["a", "b"])
    assert rewards is not None
    deviation = math.sqrt(2 / 3)
    rewards.add([row(100.0, 100.0)])  # makes no difference
    assert rewards.of(row(4.0, 40.0)) == pytest.approx(2 / deviation + 2.0)
    assert rewards.of(row(2.0, -math.inf)) == pytest.approx(0.0 - 1.0)
    assert rewards.of(row(2.0, None)) == pytest.approx(0.0 - 1.0), "it refused this one"
    assert rewards.of(evaluation(math.nan)) == pytest.approx(-1 / deviation - 1.0)
    alone = _ZScores.read([evaluation(1.0), evaluation(3.0), evaluation(-math.inf)], [])
    assert alone is not None
    assert alone.of(evaluation(4.0)) == pytest.approx(2.0)
    assert _ZScores.read([evaluation(1.0), evaluation(-math.inf)], []) is None, "one value has no deviation"
    equal = _ZScores.read([evaluation(5.0), evaluation(5.0)], [])
    assert equal is not None
    assert equal.of(evaluation(5.0)) == 0.0


def test_rewards_by_rank_among_all_so_far() -> None:
    def of(place: float, n: int) -> float:
        return math.log(n / (place - 0.5)) - 1

    rows = [row(1.0, 10.0), row(3.0, -math.inf), row(2.0, None), evaluation(math.nan)]
    rewards = _Ranks.read(rows, ["a", "b"])
    assert rewards is not None
    # Only the first column has two finite values; there the failed one is the last of four.
    assert [rewards.of(one) for one in rows] == pytest.approx([of(3, 4), of(1, 4), of(2, 4), of(4, 4)])
    rewards.add([row(3.0, 1.0), row(0.0, 1.0)])
    # Two share the places 1 and 2 of six.
    assert [rewards.of(one) for one in rows] == pytest.approx([of(4, 6), of(1.5, 6), of(3, 6), of(6, 6)])

    both = [row(1.0, 10.0), row(3.0, -math.inf), row(2.0, 30.0), row(0.0, None)]
    mean = _Ranks.read(both, ["a", "b"])
    assert mean is not None
    expected = [of(3, 4) + of(2, 4), of(1, 4) + of(3.5, 4), of(2, 4) + of(1, 4), of(4, 4) + of(3.5, 4)]
    assert [mean.of(one) for one in both] == pytest.approx([total / 2 for total in expected])
    assert _Ranks.read([evaluation(1.0), evaluation(-math.inf)], []) is None
    many = _Ranks.read([evaluation(float(score)) for score in range(1000)], [])
    assert many is not None
    spread = torch.tensor([many.of(evaluation(float(score))) for score in range(1000)])
    assert abs(spread.mean()) < 0.01
    assert spread.std() == pytest.approx(1.0, abs=0.02)


def test_by_rank_only_the_order_of_scores_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    space = NATSBenchSize((8, 16, 24))

    def widths(genotype: Genotype) -> float:
        return float(sum(map(int, genotype)))  # type: ignore[arg-type]

    histories = []
    for score in (widths, lambda genotype: -1e6 / widths(genotype), lambda genotype: math.exp(widths(genotype) / 9)):
        search = table_search(monkeypatch, score)  # type: ignore[arg-type]
        histories.append(names(search(space, Reinforce(first=8), 40)))
        monkeypatch.undo()
    assert histories[0] == histories[1] == histories[2]
    search = table_search(monkeypatch, lambda genotype: math.exp(widths(genotype) / 9))
    by_value = names(search(space, Reinforce(first=8, reward="z_score"), 40))
    assert by_value != names(search(space, Reinforce(first=8), 40))


def test_the_entropy_keeps_the_policy_from_settling() -> None:
    surest = []
    for entropy in (0.0, 0.05):
        policy = _Policy([5] * 6, learning_rate=0.05, entropy=entropy)
        for step in range(600):  # a reward a little above the baseline and a little below, without end
            policy.step([0] * 6, 0.1 if step % 2 else 0.05)
        surest.append(min(place[0] for place in policy.probabilities))
    assert surest[0] > 0.99
    assert 0.5 < surest[1] < 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": "ranks"}, "reward is one of rank, z_score; got 'ranks'"),
        ({"learn_first": "no"}, "learn_first is true or false; got 'no'"),
        ({"entropy": -0.1}, r"entropy is a number in \[0, 1\]; got -0.1"),
    ],
)
def test_arguments_that_cannot_work(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reinforce(**arguments)


@pytest.mark.data
def test_it_beats_random_search_among_networks_of_known_accuracy(data: Path) -> None:
    from lightning_wrcor.benchmark.strategies import compare_strategies

    table = data / "nasbench201.csv.gz"
    _, learned = compare_strategies("nasbench201", table, "cifar100_test", ["reinforce"], budget=150, seeds=8)
    assert learned.p_regret < 0.02


def test_the_search_says_which_proxies_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    search = table_search(monkeypatch, lambda genotype: 1.0)
    for proxy, ranking in (
        (Params(), ["params"]),
        ([MACs(), Params()], ["macs"]),
        ([Vote([Params(), "depth"]), MACs()], ["params", "depth"]),
    ):
        strategy = Reinforce(first=2)
        search(NATSBenchSize(), strategy, 4, proxy=proxy)
        assert list(strategy.ranking) == ranking


def test_draws_follow_the_policy() -> None:
    strategy = Reinforce(first=2, learning_rate=1.0)
    space: FiniteSpace = Coins()
    strategy.start(space, 0)
    strategy._policy.logits[0, 0] = math.log(3)
    strategy._policy._settle()
    strategy._rng = random.Random(0)
    drawn = [strategy._propose() for _ in range(8000)]
    counts = Counter(coin[0] for coin in drawn)  # type: ignore[index]
    assert abs(counts["head"] - 6000) < 200
    assert abs(Counter(coin[1] for coin in drawn)["head"] - 4000) < 230  # type: ignore[index]


def test_the_policy_learns_what_pays() -> None:
    """Without the search's memory: the first place decides, the others make no difference."""
    strategy = Reinforce(first=20, learning_rate=0.1)
    strategy.start(Coins(), 0)
    rng = random.Random(1)
    coins = list(Coins())
    for _ in range(15):
        drawn = [rng.choice(coins) if not strategy._begun else strategy._propose() for _ in range(20)]
        strategy.tell([evaluation(float(coin[0] == "tail"), coin) for coin in drawn])  # type: ignore[index]
    probabilities = strategy._policy.probabilities
    assert probabilities[0][1] > 0.95
    assert all(0.05 < place[0] < 0.95 for place in probabilities[1:])
