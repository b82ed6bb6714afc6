"""The ranking: a total order, its baselines, and the way to a file and back."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from search_toys import BATCH, CELLS, Noise, Of, Widths
from torch import nn

from lightning_wrcor import zero_shot_search
from lightning_wrcor.proxies import ScoreReport
from lightning_wrcor.search import Evaluation, Funnel, SearchResult
from lightning_wrcor.search.evaluation import ranked


def row(key: str, score: float, params: int = 1, macs: int = 1, depth: int = 1, status: Any = "ok") -> Evaluation:
    return Evaluation(key, key, key, {"fake": score}, score, params, macs, depth, status)


def result_of(rows: list[Evaluation], proxy: str = "fake") -> SearchResult:
    for one in rows:
        one.scores = {proxy: one.score}
    funnel = Funnel(sampled=len(rows) + 5, rejected={"max_macs": 5}, scored=len(rows))
    return SearchResult({}, [{}], {}, {}, 0, 3, (3, 8, 8), rows, funnel, seconds=1.25)


def strict(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ---- the order


def test_the_order_does_not_depend_on_the_input() -> None:
    rows = [
        row("d", 100.0, macs=5),
        row("a", 100.0 - 0.6e-4, macs=4),  # a tie with d
        row("b", 100.0 - 1.2e-4, macs=1),  # a tie with a, and not with d
        row("c", 50.0, params=2),
        row("e", 50.0, params=2),
        row("f", 50.0, params=1),
        row("dead", -math.inf, status="dead"),
        row("failed", math.nan, status="failed"),
    ]
    expected = ["a", "d", "b", "f", "c", "e"]
    for order in itertools.permutations(rows[:4]):
        assert [one.key for one in ranked([*order, *rows[4:]])] == expected
    rng = random.Random(0)
    for _ in range(50):
        rng.shuffle(rows)
        assert [one.key for one in result_of(rows).leaderboard] == expected


def test_ties_go_to_the_cheaper_and_then_to_the_smaller_key() -> None:
    rows = [
        row("b", 3.0, params=5, macs=7),
        row("a", 3.0, params=5, macs=7),
        row("c", 3.0 * (1 + 9e-7), params=9, macs=7),
        row("d", 3.0 * (1 - 9e-8), params=1, macs=8),
        row("e", -2e9, macs=1),
    ]
    assert [one.key for one in ranked(rows)] == ["a", "b", "c", "d", "e"]
    rows[2].score = 3.0 * (1 + 2e-6)
    assert ranked(rows)[0].key == "c", "no tie any more"


def test_a_long_ranking_is_quick_to_make() -> None:
    rows = [row(str(number), float(number)) for number in range(20_000)]
    assert [one.key for one in ranked(rows)[:2]] == ["19999", "19998"]


def test_the_pareto_front() -> None:
    rows = [
        row("dear and good", 9.0, macs=90, params=10),
        row("dearer, and only a tie", 9.0 * (1 + 1e-7), macs=95, params=10),
        row("middling", 5.0, macs=50, params=50),
        row("beaten", 4.0, macs=60, params=60),
        row("as dear, and worse", 4.5, macs=50, params=5),
        row("cheap", 1.0, macs=5, params=90),
    ]
    result = result_of(rows)
    assert [one.key for one in result.pareto()] == ["cheap", "middling", "dear and good"]
    assert [one.key for one in result.pareto("params")] == ["as dear, and worse", "dear and good"]
    assert [one.key for one in result.pareto("depth")] == [result.best.key]
    for one in result.pareto():
        assert not any(other.macs < one.macs and other.score > one.score for other in rows)


def test_no_winner() -> None:
    with pytest.raises(ValueError, match="No candidate has a finite score: 6 sampled, 5 rejected by max_macs"):
        _ = result_of([row("a", math.nan, status="failed")]).best


# ---- how much of it size explains


def spearman(a: list[float], b: list[float]) -> float:
    """From its definition: Pearson's correlation of ranks; equal values share the mean of their ranks."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(x < v for x in values) + (sum(x == v for x in values) + 1) / 2 for v in values]

    x, y = ranks(a), ranks(b)
    mean = (len(a) + 1) / 2
    products = sum((p - mean) * (q - mean) for p, q in zip(x, y, strict=True))
    return products / math.sqrt(sum((p - mean) ** 2 for p in x) * sum((q - mean) ** 2 for q in y))


