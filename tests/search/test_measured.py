"""Bounds on what is measured: memory of activations, latency, resolution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from search_toys import BATCH, Endless, Noise, Of, Team, Widths
from torch import nn

from lightning_wrcor import SearchResult, zero_shot_search
from lightning_wrcor.inspection import Latency
from lightning_wrcor.search import NSGA2, Constraints, SearchError
from lightning_wrcor.spaces import Genotype, MobileNetV2

Log = list[tuple[int, tuple[int, int, int]]]


def search(space: Any = None, strategy: Any = "exhaustive", **kwargs: Any) -> SearchResult:
    settings = {"proxy": Noise(), "progress": False, **kwargs}
    return zero_shot_search(Widths() if space is None else space, BATCH, strategy=strategy, **settings)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Networks take as many milliseconds as they are wide; who is measured is written down."""
    log: Log = []

    def measure(self: Latency, network: nn.Module, input_size: tuple[int, int, int], device: torch.device) -> float:
        width = int(network.width)  # type: ignore[arg-type]
        if width == 11:
            raise RuntimeError("no kernel for eleven")
        log.append((width, input_size))
        return width * self.batch_size

    monkeypatch.setattr(Latency, "measure", measure)
    return log


def widths(result: SearchResult) -> list[int]:
    return [row.genotype[1] for row in result.history]  # type: ignore[index, misc]


def test_latency_within_a_band(measured: Log) -> None:
    result = search(constraints={"min_latency_ms": 3, "max_latency_ms": 6, "max_params": 7 * 9 + 3})
    assert widths(result) == [3, 4, 5, 6]
    assert [row.latency_ms for row in result.history] == [3, 4, 5, 6]
    assert result.funnel.rejected == {"min_latency_ms": 2, "max_latency_ms": 3, "max_params": 3}
    assert [width for width, _ in measured] == list(range(1, 10)), "who has too many parameters is not measured"
    assert {size for _, size in measured} == {(3, 4, 4)}
    assert result.constraints == {"max_params": 66, "max_latency_ms": 6, "min_latency_ms": 3}
    head = result.table().splitlines()[0].split()
    assert head[-1] == "ms"
    assert next(row.genotype[1] for row in result.pareto("latency_ms")) == 3  # type: ignore[index]
    again = SearchResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert [row.latency_ms for row in again.history] == [3, 4, 5, 6]


def test_how_latency_is_measured_can_be_said(measured: Log) -> None:
    for constraints in ({"latency": {"batch_size": 4}}, Constraints(latency=Latency(batch_size=4))):
        result = search(Widths(4), constraints=constraints)
        assert [row.latency_ms for row in result.history] == [4, 8, 12, 16]
        assert result.constraints["latency"]["batch_size"] == 4


def test_what_cannot_be_measured_has_failed(measured: Log) -> None:
    result = search(constraints={"max_latency_ms": 100})
    (failed,) = (row for row in result.history if row.status == "failed")
    assert failed.genotype[1] == 11  # type: ignore[index]
    assert failed.reason == "latency cannot be measured: RuntimeError: no kernel for eleven"
    assert failed.params == 7 * 11 + 3
    assert len(result.leaderboard) == 11


def test_measured_once_and_decided_once(measured: Log, tmp_path: Path) -> None:
    journal = tmp_path / "search.jsonl"
    first = search(Widths(8), constraints={"max_latency_ms": 5}, journal=journal)
    assert len(measured) == 8
    again = search(Widths(8), constraints={"max_latency_ms": 5}, journal=journal)
    assert len(measured) == 8, "the second search measured nothing"
    assert [row.latency_ms for row in again.history] == [row.latency_ms for row in first.history] == [1, 2, 3, 4, 5]
    assert again.funnel.resumed == 5
    # Another way of measuring: other values, the scores are still good.
    other = search(Widths(8), constraints={"max_latency_ms": 5, "latency": {"batch_size": 2}}, journal=journal)
    assert len(measured) == 16
    assert [row.latency_ms for row in other.history] == [2, 4]
    assert other.funnel.resumed == 2
    assert len(list(tmp_path.iterdir())) == 3


def test_processes_share_the_measuring(measured: Log, tmp_path: Path) -> None:
    alone = search(constraints={"max_latency_ms": 6}, budget=4)
    measured.clear()

    def work(ranks: Any) -> SearchResult:
        return search(constraints={"max_latency_ms": 6}, budget=4, ranks=ranks, journal=tmp_path / "j.jsonl")

    results = Team(2).run(work)
    assert all(isinstance(result, SearchResult) for result in results), results
    for result in results:
        assert widths(result) == widths(alone)
        assert [row.latency_ms for row in result.history] == [row.latency_ms for row in alone.history]
        assert result.funnel == alone.funnel
    assert len(measured) == len({width for width, _ in measured}), "each is measured by one of them"


