"""What every strategy that learns must do: beat random search, propose nothing twice, and be the same everywhere."""

from __future__ import annotations

import math
import random
import statistics
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_toys import Endless, Team, Widths
from strategy_toys import Cells, cell_table, evaluation, names, sign_test, table_search

from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies import Depth, MACs, Params, Vote
from lightning_wrcor.search import (
    NSGA2,
    LocalSearch,
    RandomSearch,
    RegularisedEvolution,
    Reinforce,
    Strategy,
    get_strategy,
)
from lightning_wrcor.spaces import DARTS, ChoiceSpace, Genotype, NASBench101, NetworkList, Space, get_space

Make = Callable[[], Strategy]

LEARNERS: dict[str, Make] = {
    "evolution": lambda: RegularisedEvolution(population=16, tournament=4, children=4),
    "reinforce": lambda: Reinforce(learning_rate=0.1, first=16, draws=4),
    "local_search": lambda: LocalSearch(starts=4, children=4),
    "local_search, eager": lambda: LocalSearch(starts=4, children=4, eager=True, neighbours=6),
    "nsga2": lambda: NSGA2(population=8),
}
every = pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS)


@pytest.fixture(scope="module")
def tables() -> list[dict[Genotype, float]]:
    return [cell_table(seed) for seed in range(4)]


@pytest.mark.parametrize(
    "make",
    [RegularisedEvolution, lambda: Reinforce(learning_rate=0.05), LocalSearch, lambda: LocalSearch(eager=True)],
    ids=["evolution", "reinforce", "local_search", "eager"],
)
def test_learning_beats_random_search(
    monkeypatch: pytest.MonkeyPatch, tables: list[dict[Genotype, float]], make: Make
) -> None:
    # 20 seeds at a budget of 200 of 15,625; the sign test leaves out pairs in which both find the same.
    table: dict[Genotype, float] = {}
    search = table_search(monkeypatch, lambda genotype: table[genotype])
    regrets: dict[str, list[float]] = {"random": [], "learning": []}
    for seed in range(20):
        table = tables[seed % 4]
        best = max(table.values())
        result = search(Cells(), make(), 200, seed=seed)
        assert len(result.history) == 200
        draws = RandomSearch()
        draws.start(Cells(), seed)
        regrets["learning"].append(best - result.best.score)
        regrets["random"].append(best - max(table[cell] for cell in draws.ask(200)))
    assert statistics.median(regrets["learning"]) < statistics.median(regrets["random"])
    assert sign_test(regrets["learning"], regrets["random"]) < 0.01


@every
def test_no_network_is_scored_twice_and_the_seed_decides(
    monkeypatch: pytest.MonkeyPatch, tables: list[dict[Genotype, float]], make: Make
) -> None:
    search = table_search(monkeypatch, tables[0].__getitem__)
    strategy = make()
    result = search(Cells(), strategy, 120)
    assert len(set(names(result))) == 120
    assert names(search(Cells(), make(), 120)) == names(result)
    assert names(search(Cells(), strategy, 120)) == names(result), "a strategy can be used again"
    random.seed(99)
    assert names(search(Cells(), get_strategy(strategy.config()), 120)) == names(result)
    assert names(search(Cells(), make(), 120, seed=1)) != names(result)
    assert names(search(Cells(), make(), 60)) == names(result)[:60], "what is proposed does not depend on the budget"


@every
def test_any_number_of_processes_proposes_the_same(
    monkeypatch: pytest.MonkeyPatch, tables: list[dict[Genotype, float]], make: Make
) -> None:
    search = table_search(monkeypatch, tables[0].__getitem__)
    alone = search(Cells(), make(), 70)
    for size in (2, 3):
        for outcome in Team(size).run(lambda ranks: search(Cells(), make(), 70, ranks=ranks)):
            assert names(outcome) == names(alone)


@every
@pytest.mark.parametrize("rule", [None, "copeland"])
def test_a_journal_goes_on_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tables: list[dict[Genotype, float]], make: Make, rule: Any
) -> None:
    """Also where a vote ranks, so that every score changes with each generation."""
    search = table_search(monkeypatch, tables[0].__getitem__)
    proxy = Params() if rule is None else Vote([Params(), MACs(), Depth()], rule=rule)
    whole = search(Cells(), make(), 90, proxy=proxy)
    for budget in (37, 90):
        resumed = search(Cells(), make(), budget, proxy=proxy, journal=tmp_path / "journal.jsonl")
    assert resumed.funnel.resumed >= 36
    assert [(row.name, row.scores) for row in resumed.history] == [(row.name, row.scores) for row in whole.history]