def test_baselines_are_rank_correlations() -> None:
    rng = random.Random(1)
    rows = [
        row(str(n), rng.choice([1.0, 2.5, rng.random()]), rng.randint(1, 9), rng.randint(1, 99), 4) for n in range(40)
    ]
    rows.append(row("dead", -math.inf, 10**9, 10**9, 99, status="dead"))
    result = result_of(rows)
    scored = rows[:-1]
    assert set(result.baselines) == {"params", "macs"}, "all those scored have one depth"
    for name, value in result.baselines.items():
        expected = spearman([one.score for one in scored], [float(getattr(one, name)) for one in scored])
        assert value == pytest.approx(expected, abs=1e-6)


def test_a_proxy_that_only_counts_parameters_is_told_so() -> None:
    result = zero_shot_search(Widths(), BATCH, Of(lambda width: math.exp(width / 3)), progress=False)
    assert result.baselines["params"] == pytest.approx(1.0)
    assert result.honesty == (
        "Rank correlation of noise with params +1.00, macs +1.00 (n=12). Warning: noise says little here that params "
        "does not."
    )
    assert result.honesty in result.table()
    against = zero_shot_search(Widths(), BATCH, Of(lambda width: -float(width)), progress=False)
    assert "Warning" in against.honesty
    mixed = result_of([row(str(n), -float(n), params=n, macs=n * 5 % 13) for n in range(1, 13)])
    assert "Warning: fake says little here that params does not" in mixed.honesty
    other = zero_shot_search(Widths(), BATCH, Of(lambda width: float(width * 7 % 13)), progress=False)
    assert "Warning" not in other.honesty
    itself = zero_shot_search(Widths(), BATCH, "params", progress=False)
    assert "params +1.00" in itself.honesty
    assert "Warning" not in itself.honesty


def test_rankings_that_say_nothing() -> None:
    assert "Too few candidates" in result_of([row("a", 1.0), row("b", 2.0, 2)]).honesty
    alike = result_of([row(key, 1.0, params) for params, key in enumerate("abcd")])
    assert "too much alike" in alike.honesty
    four = result_of([row(key, float(params), params) for params, key in enumerate("abcd")])
    assert "params +1.00 (n=4)" in four.honesty
    assert "Warning" not in four.honesty, "four in order happen by chance"


# ---- what a person sees


def test_the_table() -> None:
    rows = [
        row("winner", 12.34567, params=2_340_000, macs=5_600_000_000, depth=17),
        row("x" * 80, 3.5, params=999, macs=1000, depth=3),
        row("third", 1.0, depth=2),
        row("dead one", -math.inf, status="dead"),
    ]
    result = result_of(rows)
    result.notes = ["A note."]
    lines = result.table(rows=2).splitlines()
    assert lines[0].split() == ["candidate", "fake", "params", "MACs", "depth"]
    assert lines[1].split() == ["1", "winner", "12.3457", "2.34M", "5.60G", "17"]
    assert lines[2].split() == ["2", "x" * 67 + "...", "3.5000", "999", "1.00k", "3"]
    assert lines[3] == "9 sampled, 5 rejected by max_macs, 4 scored; 1.2 s."
    assert lines[4].startswith("Rank correlation of fake with")
    assert lines[5] == "A note."
    two = zero_shot_search(Widths(), BATCH, [Noise(), "params"], budget=3, progress=False)
    assert two.table().splitlines()[0].split() == ["candidate", "noise", "params", "MACs", "depth"]
    assert two.table().splitlines()[1].split()[3] == str(two.best.params), "once, as costs are written"


def test_the_funnel_in_words() -> None:
    funnel = Funnel(9, 1, {"max_params": 2, "min_depth": 1}, 3, 1, 1, 2)
    expected = "9 sampled, 1 repeated, 2 rejected by max_params, 1 rejected by min_depth, 3 scored, 1 dead, 1 failed"
    assert str(funnel) == expected + " (2 from the journal, dead and failed ones too)"
    assert str(Funnel(2, scored=2, resumed=2)) == "2 sampled, 2 scored (2 from the journal)"
    assert str(Funnel(2, scored=2)) == "2 sampled, 2 scored"


def test_a_table_for_pandas() -> None:
    pytest.importorskip("pandas")
    result = zero_shot_search(Widths(), BATCH, Of(lambda width: -math.inf if width == 2 else width), progress=False)
    frame = result.to_pandas()
    assert len(frame) == 12
    assert "scores" not in frame
    assert frame.loc[frame["score_noise"].idxmax(), "name"] == result.best.name
    assert (frame["status"] == "dead").sum() == 1


# ---- building the winner


