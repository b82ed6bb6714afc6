"""NSGA-II: sorting against brute force, crowding by hand, and fronts better than those of random search."""

from __future__ import annotations

import math
import random
import statistics
from itertools import pairwise

import pytest
from strategy_toys import Cells, cell_table, evaluation, sign_test, table_search

from lightning_wrcor.search import NSGA2, Evaluation, RandomSearch
from lightning_wrcor.search.strategies.nsga2 import crowding_distances, non_dominated_fronts
from lightning_wrcor.spaces import Genotype


@pytest.mark.parametrize("measures", [1, 2, 3])
def test_fronts_against_brute_force(measures: int) -> None:
    rng = random.Random(measures)
    for size in (0, 1, 2, 30):
        for span in (3, 1000):  # few values: ties and equal points
            points = [tuple(float(rng.randrange(span)) for _ in range(measures)) for _ in range(size)]
            expected, left = [], list(range(size))
            while left:
                front = [
                    one
                    for one in left
                    if not any(
                        max(b - a for a, b in zip(points[one], points[other], strict=True)) <= 0
                        and min(b - a for a, b in zip(points[one], points[other], strict=True)) < 0
                        for other in left
                    )
                ]
                expected.append(front)
                left = [one for one in left if one not in front]
            assert non_dominated_fronts(points) == expected


def test_crowding_by_hand() -> None:
    points = [(0.0, 10.0), (5.0, 2.0), (1.0, 6.0), (10.0, 0.0)]
    # Of (1, 6): (5 - 0) / 10 + (10 - 2) / 10; of (5, 2): (10 - 1) / 10 + (6 - 0) / 10.
    assert crowding_distances(points) == pytest.approx([math.inf, 1.5, 1.3, math.inf])
    assert crowding_distances([(1.0, 1.0)]) == [math.inf]
    assert crowding_distances([(1.0, 1.0)] * 3) == [math.inf, 0.0, math.inf]
    assert crowding_distances([]) == []


def named(score: float, macs: int) -> Evaluation:
    return evaluation(score, f"{score}:{macs}", macs=macs)


def test_the_next_population_by_hand() -> None:
    strategy = NSGA2(population=4)
    strategy.start(Cells(), 0)
    rows = [named(1, 1), named(4, 9), named(2, 3), named(3, 8), named(0, 9), named(-math.inf, 0), named(math.nan, 0)]
    strategy.tell(rows)
    # The front, ends first, then (2, 3), which is farther from its neighbours: 2/3 + 7/8 against 2/3 + 6/8.
    assert [(row.score, row.macs) for row in strategy._members] == [(1, 1), (4, 9), (2, 3), (3, 8)]
    strategy.tell([named(5, 1)])
    assert strategy._members[0].score == 5, "it beats all others"
    strategy.tell([named(-math.inf, 0)] * 9)
    assert all(row.status == "ok" for row in strategy._members)


def test_scores_are_read_when_they_are_needed() -> None:
    strategy = NSGA2(population=2)
    strategy.start(Cells(), 0)
    rows = [named(1, 5), named(2, 5), named(3, 5)]
    strategy.tell(rows[:2])
    rows[0].score = 9.0  # as a vote may change it
    strategy.tell(rows[2:])
    assert strategy._members == [rows[0], rows[2]]


def test_parents_win_binary_tournaments() -> None:
    strategy = NSGA2(population=3)
    strategy.start(Cells(), 0)
    strategy.tell([named(3, 1), named(2, 2), named(1, 3)])  # three fronts
    wins = [strategy._parent().score for _ in range(9000)]
    assert [abs(wins.count(score) - expected) < 250 for score, expected in ((3, 5000), (2, 3000), (1, 1000))] == [
        True
    ] * 3


def test_a_child_mixes_its_parents_and_changes_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = NSGA2(population=2, crossover=1.0)
    strategy.start(Cells(), 0)
    parents: list[Genotype] = [("none",) * 6, ("skip_connect",) * 6]
    strategy.tell([evaluation(float(place), parent, macs=place) for place, parent in enumerate(parents)])
    monkeypatch.setattr(strategy, "_mutated", lambda genotype: genotype)
    children = {strategy._propose() for _ in range(2000)}
    assert len(children) == 2**6, "all mixtures"
    monkeypatch.undo()
    strategy.crossover = 0.0
    for _ in range(100):
        child = strategy._propose()
        assert min(sum(a != b for a, b in zip(child, parent, strict=True)) for parent in parents) == 1  # type: ignore[arg-type]


def hypervolume(front: list[Evaluation], cost: str, most: float, lowest: float) -> float:
    """The area between a front and the corner of the lowest score at the highest cost."""
    steps = [(getattr(row, cost), row.score) for row in front] + [(most, 0.0)]
    return sum((right - left) * (score - lowest) for (left, score), (right, _) in pairwise(steps))


@pytest.mark.parametrize("cost", ["macs", "depth"])
def test_the_front_is_better_than_that_of_random_search(monkeypatch: pytest.MonkeyPatch, cost: str) -> None:
    table = cell_table(0)
    search = table_search(monkeypatch, lambda genotype: table[genotype])
    volumes: dict[str, list[float]] = {"random": [], "nsga2": []}
    for seed in range(12):
        for name, strategy in (("random", RandomSearch()), ("nsga2", NSGA2(costs=cost, population=20))):
            front = search(Cells(), strategy, 200, seed=seed).pareto(cost)  # type: ignore[arg-type]
            volumes[name].append(
                hypervolume(front, cost, {"macs": 865, "params": 54, "depth": 6}[cost], min(table.values()))
            )
    assert statistics.median(volumes["nsga2"]) > statistics.median(volumes["random"])
    assert sign_test(volumes["random"], volumes["nsga2"]) < 0.01


def test_several_costs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    search = table_search(monkeypatch, cell_table(0).__getitem__)
    result = search(Cells(), NSGA2(costs=["params", "depth"], population=10), 60)
    assert len(result.history) == 60
    assert result.strategy["init_args"]["costs"] == ["params", "depth"]
