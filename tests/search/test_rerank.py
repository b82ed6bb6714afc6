"""Results from stored scores: of a journal, and ranked anew."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from search_toys import BATCH, CELLS, Endless, Noise, Of, Widths
from torch import nn

from lightning_wrcor import SearchResult, zero_shot_search
from lightning_wrcor.proxies import Context, Proxy, WRCor
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import Constraints, Evaluation, Journal, Racing, RegularisedEvolution


class Third(Noise):
    """The last bias: it has nothing to do with the width."""

    name = "third"

    def value(self, context: Context) -> float:
        return float(list(context.network.parameters())[-1][0])


class Second(Of):
    name = "second"


def search(proxy: Any, space: Any = None, **kwargs: Any) -> SearchResult:
    return zero_shot_search(Widths(20) if space is None else space, BATCH, proxy, **{"progress": False, **kwargs})


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() for row in result.history]


def scores(result: SearchResult) -> dict[str, float]:
    return {row.key: row.score for row in result.history}


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once it is called, a network that is built, counted or scored ends the test."""

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a network was touched")

    def from_now_on() -> None:
        for owner, name in ((Endless, "build"), (Endless, "costs"), (nn.Module, "__call__"), (Noise, "measure")):
            monkeypatch.setattr(owner, name, never)

    return from_now_on


# ---- from a journal


@pytest.mark.parametrize(
    "proxy",
    [
        Noise(),
        ["params", Noise()],
        Vote([Noise(), "params", Third()]),
        ["macs", Vote([Third(), Noise()], "z_score", "mine"), "params"],
        [Vote([Third(), "params"], "borda", "one"), Vote([Noise(), "params"], name="two")],
    ],
    ids=["one", "several", "vote", "vote among others", "votes"],
)
def test_a_journal_gives_the_result_of_its_search(
    tmp_path: Path, proxy: Any, nothing_is_built: Callable[[], None]
) -> None:
    path = tmp_path / "journal.jsonl"
    result = search(proxy, budget=12, journal=path, seed=3)
    before = path.read_bytes()
    nothing_is_built()
    again = SearchResult.from_journal(path)
    assert path.read_bytes() == before
    assert rows(again) == rows(result), "also in the order of the history and of the columns"
    assert [row.key for row in again.leaderboard] == [row.key for row in result.leaderboard]
    same = ("space", "proxies", "strategy", "seed", "num_classes", "input_size", "versions", "notes")
    assert [getattr(again, name) for name in same] == [getattr(result, name) for name in same]
    assert again.honesty == result.honesty
    assert vars(again.funnel) == vars(result.funnel) | {"sampled": 12, "repeated": 0, "resumed": 12}
    assert again.seconds == pytest.approx(sum(row.seconds for row in result.history))
    assert again.table().splitlines()[:11] == result.table().splitlines()[:11]
    again.to_json(tmp_path / "search.json")
    assert SearchResult.from_json(tmp_path / "search.json").to_dict() == again.to_dict()


def test_dead_and_failed_candidates_and_the_space(tmp_path: Path) -> None:
    def value(width: int) -> float:
        if width % 5 == 0:
            raise RuntimeError("no memory")
        return -math.inf if width == 7 else width

    path = tmp_path / "journal.jsonl"
    result = search(Of(value), strategy="exhaustive", journal=path)
    again = SearchResult.from_journal(path)
    assert rows(again) == rows(result)
    assert (again.funnel.scored, again.funnel.dead, again.funnel.failed) == (15, 1, 4)
    assert again.notes == result.notes
    assert again.notes[0].startswith(
        "4 of 20 candidates could not be scored. Most common reasons: RuntimeError: no mem"
    )
    assert again.searched_space is None
    assert again.network()(torch.randn(2, 3, 4, 4)).shape == (2, 3), "the space is made from its plain values"


