"""One search shared by several processes gives what one process gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from search_toys import BATCH, CELLS, Endless, Noise, Of, Team, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import Ranks, SearchError, SearchResult


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_gives_the_same(size: int) -> None:
    settings: dict[str, Any] = {"budget": 21, "constraints": {"max_params": 7 * 50 + 3}, "progress": False}
    alone = zero_shot_search(Endless(60, copies=2), BATCH, Noise(), **settings)
    proxies = [Noise() for _ in range(size)]
    results = Team(size).run(
        lambda ranks: zero_shot_search(Endless(60, copies=2), BATCH, proxies[ranks.rank], ranks=ranks, **settings)
    )
    for result in results:
        assert rows(result) == rows(alone)
        assert [row.key for row in result.leaderboard] == [row.key for row in alone.leaderboard]
        assert result.funnel == alone.funnel
        assert result.notes == alone.notes
    shards = [set(proxy.seen) for proxy in proxies]
    assert all(len(shard) == len(proxy.seen) for shard, proxy in zip(shards, proxies, strict=True))
    assert sum(map(len, shards)) == len(set.union(*shards)) == 21, "each candidate in one process"
    assert max(map(len, shards)) - min(map(len, shards)) <= 2


def test_real_networks_on_two_processes() -> None:
    alone = zero_shot_search(CELLS, BATCH, budget=5, progress=False)
    results = Team(2).run(lambda ranks: zero_shot_search(CELLS, BATCH, budget=5, progress=False, ranks=ranks))
    assert [rows(result) for result in results] == [rows(alone)] * 2


def test_all_processes_stop_at_the_same_failure() -> None:
    def broken(width: int) -> float:
        raise ValueError("never")

    def failing(ranks: Ranks | None = None) -> str:
        with pytest.raises(SearchError) as error:
            zero_shot_search(Widths(40), BATCH, Of(broken), "exhaustive", progress=False, ranks=ranks)
        return str(error.value)

    assert Team(3).run(failing) == [failing()] * 3


def test_rank_zero_writes_the_journal_and_all_read_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    def shared(ranks: Ranks, proxy: Noise, budget: int) -> SearchResult:
        return zero_shot_search(Widths(), BATCH, proxy, budget=budget, journal=path, progress=False, ranks=ranks)

    Team(2).run(lambda ranks: shared(ranks, Noise(), 6))
    assert len(path.read_text().splitlines()) == 1 + 6
    proxies = [Noise(), Noise(), Noise()]
    results = Team(3).run(lambda ranks: shared(ranks, proxies[ranks.rank], 10))
    assert sum(len(proxy.seen) for proxy in proxies) == 4
    assert [result.funnel.resumed for result in results] == [6, 6, 6]
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == 10
    alone = zero_shot_search(Widths(), BATCH, Noise(), budget=10, progress=False)
    assert rows(results[2]) == rows(alone)


def test_a_journal_that_cannot_be_used_is_refused_by_all(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    outcomes = Team(2).run(
        lambda ranks: zero_shot_search(Widths(), BATCH, Noise(), journal=path, progress=False, ranks=ranks)
    )
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
    assert all("is no journal of lightning_wrcor" in str(outcome) for outcome in outcomes)