def test_the_winner_is_built() -> None:
    result = zero_shot_search(CELLS, BATCH, "params", budget=4, progress=False)
    network = result.network()
    assert sum(parameter.numel() for parameter in network.parameters()) == result.best.params
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 3)
    assert result.network(num_classes=7, in_chans=1)(torch.randn(2, 1, 8, 8)).shape == (2, 7)
    torch.manual_seed(4)
    first = result.network()
    torch.manual_seed(4)
    second = result.network()
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


class Huge(Widths):
    def __len__(self) -> int:
        return 10**30


def test_the_winner_of_objects_is_built_from_the_space_that_was_searched(tmp_path: Path) -> None:
    def mine(num_classes: int) -> nn.Module:
        return Widths().build((0, 3), num_classes)

    result = zero_shot_search([mine], BATCH, Noise(), progress=False)
    assert result.network()(torch.randn(2, 3, 4, 4)).shape == (2, 3)
    result.to_json(tmp_path / "search.json")
    for copy in (SearchResult.from_json(tmp_path / "search.json"), pickle.loads(pickle.dumps(result))):  # noqa: S301
        with pytest.raises(ValueError, match=r"was an object, function .*mine, .* pass the object again"):
            copy.network()
        assert copy.network(space=result.searched_space)(torch.randn(2, 3, 4, 4)).shape == (2, 3)
    huge = zero_shot_search(Huge(), BATCH, Noise(), budget=1, progress=False)
    assert huge.network(space=Huge()).width == huge.best.genotype[1]


# ---- to a file and back


def some() -> SearchResult:
    def values(width: int) -> float:
        if width == 3:
            raise ValueError("three")
        return -math.inf if width == 4 else width

    return zero_shot_search(
        Widths(), BATCH, [Of(values), "params"], progress=False, seed=3, constraints={"max_params": 1e9}, budget=12
    )


def test_to_a_file_and_back(tmp_path: Path) -> None:
    result, path = some(), tmp_path / "deep" / "search.json"
    _ = result.leaderboard, result.baselines
    result.to_json(path)
    data = strict(path.read_text())
    by_status = {one["status"]: one for one in data["history"]}
    assert by_status["failed"]["score"] is None
    assert by_status["failed"]["reason"] == "ValueError: three"
    assert by_status["dead"]["scores"] == {"noise": None, "params": 31.0}
    again = SearchResult.from_json(path)
    assert again.to_dict() == result.to_dict()
    assert strict(json.dumps(again.to_dict())) == data
    assert [one.key for one in again.leaderboard] == [one.key for one in result.leaderboard]
    assert {one.status: one.score for one in again.history}["dead"] == -math.inf
    assert all(math.isnan(one.score) for one in again.history if one.status == "failed")
    assert again.best.genotype == result.best.genotype
    assert again.table() == result.table()
    assert again.network().width == result.best.genotype[1]
    assert again.funnel == result.funnel
    assert again.input_size == (3, 4, 4)
    again.to_json(path)
    assert strict(path.read_text()) == data
    again.history[0].details["odd"] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        again.to_json(path)
    assert strict(path.read_text()) == data, "what was there stays"
    assert [entry.name for entry in path.parent.iterdir()] == ["search.json"], "no half-written file is left"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[1]", "no search result of lightning_wrcor"),
        ('{"format": "lightning_wrcor journal"}', "no search result of lightning_wrcor"),
        ('{"format": "lightning_wrcor search result", "version": 9}', "version 9; this package reads 1"),
        ('{"format": "lightning_wrcor search result", "version": 1}', "'history'"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        SearchResult.from_json(path)
    assert str(error.value).startswith(f"{path} cannot be read as a search result: ")


def test_what_a_score_rests_on_is_kept() -> None:
    one = Evaluation("a", "a", "a")
    report = ScoreReport("p", 0.0, {"p": 0.0}, size_term=0.0, depth_normalised=False, coverage=0.0, notes=["changed"])
    one.add_report(report)
    assert one.details == {"size_term": 0.0, "depth_normalised": False, "coverage": 0.0, "notes": ["changed"]}
    assert one.status == "ok"


@pytest.mark.parametrize(
    "change", [{"status": "fine"}, {"score": None}, {"score": "1"}, {"score": math.inf}, {"status": "dead"}]
)
def test_evaluations_that_contradict_themselves(change: dict[str, Any]) -> None:
    data = row("a", 1.0).to_dict()
    assert Evaluation.from_dict(data).to_dict() == data
    with pytest.raises(ValueError, match="status"):
        Evaluation.from_dict({**data, **change})
