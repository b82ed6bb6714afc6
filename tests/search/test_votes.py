"""Searches in which several proxies vote."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from search_toys import BATCH, CELLS, Endless, Noise, Of, Stops, Team, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor.proxies import Context, Params, Proxy, WRCor
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import Evaluation, Journal, RandomSearch, SearchError, SearchResult, Strategy


class Second(Of):
    name = "second"


class Third(Noise):
    """The last bias: it has nothing to do with the width."""

    name = "third"

    def value(self, context: Context) -> float:
        return float(list(context.network.parameters())[-1][0])


class Small(RandomSearch):
    """Generations of four; it keeps what it was told."""

    kind = "small"
    generation = 4

    def start(self, space: Any, seed: int) -> None:
        super().start(space, seed)
        self.told: list[Evaluation] = []
        self.seen: list[list[float]] = []

    def tell(self, evaluations: Any) -> None:
        self.told += evaluations
        self.seen.append([row.score for row in self.told])


class Climb(Strategy):
    """Mutates who is best among all it knows: it goes where the votes lead."""

    kind = "climb"
    generation = 3

    def start(self, space: Any, seed: int) -> None:
        self.space, self.rng, self.rows = space, random.Random(seed), []

    def ask(self, n: int) -> list[Any]:
        alive = [row for row in self.rows if row.status == "ok"]
        best = max(alive, key=lambda row: (row.score, row.key), default=None)
        middle = 100 if best is None else best.genotype[1]
        return [(0, max(1, middle + self.rng.randint(-9, 12))) for _ in range(n)]

    def tell(self, evaluations: Any) -> None:
        self.rows += evaluations


def search(proxy: Any, space: Any = None, **kwargs: Any) -> SearchResult:
    return zero_shot_search(Widths() if space is None else space, BATCH, proxy, **{"progress": False, **kwargs})


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


def counted(result: SearchResult, vote: Vote) -> list[float]:
    """The vote on the finished table of the result."""
    history = [row for row in result.history if row.status != "failed"]
    return vote.combine({name: [row.scores.get(name, math.nan) for row in history] for name in vote.names})


def noisy(rule: str = "copeland") -> Vote:
    return Vote([Noise(), "params", Third()], rule)


# ---- which values


@pytest.mark.parametrize("rule", ["copeland", "borda", "log_rank", "z_score"])
def test_the_values_are_those_of_the_whole_table(rule: str) -> None:
    vote = noisy(rule)
    result = search(vote, Endless(60), budget=22, strategy=Small())
    values = counted(result, vote)
    assert [row.score for row in result.history] == values
    assert [row.scores["vote"] for row in result.history] == values
    assert all(list(row.scores) == ["vote", "noise", "params", "third"] for row in result.history)
    plain = search([Noise(), "params", Third()], Endless(60), budget=22, strategy=Small())
    assert [row.scores for row in plain.history] == [
        {name: value for name, value in row.scores.items() if name != "vote"} for row in result.history
    ]
    assert result.best.score == max(values)
    assert len(set(values)) > 15


def test_each_generation_is_told_the_values_among_all_so_far() -> None:
    strategy, vote = Small(), noisy("borda")
    result = search(vote, Endless(60), budget=11, strategy=strategy)
    assert [len(scores) for scores in strategy.seen] == [4, 8, 11]
    table = [row.scores for row in result.history]
    for scores in strategy.seen:
        some = table[: len(scores)]
        assert scores == vote.combine({name: [row[name] for row in some] for name in vote.names})
    assert strategy.seen[0] != strategy.seen[2][:4]
    assert [row.score for row in strategy.told] == strategy.seen[2], "what a strategy holds is kept up to date"
    assert strategy.told == result.history


def test_every_network_of_a_small_space() -> None:
    result = search(Vote(["params", "macs"]), strategy="exhaustive")
    assert [row.score for row in result.history] == [width / 12 for width in range(1, 13)]
    assert result.best.genotype[1] == 12


def test_a_vote_among_other_proxies() -> None:
    vote = Vote(["params", Third(), Noise()], name="late")
    result = search(["macs", vote, "params"], budget=9)
    assert all(list(row.scores) == ["macs", "late", "params", "third", "noise"] for row in result.history)
    assert [row.score for row in result.history] == [row.scores["macs"] for row in result.history]
    assert [row.scores["late"] for row in result.history] == counted(result, vote)
    assert result.table().splitlines()[0].split()[:5] == ["candidate", "macs", "late", "params", "third"]
    assert result.notes == []


def test_a_member_of_several_votes_is_scored_once() -> None:
    noise = Noise()
    votes = [Vote([noise, "params"], name="one"), Vote([noise, "macs", Params()], "borda", "two")]
    result = search([*votes, noise], budget=7)
    assert len(noise.seen) == 7
    assert all(list(row.scores) == ["one", "two", "noise", "params", "macs"] for row in result.history)
    assert [row.score for row in result.history] == counted(result, votes[0])
    assert [row.scores["two"] for row in result.history] == counted(result, votes[1])
    assert [config["init_args"].get("name") for config in result.proxies] == ["one", "two", None]


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        (
            [Vote(["wrcor", "params"]), WRCor(depth_normalised=True)],
            r"WRCor\(depth_normalised=None.* of the vote 'vote' and WRCor\(depth_normalised=True.* one name, 'wrcor'",
        ),
        ([Vote(["wrcor", "params"]), Vote(["rcor", "params"])], r"Two proxies have the name 'vote'"),
        (["params", Vote(["wrcor", "macs"], name="params")], r"Two proxies have the name 'params'"),
        (Vote(["wrcor", "macs"], name="macs"), r"A vote and a proxy have the name 'macs'.*another with name="),
    ],
)
def test_names_that_stand_for_two_things(proxy: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(proxy)


def test_from_plain_values() -> None:
    vote = Vote(["params", "macs"], "borda", "size")
    config = {**vote.config(), "class_path": "lightning_wrcor.proxies.votes.Vote"}
    assert rows(search(config, budget=5)) == rows(search(vote, budget=5))


# ---- networks without a value


def test_dead_is_who_has_no_finite_value_at_all() -> None:
    def first(width: int) -> float:
        return -math.inf if width in (2, 3, 12) else width

    def second(width: int) -> float:
        return -math.inf if width in (3, 4) else -width

    result = search(Vote([Of(first), Second(second)], "borda"), strategy="exhaustive")
    by_width = {row.genotype[1]: row for row in result.history}
    assert [width for width, row in by_width.items() if row.status == "dead"] == [3]
    assert by_width[3].scores == {"vote": -math.inf, "noise": -math.inf, "second": -math.inf}
    assert by_width[3].score == -math.inf
    assert by_width[3].reason
    assert by_width[2].status == by_width[4].status == "ok"
    assert by_width[2].reason is None
    assert by_width[12].scores["noise"] == -math.inf
    assert [row.score for row in result.history] == counted(result, Vote([Of(first), Second(second)], "borda"))
    assert (result.funnel.scored, result.funnel.dead) == (11, 1)
    assert {by_width[3].key, *(row.key for row in result.leaderboard)} == {row.key for row in result.history}
    with pytest.raises(SearchError, match=r"None of 12 candidates got a finite score .*12 dead"):
        search(Vote([Of(lambda width: -math.inf), Second(lambda width: -math.inf)]))


def test_failed_candidates_take_no_part() -> None:
    def broken(width: int) -> float:
        if width % 4 == 0:
            raise RuntimeError("no memory")
        return width

    result = search(Vote([Of(broken), "params"]), strategy="exhaustive")
    failed = [row for row in result.history if row.status == "failed"]
    assert [row.genotype[1] for row in failed] == [4, 8, 12]
    assert all(row.scores == {} and math.isnan(row.score) for row in failed)
    assert [row.score for row in result.leaderboard] == [place / 9 for place in range(9, 0, -1)]


def test_a_member_that_refuses_ranks_last() -> None:
    def refuses(width: int) -> float:
        if width > 9:
            raise ValueError(f"It takes no more than 9 channels; got {width}.")
        return width

    vote = Vote([Of(refuses), Second(lambda width: -abs(width - 11))], "borda")
    result = search([vote, "params"], strategy="exhaustive")
    refused = [row for row in result.history if "noise" not in row.scores]
    assert [row.genotype[1] for row in refused] == [10, 11, 12]
    assert all(row.status == "ok" and list(row.scores) == ["vote", "params", "second"] for row in refused)
    assert "no more than 9 channels; got 10" in refused[0].details["refused"]["noise"]
    assert [row.score for row in result.history] == counted(result, vote)
    assert result.table(12).splitlines()[0].split()[:4] == ["candidate", "vote", "params", "noise"]
    listed = {line.split()[1]: line.split() for line in result.table(12).splitlines()[1:13]}
    assert listed["0.11"].count("-") == 1
    assert listed["0.9"].count("-") == 0
    alone = search(vote, strategy="exhaustive")
    assert [row.score for row in alone.history] == [row.score for row in result.history], "also where it is the first"


def test_a_candidate_fails_if_all_that_rank_refuse() -> None:
    def refuses(width: int) -> float:
        if width == 5:
            raise ValueError("Not five.")
        return width

    for proxy in (Vote([Of(refuses), Second(refuses)]), [Of(refuses), Vote(["params", "macs"])]):
        result = search(proxy, strategy="exhaustive")
        failed = [row for row in result.history if row.status == "failed"]
        assert [row.genotype[1] for row in failed] == [5]
        assert failed[0].reason == "ValueError: Not five."
        assert failed[0].scores == {}


# ---- the journal


def interrupted(path: Path, vote: Vote, stop: Stops, after: int, **kwargs: Any) -> None:
    stop.seen.clear()
    stop.left = after
    with pytest.raises(KeyboardInterrupt):
        search(vote, journal=path, **kwargs)
    stop.left = math.inf
    stop.seen.clear()


@pytest.mark.parametrize("rule", ["copeland", "z_score"])
@pytest.mark.parametrize("after", [1, 8, 13])
def test_an_interrupted_search_goes_on_to_the_same_result(tmp_path: Path, rule: str, after: int) -> None:
    stop = Stops()
    vote = Vote([stop, "params", Third()], rule)
    settings = {"space": Endless(300), "strategy": Climb(), "budget": 20}
    undisturbed = search(vote, **settings)
    path = tmp_path / "journal.jsonl"
    interrupted(path, vote, stop, after, **settings)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 1 + after
    assert all("vote" not in line["scores"] and "score" not in line for line in lines[1:])
    assert all(math.isnan(row.score) and row.status == "ok" for row in Journal(path, lines[0]["search"]).known.values())
    path.write_bytes(path.read_bytes() + b'{"torn')
    resumed = search(vote, journal=path, **settings)
    assert rows(resumed) == rows(undisturbed)
    assert resumed.best.key == undisturbed.best.key
    assert len(stop.seen) == 20 - after
    assert resumed.funnel.resumed == after
    assert vars(resumed.funnel) | {"resumed": 0} == vars(undisturbed.funnel)
    assert resumed.notes == undisturbed.notes


def test_other_votes_of_the_same_members_go_on(tmp_path: Path) -> None:
    path, noise = tmp_path / "journal.jsonl", Noise()
    third = Third()
    members: list[Proxy] = [noise, Params(), third]
    first = search(Vote(members), journal=path, budget=12)
    others: list[Any] = [
        Vote(members, "log_rank", "other"),
        Vote(members[::-1], "borda"),
        [third, Vote(members[::-1])],
        ["params", noise, third],
    ]
    for proxy in others:
        noise.seen.clear()
        again = search(proxy, journal=path, budget=12)
        assert noise.seen == [], "nothing is scored again"
        assert again.funnel.resumed == 12
        alone = search(proxy, budget=12)
        assert [(row.key, row.scores, row.score) for row in again.history] == [
            (row.key, row.scores, row.score) for row in alone.history
        ]
        assert [list(row.scores) for row in again.history] == [list(row.scores) for row in alone.history]
        assert again.honesty == alone.honesty
    assert rows(search(Vote(members), journal=path, budget=12)) == rows(first)
    with pytest.raises(ValueError, match="is of another search: its proxies is"):
        search(Vote(members[:2]), journal=path, budget=12)


def test_a_journal_of_plain_proxies_serves_their_vote(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    def first(width: int) -> float:
        return -math.inf if width < 4 else width

    one, two = Of(first), Second(lambda width: -math.inf if width == 1 else -width)
    plain = search([one, two], journal=path, strategy="exhaustive")
    assert plain.funnel.dead == 3
    one.seen.clear()
    voted = search(Vote([two, one]), journal=path, strategy="exhaustive")
    assert one.seen == []
    assert [row.status for row in voted.history] == ["dead"] + ["ok"] * 11
    assert [row.reason is None for row in voted.history] == [False] + [True] * 11
    assert [row.score for row in voted.history] == [
        row.score for row in search(Vote([two, one]), strategy="exhaustive").history
    ]
    assert rows(search([one, two], journal=path, strategy="exhaustive")) == rows(plain)
    turned = search([two, one], journal=path, strategy="exhaustive")
    assert turned.best.genotype[1] == 2
    assert [row.score for row in turned.history] == [row.scores["second"] for row in turned.history]


def test_who_ranks_now_had_refused(tmp_path: Path) -> None:
    path, strict = tmp_path / "journal.jsonl", True

    def refuses(width: int) -> float:
        if strict and width == 5:
            raise ValueError("Not five.")
        return width

    noise = Of(refuses)
    search(["params", noise], journal=path, strategy="exhaustive")
    strict = False
    noise.seen.clear()
    result = search([noise, "params"], journal=path, strategy="exhaustive")
    assert noise.seen == [5], "tried again, like all that fail"
    assert result.funnel.scored == 12


@pytest.mark.parametrize("scores", [{}, {"noise": None}, {"noise": "much"}, []])
def test_lines_that_wait_for_a_vote_and_have_no_value(tmp_path: Path, scores: Any) -> None:
    path = tmp_path / "journal.jsonl"
    vote = Vote([Noise(), "params"])
    search(vote, journal=path, budget=3)
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"scores": scores})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"Line 3 of the journal .* is damaged"):
        search(vote, journal=path, budget=3)


# ---- the result, the processes, the bar


def test_a_vote_by_agreement_says_how_much_each_member_counted() -> None:
    """Parameters grow with the width: one member follows them, one runs against them."""
    vote = Vote([Of(lambda width: -width), "params", "macs"], "agreement", "mine", anchors=["params"])
    note = search([vote], strategy="exhaustive").notes[-1]
    assert note.startswith("mine is a vote (agreement of noise 0.00, params 1.00, macs 2.00) among these 12 candidates")


def test_the_result_of_a_vote(tmp_path: Path) -> None:
    vote = Vote([Of(lambda width: -math.inf if width == 7 else width % 5), "params"], "z_score", "mine")
    result = search([vote, "macs"], strategy="exhaustive")
    assert result.honesty.startswith("Rank correlation of mine with params")
    note = "mine is a vote (z_score of noise, params) among these 12 candidates: its values mean nothing beside others."
    assert result.notes == [note]
    lines = result.table().splitlines()
    assert lines[0].split()[:4] == ["candidate", "mine", "macs", "noise"]
    assert lines[-1] == note
    result.to_json(tmp_path / "search.json")
    again = SearchResult.from_json(tmp_path / "search.json")
    assert again.to_dict() == result.to_dict()
    assert again.table() == result.table()
    assert again.best.score == result.best.score
    assert again.pareto() == result.pareto()
    assert again.proxies[0]["init_args"]["rule"] == "z_score"


def test_the_cost_is_told_where_a_vote_follows_it() -> None:
    result = search(Vote(["params", "macs"]), strategy="exhaustive")
    assert "Warning: vote says little here that params does not" in result.honesty


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_gives_the_same(size: int, tmp_path: Path) -> None:
    def run(ranks: Any = None, **more: Any) -> SearchResult:
        return search(noisy(), Endless(300), strategy=Climb(), ranks=ranks, **{"budget": 21, **more})

    alone = run()
    for result in Team(size).run(run):
        assert rows(result) == rows(alone)
        assert result.best.key == alone.best.key
        assert result.notes == alone.notes
    path = tmp_path / "journal.jsonl"
    run(journal=path, budget=9)
    for result in Team(size).run(lambda ranks: run(ranks, journal=path)):
        assert rows(result) == rows(alone)
        assert result.funnel.resumed == 9


def test_real_networks() -> None:
    vote = Vote(["wrcor", "params", "acor"])
    result = search(vote, CELLS, budget=6)
    assert [row.score for row in result.history] == counted(result, vote)
    plain = search(["wrcor", "params", "acor"], CELLS, budget=6)
    assert [row.scores["wrcor"] for row in result.history] == [row.score for row in plain.history]
    assert [row.details for row in result.history] == [row.details for row in plain.history]


def test_the_bar_shows_who_leads_now(capsys: pytest.CaptureFixture[str]) -> None:
    result = search(Vote(["params", "macs"]), Widths(30), strategy=Small(), budget=10, progress=True)
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert f"best=1, name={result.best.name}" in shown
    assert "nan" not in shown
