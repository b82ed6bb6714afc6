"""What more processes are worth: rates, ratios and overheads, and that all find the same."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from search_toys import BATCH, CELLS

from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark.scaling import Scaling, Timed, format_scaling, measure_scaling, summarise


def test_rates_ratios_and_overheads_by_hand() -> None:
    timed = [
        Timed(1, wall=10.0, networks=9.0, candidates=20, keys=[]),
        Timed(3, wall=4.0, networks=9.0, candidates=20, keys=[]),
        Timed(1, wall=8.0, networks=8.0, candidates=20, keys=[]),
        Timed(3, wall=5.0, networks=12.0, candidates=20, keys=[]),
    ]
    one, three = summarise(timed, [1, 3])
    assert one == Scaling(1, [2.0, 2.5], [1.0, 1.0], [pytest.approx(0.1), 0.0], [0.45, 0.4])
    # 3 processes in 4 s have 12 s, of which 9 go into networks; in 5 s they have 15, of which 12 do.
    assert three == Scaling(3, [5.0, 4.0], [2.5, 1.6], [0.25, pytest.approx(0.2)], [0.45, 0.6])
    assert format_scaling([one, three]).splitlines()[2:] == [
        "| 1 | 2.25 | 1.00 | 1.00 to 1.00 | 5.0% | 0.425 |",
        "| 3 | 4.50 | 2.05 | 1.60 to 2.50 | 22.5% | 0.525 |",
    ]


@pytest.mark.processes
def test_searches_by_one_and_by_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    one, two = measure_scaling(CELLS, BATCH, processes=(1, 2), budget=6, repeats=2)
    assert (one.processes, two.processes) == (1, 2)
    assert len(one.rates) == len(two.rates) == 2
    assert [a / b for a, b in zip(two.rates, one.rates, strict=True)] == pytest.approx(two.ratios)
    assert all(0 < share < 1 for share in (*one.overheads, *two.overheads))
    assert torch.get_num_threads() == 2
    assert not multiprocessing.active_children()

    # Numbers of processes that find different things are no measurement of one search.
    rows = [Timed(count, 1.0, 0.5, 1, [("a", float(count))]) for count in (1, 2)]
    monkeypatch.setattr("lightning_wrcor.benchmark.scaling.search_in_processes", lambda *arguments: rows)
    with pytest.raises(RuntimeError, match="2 and 1 processes found different things"):
        measure_scaling(CELLS, BATCH)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--processes", "0,1"], "processes are different numbers of at least 1; got 0, 1"),
        (["--processes", "1,two"], "--processes takes numbers with commas between; got '1,two'"),
        (["--processes", "2,2"], "got 2, 2"),
        (["--repeats", "0"], "budget and repeats are at least 1; got 24 and 0"),
        (["--proxy", "wrkor"], "no proxy named 'wrkor'"),
        (["--accelerator", "tpu"], "accelerator='tpu' cannot be used here"),
    ],
)
def test_mistakes_are_one_sentence(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaling", *given]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
