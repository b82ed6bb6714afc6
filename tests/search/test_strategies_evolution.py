"""Regularised evolution by hand: who joins, who dies, who has children."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from search_toys import Endless
from strategy_toys import Cells, evaluation, table_search

from lightning_wrcor.search import RandomSearch, RegularisedEvolution
from lightning_wrcor.spaces import Genotype


def begun(scores: list[float], **settings: int) -> RegularisedEvolution:
    strategy = RegularisedEvolution(population=len(scores), **settings)
    strategy.start(Endless(1000), 0)
    strategy.tell([evaluation(score, (0, place + 1)) for place, score in enumerate(scores)])
    return strategy


def members(strategy: RegularisedEvolution) -> list[float]:
    return [row.score for row in strategy._members]


def test_the_oldest_dies_and_not_the_worst() -> None:
    strategy = begun([9.0, 1.0, 5.0])
    strategy.tell([evaluation(2.0)])
    assert members(strategy) == [1.0, 5.0, 2.0], "the best was the oldest"
    strategy.tell([evaluation(-math.inf), evaluation(math.nan)])
    assert members(strategy)[:2] == [2.0, -math.inf], "the dead join, and age, as others do"


def test_the_first_population_is_that_of_random_search_and_one_generation() -> None:
    strategy, draws = RegularisedEvolution(population=30, children=5), RandomSearch()
    for one in (strategy, draws):
        one.start(Cells(), 3)
    assert strategy.generation == 30
    assert strategy.ask(30) == draws.ask(30)
    strategy.tell([evaluation(0.0)] * 20)
    assert strategy.generation == 10
    strategy.tell([evaluation(0.0)] * 10)
    assert strategy.generation == 5


def test_children_are_one_change_away_from_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    search = table_search(monkeypatch, lambda genotype: float(genotype.count("nor_conv_3x3")))  # type: ignore[union-attr, arg-type]
    result = search(Cells(), RegularisedEvolution(population=10, children=1), 60)
    genotypes = [row.genotype for row in result.history]
    for place in range(10, 60):
        population = genotypes[place - 10 : place]
        assert min(sum(a != b for a, b in zip(genotypes[place], one, strict=True)) for one in population) == 1


def test_a_tournament_draws_with_replacement_and_the_best_wins() -> None:
    strategy = begun([3.0, 1.0, 2.0, math.nan], tournament=2)
    wins = Counter(str(strategy._winner().score) for _ in range(16_000))
    # Of 16 ordered pairs with replacement the best wins 7, the next 5, the next 3, and the failed one only its own.
    expected = {"3.0": 7000, "2.0": 5000, "1.0": 3000, "nan": 1000}
    assert all(abs(wins[name] - count) < 300 for name, count in expected.items()), wins
    alone = begun([3.0, 1.0], tournament=1)
    assert 900 < sum(alone._winner().score == 1.0 for _ in range(2000)) < 1100


def test_a_tournament_reads_scores_when_it_needs_them() -> None:
    strategy = begun([1.0, 2.0, 3.0], tournament=50)
    first, _, last = strategy._members
    first.score, last.score = 3.0, 1.0  # as a vote may change them
    assert strategy._winner() is first


def test_a_genotype_that_cannot_change_gives_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Endless, genotype: Genotype, rng: object) -> Genotype:
        raise ValueError("nothing else is one change away")

    strategy = begun([1.0, 2.0])
    monkeypatch.setattr(Endless, "mutate", refuse)
    assert len(strategy.ask(3)) == 3, "a random draw stands in for it"
