"""Strategies among known networks: the space of a table, the test of significance, and the command."""

from __future__ import annotations

import csv
import itertools
import random
from pathlib import Path

import pytest

from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark._known import KnownNetworks
from lightning_wrcor.benchmark.strategies import compare_strategies, read_strategy, wilcoxon
from lightning_wrcor.search import NSGA2, Reinforce
from lightning_wrcor.spaces import NASBenchMacro, NATSBenchSize

WIDTHS = NATSBenchSize((8, 16, 24))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Most of the 243 networks of three widths; the accuracy is smooth, with its best in the middle."""
    path = tmp_path / "table.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["channels", "accuracy"])
        for genotype in random.Random(0).sample(list(WIDTHS), 200):
            assert isinstance(genotype, tuple)
            noise = random.Random(str(genotype)).random()
            writer.writerow([WIDTHS.name(genotype), 90 - sum(abs(int(str(width)) - 16) for width in genotype) + noise])
    return path


def test_a_table_as_a_space() -> None:
    known = KnownNetworks(WIDTHS, {"8:8:8:8:8": 1.0, "8:8:8:8:16": 2.0, "24:24:24:24:24": 5.0})
    assert len(known) == 3
    rng = random.Random(0)
    assert {known.name(known.sample(rng)) for _ in range(50)} == {"8:8:8:8:8", "8:8:8:8:16", "24:24:24:24:24"}
    assert {known.mutate((8, 8, 8, 8, 8), rng) for _ in range(20)} == {(8, 8, 8, 8, 16)}, "one change away"
    far = {known.mutate((24, 24, 24, 24, 24), rng) for _ in range(20)}
    assert far <= {(8, 8, 8, 8, 8), (8, 8, 8, 8, 16)}, "nothing is one change away from it"
    assert known.assemble((8, 8, 8, 8, 16)) == (8, 8, 8, 8, 16)
    with pytest.raises(ValueError, match=r"The accuracy of 8:8:8:16:8 is not known"):
        known.assemble((8, 8, 8, 16, 8))
    with pytest.raises(ValueError, match=r"No other network of the table is within 20 changes of 8:8:8:8:8"):
        KnownNetworks(WIDTHS, {"8:8:8:8:8": 1.0}).mutate((8, 8, 8, 8, 8), rng)


def test_all_forms_of_a_known_network_belong_to_it() -> None:
    space = NASBenchMacro()
    known = KnownNetworks(space, {"00000010": 80.0, "22222222": 90.0, "00000001": 82.0, "10000000": 70.0})
    # An identity after a stage's first place may stand in any later one: the first and the third are one network.
    assert known.networks == 3
    assert sorted(map(known.name, known)) == ["00000001", "00000010", "10000000", "22222222"]
    assert known.accuracy((0, 0, 0, 0, 0, 0, 0, 1)) == 81.0
    assert KnownNetworks(space, {"00000010": 80.0}).assemble((0, 0, 0, 0, 0, 0, 0, 1)) == (0, 0, 0, 0, 0, 0, 0, 1)


def test_wilcoxon_against_all_signs() -> None:
    rng = random.Random(0)
    for size in (1, 4, 8):
        first = [float(rng.randrange(6)) for _ in range(size)]
        second = [float(rng.randrange(6)) for _ in range(size)]
        differences = [a - b for a, b in zip(first, second, strict=True) if a != b]
        ranks = [
            sum(abs(other) < abs(one) for other in differences)
            + (sum(abs(other) == abs(one) for other in differences) + 1) / 2
            for one in differences
        ]
        observed = sum(rank for rank, one in zip(ranks, differences, strict=True) if one > 0)
        sums = [
            sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
            for signs in itertools.product((False, True), repeat=len(ranks))
        ]
        assert wilcoxon(first, second) == sum(total <= observed for total in sums) / len(sums)
    # The tables of the signed-rank test: with 20 pairs, a sum of 60 is the last that is significant at 5 %, one-sided.
    ranks = list(range(1, 21))
    assert wilcoxon(
        [float(r) if r in (20, 19, 18, 3) else 0.0 for r in ranks],
        [0.0 if r in (20, 19, 18, 3) else float(r) for r in ranks],
    ) == pytest.approx(0.0487, abs=5e-4)
    assert wilcoxon([1.0], [1.0]) == 1.0


def test_strategies_are_compared_with_random_search(table: Path) -> None:
    outcomes = compare_strategies(WIDTHS, table, "accuracy", ["local_search:starts=5,children=2"], 40, 10)
    assert [one.name for one in outcomes] == ["random", "local_search:starts=5,children=2"]
    first, learning = outcomes
    assert (first.p_regret, first.p_volume) == (1.0, 1.0)
    assert all(0 <= share <= 1 for one in outcomes for share in one.volumes)
    assert all(regret >= 0 for one in outcomes for regret in one.regrets)
    assert sum(learning.regrets) < sum(first.regrets)
    assert learning.p_regret < 0.05


def test_the_command(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["strategies", "--space", '{"class_path": "NATSBenchSize", "init_args": {"widths": [8, 16, 24]}}']
    given += ["--accuracies", str(table), "--column", "accuracy", "--budget", "25", "--seeds", "2"]
    assert main([*given, "--strategy", "local_search", "--strategy", "nsga2:population=5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| random", "| local_search", "| nsga2:population=5"]
    assert main([*given, "--budget", "200"]) == 2
    assert "The budget must be at least 1 and below 200, the networks of the table; got 200" in capsys.readouterr().err
    assert main([*given, "--seeds", "0"]) == 2
    assert "seeds must be at least 1; got 0" in capsys.readouterr().err
    assert main([*given, "--strategy", "evolving"]) == 2
    assert "no strategy named 'evolving'" in capsys.readouterr().err


def test_strategies_as_text() -> None:
    strategy = read_strategy("reinforce:learning_rate=0.05,draws=2")
    assert isinstance(strategy, Reinforce)
    assert (strategy.learning_rate, strategy.draws) == (0.05, 2)
    assert isinstance(read_strategy("nsga2"), NSGA2)
    with pytest.raises(ValueError, match="written name:argument=value"):
        read_strategy("reinforce:0.05")
