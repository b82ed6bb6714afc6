"""Votes: each rule against a slow formula, what makes no difference to them, and the form of a vote."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import random
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import Functions, images_and_labels

from lightning_wrcor.proxies import Context, Params, Proxy, WRCor, get_proxy, score
from lightning_wrcor.proxies import _rules as rules
from lightning_wrcor.proxies.votes import AZNAS, SJW, SPW, TENAS, Consensus, Tally, VKDNWAggregate, Vote

Table = list[list[float]]  # one row a candidate, one column a member
RANKS = ["copeland", "borda", "log_rank", "agreement"]
ALL = [*RANKS, "z_score"]
NAMES = ["wrcor", "params", "macs", "rcor", "acor"]
NOBODY: dict[str, list[float]] = {name: [] for name in NAMES}


# ---- the rules once more, pair by pair


def ahead(a: float, b: float) -> bool:
    """Whether one value ranks before another: whatever is finite before whatever is not."""
    if not math.isfinite(b):
        return math.isfinite(a)
    return math.isfinite(a) and a > b


def rank(column: list[float], i: int) -> float:
    """From 1 (worst) to n (best); those that are alike share the mean."""
    worse = sum(ahead(column[i], other) for other in column)
    alike = sum(not ahead(column[i], other) and not ahead(other, column[i]) for other in column)
    return worse + (alike + 1) / 2


def columns(table: Table) -> Table:
    return [list(column) for column in zip(*table, strict=True)]


def slow_borda(table: Table) -> list[float]:
    n, m = len(table), len(table[0])
    return [sum(rank(column, i) for column in columns(table)) / m / n for i in range(n)]


def slow_log_rank(table: Table) -> list[float]:
    n = len(table)
    return [sum(math.log(rank(column, i) / n) for column in columns(table)) for i in range(n)]


def slow_copeland(table: Table) -> list[float]:
    n = len(table)
    net = [0] * n
    for i, j in itertools.permutations(range(n), 2):
        for_i = sum(ahead(a, b) for a, b in zip(table[i], table[j], strict=True))
        for_j = sum(ahead(b, a) for a, b in zip(table[i], table[j], strict=True))
        net[i] += (for_i > for_j) - (for_i < for_j)
    points = [sum(rank(column, i) for column in columns(table)) for i in range(n)]  # halves: exact
    standing = list(zip(net, points, strict=True))
    places = [sum(other < own for other in standing) + (standing.count(own) + 1) / 2 for own in standing]
    return [place / n for place in places]


def slow_z_score(table: Table) -> list[float]:
    total = [0.0] * len(table)
    for column in columns(table):
        finite = [value for value in column if math.isfinite(value)]
        if not finite:
            continue
        mean, deviation = statistics.fmean(finite), statistics.pstdev(finite)

        def standard(value: float, mean: float = mean, deviation: float = deviation) -> float:
            return (value - mean) / deviation if deviation else 0.0

        for i, value in enumerate(column):
            total[i] += standard(value) if math.isfinite(value) else standard(min(finite)) - 1
    return total


def slow_agreement_weights(table: Table, anchors: tuple[int, ...] = ()) -> list[float]:
    """Twice NumPy's squared correlation of a member's ranks with the mean of the anchors'."""
    ranks = np.array([[rank(column, i) for i in range(len(column))] for column in columns(table)])
    mean = ranks[list(anchors)].mean(0) if anchors else ranks.mean(0)
    weights = []
    for member, row in enumerate(ranks):
        r = np.corrcoef(row, mean)[0, 1] if row.std() > 1e-9 and mean.std() > 1e-9 else 0.0
        weights.append(1.0 if member in anchors else 2 * max(0.0, float(r)) ** 2)
    return weights if any(weights) else [1.0] * len(weights)


def slow_agreement(table: Table) -> list[float]:
    weights = slow_agreement_weights(table)
    ranks = [[rank(column, i) for i in range(len(column))] for column in columns(table)]
    n = len(table)
    return [
        math.fsum(weight * math.log(rank[i] / n) for weight, rank in zip(weights, ranks, strict=True)) for i in range(n)
    ]