def test_a_space_of_objects_is_given_by_hand(tmp_path: Path) -> None:
    def mine(num_classes: int) -> nn.Module:
        return Widths().build((0, 3), num_classes)

    path = tmp_path / "journal.jsonl"
    result = search(Noise(), [mine], journal=path)
    again = SearchResult.from_journal(path)
    assert rows(again) == rows(result)
    with pytest.raises(ValueError, match="pass the object again"):
        again.network()
    assert again.network(space=result.searched_space)(torch.randn(2, 3, 4, 4)).shape == (2, 3)


def test_of_several_lines_the_last_counts_and_the_place_is_that_of_the_first(tmp_path: Path) -> None:
    path, broken = tmp_path / "journal.jsonl", True

    def mended(width: int) -> float:
        if broken and width == 2:
            raise RuntimeError("no memory")
        return width

    search(Of(mended), Widths(5), strategy="exhaustive", journal=path)
    broken = False
    search(Of(mended), Widths(5), strategy="exhaustive", journal=path)
    assert len(path.read_text().splitlines()) == 7
    again = SearchResult.from_journal(path)
    assert [(row.genotype[1], row.status) for row in again.history] == [(width, "ok") for width in range(1, 6)]


def test_a_torn_line_is_left_aside_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    search(Noise(), budget=3, journal=path)
    path.write_bytes(path.read_bytes()[:-9])
    before = path.read_bytes()
    assert len(SearchResult.from_journal(path).history) == 2
    assert path.read_bytes() == before, "another process may be writing it"


def without_facts(path: Path) -> None:
    """The header as it was before there were facts beside ``search``."""
    head, *rest = path.read_text().splitlines()
    old = json.loads(head)
    del old["about"]
    path.write_text("\n".join([json.dumps(old), *rest]) + "\n")


def test_an_old_header(tmp_path: Path) -> None:
    path, noise = tmp_path / "journal.jsonl", Noise()
    result = search([noise, "params"], budget=5, journal=path)
    without_facts(path)
    again = SearchResult.from_journal(path)
    assert rows(again) == rows(result)
    assert again.strategy == {}
    assert again.input_size == (3, 224, 224)
    assert again.notes == [
        "The journal does not say how large the images were; 3 x 224 x 224 is what the space is meant for."
    ]
    assert again.versions == {"lightning_wrcor": result.versions["lightning_wrcor"]}
    noise.seen.clear()
    assert search([noise, "params"], budget=5, journal=path).funnel.resumed == 5, "and it is gone on from"
    assert noise.seen == []


