"""A vote without its members, from a file of scores."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark.ablation import ablate, format_ablations
from lightning_wrcor.proxies import Vote

VOTE = {
    "class_path": "lightning_wrcor.proxies.Vote",
    "init_args": {
        "members": ["params", "macs", "wrcor", "naswot"],
        "rule": "agreement",
        "anchors": ["params"],
        "adjusted": {"naswot": 0.5},
    },
}


def write(folder: Path, **columns: list[str]) -> Path:
    folder.mkdir()
    table = {"architecture": [f"net{i}" for i in range(len(next(iter(columns.values()))))]}
    table |= {name.replace("accuracy_", "accuracy:"): values for name, values in columns.items()}
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return folder / "scores.csv"


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rng = random.Random(0)
    quality = [rng.gauss(0, 1) for _ in range(40)]

    def noisy(share: float) -> list[str]:
        return [repr(share * value + rng.gauss(0, 1)) for value in quality]

    return write(
        tmp_path / "run",
        accuracy_test=[*map(repr, quality[:-1]), ""],  # one network without an accuracy
        accuracy_other=noisy(0.5),
        params=noisy(1.0),
        macs=noisy(0.5),
        wrcor=[*noisy(1.5)[:-5], "-inf", "", *noisy(1.5)[-3:]],
        naswot=noisy(2.0),
    )


def test_every_row_is_the_vote_of_those_that_are_left(scores: Path) -> None:
    with open(scores, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["accuracy:test"]]
    table = {name: [float(row[name] or "nan") for row in rows] for name in ("params", "macs", "wrcor", "naswot")}
    accuracies = [float(row["accuracy:test"]) for row in rows]

    def of(vote: Vote) -> float:
        return float(spearmanr(vote.combine(table), accuracies).statistic)

    found = ablate(scores, VOTE)
    assert (found.run, found.column, found.n) == ("run", "test", 39)
    expected = {
        "whole": of(Vote([*table], "agreement", anchors=["params"], adjusted={"naswot": 0.5})),
        "equal weights": of(Vote([*table], "log_rank")),
        "without params": None,  # the member that is adjusted would have no anchor
        "without macs": of(Vote(["params", "wrcor", "naswot"], "agreement", anchors=["params"], adjusted={"naswot": 0.5})),
        "without wrcor": of(Vote(["params", "macs", "naswot"], "agreement", anchors=["params"], adjusted={"naswot": 0.5})),
        "without naswot": of(Vote(["params", "macs", "wrcor"], "agreement", anchors=["params"])),
        "without all that look beside size": of(Vote(["params", "macs", "wrcor"], "agreement", anchors=["params"])),
        "params alone": float(spearmanr(table["params"], accuracies).statistic),
    }  # fmt: skip
    for name, value in expected.items():
        assert found.spearman[name] == (None if value is None else pytest.approx(value, abs=1e-6)), name
    assert found.weights["params"] == 1.0
    assert found.weights["naswot"] == 0.5
    assert ablate(scores, VOTE, "other").n == 40
    text = format_ablations([found, ablate(scores, VOTE, "other")])
    assert "| Spearman | run test | run other |" in text
    assert f"| whole | {found.spearman['whole']:.3f} |" in text
    assert "| without params | – | – |" in text
    assert "| naswot | 0.50 | 0.50 |" in text


def test_mistakes(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="'wrcor' is no vote"):
        ablate(scores, "wrcor")
    with pytest.raises(ValueError, match=r"has no column 'accuracy:tset'; it has architecture, accuracy:test"):
        ablate(scores, VOTE, "tset")
    assert main(["ablation", str(scores)]) == 2
    assert "has no column 'synflow'" in capsys.readouterr().err
    assert main(["ablation", str(tmp_path / "none.csv")]) == 2
    empty = write(tmp_path / "empty", accuracy_test=[])
    with pytest.raises(ValueError, match=r"is no scores\.csv of this benchmark with networks in it"):
        ablate(empty, VOTE)
    text = write(tmp_path / "text", accuracy_test=["1"], params=["many"], macs=["1"], wrcor=["1"], naswot=["1"])
    with pytest.raises(ValueError, match="holds text where numbers of 'params' should be"):
        ablate(text, VOTE)
