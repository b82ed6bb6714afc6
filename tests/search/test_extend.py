"""A larger budget with the same journal gives what that budget gives in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from search_toys import BATCH, CELLS, Noise, Widths
from torch import nn

from lightning_wrcor import zero_shot_search
from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import (
    NSGA2,
    LocalSearch,
    Racing,
    RandomSearch,
    RegularisedEvolution,
    Reinforce,
    SearchResult,
    Strategy,
)
from lightning_wrcor.spaces import ChoiceSpace

STRATEGIES = {
    "random": RandomSearch,
    "evolution": lambda: RegularisedEvolution(population=12, tournament=4, children=7),
    "reinforce": lambda: Reinforce(learning_rate=0.1, first=12, draws=7),
    "local_search": lambda: LocalSearch(starts=5, children=7),
    "nsga2": lambda: NSGA2("params", population=12),
}
"""Budgets of 20 end inside a generation: 12 or 5, then sevens or twelves."""


def build(num_classes: int, **choices: int) -> nn.Module:
    return Widths().build((0, choices["a"] + choices["b"] * 5), num_classes)


class Choices(ChoiceSpace):
    """25 widths twice over; genotypes have places, and can be mutated. Costs are counted in closed form: it is quicker."""

    def __init__(self) -> None:
        super().__init__({"a": range(1, 6), "b": range(5), "c": [0, 1]}, build)

    def costs(self, genotype: Any, *args: Any, **kwargs: Any) -> Costs:
        width = genotype[0] + genotype[1] * 5
        return Costs(7 * width + 3, 51 * width, 1)


def search(proxy: Any, strategy: Strategy, budget: int, journal: Path | None = None, **more: Any) -> SearchResult:
    settings = {"space": Choices(), "batch": BATCH, "progress": False, **more}
    return zero_shot_search(proxy=proxy, strategy=strategy, budget=budget, journal=journal, **settings)


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


def same(one: SearchResult, other: SearchResult) -> None:
    assert rows(one) == rows(other)
    assert [row.key for row in one.leaderboard] == [row.key for row in other.leaderboard]
    assert vars(one.funnel) | {"resumed": 0} == vars(other.funnel) | {"resumed": 0}
    assert one.notes == other.notes


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("vote", [False, True], ids=["single", "vote"])
def test_twenty_then_forty_is_forty(tmp_path: Path, strategy: str, vote: bool) -> None:
    path, noise = tmp_path / "journal.jsonl", Noise()
    proxy: Any = Vote([noise, "params"], "borda") if vote else noise
    make: Any = STRATEGIES[strategy]
    short = search(proxy, make(), 20, path)
    noise.seen.clear()
    extended = search(proxy, make(), 40, path)
    assert len(noise.seen) == 20, "what was scored is not scored again, and none of it was in vain"
    assert extended.funnel.resumed == 20
    one_go = search(proxy, make(), 40)
    same(extended, one_go)
    assert [row.key for row in extended.history[:20]] == [row.key for row in short.history]
    assert len({row.key for row in extended.history}) == 40
    written = [json.loads(line)["key"] for line in path.read_text().splitlines()[1:]]
    assert written == [row.key for row in extended.history]
    same(search(proxy, make(), 20, path), short)


@pytest.mark.parametrize("strategy", ["evolution", "reinforce"])
def test_step_by_step_with_one_strategy_object(tmp_path: Path, strategy: str) -> None:
    path, make = tmp_path / "journal.jsonl", STRATEGIES[strategy]
    one = make()  # type: ignore[abstract]
    proxy = Vote([Noise(), "params", "depth"], "log_rank")
    for budget in (1, 13, 14, 26, 33):
        extended = search(proxy, one, budget, path)
    same(extended, search(proxy, make(), 33))  # type: ignore[abstract]
    assert len(path.read_text().splitlines()) == 34


@pytest.mark.parametrize("strategy", ["random", "evolution", "reinforce"])
def test_with_constraints(tmp_path: Path, strategy: str) -> None:
    path, make = tmp_path / "journal.jsonl", STRATEGIES[strategy]
    bounds = {"constraints": {"max_params": 150}}
    search(Noise(), make(), 14, path, **bounds)  # type: ignore[abstract]
    extended = search(Noise(), make(), 24, path, **bounds)  # type: ignore[abstract]
    same(extended, search(Noise(), make(), 24, **bounds))  # type: ignore[abstract]


def test_with_a_race(tmp_path: Path) -> None:
    path, noise, make = tmp_path / "journal.jsonl", Noise(), STRATEGIES["evolution"]
    short = search(noise, make(), 15, path, racing=Racing(4, 2))  # type: ignore[abstract]
    noise.seen.clear()
    extended = search(noise, make(), 30, path, racing=Racing(4, 2))  # type: ignore[abstract]
    one_go = search(Noise(), make(), 30, racing=Racing(4, 2))  # type: ignore[abstract]
    same(extended, one_go)
    assert extended.race == one_go.race
    finalists = [{row.key for row in result.history if row.race} for result in (short, extended)]
    again = 2 * len(finalists[1] - finalists[0])
    assert len(noise.seen) == 15 + again, "who is a finalist again has its fresh scores"


def test_real_networks(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    proxy = Vote(["wrcor", "params", "acor"])

    settings: dict[str, Any] = {"population": 3, "tournament": 2, "children": 2}
    search(proxy, RegularisedEvolution(**settings), 4, path, space=CELLS)
    extended = search(proxy, RegularisedEvolution(**settings), 6, path, space=CELLS)
    same(extended, search(proxy, RegularisedEvolution(**settings), 6, space=CELLS))