def test_an_old_header_of_a_vote(tmp_path: Path) -> None:
    path, vote = tmp_path / "journal.jsonl", Vote([Noise(), "params"])
    result = search(vote, budget=5, journal=path)
    without_facts(path)
    with pytest.raises(
        ValueError, match=r"does not say which one: name it with .*Vote\(\['noise', 'params'\]\)"
    ) as error:
        SearchResult.from_journal(path)
    assert str(path) in str(error.value)
    assert scores(SearchResult.from_journal(path, vote)) == scores(result)
    assert SearchResult.from_journal(path, "params").best.params == max(row.params for row in result.history)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"notes\n", r"journal.jsonl is no journal of lightning_wrcor\.$"),
        (b"", "journal.jsonl is empty: there is nothing to rank"),
        (b'{"format": "lightning_wrcor journal", "ver', "journal.jsonl is empty: there is nothing to rank"),
        (b'{"format": "lightning_wrcor journal", "version": 2}\n', r"has version 2; this package reads 1\.$"),
        (
            b'{"format": "lightning_wrcor journal", "version": 1, "search": {"seed": 0}}\n',
            "does not name the space of its search",
        ),
        (
            b'{"format": "lightning_wrcor journal", "version": 1, "search": {"seed": 0}}\n{"genotype": 1}\n',
            "Line 2 of the journal .* is damaged",
        ),
    ],
)
def test_files_that_give_no_result(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        SearchResult.from_journal(path)
    with pytest.raises(FileNotFoundError):
        SearchResult.from_journal(tmp_path / "missing")


def test_a_journal_without_a_candidate(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    search(Noise(), budget=1, journal=path)
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(ValueError, match="No candidate has a finite score: 0 sampled"):
        _ = SearchResult.from_journal(path).best


# ---- ranked anew


@pytest.mark.parametrize(
    "proxy",
    [
        "params",
        Third(),
        {"class_path": "lightning_wrcor.proxies.Params"},
        Vote(["params", Third(), Noise()], "log_rank"),
        ["third", Vote([Noise(), "params"], name="pair")],
    ],
)
def test_as_if_the_search_had_ranked_by_it(tmp_path: Path, proxy: Any, nothing_is_built: Callable[[], None]) -> None:
    stored = [Noise(), "params", Third()]
    asked = proxy if isinstance(proxy, list) else [proxy]
    asked = [Third() if one == "third" else one for one in asked]
    path = tmp_path / "journal.jsonl"
    result = search(stored, Endless(60), budget=15, journal=path)
    expected = search(asked, Endless(60), budget=15)
    before = result.to_dict()
    nothing_is_built()
    for again in (result.rerank(proxy), SearchResult.from_journal(path, proxy)):
        assert scores(again) == scores(expected)
        assert [row.key for row in again.leaderboard] == [row.key for row in expected.leaderboard]
        for row, wanted in zip(again.history, expected.history, strict=True):
            assert {name: row.scores[name] for name in wanted.scores} == wanted.scores
            assert next(iter(row.scores)) == next(iter(wanted.scores)), "who ranks comes first"
            assert set(row.scores) >= {"noise", "params", "third"}, "the others stay"
        assert again.proxies[: len(asked)] == expected.proxies
        assert again.notes == expected.notes
    assert result.to_dict() == before, "a result stays as it is"


def test_there_and_back(tmp_path: Path) -> None:
    def first(width: int) -> float:
        return -math.inf if width < 4 else width

    def second(width: int) -> float:
        if width in (3, 9):
            raise ValueError(f"Not {width}.")
        return -math.inf if width == 1 else -width

    result = search([Of(first), Second(second)], Widths(10), strategy="exhaustive")
    turned = result.rerank("second")
    by_width = {row.genotype[1]: row for row in turned.history}
    assert turned.best.genotype[1] == 2
    assert [width for width, row in by_width.items() if row.status == "dead"] == [1]
    assert [width for width, row in by_width.items() if row.status == "failed"] == [3, 9]
    assert by_width[9].reason == "Not 9."
    assert math.isnan(by_width[9].score)
    assert by_width[2].reason is None
    assert (turned.funnel.scored, turned.funnel.dead, turned.funnel.failed) == (7, 1, 2)
    assert "2 of 10 candidates could not be scored" in turned.table()
    back = turned.rerank("noise")
    assert scores(back) == scores(result)
    assert [row.status for row in back.history] == [row.status for row in result.history]
    assert back.proxies == result.proxies
    turned.to_json(tmp_path / "turned.json")
    assert scores(SearchResult.from_json(tmp_path / "turned.json").rerank("noise")) == scores(result)


def test_votes_are_counted_among_those_that_remain() -> None:
    vote = Vote([Noise(), "params", Third()], "borda")
    result = search([vote, "macs"], Endless(60), budget=20)
    limit = sorted(row.params for row in result.history)[9]
    again = result.rerank(constraints={"max_params": limit})
    kept = [row for row in result.history if row.params <= limit]
    assert [row.key for row in again.history] == [row.key for row in kept]
    values = vote.combine({name: [row.scores[name] for row in kept] for name in vote.names})
    assert [row.score for row in again.history] == values
    assert [row.score for row in kept] != values
    assert again.funnel.rejected == {"max_params": 20 - len(kept)}
    assert again.funnel.sampled == again.funnel.repeated + 20
    assert again.constraints == {"max_params": limit}
    assert f"among these {len(kept)} candidates" in again.notes[0]
    alone = search([vote, "macs"], Endless(60), budget=20).rerank("macs")
    assert [row.scores["vote"] for row in alone.history] == [row.score for row in result.history]


def test_bounds_add_up() -> None:
    result = search("params", strategy="exhaustive", constraints={"max_params": 100, "min_depth": 1})
    again = result.rerank(constraints=Constraints(max_params=200, min_params=30))
    assert again.constraints == {"max_params": 100, "min_params": 30, "min_depth": 1}
    assert {row.key for row in again.history} == {row.key for row in result.history if row.params >= 30}
    rejected = sum(row.params < 30 for row in result.history)
    assert again.funnel.rejected == {"max_params": result.funnel.rejected["max_params"], "min_params": rejected}
    again = again.rerank(constraints={"max_params": 50})
    assert again.funnel.rejected["max_params"] > result.funnel.rejected["max_params"]
    assert again.best.params <= 50
    with pytest.raises(ValueError, match="No network can meet"):
        result.rerank(constraints={"min_params": 101})
    with pytest.raises(ValueError, match="There is no constraint named 'max_size'"):
        result.rerank(constraints={"max_size": 3})
    with pytest.raises(ValueError, match=r"No candidate has a finite score: 20 sampled, .* rejected by max_params"):
        result.rerank(constraints={"max_params": 1}).table()


def test_costs_that_are_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    result = search("params", budget=3, journal=path)
    with pytest.raises(
        ValueError, match=r"^This result does not hold latency_ms of 0\.\d+, so that it cannot be bounded"
    ):
        result.rerank(constraints={"max_latency_ms": 3})
    with pytest.raises(ValueError, match=r"^The journal .*journal.jsonl does not hold latency_ms of"):
        SearchResult.from_journal(path, constraints={"max_latency_ms": 3})
    for number, row in enumerate(result.history):
        row.latency_ms = float(number)
    assert len(result.rerank(constraints={"max_latency_ms": 1}).history) == 2


def test_failed_candidates_whose_costs_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    search("params", budget=3, journal=path)
    head = json.loads(path.read_text().splitlines()[0])
    with Journal(path, head["search"]) as journal:
        journal.add(Evaluation("x", "x", "x", status="failed", reason="cannot count"))
    again = SearchResult.from_journal(path, constraints={"min_params": 1})
    assert (again.funnel.scored, again.funnel.failed, again.funnel.rejected) == (3, 1, {})


# ---- what is stored


def test_what_is_not_stored_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    result = search([Vote([Noise(), "params"]), "macs"], budget=3, journal=path)
    holds = r"holds no values of 'naswot'; it holds those of .*macs.*"
    for proxy in ("naswot", ["params", "naswot"], Vote(["params", "naswot"])):
        with pytest.raises(ValueError, match=f"^This result {holds}") as error:
            result.rerank(proxy)
        assert all(name in str(error.value) for name in ("noise", "params", "macs"))
        with pytest.raises(ValueError, match=f"^The journal .*journal.jsonl {holds}"):
            SearchResult.from_journal(path, proxy)
    with pytest.raises(ValueError, match=r"There is no proxy named 'parms'.*closest first: params"):
        result.rerank("parms")
    with pytest.raises(ValueError, match="list of proxies is empty"):
        result.rerank([])
    with pytest.raises(ValueError, match="This result holds no values of 'synflow'"):
        result.rerank("sjw")


def test_settings_are_part_of_what_is_stored() -> None:
    stored = WRCor(depth_normalised=True)
    result = search(["params", stored], CELLS, budget=3)
    for same in ("wrcor", stored, Vote([stored, "params"])):
        assert result.rerank(same).best.key
    values = {row.key: row.scores["wrcor"] for row in result.history}
    assert scores(result.rerank("wrcor")) == values
    for other in (WRCor(), WRCor(depth_normalised=False)):
        with pytest.raises(
            ValueError, match=r"holds 'wrcor' as WRCor\(depth_normalised=True.*, and not as WRCor\(depth_"
        ):
            result.rerank(other)
    with pytest.raises(ValueError, match=r"wrcor.*WRCor\("):
        result.rerank(Vote(["wrcor", "params"]))


def test_a_vote_by_its_name_and_another_of_that_name() -> None:
    result = search(["params", Vote([Noise(), "params"], name="mine")], budget=8)
    named = result.rerank("mine")
    assert [row.score for row in named.history] == [row.scores["mine"] for row in result.history]
    other = Vote([Noise(), "params"], "z_score", "mine")
    again = named.rerank(other)
    table = {name: [row.scores[name] for row in result.history] for name in other.names}
    assert [row.score for row in again.history] == other.combine(table)
    assert [config["init_args"].get("rule") for config in again.proxies] == ["z_score", None], (
        "it takes the other's place"
    )


@pytest.mark.parametrize("ranks", [False, True])
def test_proxies_whose_class_is_not_at_hand(tmp_path: Path, ranks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    mine: list[Any] = [Third(), "params", Noise()]
    result = search(mine if ranks else mine[::-1], budget=6, journal=path)
    path.write_text(path.read_text().replace(f"{Third.__module__}.Third", "gone.Third"))
    assert "gone" not in sys.modules
    again = SearchResult.from_journal(path)
    assert rows(again) == rows(result)
    assert again.proxies[0 if ranks else 2]["class_path"] == "gone.Third"
    third = again.rerank("third")
    assert [row.score for row in third.history] == [row.scores["third"] for row in result.history]
    assert third.proxies[0]["class_path"] == "gone.Third"
    assert [config["class_path"] for config in third.rerank("noise").proxies].count("gone.Third") == 1


def test_a_proxy_that_refused_all(tmp_path: Path) -> None:
    def never(width: int) -> float:
        raise ValueError("Never.")

    path = tmp_path / "journal.jsonl"
    search(["params", Of(never)], budget=3, journal=path)
    assert len(SearchResult.from_journal(path).history) == 3
    with pytest.raises(ValueError, match="holds no values of 'noise'; it holds those of params"):
        SearchResult.from_journal(path, "noise")


# ---- what a reader should know


def test_candidates_that_another_ranking_led_to() -> None:
    strategy = RegularisedEvolution(population=4, tournament=2, children=2)
    result = search(["params", Noise()], budget=10, strategy=strategy)
    told = "RegularisedEvolution proposed these candidates in a search that params ranked; with noise it might have proposed"
    assert any(note.startswith(told) for note in result.rerank("noise").notes)
    assert result.rerank("params").notes == result.rerank(constraints={"max_params": 99}).notes == []
    assert search(["params", Noise()], budget=4).rerank("noise").notes == [], "random search is not led"


def test_raw_scores_of_networks_that_differ_in_depth(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 32, 32, generator=generator), torch.arange(2)
    for raw, told in ((False, 1), (None, 0)):
        path = tmp_path / f"{told}.jsonl"
        result = zero_shot_search(["test_resnet", "test_byobnet"], images, WRCor(raw), journal=path, progress=False)
        assert sum("raw wrcor scores" in note for note in result.notes) == told
        assert result.rerank().notes == SearchResult.from_journal(path).notes == result.notes


def test_a_race_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    result = search([Noise(), "params"], budget=6, journal=path, racing=Racing(2, 2))
    again = result.rerank()
    assert again.race == ""
    assert all(row.race is None for row in again.history)
    assert again.best.score == max(row.score for row in result.history)
    assert "The search's race is left out: it was among the finalists of another ranking." in again.notes
    assert result.race, "a result stays as it is"
    assert "The journal holds 4 scores of a race" in SearchResult.from_journal(path).notes[0]


def test_a_proxy_of_ones_own_that_cannot_measure() -> None:
    class Idle(Proxy):
        name = "params"

        def measure(self, context: Context) -> float:
            raise AssertionError

    with pytest.raises(ValueError, match=r"holds 'params' as Params\(\), and not as Idle\(\)"):
        search("params", budget=2).rerank(Idle())
