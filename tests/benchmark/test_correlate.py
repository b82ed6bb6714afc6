from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path

import numpy as np
import pytest

from lightning_wrcor.benchmark.correlate import correlate, format_table
from lightning_wrcor.spaces import NASBench201

SPACE = NASBench201(width=4, cells=1)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Fourteen cells, one of them dead, with accuracies that grow with their parameters but for two."""
    rng = random.Random(0)
    names = sorted({SPACE.name(SPACE.sample(rng)) for _ in range(13)})
    names.append("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    params = [SPACE.costs(SPACE.parse(name), (3, 8, 8), 10).params for name in names]
    with gzip.open(tmp_path / "table.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "accuracy", "empty"])
        for place, (name, count) in enumerate(zip(names, params, strict=True)):
            writer.writerow([name, count / 1000 + 30 * (place == 3), ""])
        writer.writerow([names[0], "", ""])  # a row without an accuracy
    pixels = np.random.default_rng(0).integers(0, 255, (32, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x_train=pixels, y_train=np.arange(32) % 10)
    return tmp_path


def ranks(values: list[float]) -> list[float]:
    """Average ranks, the slow way."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def spearman(first: list[float], second: list[float]) -> float:
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def test_rank_correlations_are_those_of_the_scores(table: Path) -> None:
    found = correlate(
        SPACE, table / "table.csv.gz", "accuracy", table / "images.npz", table / "out", ["wrcor", "acor"], batch_size=16
    )
    rows = list(csv.DictReader(open(table / "out" / "scores.csv")))  # noqa: SIM115
    assert len(rows) == 14
    accuracies = [float(row["accuracy"]) for row in rows]
    for agreement in found:
        if ":" in agreement.name:
            continue
        values = [float(row[agreement.name]) if row[agreement.name] else -np.inf for row in rows]
        assert agreement.spearman == pytest.approx(spearman(values, accuracies), abs=1e-6), agreement.name
        assert agreement.n == 14
    names = [agreement.name for agreement in found]
    assert names == ["wrcor", "wrcor:size_term", "wrcor:shape_term", "acor", "params", "macs", "depth"]
    assert next(row["status"] for row in rows if row["architecture"].count("none") == 6) == "dead"
    assert "| wrcor |" in (table / "out" / "table.md").read_text()
    assert format_table(found).count("\n") == 8


def test_the_command(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lightning_wrcor.benchmark.__main__ import main

    names = [f"--accuracies={table / 'table.csv.gz'}", "--column=accuracy", f"--images={table / 'images.npz'}"]
    small = ["--limit=2", "--batch-size=4", f"--out={table / 'out'}", "--proxies=acor,params"]
    assert main(["correlate", "--space=nasbench201", *names, *small]) == 0
    assert "| acor |" in capsys.readouterr().out


def test_a_second_run_goes_on_from_the_first(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (SPACE, table / "table.csv.gz", "accuracy", table / "images.npz", table / "out")
    first = correlate(*arguments, limit=6, batch_size=16)
    monkeypatch.setattr(NASBench201, "build", lambda *args, **kwargs: pytest.fail("scored again"))
    assert correlate(*arguments, limit=6, batch_size=16) == first


def test_a_missing_column_says_which_there_are(table: Path) -> None:
    with pytest.raises(ValueError, match="has no column 'acc'; it has arch, accuracy, empty"):
        correlate(SPACE, table / "table.csv.gz", "acc", table / "images.npz", table / "out")