SLOW: dict[str, Callable[[Table], list[float]]] = {
    "copeland": slow_copeland,
    "borda": slow_borda,
    "log_rank": slow_log_rank,
    "z_score": slow_z_score,
    "agreement": slow_agreement,
}


def some_table(seed: int, n: int, m: int) -> Table:
    """Values with ties, dead networks and refusals; the first column may be constant."""
    rng = random.Random(seed)

    def value() -> float:
        kind = rng.random()
        if kind < 0.1:
            return rng.choice([-math.inf, math.nan])
        return rng.gauss(0, 10) if kind < 0.6 else float(rng.randrange(5))

    table = [[value() for _ in range(m)] for _ in range(n)]
    if seed % 3 == 0:
        for row in table:
            row[0] = 0.1
    return table


def values(rule: str, table: Table) -> list[float]:
    """The rule itself, also for candidates that no member has a value of."""
    return rules.RULES[rule](torch.tensor(table, dtype=torch.float64)).tolist()


def vote(rule: str, members: int) -> Vote:
    return Vote(NAMES[:members], rule)


def by_name(table: Table) -> dict[str, list[float]]:
    return dict(zip(NAMES, columns(table), strict=False))


CASES = [
    (seed, n, m) for seed, (n, m) in enumerate([(1, 2), (2, 2), (3, 3), (9, 3), (17, 2), (30, 4), (41, 5), (60, 3)])
]