@every
@pytest.mark.parametrize("copies", [1, 3])
def test_a_small_space_is_searched_to_its_end(monkeypatch: pytest.MonkeyPatch, make: Make, copies: int) -> None:
    search = table_search(monkeypatch, lambda genotype: float(genotype[1]))  # type: ignore[index, arg-type]
    result = search(Widths(40, copies), make(), 100)
    assert len(result.history) == 40
    assert result.notes == ["The search ended after 40 of 100 candidates: the space has no others."]


def test_an_endless_space_ends_where_nothing_new_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    search = table_search(monkeypatch, lambda genotype: float(genotype[1]))  # type: ignore[index, arg-type]
    for name, make in LEARNERS.items():
        if name != "reinforce":  # the space has no places
            result = search(Endless(30), make(), 100)
            assert len(result.history) == 30
            assert result.notes == [
                "The search ended after 30 of 100 candidates: 1000 in a row were rejected or repeated."
            ]


@every
def test_a_space_of_cells_is_searched_to_its_end(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    space = ChoiceSpace({name: [0, 1, 2] for name in "abcd"}, _nothing, valid=lambda a, b: a <= b)
    monkeypatch.setattr(ChoiceSpace, "costs", lambda *_: Cells().costs(("none",)))
    search = table_search(monkeypatch, lambda genotype: float(sum(genotype)))  # type: ignore[arg-type]
    result = search(space, make(), 200)
    assert len(result.history) == 6 * 9 == len(space)
    assert result.best.genotype == (2, 2, 2, 2)


def _nothing(**choices: int) -> Any:
    raise AssertionError(f"nothing is built here, but was asked for {choices}")


@every
def test_nothing_alive_is_a_random_search_that_ends(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    seen: list[Genotype] = []
    search = table_search(monkeypatch, lambda genotype: seen.append(genotype) or -math.inf)  # type: ignore[func-returns-value]
    with pytest.raises(Exception, match="None of 100 candidates got a finite score"):
        search(Cells(), make(), 100)
    assert len(set(seen)) == 100


@every
def test_dead_and_failed_candidates_are_the_worst(
    monkeypatch: pytest.MonkeyPatch, tables: list[dict[Genotype, float]], make: Make
) -> None:
    """A third of the cells is dead and some fail; what is alive has negative scores only."""

    def score(genotype: Genotype) -> float:
        assert isinstance(genotype, tuple)
        return {"none": -math.inf, "skip_connect": math.nan}.get(str(genotype[0]), tables[0][genotype] - 100)

    search = table_search(monkeypatch, score)
    first = search(Cells(), make(), 50).history[-34:]
    late = search(Cells(), make(), 250).history[-100:]
    alive = [sum(row.status == "ok" for row in rows) / len(rows) for rows in (first, late)]
    assert alive[1] > 0.6 + 0.1, f"two fifths of random cells are dead or failed; alive at last {alive}"
    assert search(Cells(), make(), 250).best.score > -100


@every
def test_constraints_that_reject_most(
    monkeypatch: pytest.MonkeyPatch, tables: list[dict[Genotype, float]], make: Make
) -> None:
    allowed = {cell for cell in Cells() if Cells().costs(cell).params <= 1}
    assert len(allowed) / len(Cells()) < 0.15
    search = table_search(monkeypatch, tables[1].__getitem__)
    result = search(Cells(), make(), 150, constraints={"max_params": 1})
    assert len(result.history) == 150
    assert {row.genotype for row in result.history} <= allowed


@every
def test_all_that_meets_the_constraints_is_found(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    search = table_search(monkeypatch, lambda genotype: float(genotype[1]))  # type: ignore[index, arg-type]
    monkeypatch.setattr(Widths, "costs", lambda self, genotype, *_: Costs(genotype[1], genotype[1], 1))
    result = search(Widths(300), make(), 100, constraints={"max_params": 21, "min_params": 2})
    assert sorted(row.params for row in result.history) == list(range(2, 22))


@every
@pytest.mark.parametrize("kind", ["nasbench201", "natsbench_size", "nasbench_macro", "darts", "enas", "mobilenet_v2"])
def test_the_spaces_of_the_package(monkeypatch: pytest.MonkeyPatch, make: Make, kind: str) -> None:
    space = get_space(kind)
    search = table_search(monkeypatch, lambda genotype: float(zlib.crc32(space.key(genotype).encode()) % 97))
    result = search(space, make(), 40)
    assert len({row.key for row in result.history}) == 40


@every
def test_spaces_without_places(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    search = table_search(monkeypatch, lambda genotype: float(str(genotype).count("1")))
    space = NASBench101()
    monkeypatch.setattr(NASBench101, "costs", lambda *_: Cells().costs(("none",)))
    if isinstance(make(), Reinforce):
        with pytest.raises(
            ValueError, match=r"genotypes of NASBench101 are not made of places .*use strategy='evolution'"
        ):
            search(space, make(), 40)
    else:
        assert len(search(space, make(), 40).history) == 40


def test_a_list_of_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    search = table_search(monkeypatch, lambda genotype: 1.0)
    monkeypatch.setattr(NetworkList, "costs", lambda *_: Cells().costs(("none",)))
    for make in LEARNERS.values():
        assert len(search(NetworkList(["resnet18"]), make(), 5).history) == 1


PLACED = ["nasbench201", "natsbench_size", "nasbench_macro", "darts", "enas", "amoebanet", "mobilenet_v2", "timm_vit"]


@pytest.mark.parametrize("kind", [*PLACED, "choices", "wide darts"])
def test_genotypes_are_taken_apart_and_put_together(kind: str) -> None:
    spaces: dict[str, Callable[[], Space]] = {
        "choices": lambda: ChoiceSpace({"a": [0.5, None, "x"], "b": [True, 3]}, _nothing),
        "wide darts": lambda: DARTS(width=[16, 24], depth=[8, 14, 20]),
    }
    space = spaces[kind]() if kind in spaces else get_space(kind)
    places = space.places()
    assert places is not None
    rng = random.Random(0)
    for _ in range(50):
        genotype = space.sample(rng)
        parts = space.parts(genotype)
        assert len(parts) == len(places)
        assert all(part in options for part, options in zip(parts, places, strict=True))
        assert space.assemble(parts) == genotype
        drawn = tuple(rng.choice(options) for options in places)
        assert space.parts(space.assemble(drawn)) == drawn, "every combination is in these spaces"
        mutated = space.parts(space.mutate(genotype, rng))
        assert sum(a != b for a, b in zip(parts, mutated, strict=True)) == 1, "a mutation changes one place"


def test_the_size_of_a_space_is_that_of_its_places() -> None:
    for kind in ("nasbench201", "natsbench_size", "nasbench_macro"):
        space = get_space(kind)
        assert math.prod(map(len, space.places() or ())) == len(space)  # type: ignore[arg-type]
    assert NASBench101().places() is None
    assert NetworkList(["resnet18", "resnet34"]).places() == (("resnet18", "resnet34"),)


def test_rejected_combinations_cannot_be_put_together() -> None:
    space = ChoiceSpace({"a": [1, 2], "b": [1, 2]}, _nothing, valid=lambda a, b: a <= b)
    assert space.assemble((1, 2)) == (1, 2)
    with pytest.raises(ValueError, match="rejects 'a=2,b=1'"):
        space.assemble((2, 1))


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (RegularisedEvolution, {"population": 0}, "population is a whole number of at least 1; got 0"),
        (RegularisedEvolution, {"tournament": 2.5}, r"tournament is a whole number of at least 1; got 2\.5"),
        (RegularisedEvolution, {"children": True}, "children is a whole number of at least 1; got True"),
        (Reinforce, {"learning_rate": 0.0}, r"learning_rate is a number in \(0, 1\]; got 0\.0"),
        (Reinforce, {"momentum": 1.0}, r"momentum is a number in \[0, 1\); got 1\.0"),
        (Reinforce, {"first": 1}, "first is a whole number of at least 2; got 1"),
        (Reinforce, {"draws": "8"}, "draws is a whole number of at least 1; got '8'"),
        (LocalSearch, {"starts": 0}, "starts is a whole number of at least 1; got 0"),
        (LocalSearch, {"neighbours": -1}, "neighbours is a whole number of at least 1; got -1"),
        (LocalSearch, {"children": None}, "children is a whole number of at least 1; got None"),
        (NSGA2, {"costs": "flops"}, "no cost named 'flops'. Costs: .*macs"),
        (NSGA2, {"costs": []}, r"costs names one cost or several different ones; got \[\]"),
        (NSGA2, {"costs": ["macs", "macs"]}, "several different ones"),
        (NSGA2, {"population": 1}, "population is a whole number of at least 2; got 1"),
        (NSGA2, {"crossover": math.nan}, r"crossover is a number in \[0, 1\]; got nan"),
    ],
)
def test_arguments_that_cannot_work(cls: type[Strategy], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


def test_the_worst_is_what_has_no_score() -> None:
    from lightning_wrcor.search.strategies._base import worth

    assert [worth(evaluation(score)) for score in (1.0, -math.inf, math.nan)] == [1.0, -math.inf, -math.inf]
    voted = evaluation(-math.inf)
    voted.score = 0.25  # a vote ranks dead candidates too
    assert worth(voted) == -math.inf
