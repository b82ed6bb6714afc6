"""The best candidates race with fresh weights; the cheapest of those that keep up wins."""

from __future__ import annotations

import json
import math
import random
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from search_toys import BATCH, CELLS, Endless, Noise, Stops, Team, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor._random import derive_seed
from lightning_wrcor.proxies import Context, Proxy
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import Evaluation, Journal, Racing, SearchResult, Standing
from lightning_wrcor.search._standings import gap, in_race_order, settle, verdict


class Shaky(Noise):
    """Every width is equally good; the rest is luck, of its own seed."""

    name = "shaky"

    def value(self, context: Context) -> float:
        return random.Random(context.seed).gauss(0.0, 1.0)


class Level(Noise):
    """What a function of the width gives, and luck of one thousandth beside."""

    name = "level"

    def __init__(self, function: Any = None) -> None:
        super().__init__()
        self.function = function

    def value(self, context: Context) -> float:
        luck = random.Random(context.seed).gauss(0.0, 1e-3)
        return float(self.function(self.seen[-1]) + luck)


def search(proxy: Any = None, space: Any = None, **kwargs: Any) -> SearchResult:
    return zero_shot_search(
        Widths(30) if space is None else space, BATCH, proxy or Noise(), **{"progress": False, "budget": 12, **kwargs}
    )


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


def finalists(result: SearchResult) -> list[Evaluation]:
    return [row for row in result.history if row.race is not None]


def row(key: str, *scores: float, macs: int = 1, params: int = 1, errors: float = 2.0) -> Evaluation:
    standing = Standing.of(scores, [None] * len(scores), errors)
    return Evaluation(key, key, key, {"p": 9.0}, 9.0, params, macs, 1, race=standing)


def raced(*entered: Evaluation) -> list[Evaluation]:
    """In race order."""
    settle(entered)
    return in_race_order(entered)


# ---- the statistics, against facts from outside

