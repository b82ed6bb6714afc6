"""Strategies alone: who is proposed, and when there are no more."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from search_toys import Endless, Widths

from lightning_wrcor.search import ExhaustiveSearch, RandomSearch, Strategy, get_strategy, list_strategies
from lightning_wrcor.search.strategies import simple
from lightning_wrcor.spaces import NASBench201, NetworkList


def all_of(strategy: Strategy, n: int = 5) -> list[Any]:
    asked = []
    while more := strategy.ask(n):
        assert len(more) <= n
        asked += more
    return asked


def started(strategy: Strategy, space: Any, seed: int = 0) -> Strategy:
    strategy.start(space, seed)
    return strategy


def test_random_search_of_a_finite_space_proposes_each_once() -> None:
    strategy = started(RandomSearch(), Widths(23))
    asked = all_of(strategy)
    assert sorted(asked) == sorted(Widths(23))
    assert asked != list(Widths(23))
    assert strategy.total == 23
    assert all_of(started(RandomSearch(), Widths(23))) == asked
    assert all_of(started(RandomSearch(), Widths(23)), n=7) == asked, "however many are asked for at a time"
    assert all_of(started(RandomSearch(), Widths(23), seed=1)) != asked
    strategy.start(Widths(23), 0)
    assert all_of(strategy) == asked, "a strategy can be started again"


def test_random_search_of_an_endless_space_draws_uniformly() -> None:
    strategy = started(RandomSearch(), Endless(5))
    assert strategy.total is None
    counts = Counter(genotype[1] for genotype in strategy.ask(5000))
    assert set(counts) == {1, 2, 3, 4, 5}
    assert max(abs(count - 1000) for count in counts.values()) < 150  # five standard deviations


def test_random_search_of_a_huge_space_does_not_list_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple, "ENUMERABLE", 10)
    strategy = started(RandomSearch(), Widths(11))
    assert strategy.total is None
    assert len(strategy.ask(30)) == 30
    assert started(RandomSearch(), Widths(10)).total == 10


def test_global_random_numbers_make_no_difference() -> None:
    random.seed(1)
    first = started(RandomSearch(), NASBench201()).ask(3)
    random.seed(2)
    assert started(RandomSearch(), NASBench201()).ask(3) == first


def test_exhaustive_search_proposes_all_in_their_order() -> None:
    space = NetworkList(["resnet18", "resnet34", "test_vit"])
    strategy = started(ExhaustiveSearch(), space)
    assert strategy.total == 3
    assert strategy.default_budget is None
    assert all_of(strategy, n=2) == ["resnet18", "resnet34", "test_vit"]
    assert strategy.ask(2) == []
    with pytest.raises(ValueError, match="Endless cannot be enumerated; use strategy='random' with a budget"):
        started(ExhaustiveSearch(), Endless())


def test_strategies_by_name() -> None:
    assert list_strategies() == ["evolution", "exhaustive", "local_search", "nsga2", "random", "reinforce"]
    assert isinstance(get_strategy("Random"), RandomSearch)
    strategy = get_strategy("exhaustive")
    assert get_strategy(strategy) is strategy
    assert isinstance(get_strategy(strategy.config()), ExhaustiveSearch)
    assert strategy.config() == {"class_path": "lightning_wrcor.search.ExhaustiveSearch", "init_args": {}}
    with pytest.raises(ValueError, match=r"no strategy named 'exhausting'\. Strategies, closest first: exhaustive, "):
        get_strategy("exhausting")
    with pytest.raises(TypeError, match="Strategy is not a complete strategy: it does not define ask, start"):
        get_strategy("lightning_wrcor.search.Strategy")
