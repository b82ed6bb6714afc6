from __future__ import annotations

from pathlib import Path

import pytest

from lightning_wrcor.benchmark import compare_runs
from lightning_wrcor.benchmark.__main__ import main


def write(path: Path, names: str, rows: list[str]) -> Path:
    path.write_text("\n".join([names, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    names = "architecture,accuracy:acc,naswot,params,status,reason,seconds,seconds:naswot"
    first = ["a,1,1.0,5,ok,,1,1", "b,2,2.0,6,ok,,1,1", "c,3,3.0,7,ok,,1,1", "d,4,4.0,8,ok,,1,1", "e,9,5,9,ok,,1,1"]
    second = ["d,4,-inf,8,dead,,1,1", "b,2,2.0,6,ok,,1,1", "a,1,1.0,5,ok,,1,1", "c,3,9.0,7,ok,,1,1"]
    write(tmp_path / "a.csv", names, first)
    write(tmp_path / "b.csv", names, second)
    write(tmp_path / "p.csv", "arch,published_nwot,published_other", ["a,3,1", "b,2,", "c,1,3", "d,,4"])
    return tmp_path


def test_seed_to_seed_agreement_is_over_the_common_networks(runs: Path) -> None:
    naswot, params = compare_runs(runs / "a.csv", runs / "b.csv")
    # Ranks 1 2 3 4 and 2 3 4 1 (the dead network last): 1 - 6 * (1 + 1 + 1 + 9) / (4 * 15).
    assert (naswot.name, naswot.n, naswot.between_runs) == ("naswot", 4, pytest.approx(-0.2, abs=1e-5))
    assert (params.name, params.between_runs) == ("params", pytest.approx(1.0, abs=1e-5))
    assert naswot.published_n == 0


def test_published_scores_are_found_under_their_names(runs: Path) -> None:
    naswot, params = compare_runs(runs / "a.csv", runs / "b.csv", runs / "p.csv")
    assert naswot.published_n == 3
    assert (naswot.first_published, naswot.between_runs_there) == (
        pytest.approx(-1, abs=1e-5),
        pytest.approx(1, abs=1e-5),
    )
    assert params.published_n == 0
    given = compare_runs(runs / "a.csv", runs / "b.csv", runs / "p.csv", names={"params": "other"})
    assert (given[1].published_n, given[1].first_published) == (3, pytest.approx(1, abs=1e-5))


def test_the_command(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(runs / "a.csv"), str(runs / "b.csv")]
    assert main(["agreement", *files, "--published", str(runs / "p.csv"), "--names", "params=other"]) == 0
    printed = capsys.readouterr().out
    assert "| naswot | -0.200 | 4 | -1.000 | -1.000 | 1.000 | 3 |" in printed
    assert main(["agreement", *files, "--published", str(runs / "p.csv"), "--names", "params=nothing"]) == 2
    assert "has no column 'published_nothing'" in capsys.readouterr().err
    assert main(["agreement", *files, "--published", str(runs / "p.csv"), "--prefix", "theirs_"]) == 2
    assert "no column that begins with 'theirs_'" in capsys.readouterr().err


def test_files_that_have_nothing_in_common_are_refused(runs: Path) -> None:
    other = write(runs / "c.csv", "architecture,naswot,status", ["x,1,ok"])
    with pytest.raises(ValueError, match="no architecture in common"):
        compare_runs(runs / "a.csv", other)
    with pytest.raises(
        ValueError, match=r"is no scores.csv of this benchmark: it has the columns arch, published_nwot"
    ):
        compare_runs(runs / "p.csv", other)


def test_a_run_that_was_scored_in_parts(runs: Path) -> None:
    lines = (runs / "a.csv").read_text().splitlines()
    parts = [write(runs / f"a{part}.csv", lines[0], lines[1 + part :: 2]) for part in range(2)]
    parts[1].write_text(parts[1].read_text().replace("params", "macs"))
    (found,) = compare_runs(parts, runs / "b.csv")
    whole = compare_runs(runs / "a.csv", runs / "b.csv")[0]
    assert (found.name, found.n, found.between_runs) == ("naswot", 4, whole.between_runs)
    assert main(["agreement", ",".join(map(str, parts)), str(runs / "b.csv")]) == 0