def test_memory() -> None:
    # The image, what goes into the ReLU and what comes out: floats of 4 x 4 pixels.
    sizes = {width: 4 * 16 * (3 + 2 * width) / 1e6 for width in range(1, 13)}
    result = search(constraints={"max_memory_mb": sizes[7], "min_memory_mb": sizes[4]})
    assert widths(result) == [4, 5, 6, 7]
    assert [row.memory_mb for row in result.history] == [sizes[width] for width in (4, 5, 6, 7)]
    assert result.funnel.rejected == {"max_memory_mb": 5, "min_memory_mb": 3}
    assert result.table().splitlines()[0].split()[-1] == "MB"
    with pytest.raises(ValueError, match="latency_ms was not measured in this search"):
        result.pareto("latency_ms")


def test_nothing_passes(measured: Log) -> None:
    with pytest.raises(SearchError) as caught:
        search(Widths(10), constraints={"max_latency_ms": 5, "min_memory_mb": 1e-3, "min_params": 40})
    text = str(caught.value)
    assert "min_params rejects 5, min_memory_mb rejects 1, max_latency_ms rejects 4" in text
    assert "latency_ms 7" in text
    assert "largest: " in text


@pytest.mark.parametrize("space", [Widths(200), Endless(200)])
def test_measuring_gives_up(space: Any, measured: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_wrcor.search import _search

    monkeypatch.setattr(_search, "REDRAWS", 30)
    with pytest.raises(SearchError, match="max_latency_ms rejects"):
        search(space, strategy="random", budget=3, constraints={"max_latency_ms": 0.5})
    assert 25 <= len(measured) <= 35, "not the whole space"


def test_nsga2_reads_what_is_measured(measured: Log) -> None:
    result = search(Widths(10), strategy=NSGA2(["latency_ms", "memory_mb"], population=4), proxy=Of(float))
    assert sorted(row.latency_ms for row in result.history) == list(range(1, 11))  # type: ignore[type-var]
    assert all(row.memory_mb for row in result.history)
    assert len(result.pareto("memory_mb")) == 10


class Sharp(Widths):
    """The width is the resolution too."""

    kind = "sharp"

    def resolution(self, genotype: Genotype) -> int:
        return 4 * int(genotype[1])  # type: ignore[index, arg-type]


def test_resolution(measured: Log) -> None:
    result = search(Sharp(8), constraints={"min_resolution": 8, "max_resolution": 16, "latency": {}})
    assert widths(result) == [2, 3, 4]
    assert [row.resolution for row in result.history] == [8, 12, 16]
    assert result.funnel.rejected == {"min_resolution": 1, "max_resolution": 4}
    assert [size for _, size in measured] == [(3, 8, 8), (3, 12, 12), (3, 16, 16)], "each at its own"
    with pytest.raises(
        ValueError, match=r"bound on resolution needs a space .* networks of Widths take images as they"
    ):
        search(constraints={"max_resolution": 8})


def test_resolution_of_a_real_space() -> None:
    constraints = {"max_resolution": 192, "max_macs": 600e6}
    result = search(MobileNetV2(), strategy="random", budget=2, proxy="params", constraints=constraints)
    assert [row.resolution for row in result.history] == [192, 192]
    assert result.funnel.rejected["max_resolution"] > 0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"max_latency": 3}, ValueError, "'max_latency'. Did you mean max_latency_ms.? Constraints: max_latency_ms"),
        ({"max_latency_ms": 3, "min_latency_ms": 4}, ValueError, "min_latency_ms=4 and max_latency_ms=3 together"),
        ({"max_memory_mb": "1GB"}, ValueError, "max_memory_mb is a number or None; got '1GB'"),
        (
            {"latency": {"batch": 3}},
            ValueError,
            "no setting named 'batch' of the latency of constraints. Did you mean batch_size.? Settings: batch_size",
        ),
        (
            {"latency": "fast"},
            TypeError,
            r"latency of constraints is given as Latency\(...\), a mapping .*; got 'fast'",
        ),
    ],
)
def test_mistakes(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Constraints.read(given)
    assert Constraints.read({"latency": {"warmup": 0}}).latency == Latency(warmup=0)


def test_a_bound_that_nothing_meets_is_told_early(measured: Log, caplog: pytest.LogCaptureFixture) -> None:
    bounds = {"max_latency_ms": 0.5, "latency": {"batch_size": 1}}
    with pytest.raises(SearchError):
        search(Widths(60), constraints=bounds)
    (told,) = [record.getMessage() for record in caplog.records if "were measured" in record.getMessage()]
    assert "32 candidates were measured, and max_latency_ms=0.5 rejects all of them (" in told
    assert "ms). The search goes on looking." in told