SLEEP = (  # Student's, Biometrika 6 (1908): hours of sleep gained with each of two drugs; R's data set "sleep"
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


def test_the_distance_is_welchs_t() -> None:
    one, two = (Standing.of(hours, [None] * 10, 2.0) for hours in SLEEP)
    assert (one.mean, two.mean) == (pytest.approx(0.75), pytest.approx(2.33))
    for standing, hours in zip((one, two), SLEEP, strict=True):
        assert standing.error == pytest.approx(np.std(hours, ddof=1) / math.sqrt(10))
    assert gap(two, one) == pytest.approx(1.8608, abs=5e-5), "what R's t.test(extra ~ group, sleep) gives"
    assert gap(one, two) < 0
    assert gap(one, one) == 0


@pytest.mark.parametrize(("errors", "winner"), [(1.86, "b"), (1.87, "a"), (0, "b"), (9, "a")])
def test_the_cheapest_within_the_bound_wins(errors: float, winner: str) -> None:
    a, b = row("a", *SLEEP[0], macs=5, errors=errors), row("b", *SLEEP[1], macs=6, errors=errors)
    for order in ((a, b), (b, a)):
        assert raced(*order)[0].key == winner
    assert (a.race.no_worse, b.race.no_worse) == (winner == "a", True)  # type: ignore[union-attr]


def test_the_order_of_a_race() -> None:
    field = {
        "best": row("best", 10.0, 11.0, 12.0, macs=9),
        "cheap": row("cheap", 9.0, 10.0, 11.0, macs=4),
        "cheaper, and behind": row("cheaper, and behind", 5.0, 6.0, 7.0, macs=1),
        "dear": row("dear", 10.0, 10.5, 11.0, macs=9, params=2),
        "dead": row("dead", 99.0, -math.inf, 99.0),
        "once": row("once", 99.0, math.nan, math.nan),
    }
    other = Evaluation("other", "other", "other", {"p": 1.0}, 1.0)
    expected = ["cheap", "best", "dear", "cheaper, and behind", "other", "dead", "once"]
    rng, entered = random.Random(0), [*field.values(), other]
    for _ in range(20):
        settle(rng.sample(list(field.values()), len(field)))
        assert [one.key for one in in_race_order(entered)] == expected
    assert [field[name].race.place for name in field] == [2, 1, 4, 3, None, None]  # type: ignore[union-attr]
    assert [field[name].race.no_worse for name in field] == [True, True, False, True, False, False]  # type: ignore[union-attr]


def test_of_equals_the_smaller_key_wins() -> None:
    assert [one.key for one in raced(row("b", 1.0, 2.0), row("a", 1.0, 2.0))] == ["a", "b"]
    assert [one.key for one in raced(row("b", 1.0, 2.0, params=1), row("a", 1.0, 2.0, params=2))] == ["b", "a"]


def test_scores_without_luck() -> None:
    same = 5.0 * (1 + 9e-7)
    assert raced(row("a", 5.0, 5.0, macs=1), row("b", same, same, macs=2))[0].key == "a", "a tie"
    assert raced(row("a", 5.0, 5.0, macs=1), row("b", 5.1, 5.1, macs=2))[0].key == "b"


def test_nobody_gets_a_place() -> None:
    entered = [row("a", -math.inf, 1.0), row("b", math.nan, 2.0)]
    assert raced(*entered) == entered
    assert verdict(entered).startswith(
        "Race of 2 finalists, 2 fresh seeds each: none of them has a finite mean, so the fir"
    )


# ---- the words


def test_what_is_said() -> None:
    best, cheap = row("best", 10.0, 11.0, 12.0, macs=9000), row("cheap", 9.0, 10.0, 11.0, macs=4000)
    assert verdict(raced(best, cheap)) == (
        "Race of 2 finalists, 3 fresh seeds each: best has the best mean, 11 (standard error 0.58), and is no better than "
        "cheap, 10 (0.58): they are 1.2 standard errors of the difference apart, no more than 2. The cheaper one was taken, "
        "which has 4,000 MACs instead of 9,000."
    )
    far = row("far", 1.0, 2.0, 3.0)
    assert verdict(raced(best, far)).endswith(
        "best has the best mean, 11 (standard error 0.58); all others are worse by more than 2 standard errors of the "
        "difference."
    )
    dear = [row(name, 9.0, 10.0, 11.0, macs=10_000) for name in ("x", "y")]
    assert "; 1 other is no worse by more than 2 standard" in verdict(raced(best, dear[0], far))
    assert verdict(raced(best, *dear)).endswith(
        "; 2 others are no worse by more than 2 standard errors of the difference, and not cheaper."
    )
    fewer = row("fewer", 9.0, 10.0, 11.0, macs=9000, params=0)
    assert verdict(raced(best, fewer)).endswith("which has 0 parameters instead of 1.")
    assert verdict(raced(best, row("a", 9.0, 10.0, 11.0, macs=9000))).endswith(
        "costs the same and has the smaller key."
    )
    lost = row("lost", math.nan, 1.0, math.nan)
    lost.race.reasons = ["no memory", None, "no memory"]  # type: ignore[union-attr]
    assert verdict(raced(far, lost)).endswith(
        "far has the best mean, 2 (standard error 0.58). lost was left out: dead or failed under 2 of 3 seeds (no memory)."
    )
    assert verdict([Evaluation("a", "a", "a")]) == ""


# ---- a race in a search


def test_fresh_scores_are_those_of_fresh_weights() -> None:
    result = search(seed=5, racing=Racing(3, 4))
    entered = finalists(result)
    assert {one.key for one in entered} == {one.key for one in sorted(result.history, key=lambda one: -one.score)[:3]}
    for one in entered:
        fresh = []
        for number in range(1, 5):
            torch.manual_seed(derive_seed(derive_seed(5, "race", number), one.key))
            network = Widths().build(one.genotype, 3)
            fresh.append(float(sum(parameter.detach().double().sum() for parameter in network.parameters())))
        assert one.race is not None
        assert one.race.scores == pytest.approx(fresh)
        assert one.race.mean == pytest.approx(np.mean(fresh))
        assert one.race.error == pytest.approx(np.std(fresh, ddof=1) / 2)
        assert one.score not in one.race.scores
        assert one.race.reasons == [None] * 4
    assert len({score for one in entered for score in one.race.scores}) == 12  # type: ignore[union-attr]


def test_by_hand() -> None:
    """The winner by the rule as it is written, from the standings alone."""
    for seed in range(6):
        result = search(seed=seed, racing={"finalists": 5, "seeds": 3})
        entered = finalists(result)
        best = max(entered, key=lambda one: one.race.mean)  # type: ignore[union-attr]

        def keeps_up(one: Evaluation, best: Evaluation = best) -> bool:
            a, b = np.array(best.race.scores), np.array(one.race.scores)  # type: ignore[union-attr]
            return bool(a.mean() - b.mean() <= 2 * math.sqrt(a.var(ddof=1) / 3 + b.var(ddof=1) / 3))

        expected = min(filter(keeps_up, entered), key=lambda one: (one.macs, one.params, one.key))
        assert result.best.key == expected.key
        places = [one.race.place for one in result.leaderboard[:5]]  # type: ignore[union-attr]
        assert places == [1, 2, 3, 4, 5]
        rest = [one.score for one in result.leaderboard[5:]]
        assert rest == sorted(rest, reverse=True)
        assert len(result.leaderboard) == 12


def test_without_a_race_nothing_changes() -> None:
    plain, race = search(), search(racing=Racing(2, 2))
    assert rows(plain) == [{name: value for name, value in one.items() if name != "race"} for one in rows(race)]
    assert plain.race == ""
    assert plain.best.score == max(one.score for one in plain.history)
    assert vars(plain.funnel) == vars(race.funnel), "the race is not part of the budget"
    assert plain.baselines == pytest.approx(race.baselines)
    assert [one.key for one in plain.pareto()] == [one.key for one in race.pareto()], "by the first scores"


def test_luck_is_not_counted() -> None:
    result = search(Shaky(), Widths(60), strategy="exhaustive", budget=60, racing=Racing(8, 8))
    entered = finalists(result)
    assert np.mean([one.score for one in entered]) > 1.0, "the best 8 of 60 were lucky"
    fresh = [score for one in entered for score in one.race.scores]  # type: ignore[union-attr]
    assert abs(np.mean(fresh)) < 3 / math.sqrt(len(fresh)), "64 fresh draws have the mean that all have"


def test_who_is_truly_better_wins_at_any_price() -> None:
    result = search(Level(lambda width: width % 10), strategy="exhaustive", budget=30, racing=Racing(6, 3))
    assert sorted(one.genotype[1] for one in finalists(result)) == [8, 9, 18, 19, 28, 29]
    assert result.best.genotype[1] == 9, "the cheapest of 9, 19 and 29, and not 8"
    assert [one.genotype[1] % 10 for one in result.leaderboard[:6]] == [9, 9, 9, 8, 8, 8]
    assert "The cheaper one was taken" in result.race or "not cheaper" in result.race


def test_fewer_candidates_than_finalists() -> None:
    assert len(finalists(search(budget=3, racing=Racing(8, 2)))) == 3
    alone = search(budget=1, racing=Racing(8, 2))
    assert alone.best.race is not None
    assert "has the best mean" in alone.race
    assert "others" not in alone.race


def test_the_table_and_the_file(tmp_path: Path) -> None:
    result = search([Noise(), "params"], racing=Racing(2, 3))
    lines = result.table().splitlines()
    assert lines[0].split() == [
        "candidate",
        "noise",
        "race",
        "mean",
        "race",
        "error",
        "params",
        "MACs",
        "depth",
    ]
    assert lines[1].split()[3:5] == [f"{result.best.race.mean:.4f}", f"{result.best.race.error:.2g}"]  # type: ignore[union-attr]
    assert lines[3].split()[3:5] == ["-", "-"]
    assert result.race in lines
    assert result.race.startswith("Race of 2 finalists, 3 fresh seeds each: ")
    result.to_json(tmp_path / "search.json")
    data = json.loads((tmp_path / "search.json").read_text())
    stored = {one["key"]: one["race"] for one in data["history"] if "race" in one}
    assert set(stored) == {one.key for one in finalists(result)}
    best = stored[result.best.key]
    assert best["place"] == 1
    assert len(best["scores"]) == 3
    assert best["statuses"] == ["ok"] * 3
    again = SearchResult.from_json(tmp_path / "search.json")
    assert again.to_dict() == result.to_dict()
    assert again.table() == result.table()
    assert again.best.key == result.best.key


def test_a_table_for_pandas() -> None:
    pytest.importorskip("pandas")
    result = search(racing=Racing(2, 2))
    frame = result.to_pandas()
    assert sorted(frame["race_place"].dropna()) == [1, 2]
    assert frame.loc[frame["race_place"] == 1, "name"].item() == result.best.name


@pytest.mark.parametrize("scores", [(1.0, 2.0), (-math.inf, 2.0), (math.nan, 2.0, 3.0), (math.nan, math.nan, 1.0)])
def test_standings_to_plain_values_and_back(scores: tuple[float, ...]) -> None:
    one = Standing.of(scores, ["why"] * len(scores), 1.5)
    data = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert repr(Standing.from_dict(data)) == repr(one)


# ---- votes


class Third(Noise):
    """The last bias: it has nothing to do with the width."""

    name = "third"

    def value(self, context: Context) -> float:
        return float(list(context.network.parameters())[-1][0])


def test_a_vote_is_held_anew_under_each_seed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    vote = Vote([Noise(), "params", Third()], "borda")
    result = search(vote, journal=path, racing=Racing(5, 3))
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    repeats = {(line["key"], line["repetition"]): line for line in lines if "repetition" in line}
    entered = finalists(result)
    assert len(repeats) == 15
    assert all("score" not in line and "vote" not in line["scores"] for line in repeats.values())
    for number in (1, 2, 3):
        table = {name: [repeats[one.key, number]["scores"][name] for one in entered] for name in vote.names}
        # Borda by hand: the mean over members of the share that a finalist is no worse than.
        ranks = [[sum(other <= value for other in column) / 5 for value in column] for column in table.values()]
        assert [one.race.scores[number - 1] for one in entered] == pytest.approx(np.mean(ranks, axis=0))  # type: ignore[union-attr]
    assert [one.race.place for one in result.leaderboard[:5]] == [1, 2, 3, 4, 5]  # type: ignore[union-attr]
    assert [one.score for one in result.history] == [one.score for one in search(vote).history]


def test_a_finalist_that_fails_takes_no_part_in_the_vote() -> None:
    first = search(Vote([Noise(), "params"], "borda"))
    loser = first.leaderboard[1].genotype[1]
    late = {"count": 0}

    class Fails(Noise):
        def value(self, context: Context) -> float:
            if self.seen[-1] == loser:
                late["count"] += 1
                if late["count"] == 2:  # the first is its score in the search
                    raise RuntimeError("no memory")
            return super().value(context)

    result = search(Vote([Fails(), "params"], "borda"), racing=Racing(3, 3))
    by_width = {one.genotype[1]: one.race for one in finalists(result)}
    assert math.isnan(by_width[loser].scores[0])  # type: ignore[union-attr]
    assert by_width[loser].reasons == ["RuntimeError: no memory", None, None]  # type: ignore[union-attr]
    others = [one.scores for width, one in by_width.items() if width != loser and one is not None]
    assert {round(scores[0] * 4) for scores in others} <= {2, 3, 4}, "ranks among two"
    assert all(round(score * 6) == pytest.approx(score * 6) for scores in others for score in scores[1:])


# ---- what fails in a race


class Failing(Proxy):
    """The width; in the race, what a function of width and repetition says, which may raise."""

    name = "failing"

    def __init__(self, function: Any = None) -> None:
        self.function = function
        self.times: dict[int, int] = {}

    def measure(self, context: Context) -> float:
        width = int(context.network.width)  # type: ignore[arg-type]
        number = self.times[width] = self.times.get(width, -1) + 1
        return float(self.function(width, number) if number else width)


def test_a_repetition_that_fails_is_recorded() -> None:
    def value(width: int, number: int) -> float:
        if width == 30 and number == 2:
            raise RuntimeError("no memory")
        return width + number / 10

    result = search(Failing(value), strategy="exhaustive", budget=30, racing=Racing(3, 4))
    standing = next(one.race for one in result.history if one.genotype[1] == 30)
    assert standing is not None
    assert standing.reasons == [None, "RuntimeError: no memory", None, None]
    assert [score for score in standing.scores if not math.isnan(score)] == pytest.approx([30.1, 30.3, 30.4])
    assert standing.mean == pytest.approx(np.mean([30.1, 30.3, 30.4]))
    assert result.best.genotype[1] == 30
    assert result.funnel.failed == 0, "the funnel counts the search"


def test_who_keeps_failing_is_left_out() -> None:
    def value(width: int, number: int) -> float:
        if width == 30 and number > 1:
            raise RuntimeError("no memory")
        return -math.inf if width == 29 and number == 3 else width + number / 100

    result = search(Failing(value), strategy="exhaustive", budget=30, racing=Racing(4, 3))
    assert [one.genotype[1] for one in result.leaderboard] == [28, 27, *range(26, 0, -1), 30, 29]
    assert "0.30 was left out: dead or failed under 2 of 3 seeds (RuntimeError: no memory)." in result.race
    assert "0.29 was left out: dead or failed under 1 of 3 seeds (the proxy gave -inf)." in result.race


def test_a_race_that_nobody_finishes() -> None:
    def value(width: int, number: int) -> float:
        raise RuntimeError("no memory")

    result = search(Failing(value), strategy="exhaustive", budget=30, racing=Racing(4, 2))
    assert [one.genotype[1] for one in result.leaderboard] == list(range(30, 0, -1)), "the first scores rank"
    assert "none of them has a finite mean, so the first scores rank." in result.race


# ---- the journal and the processes


def test_an_interrupted_race_goes_on_where_it_was(tmp_path: Path) -> None:
    path, proxy = tmp_path / "journal.jsonl", Stops()
    undisturbed = search(racing=Racing(3, 3))
    proxy.left = 12 + 5
    with pytest.raises(KeyboardInterrupt):
        search(proxy, journal=path, racing=Racing(3, 3))
    assert len(path.read_text().splitlines()) == 1 + 12 + 5
    path.write_bytes(path.read_bytes()[:-20])  # the last of them is torn
    proxy.seen.clear()
    proxy.left = math.inf
    resumed = search(proxy, journal=path, racing=Racing(3, 3))
    assert rows(resumed) == rows(undisturbed)
    assert resumed.best.key == undisturbed.best.key
    assert resumed.race == undisturbed.race
    assert len(proxy.seen) == 9 - 4
    proxy.seen.clear()
    assert rows(search(proxy, journal=path, racing=Racing(3, 3))) == rows(undisturbed)
    assert proxy.seen == [], "nothing is left to score"
    more = search(proxy, journal=path, racing=Racing(3, 5))
    assert len(proxy.seen) == 6, "further seeds, and no seed again"
    assert rows(more) == rows(search(racing=Racing(3, 5)))
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert all("race" not in line for line in lines)
    assert [line["repetition"] for line in lines if "repetition" in line] == [
        1,
        1,
        1,
        2,
        2,
        2,
        3,
        3,
        3,
        4,
        4,
        4,
        5,
        5,
        5,
    ]
    proxy.seen.clear()
    assert search(proxy, journal=path).race == "", "and a search without a race reads the file"
    assert proxy.seen == []


def test_a_line_of_a_candidate_holds_no_race(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl", {"seed": 0}) as journal:
        journal.add(row("a", 1.0, 2.0))
    assert Journal(tmp_path / "journal.jsonl", {"seed": 0}).known["a"].race is None


def test_failed_repetitions_are_tried_again(tmp_path: Path) -> None:
    path, broken = tmp_path / "journal.jsonl", True

    class Mended(Failing):
        def measure(self, context: Context) -> float:
            value = super().measure(context)
            if broken and self.times[int(context.network.width)] == 2:  # type: ignore[arg-type]
                raise RuntimeError("no memory")
            return value

    settings: dict[str, Any] = {"strategy": "exhaustive", "journal": path, "budget": 5, "racing": Racing(2, 2)}
    first = search(Mended(add), **settings)
    assert [math.isnan(one.race.scores[1]) for one in finalists(first)] == [True, True]  # type: ignore[union-attr]
    broken = False
    second = search(Mended(add), **settings)
    assert not any(math.isnan(score) for one in finalists(second) for score in one.race.scores)  # type: ignore[union-attr]
    path.write_text(path.read_text().replace('"repetition": 1', '"repetition": 0'))
    with pytest.raises(ValueError, match=r"a repetition is a whole number of at least 1; got 0"):
        search(Mended(add), **settings)


def test_another_proxy_races_from_the_same_journal(tmp_path: Path) -> None:
    path, noise = tmp_path / "journal.jsonl", Noise()
    search([noise, Third()], journal=path, racing=Racing(12, 2))
    noise.seen.clear()
    for proxy in ([Third(), noise], [Vote([noise, Third()])]):
        again = search(proxy, journal=path, racing=Racing(12, 2))
        assert noise.seen == []
        assert [one["race"]["scores"] for one in rows(again)] == [
            one["race"]["scores"] for one in rows(search(proxy, racing=Racing(12, 2)))
        ]
        noise.seen.clear()


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_gives_the_same(size: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": Endless(60), "racing": Racing(5, 3)}
    alone = search(Vote([Noise(), "params"]), **settings)
    proxies = [Noise() for _ in range(size)]
    path = tmp_path / "journal.jsonl"
    results = Team(size).run(
        lambda ranks: search(Vote([proxies[ranks.rank], "params"]), ranks=ranks, journal=path, **settings)
    )
    for result in results:
        assert rows(result) == rows(alone)
        assert result.best.key == alone.best.key
        assert result.race == alone.race
    counts = [len(proxy.seen) for proxy in proxies]
    assert sum(counts) == 12 + 15
    assert max(counts) - min(counts) <= 4, "shared"
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()[1:]]
    assert len(keys) == 27
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:20]) + b"\n")
    seen = [Noise() for _ in range(size)]
    results = Team(size).run(
        lambda ranks: search(Vote([seen[ranks.rank], "params"]), ranks=ranks, journal=path, **settings)
    )
    assert [rows(result) for result in results] == [rows(alone)] * size
    assert sum(len(proxy.seen) for proxy in seen) == 27 - 19


