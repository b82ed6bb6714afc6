"""Whole searches with several strategies."""

from __future__ import annotations

import csv
import json
import re
from operator import ge, gt
from pathlib import Path

import pytest

from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark.searches import compare_searches, format_searches
from lightning_wrcor.spaces import NASBench201

CELLS = NASBench201(width=4, cells=1)
SPACE = json.dumps(CELLS.config())


def table(path: Path, every: int = 1) -> dict[str, float]:
    """Accuracies that are the numbers of parameters, in thousands, of every so manieth cell."""
    rows = {
        CELLS.name(cell): CELLS.costs(cell, num_classes=10).params / 1000
        for place, cell in enumerate(CELLS)
        if place % every == 0
    }
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "accuracy"])
        writer.writerows(rows.items())
    return rows


def test_what_is_found_and_known(tmp_path: Path) -> None:
    known = table(tmp_path / "table.csv", every=7)
    outcomes = compare_searches(
        SPACE,
        tmp_path / "out",
        ["random", "evolution:population=8"],
        "params",
        40,
        accuracies=tmp_path / "table.csv",
        columns=["accuracy"],
        constraints={"max_params": 12_000},
        batch_size=4,
        image_size=8,
        num_classes=10,
    )
    assert [one.strategy for one in outcomes] == ["random", "evolution:population=8"]
    keys = {CELLS.key(CELLS.parse(name)) for name in known}
    for one in outcomes:
        assert one.scored == 40
        assert one.params <= 12_000
        assert one.score == one.params
        assert one.place is not None
        (accuracy,) = one.accuracies_there.values()
        assert accuracy <= 12
        result = json.loads((tmp_path / "out" / f"{one.strategy.replace(':', '_').replace('=', '_')}.json").read_text())
        history = [(row["score"], CELLS.key(CELLS.parse(row["name"]))) for row in result["history"]]
        assert accuracy * 1000 == max(score for score, key in history if key in keys)
        better, alike = (sum(op(score, accuracy * 1000) for score, _ in history) for op in (gt, ge))
        assert better < one.place <= alike
    shared = re.search(r"\((\d+) from the journal", outcomes[1].funnel)
    assert shared, "a network is scored once"
    assert int(shared[1]) >= 8, "the first population is that of random search"
    text = format_searches(outcomes, ["accuracy"])
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "search",
        "--space",
        SPACE,
        "--proxy",
        "params",
        "--budget",
        "5",
        "--batch-size",
        "4",
        "--image-size",
        "8",
    ]
    command += ["--threads", "1", "--strategy", "random", "--out", str(tmp_path), "--constraint", "max_params=3e4"]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "| random | params | " in first.out
    assert main(command) == 0
    assert "(5 from the journal)" in capsys.readouterr().err
    for wrong, message in (
        (["--constraint", "max_params"], "NAME=VALUE; got 'max_params'"),
        (["--constraint", "max_params=few"], "--constraint max_params takes a number; got 'few'"),
        (["--constraint", "max_parms=3"], "no constraint named 'max_parms'"),
        (["--column", "accuracy"], "go together"),
        (["--strategy", "evolutoin"], "evolution"),
        (["--space", "nasbench20"], "nasbench201"),
    ):
        assert main([*command, *wrong]) == 2
        assert message in capsys.readouterr().err