@pytest.mark.parametrize("rule", ALL)
@pytest.mark.parametrize(("seed", "n", "m"), CASES)
def test_the_rules_pair_by_pair(rule: str, seed: int, n: int, m: int) -> None:
    table = some_table(seed, n, m)
    assert values(rule, table) == pytest.approx(SLOW[rule](table), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = some_table(5, 30, 3)
    monkeypatch.setattr(rules, "_BLOCK", block)
    assert values("copeland", table) == slow_copeland(table)


# ---- by hand


def test_a_small_table_by_hand() -> None:
    table = {"wrcor": [3.0, 1.0, 2.0], "params": [10.0, 30.0, 20.0], "macs": [7.0, 5.0, 6.0]}
    # The first is before the others for two of three, the third before the second.
    assert Vote(list(table)).combine(table) == [1.0, 1 / 3, 2 / 3]
    assert Vote(list(table), "borda").combine(table) == pytest.approx([7 / 9, 5 / 9, 6 / 9])
    logs = [math.log(1 / 3), 2 * math.log(1 / 3), 3 * math.log(2 / 3)]
    assert Vote(list(table), "log_rank").combine(table) == pytest.approx(logs)
    high = math.sqrt(3 / 2)
    assert Vote(list(table), "z_score").combine(table) == pytest.approx([high, -high, 0.0])


def test_a_majority_that_goes_round_in_circles() -> None:
    # a before b, b before c and c before a, two to one each; d is last for all.
    circle = [[4.0, 2.0, 3.0], [3.0, 4.0, 2.0], [2.0, 3.0, 4.0], [1.0, 1.0, 1.0]]
    assert values("copeland", circle) == [0.75, 0.75, 0.75, 0.25]
    # The same circle, in which d comes between for the first member: the Borda counts are 9, 8, 8 and 5.
    table = [[9.0, 2.0, 3.0], [3.0, 9.0, 2.0], [2.0, 3.0, 9.0], [8.0, 1.0, 1.0]]
    assert values("copeland", table) == [1.0, 0.625, 0.625, 0.25]
    rng = random.Random(0)
    for _ in range(20):
        order = rng.sample(range(4), 4)
        assert values("copeland", [table[i] for i in order]) == [values("copeland", table)[i] for i in order]


def test_ranks_of_ties() -> None:
    column = torch.tensor([2.0, -math.inf, 2.0, 5.0, math.nan, 2.0], dtype=torch.float64)
    assert (rules.rank_table(column[:, None])[:, 0] / 2).tolist() == [4.0, 1.5, 4.0, 6.0, 1.5, 4.0]


def test_equal_candidates_are_worth_the_same() -> None:
    table = some_table(4, 12, 3)
    for rule in ALL:
        found = values(rule, [*table, *table])
        assert found[:12] == found[12:]
        assert len(set(values(rule, [[1.0, 2.0]] * 5))) == 1


# ---- what makes no difference


@pytest.mark.parametrize("rule", ALL)
@pytest.mark.parametrize("seed", range(6))
def test_the_order_makes_no_difference_to_the_last_bit(rule: str, seed: int) -> None:
    rng = random.Random(seed)
    table = some_table(seed, 37, 4)
    expected = values(rule, table)
    rows, members = rng.sample(range(37), 37), rng.sample(range(4), 4)
    assert values(rule, [[table[i][j] for j in members] for i in rows]) == [expected[i] for i in rows]


@pytest.mark.parametrize("anchors", [(), (0,), (2, 1)])
@pytest.mark.parametrize(("seed", "n", "m"), CASES)
def test_weights_by_agreement(seed: int, n: int, m: int, anchors: tuple[int, ...]) -> None:
    anchors = tuple(anchor for anchor in anchors if anchor < m)
    table = some_table(seed, n, m)
    found = rules.agreement_weights(torch.tensor(table, dtype=torch.float64), anchors)
    assert found == pytest.approx(slow_agreement_weights(table, anchors), rel=1e-9, abs=1e-9)


def test_who_contradicts_the_anchors_has_no_vote() -> None:
    rng = random.Random(0)
    truth = [float(i) for i in range(200)]
    table = {
        "anchor": [value + rng.gauss(0, 60) for value in truth],
        "good": [value + rng.gauss(0, 40) for value in truth],
        "noise": [rng.random() for _ in truth],
        "wrong": [-value + rng.gauss(0, 40) for value in truth],
    }
    scores = torch.tensor(list(zip(*table.values(), strict=True)), dtype=torch.float64)
    weights = dict(zip(table, rules.agreement_weights(scores, [0]), strict=True))
    assert weights["anchor"] == 1.0
    assert weights["good"] > 0.6
    assert weights["noise"] < 0.1
    assert weights["wrong"] == 0.0

    def spearman(values: np.ndarray) -> float:
        return float(np.corrcoef(values.argsort().argsort(), np.arange(200))[0, 1])

    found = spearman(rules.agreement(scores, [0]).numpy())
    assert found > spearman(rules.log_rank(scores).numpy()) + 0.1
    assert found > spearman(np.array(table["anchor"])) + 0.05


def slow_roles(
    table: Table, anchors: tuple[int, ...], beside_them: tuple[int, ...], adjusted: dict[int, float]
) -> list[float]:
    """With NumPy's least squares and correlations."""
    n = len(table)
    ranks = {member: [rank(column, i) for i in range(n)] for member, column in enumerate(columns(table))}
    by_agreement = slow_agreement_weights(table, anchors)
    explain = np.column_stack([*(ranks[anchor] for anchor in anchors), np.ones(n)])

    def beside(ranking: list[float]) -> list[float]:
        left = np.array(ranking) - explain @ np.linalg.lstsq(explain, np.array(ranking), rcond=None)[0]
        values = [round(value, 6) for value in left]
        return [rank(values, i) for i in range(n)]

    others = [member for member in ranks if member not in adjusted and member not in beside_them]
    total = np.sum([by_agreement[member] * np.log(np.array(ranks[member]) / n) for member in others], 0)
    together = [round(value, 9) for value in total]
    rest = beside([rank(together, i) for i in range(n)])
    for member in beside_them:
        own = beside(ranks[member])
        r = float(np.corrcoef(own, rest)[0, 1]) if len(set(rest)) > 1 and len(set(own)) > 1 else 0.0
        total = total + 3 * max(0.0, r) * np.log(np.array(ranks[member]) / n)
    for member, weight in adjusted.items():
        total = total + weight * np.log(np.array(beside(ranks[member])) / n)
    return list(total)


ROLES: list[tuple[tuple[int, ...], tuple[int, ...], dict[int, float]]] = [
    ((0,), (), {1: 0.5}),
    ((0,), (2,), {}),
    ((1, 3), (2,), {0: 0.25}),
    ((0, 2), (3, 4), {1: 1.5}),
]


@pytest.mark.parametrize(("anchors", "beside", "adjusted"), ROLES)
@pytest.mark.parametrize("seed", range(6))
def test_members_beside_and_adjusted(
    seed: int, anchors: tuple[int, ...], beside: tuple[int, ...], adjusted: dict[int, float]
) -> None:
    table = some_table(seed, 30, 5)
    scores = torch.tensor(table, dtype=torch.float64)
    found = rules.agreement(scores, anchors, beside, adjusted).tolist()
    assert found == pytest.approx(slow_roles(table, anchors, beside, adjusted), rel=1e-9, abs=1e-9)
    # In another order of candidates and members, to the last bit.
    rng = random.Random(seed)
    rows, members = rng.sample(range(30), 30), rng.sample(range(5), 5)
    turned = {members.index(one): weight for one, weight in adjusted.items()}
    places = [[members.index(one) for one in some] for some in (anchors, beside)]
    again = rules.agreement(scores[rows][:, members], *places, turned).tolist()
    assert again == [found[row] for row in rows]


def test_two_anchors_that_rank_alike_are_one() -> None:
    table = [[a, 2 * a, b] for a, b in zip(range(20), random.Random(0).sample(range(20), 20), strict=True)]
    scores = torch.tensor(table, dtype=torch.float64)
    both = rules.rank_beside(rules.doubled_ranks(scores[:, 2]), rules.rank_table(scores[:, :2]))
    one = rules.rank_beside(rules.doubled_ranks(scores[:, 2]), rules.rank_table(scores[:, :1]))
    assert both.tolist() == one.tolist()


def test_what_is_better_at_its_size_is_seen_only_when_adjusted() -> None:
    """Quality that falls with size: plainly ranked it goes against size, and has no say; adjusted it decides."""
    rng = random.Random(0)
    size = [rng.gauss(0, 1) for _ in range(300)]
    quality = [rng.gauss(0, 1) for _ in size]
    truth = np.array([a + b for a, b in zip(size, quality, strict=True)])
    table = {"params": size, "proxy": [b - 1.5 * a for a, b in zip(size, quality, strict=True)]}
    scores = torch.tensor(list(zip(*table.values(), strict=True)), dtype=torch.float64)

    def correlation(values: torch.Tensor) -> float:
        return float(np.corrcoef(values.numpy().argsort().argsort(), truth.argsort().argsort())[0, 1])

    plain, adjusted = correlation(rules.agreement(scores, [0])), correlation(rules.agreement(scores, [0], (), {1: 1.0}))
    assert plain < 0.75
    assert adjusted > 0.85


def test_members_that_all_contradict_each_other_count_alike() -> None:
    scores = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], dtype=torch.float64)
    assert rules.agreement_weights(scores) == [1.0, 1.0]
    assert rules.agreement_weights(scores, [1]) == [0.0, 1.0]
    assert rules.agreement_weights(scores[:1]) == [1.0, 1.0]