def test_all_processes_stop_where_the_journal_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Journal.add

    def full(journal: Journal, evaluation: Evaluation, repetition: int | None = None) -> None:
        if repetition == 2:
            raise OSError(28, "No space left on device")
        write(journal, evaluation, repetition)

    monkeypatch.setattr(Journal, "add", full)
    outcomes = Team(2).run(lambda ranks: search(ranks=ranks, journal=tmp_path / "journal.jsonl", racing=Racing(3, 4)))
    assert [type(outcome) for outcome in outcomes] == [OSError, OSError]
    assert all("No space left" in str(outcome) for outcome in outcomes)


def test_random_numbers_are_left_as_they_were() -> None:
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(3), random.random()
    torch.manual_seed(3)
    random.seed(3)
    search(budget=3, racing=Racing(2, 2))
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


def test_real_networks() -> None:
    result = search(["wrcor", "params"], CELLS, budget=5, racing=Racing(2, 2))
    assert result.best.race is not None
    assert result.best.race.error > 0
    assert result.network()(torch.randn(2, 3, 8, 8)).shape == (2, 3)


def test_the_bar_counts_the_race(capsys: pytest.CaptureFixture[str]) -> None:
    result = search(budget=4, racing=Racing(2, 3), progress=True)
    shown = capsys.readouterr().err
    assert "10/10" in shown
    leader = max(result.history, key=lambda one: one.score)
    assert f"best={leader.score:.4g}" in shown


