"""What a search does about candidates that cannot be scored, and about searches that find nothing."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from search_toys import BATCH, Endless, Noise, Of, Widths
from torch import nn

from lightning_wrcor import zero_shot_search
from lightning_wrcor.inspection import Costs
from lightning_wrcor.search import SearchError, SearchResult, Strategy, _search
from lightning_wrcor.spaces import ImageSizeError, NetworkList


def search(space: Any = None, proxy: Any = None, strategy: Any = "exhaustive", **kwargs: Any) -> SearchResult:
    return zero_shot_search(
        Widths() if space is None else space, BATCH, proxy or Noise(), strategy, progress=False, **kwargs
    )


def test_every_third_candidate_raises() -> None:
    def third(width: int) -> float:
        if width % 3 == 0:
            raise RuntimeError(f"no value for {width}\nwith more lines")
        return width

    result = search(proxy=Of(third))
    failed = [row for row in result.history if row.status == "failed"]
    assert [row.genotype[1] for row in failed] == [3, 6, 9, 12]
    assert failed[1].reason == "RuntimeError: no value for 6"
    assert all(math.isnan(row.score) and row.scores == {} and row.params for row in failed)
    assert result.funnel.failed == 4
    assert result.funnel.scored == 8
    assert [row.genotype[1] for row in result.leaderboard] == [11, 10, 8, 7, 5, 4, 2, 1]
    assert result.notes[0].startswith("4 of 12 candidates could not be scored. Most common reasons: RuntimeError: no")


class OfAnotherSize(Widths):
    """Every other network takes images of one size only, which is not that of the batch."""

    def costs(self, genotype: Any, input_size: Any = None, num_classes: int = 1000) -> Costs:
        if genotype[1] % 2 or self.count < 12:
            raise ImageSizeError(f"width {genotype[1]} wants larger images")
        return super().costs(genotype, input_size, num_classes)


def test_networks_for_images_of_another_size_are_left_out_and_take_no_budget() -> None:
    result = search(OfAnotherSize(), budget=5)
    assert [row.genotype[1] for row in result.history] == [2, 4, 6, 8, 10]
    assert result.funnel.rejected == {"image_size": 5}
    assert result.funnel.failed == 0
    (note,) = (note for note in result.notes if "left out" in note)
    assert re.match(
        r"5 candidates were left out, which cannot run on images of \d+x\d+ pixels\. The first: width 1 ", note
    )


def test_a_search_among_networks_for_another_size_says_so() -> None:
    with pytest.raises(
        SearchError, match=r"No candidate takes images of this size\. 11 candidates were .*: width 1 wants"
    ):
        search(OfAnotherSize(11))


def test_a_proxy_that_always_raises_stops_the_search() -> None:
    def broken(width: int) -> float:
        raise KeyError("missing")

    proxy = Of(broken)
    with pytest.raises(SearchError, match=r"8 of 8 candidates could not be scored, .*KeyError: 'missing' \(8 times\)"):
        search(proxy=proxy)
    assert len(proxy.seen) == 8, "not the whole generation"
    with pytest.raises(SearchError, match=r"None of 3 candidates got a finite score .*3 failed\). .*missing"):
        search(Widths(3), proxy=Of(broken))


def test_a_proxy_that_mostly_raises_stops_the_search() -> None:
    def mostly(width: int) -> float:
        if width > 2:
            raise ValueError(f"width {width % 2}")
        return width

    with pytest.raises(SearchError, match=r"38 of 40 .* ValueError: width 1 \(19 times\); .*First such candidate: 0.3"):
        search(Widths(40), proxy=Of(mostly))


@pytest.mark.parametrize(("value", "text"), [(math.nan, "gave NaN"), (math.inf, r"gave \+inf")])
def test_values_that_rank_nothing(value: float, text: str) -> None:
    result = search(proxy=Of(lambda width: value if width == 5 else width))
    (failed,) = (row for row in result.history if row.status == "failed")
    assert failed.genotype[1] == 5
    assert re.search(text, failed.reason or "")
    assert failed.scores == {}


def test_a_second_proxy_that_gives_inf() -> None:
    class Second(Of):
        name = "second"

    result = search(proxy=[Of(float), Second(lambda width: math.inf if width == 2 else width)])
    without = [row for row in result.history if "second" not in row.scores]
    assert [(row.genotype[1], row.status) for row in without] == [(2, "ok")]
    assert without[0].details["refused"] == {"second": "The proxy second gave +inf."}


def test_dead_candidates_are_ranked_nowhere() -> None:
    result = search(proxy=Of(lambda width: -math.inf if width > 9 else width))
    dead = [row for row in result.history if row.status == "dead"]
    assert [row.genotype[1] for row in dead] == [10, 11, 12]
    assert all(row.score == -math.inf and row.reason == "the proxy gave -inf" for row in dead)
    assert result.best.genotype[1] == 9
    assert result.funnel.dead == 3
    with pytest.raises(SearchError, match=r"None of 12 .*12 dead.*the proxy gave -inf \(12 times\)"):
        search(proxy=Of(lambda width: -math.inf))


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))

    def greedy(width: int) -> float:
        if width == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return width

    result = search(proxy=Of(greedy))
    assert emptied == [True]
    assert result.history[3].status == "failed"
    assert result.history[3].reason == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert result.history[4].score == 5.0, "the next one is scored as ever"


def test_networks_that_cannot_be_built_or_counted() -> None:
    class Fragile(Widths):
        def build(self, genotype: Any, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
            if genotype[1] == 2:
                raise RuntimeError("no such width")
            return super().build(genotype, num_classes, in_chans)

        def costs(self, genotype: Any, *args: Any, **kwargs: Any) -> Costs:
            if genotype[1] == 3:
                raise RuntimeError("cannot count")
            return Costs(genotype[1], genotype[1], 1)

        def name(self, genotype: Any) -> str:
            if genotype[1] == 4:
                raise RuntimeError("nameless")
            return super().name(genotype)

    result = search(Fragile())
    assert [row.reason for row in result.history[1:4]] == [
        "RuntimeError: no such width",
        "RuntimeError: cannot count",
        "RuntimeError: nameless",
    ]
    assert result.history[3].name == "004", "the key stands in for the name"
    assert result.funnel.scored == 9


def test_a_network_without_non_linearities_is_named() -> None:
    def linear(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes))

    def other(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, num_classes))

    result = zero_shot_search(NetworkList([linear, other]), BATCH, "acor", progress=False)
    assert result.best.name == "other"
    assert "1 of 2 candidates could not be scored" in result.table()
    assert "calls no non-linearity" in result.table()


# ---- searches that find nothing


def test_constraints_that_nothing_meets() -> None:
    with pytest.raises(SearchError) as error:
        search(constraints={"max_params": 20, "min_depth": 2})
    text = str(error.value)
    assert "{'max_params': 20, 'min_depth': 2}" in text
    assert "of 12 different ones, min_depth rejects 2, max_params rejects 10" in text
    assert "Smallest found: params 10, macs 51, depth 1; largest: params 87, macs 612, depth 1" in text
    with pytest.raises(SearchError, match=r"Smallest found: params 10, macs 51, depth 1. Loosen"):
        search(constraints={"max_params": 5})


def test_an_endless_space_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_search, "REDRAWS", 30)
    drawn: list[int] = []

    class Counted(Endless):
        def sample(self, rng: Any) -> Any:
            drawn.append(1)
            return super().sample(rng)

    with pytest.raises(SearchError, match="No candidate meets the constraints"):
        search(Counted(500), strategy="random", budget=4, constraints={"min_depth": 2})
    assert 30 <= len(drawn) <= 34


def test_an_empty_space() -> None:
    with pytest.raises(SearchError, match=r"The space is empty: Widths\(count=0, copies=1\) proposed no candidate"):
        search(Widths(0), strategy="random")


def test_a_strategy_that_proposes_nothing() -> None:
    class Idle(Strategy):
        kind = "idle"

        def start(self, space: Any, seed: int) -> None:
            pass

        def ask(self, n: int) -> list[Any]:
            return []

    with pytest.raises(SearchError, match="proposed no candidate"):
        search(strategy=Idle())