def test_weights_of_a_vote_by_name() -> None:
    table = {"wrcor": [1.0, 2.0, 3.0, 4.0], "params": [1.0, 2.0, 4.0, 3.0], "macs": [4.0, 3.0, 2.0, 1.0]}
    weights = Vote(list(table), "agreement", anchors=["params"]).weights(table)
    assert weights == {"wrcor": pytest.approx(2 * 0.8**2), "params": 1.0, "macs": 0.0}
    assert Vote(list(table)).weights(table) == dict.fromkeys(table, 1.0)
    assert Vote(list(table), "agreement").weights({name: [] for name in table}) == dict.fromkeys(table, 1.0)


def test_anchors_are_members() -> None:
    with pytest.raises(ValueError, match=r"anchor .depth. is no member of the vote\. Members: wrcor, params"):
        Vote(["wrcor", "params"], "agreement", anchors=["depth"])
    made = Vote(["wrcor", "params"], "agreement", anchors=["params"])
    assert get_proxy(made.config()).anchors == ["params"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="copeland knows no anchors"):
        Vote(["wrcor", "params"], anchors=["params"])


def test_a_member_beside_is_trusted_as_far_as_it_agrees_at_one_size() -> None:
    rng = random.Random(0)
    size, quality = ([rng.gauss(0, 1) for _ in range(300)] for _ in range(2))
    table = {
        "params": size,
        "follows": [a + b for a, b in zip(size, quality, strict=True)],
        "agrees": [b - 2 * a for a, b in zip(size, quality, strict=True)],
        "noise": [a + rng.gauss(0, 1) for a in size],
        "contradicts": [a - b for a, b in zip(size, quality, strict=True)],
    }
    scores = torch.tensor(list(zip(*table.values(), strict=True)), dtype=torch.float64)
    weights = rules.agreement_weights(scores, [0], [2, 3, 4])
    assert weights[0] == 1.0
    assert 2.7 < weights[2] <= 3.0
    assert weights[3] < 0.45
    assert weights[4] == 0.0