# ---- what a user gives


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"finalists": 1}, ValueError, "finalists of a race is a whole number of at least 2; got 1"),
        ({"seeds": 1}, ValueError, "seeds of a race is a whole number of at least 2; got 1"),
        ({"seeds": 2.5}, ValueError, "seeds of a race is a whole number"),
        ({"finalists": True}, ValueError, "finalists of a race is a whole number"),
        ({"errors": -1}, ValueError, "errors of a race is a number of standard errors, 0 or more; got -1"),
        ({"errors": math.nan}, ValueError, "errors of a race"),
        ({"errors": "2"}, ValueError, "errors of a race"),
        ({"sedes": 3}, ValueError, "There is no setting named 'sedes' of a race. Did you mean seeds"),
        (8, TypeError, "A race is given as Racing"),
        (True, TypeError, "A race is given as Racing"),
    ],
)
def test_settings_that_cannot_be(given: Any, error: type[Exception], message: str) -> None:
    proxy = Noise()
    with pytest.raises(error, match=message):
        search(proxy, racing=given)
    assert proxy.seen == [], "before anything is scored"


def test_plain_values() -> None:
    racing = Racing(finalists=np.int64(3), seeds=5, errors=1)  # type: ignore[arg-type]
    assert json.loads(json.dumps(racing.to_dict())) == {"finalists": 3, "seeds": 5, "errors": 1}
    assert Racing.read(racing.to_dict()) == racing
    assert Racing.read(None) is None
    assert Racing.read({}) == Racing(8, 4, 2.0)
