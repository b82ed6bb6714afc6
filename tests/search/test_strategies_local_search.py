"""Local search by hand: where it climbs, when it starts again."""

from __future__ import annotations

import math

import pytest
from search_toys import Widths
from strategy_toys import Cells, cell_table, evaluation, table_search

from lightning_wrcor.search import LocalSearch
from lightning_wrcor.spaces import Genotype


def neighbours(cell: Genotype) -> set[Genotype]:
    assert isinstance(cell, tuple)
    places = Cells().places()
    return {
        (*cell[:place], option, *cell[place + 1 :])
        for place, options in enumerate(places)
        for option in options
        if option != cell[place]
    }


def test_all_neighbours_are_seen_before_it_moves_to_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    table = cell_table(0)
    result = table_search(monkeypatch, table.__getitem__)(Cells(), LocalSearch(starts=5, children=4), 200)
    cells = [row.genotype for row in result.history]
    here, place = max(cells[:5], key=table.__getitem__), 5
    for _ in range(3):
        unseen = neighbours(here) - set(cells[:place])
        assert set(cells[place : place + len(unseen)]) == unseen
        place += len(unseen)
        best = max(neighbours(here), key=table.__getitem__)
        assert table[best] > table[here], "this climb is longer than what is checked here"
        here = best


def test_a_climb_ends_on_a_top_and_the_next_begins_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    target = ("skip_connect",) * 6

    def score(cell: Genotype) -> float:
        return -float(sum(a != b for a, b in zip(cell, target, strict=True)))  # type: ignore[arg-type]

    result = table_search(monkeypatch, score)(Cells(), LocalSearch(starts=3, children=100), 400)
    cells = [row.genotype for row in result.history]
    top = cells.index(target)
    end = max(cells.index(cell) for cell in neighbours(target))
    assert top < end
    rest = [cell for cell in cells[end + 1 : end + 4] if cell not in neighbours(target)]
    assert len(rest) == 3
    assert max(map(score, rest)) < -1, "these were drawn, and are near nothing"


def test_eager_moves_with_the_first_generation_that_is_better() -> None:
    strategy = LocalSearch(starts=1, children=2, eager=True)
    strategy.start(Cells(), 0)
    (first,) = strategy.ask(1)
    strategy.tell([evaluation(0.0, first)])
    pair = strategy.ask(strategy.generation)
    assert len(pair) == 2
    rows = [evaluation(score, cell) for score, cell in zip((1.0, 2.0), pair, strict=True)]
    for row in rows:
        row.key = Cells().key(row.genotype)
    strategy.tell(rows)
    assert strategy._here is rows[1]
    assert set(strategy.ask(2)) <= neighbours(pair[1])


def test_a_part_of_the_neighbours() -> None:
    strategy = LocalSearch(starts=1, neighbours=7, children=100)
    strategy.start(Cells(), 0)
    (first,) = strategy.ask(1)
    row = evaluation(0.0, first)
    row.key = Cells().key(first)
    strategy.tell([row])
    assert strategy.generation == 7
    assert set(strategy.ask(7)) <= neighbours(first)


def test_plateaus_and_the_dead_are_not_climbed(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (-math.inf, 1.0):
        strategy = LocalSearch(starts=1, children=100)
        strategy.start(Widths(5), 0)
        (first,) = strategy.ask(1)
        row = evaluation(value, first)
        row.key = Widths().key(first)
        strategy.tell([row])
        rows = [evaluation(value, genotype) for genotype in strategy.ask(4)]
        for one in rows:
            one.key = Widths().key(one.genotype)
        strategy.tell(rows)
        assert strategy._here is None, "nothing is better: the climb is over"