def test_who_can_be_beside_and_adjusted() -> None:
    members = ["wrcor", "params", "macs", "depth"]
    made = Vote(members, "agreement", anchors=["params"], beside=["depth"], adjusted={"macs": 0.5})
    again = get_proxy(made.config())
    assert isinstance(again, Vote)
    assert (again.anchors, again.beside, again.adjusted) == (["params"], ["depth"], {"macs": 0.5})
    table = {"wrcor": [1.0, 2.0, 3.0, 4.0], "params": [1.0, 2.0, 4.0, 3.0], "macs": [4.0, 3.0, 2.0, 1.0]}
    weights = made.weights({**table, "depth": table["wrcor"]})
    assert weights == {"wrcor": pytest.approx(2 * 0.8**2), "params": 1.0, "macs": 0.5, "depth": pytest.approx(3.0)}
    for wrong, message in (
        (
            {"adjusted": {"macs": 1.0}, "anchors": ()},
            r"adjusted for them \(beside=\(\), adjusted=\{'macs': 1.0\}\), and the",
        ),
        ({"adjusted": {"naswot": 1.0}}, r"'naswot' is beside the anchors, or adjusted for them, but no member"),
        ({"beside": ["params"]}, r"'params' is an anchor, beside the anchors, or adjusted for them; only one"),
        ({"beside": ["macs"], "adjusted": {"macs": 1.0}}, "'macs' is an anchor, beside the anchors, or adjusted"),
        ({"adjusted": {"macs": -1.0}}, r"'macs' counts -1\.0; that is a number from 0 on"),
        ({"adjusted": {"macs": "half"}}, r"'macs' counts 'half'; that is a number from 0 on"),
        ({"adjusted": ["macs"]}, r"adjusted says how much each member counts, \{name: number\}; got \['macs'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            Vote(members, "agreement", **{"anchors": ["params"], **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RANKS)
def test_scales_make_no_difference(rule: str) -> None:
    table = some_table(7, 40, 3)
    changes: list[Callable[[float], float]] = [lambda x: 3 * x - 7, lambda x: x**3, lambda x: math.exp(x / 10)]

    def changed(row: list[float]) -> list[float]:
        return [f(x) if math.isfinite(x) else x for f, x in zip(changes, row, strict=True)]

    assert values(rule, list(map(changed, table))) == values(rule, table)


def test_the_z_score_does_not_know_units() -> None:
    table = some_table(7, 40, 3)
    moved = [[1e150 * a, b + 1000, c / 1e9] for a, b, c in table]
    assert values("z_score", moved) == pytest.approx(values("z_score", table), abs=1e-9)


@pytest.mark.parametrize("rule", ALL)
def test_a_constant_member_says_nothing(rule: str) -> None:
    table = [[value, 0.1] for value in (3.0, 1.0, 2.0, 2.5, 9.0)]
    order = sorted(range(5), key=lambda i: values(rule, table)[i])
    assert order == [1, 2, 3, 0, 4]
    if rule == "z_score":
        assert values(rule, table) == values(rule, [row[:1] for row in table])


# ---- networks without a value


@pytest.mark.parametrize("rule", ALL)
@pytest.mark.parametrize("nothing", [-math.inf, math.nan])
def test_what_is_not_finite_is_last_and_never_a_tie(rule: str, nothing: float) -> None:
    # All alike in the other member; the least finite value there can be still stands before none.
    table = [[nothing, 1.0], [-1e308, 1.0], [5.0, 1.0], [-math.inf, 1.0]]
    found = values(rule, table)
    assert found[0] == found[3] < found[1] < found[2]
    constant = values(rule, [[4.0, 1.0], [nothing, 1.0], [4.0, 1.0]])
    assert constant[1] < constant[0] == constant[2]


@pytest.mark.parametrize("rule", ALL)
def test_dead_for_all_members_is_dead(rule: str) -> None:
    table = {"wrcor": [1.0, -math.inf, math.nan, -math.inf], "params": [2, 1, math.nan, -math.inf]}
    found = Vote(["wrcor", "params"], rule).combine(table)
    assert found[2:] == [-math.inf, -math.inf]
    assert math.isfinite(found[1])
    assert found[0] > found[1]
    assert Vote(["wrcor", "params"], rule).combine({"wrcor": [math.nan], "params": [math.nan]}) == [-math.inf]


def test_one_candidate_and_none() -> None:
    one = {rule: Vote(["wrcor", "params"], rule).combine({"wrcor": [7.0], "params": [1]}) for rule in ALL}
    assert one == {"copeland": [1.0], "borda": [1.0], "log_rank": [0.0], "agreement": [0.0], "z_score": [0.0]}
    assert all(Vote(["wrcor", "params"], rule).combine({"wrcor": [], "params": []}) == [] for rule in ALL)


# ---- candidates that arrive one group after another


@pytest.mark.parametrize("rule", ALL)
def test_groups_give_what_the_whole_table_gives(rule: str) -> None:
    table = some_table(2, 50, 3)
    whole = vote(rule, 3)
    tally = Tally(whole)
    assert tally.values() == []
    for first, last in itertools.pairwise([0, 1, 1, 8, 30, 31, 50]):
        tally.add(by_name(table[first:last]) or NOBODY)
        if first == 8:
            tally.add(NOBODY)
            assert tally.values() == tally.values()
        assert tally.values() == whole.combine(by_name(table[:last]))
    late = Tally(whole)
    late.add(by_name(table[:20]))
    late.add(by_name(table[20:]))
    assert late.values() == whole.combine(by_name(table))


def test_known_pairs_are_not_compared_again() -> None:
    ranks = rules.rank_table(torch.tensor(some_table(1, 25, 3), dtype=torch.float64))
    old = torch.cat([rules.wins_minus_losses(ranks[:15]), torch.zeros(10, dtype=torch.int64)])
    assert torch.equal(old + rules.wins_minus_losses(ranks, first=15), rules.wins_minus_losses(ranks))
    assert not rules.wins_minus_losses(ranks, first=25).any()


def test_the_default_device_makes_no_difference() -> None:
    table = by_name(some_table(2, 20, 3))
    for rule in ALL:
        with torch.device("meta"):
            found = vote(rule, 3).combine(table)
        assert found == vote(rule, 3).combine(table)


def test_other_columns_are_left_aside() -> None:
    table = by_name(some_table(2, 20, 5))
    assert vote("copeland", 2).combine(table) == vote("copeland", 2).combine({name: table[name] for name in NAMES[:2]})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"params": [1.0], "macs": [2.0]}, r"The vote 'vote' needs values of 'wrcor'; those there are: params, macs\."),
        ({}, r"needs values of 'wrcor'; those there are: none\."),
        (
            {"wrcor": [1.0, 2.0], "params": [1.0]},
            r"one value for each candidate; got the shapes wrcor \(2,\), params \(1,\)",
        ),
        ({"wrcor": [[1.0]], "params": [[1.0]]}, r"got the shapes wrcor \(1, 1\)"),
        ({"wrcor": [1.0], "params": [math.inf]}, r"A value of 'params' is \+inf, which ranks nothing"),
    ],
)
def test_tables_that_cannot_be_counted(table: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vote(["wrcor", "params"]).combine(table)


# ---- the form of a vote


class Own(Proxy):
    """A user's own, with a setting."""

    name = "own"

    def __init__(self, power: int = 1) -> None:
        self.power = power

    def measure(self, context: Context) -> float:
        return float(context.costs.params**self.power)


def test_from_plain_values_and_back() -> None:
    given = Vote(["rcor", {"class_path": "wrcor", "init_args": {"depth_normalised": True}}, Own(2)], "log_rank", "mine")
    assert given.name == "mine"
    assert given.names == ["rcor", "wrcor", "own"]
    config = json.loads(json.dumps(given.config()))
    again = get_proxy({**config, "class_path": "lightning_wrcor.proxies.votes.Vote"})
    assert isinstance(again, Vote)
    assert again.config() == given.config()
    assert (again.rule, again.name) == ("log_rank", "mine")
    assert again.proxies[1].depth_normalised is True  # type: ignore[attr-defined]
    assert again.proxies[2].power == 2  # type: ignore[attr-defined]
    copied = pickle.loads(pickle.dumps(given))  # noqa: S301  (our own)
    assert copied.config() == given.config()
    assert copied.name == "mine"
    assert Vote(["wrcor", "params"]).name == Vote.name == "vote"
    assert get_proxy(given) is given
    assert "rule='log_rank'" in repr(given)


def test_members_in_any_form() -> None:
    for members in (["wrcor", "params"], ("wrcor", Params()), [{"class_path": "WRCor"}, "params"], [WRCor(), Params()]):
        assert Vote(members).names == ["wrcor", "params"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": ["wrcor"]}, r"at least two members; got wrcor\."),
        ({"members": []}, r"at least two members; got none\."),
        ({"members": "wrcor"}, r"a list of at least two proxies; got 'wrcor'\."),
        ({"members": ["wrcor", "WRCor"]}, r"Two members of the vote have the name 'wrcor'\. Leave one out\."),
        ({"members": ["wrcor", Vote(["rcor", "acor"])]}, r"'vote' is a vote itself; name its members instead\."),
        ({"members": ["wrcor", "parms"]}, r"no proxy named 'parms'\. Proxies, closest first: params"),
        ({"members": ["wrcor", "params"], "rule": "log-rank"}, r"no rule 'log-rank' .*closest first: log_rank, "),
    ],
)
def test_votes_that_are_none(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vote(**arguments)


def test_a_single_network_has_no_value() -> None:
    expected = r"The vote 'vote' ranks a set of networks, .* its members \(wrcor, params\) instead\."
    with pytest.raises(ValueError, match=expected):
        score(Functions(), images_and_labels(), Vote(["wrcor", "params"]))


@pytest.mark.parametrize(
    ("cls", "name", "rule", "members"),
    [
        (SJW, "sjw", "copeland", ["synflow", "jacob_cor", "wrcor"]),
        (SPW, "spw", "copeland", ["synflow", "pnorm", "wrcor"]),
        (AZNAS, "az_nas", "log_rank", ["az_expressivity", "az_progressivity", "az_trainability", "macs"]),
        (
            VKDNWAggregate,
            "vkdnw_aggregate",
            "log_rank",
            ["vkdnw", "jacob_cor", "az_expressivity", "az_trainability", "macs"],
        ),
        (TENAS, "tenas", "borda", ["ntk", "linear_regions"]),
        (
            Consensus,
            "consensus",
            "agreement",
            [
                *("params", "macs"),
                *("naswot", "synflow", "jacob_cor", "common_activations", "common_gradients"),
                *("block_entropy", "az_trainability", "gradient_density", "gradient_reach"),
            ],
        ),
    ],
)
def test_the_votes_of_papers(cls: Any, name: str, rule: str, members: list[str]) -> None:
    made = cls()
    assert (made.name, cls.name, made.rule, list(made.members)) == (name, name, rule, members)
    assert made.config()["init_args"] == {"rule": rule}
    assert get_proxy(made.config()).config() == made.config()
    assert cls(rule="z_score").config()["init_args"] == {"rule": "z_score"}
    with pytest.raises(ValueError, match="no rule 'best'"):
        cls(rule="best")
    with pytest.raises(TypeError):
        cls(members=["wrcor", "params"])
    assert made.names == members, "all of them are known"
