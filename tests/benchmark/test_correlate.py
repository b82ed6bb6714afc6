from __future__ import annotations

import csv
import gzip
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_wrcor.benchmark import CorrelationReport, correlate
from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark._probe import read_probe
from lightning_wrcor.benchmark._scores import read_columns
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import Evaluation
from lightning_wrcor.spaces import NASBench201

SPACE = NASBench201(width=4, cells=1)
SMALL = '{"class_path": "NASBench201", "init_args": {"width": 4, "cells": 1}}'
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Fourteen cells, one of them dead, with accuracies that grow with their parameters but for one."""
    rng = random.Random(0)
    names = sorted({SPACE.name(SPACE.sample(rng)) for _ in range(13)})
    names.append(DEAD)
    params = [SPACE.costs(SPACE.parse(name), (3, 8, 8), 10).params for name in names]
    with gzip.open(tmp_path / "table.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "accuracy", "other", "empty"])
        for place, (name, count) in enumerate(zip(names, params, strict=True)):
            writer.writerow([name, count / 1000 + 30 * (place == 3), "" if place == 0 else 50 + place, ""])
        writer.writerow([names[0], "", "", ""])  # a row without an accuracy
    pixels = np.random.default_rng(0).integers(0, 255, (32, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x_train=pixels, y_train=np.arange(32) % 10)
    return tmp_path


def run(table: Path, **changed: Any) -> CorrelationReport:
    arguments: dict[str, Any] = {
        "space": SPACE,
        "accuracies": table / "table.csv.gz",
        "column": "accuracy",
        "images": table / "images.npz",
        "out": table / "out",
        "batch_size": 8,
        "resamples": 50,
        "figures": False,
    }
    return correlate(**{**arguments, **changed})


def read_scores(folder: Path) -> list[dict[str, str]]:
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def options(table: Path, **changed: str) -> list[str]:
    given = {
        "space": SMALL,
        "accuracies": str(table / "table.csv.gz"),
        "column": "accuracy",
        "images": str(table / "images.npz"),
        "out": str(table / "out"),
        "batch-size": "8",
        "resamples": "50",
    }
    return [word for name, value in {**given, **changed}.items() for word in (f"--{name}", value)]


def ranks(values: list[float]) -> list[float]:
    """Average ranks, the slow way."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def spearman(first: list[float], second: list[float]) -> float:
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def test_rank_correlations_are_those_of_the_scores(table: Path) -> None:
    report = run(table, proxies=["wrcor", "acor"])
    rows = read_scores(table / "out")
    assert len(rows) == 14
    accuracies = [float(row["accuracy:accuracy"]) for row in rows]
    for agreement in report.agreements:
        values = [float(row[agreement.name]) if row[agreement.name] else -np.inf for row in rows]
        assert agreement.spearman == pytest.approx(spearman(values, accuracies), abs=1e-6), agreement.name
        assert (agreement.n, agreement.failed, agreement.refused) == (14, 0, 0)
        assert agreement.dead == sum(value == -np.inf for value in values)
    names = [agreement.name for agreement in report.agreements]
    assert names == ["wrcor", "wrcor:size_term", "wrcor:shape_term", "acor", "params", "macs", "depth"]
    assert next(row for row in rows if row["architecture"] == DEAD)["status"] == "dead"
    assert report.get("wrcor").dead >= 1
    text = (table / "out" / "table.md").read_text()
    assert text == report.to_markdown()
    assert "| wrcor |" in text
    assert f"14 networks, {report.protocol['dead']} dead" in text
    held = json.loads((table / "out" / "table.json").read_text())
    assert held["protocol"]["seconds_per_network"] > 0
    assert {row["name"]: row["spearman"] for row in held["agreements"]} == {
        row.name: row.spearman for row in report.agreements
    }


def test_one_scoring_serves_several_columns(table: Path) -> None:
    report = run(table, column=["accuracy", "other"], proxies=["acor", "params"])
    assert report.columns == ["accuracy", "other"]
    assert (report.get("acor", "accuracy").n, report.get("acor", "other").n) == (14, 13)
    rows = [row for row in read_scores(table / "out") if row["accuracy:other"]]
    expected = spearman([float(row["params"]) for row in rows], [float(row["accuracy:other"]) for row in rows])
    assert report.get("params", "other").spearman == pytest.approx(expected, abs=1e-6)
    assert "| Spearman | accuracy | other |" in report.to_markdown()
    with pytest.raises(ValueError, match="no 'acor' with 'none'"):
        report.get("acor", "none")


def test_a_second_run_goes_on_from_the_first(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(table, limit=6)
    monkeypatch.setattr(NASBench201, "build", lambda *args, **kwargs: pytest.fail("scored again"))
    assert run(table, limit=6).agreements == first.agreements


def test_a_report_on_an_unfinished_run_scores_nothing(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[Any] = []
    build = NASBench201.build

    def interrupted(self: NASBench201, *args: Any, **kwargs: Any) -> Any:
        if len(scored) == 9:
            raise KeyboardInterrupt
        scored.append(args)
        return build(self, *args, **kwargs)

    with pytest.raises(ValueError, match=r"nothing to report yet: .* does not exist"):
        run(table, only_report=True)
    monkeypatch.setattr(NASBench201, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(table)
    assert not (table / "out" / "table.md").exists()
    journal = (table / "out" / "journal.jsonl").read_bytes()
    (table / "out" / "journal.jsonl").write_bytes(journal + b'{"genotype": [0, ')  # a line that is being written
    monkeypatch.setattr(NASBench201, "build", lambda *args, **kwargs: pytest.fail("scored"))
    report = run(table, only_report=True)
    assert report.agreements[0].n == 9
    assert report.notes[0] == "Unfinished: 5 of 14 networks are not scored yet."
    assert report.to_markdown().startswith("9 of 14 networks")
    assert len(read_scores(table / "out")) == 9
    assert (table / "out" / "journal.jsonl").read_bytes() == journal + b'{"genotype": [0, ', "left as it was"
    with pytest.raises(ValueError, match="another search: its seed is 0"):
        run(table, only_report=True, seed=1)
    monkeypatch.setattr(NASBench201, "build", build)
    whole = run(table)
    assert whole.agreements[0].n == 14
    straight = run(table, out=table / "straight").agreements
    assert [replace(one, seconds=None) for one in whole.agreements] == [replace(one, seconds=None) for one in straight]


def test_networks_that_fail_rank_last_and_are_counted(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = NASBench201.build

    def fails(self: NASBench201, genotype: Any, *args: Any, **kwargs: Any) -> Any:
        if self.name(genotype) == broken:
            raise RuntimeError("no room")
        return build(self, genotype, *args, **kwargs)

    broken = read_table_names(table)[3]
    monkeypatch.setattr(NASBench201, "build", fails)
    report = run(table, proxies=["acor"])
    assert report.get("acor").failed == 1
    assert report.get("params").failed == 0, "it could be counted"
    row = next(row for row in read_scores(table / "out") if row["architecture"] == broken)
    assert (row["acor"], row["status"], row["reason"]) == ("", "failed", "RuntimeError: no room")
    assert "Failed (1): RuntimeError: no room." in report.notes
    values = [float(row["acor"] or "-inf") for row in read_scores(table / "out")]
    accuracies = [float(row["accuracy:accuracy"]) for row in read_scores(table / "out")]
    assert report.get("acor").spearman == pytest.approx(spearman(values, accuracies), abs=1e-6)
    partial = run(table, proxies=["acor"], only_report=True)
    assert (partial.get("acor").failed, partial.get("acor").n) == (1, 14)


def read_table_names(table: Path) -> list[str]:
    with gzip.open(table / "table.csv.gz", "rt") as file:
        return [row["arch"] for row in csv.DictReader(file)]


def test_refusals_seconds_and_votes_become_columns() -> None:
    rows = [
        Evaluation("a", "a", "a", {"acor": 2.0, "v": 1.0}, 2.0, params=5, details={"refused": {"gcor": "attention"}}),
        Evaluation("b", "b", "b", {"acor": 3.0, "gcor": -np.inf, "v": 2.0}, 3.0, params=6),
        Evaluation("c", "c", "c", status="failed", reason="why"),
    ]
    rows[1].proxy_seconds = {"gcor": 0.5}
    rows[1].details |= {"size_term": 4.0, "shape_term": -1.0}
    vote = Vote(["gcor", "acor"], name="v")
    columns = {column.name: column for column in read_columns(rows, [vote, "WRCor", "acor"])}
    # As they were asked for; the parts are of the first that is no vote; members of votes come after.
    expected = ["v", "wrcor", "wrcor:size_term", "wrcor:shape_term", "acor", "gcor", "params", "macs", "depth"]
    assert list(columns) == expected
    assert columns["gcor"].values == [None, -np.inf, None]
    assert columns["gcor"].refusals == ["attention", None, None]
    assert (columns["gcor"].seconds, columns["acor"].seconds) == (0.5, None)
    assert columns["params"].values == [5.0, 6.0, None]
    assert columns["wrcor"].values == [None, None, None]
    assert "gcor:size_term" in {column.name for column in read_columns(rows, [vote])}


def test_a_vote_is_a_column_beside_its_members(table: Path) -> None:
    report = run(table, proxies=["acor", Vote(["gcor", "params"], rule="borda", name="both")], limit=8)
    names = [row.name for row in report.agreements if ":" not in row.name]
    assert names == ["acor", "both", "gcor", "params", "macs", "depth"]
    rows = read_scores(table / "out")
    accuracies = [float(row["accuracy:accuracy"]) for row in rows]
    assert report.get("both").spearman == pytest.approx(
        spearman([float(row["both"]) for row in rows], accuracies), abs=1e-6
    )
    assert run(table, proxies=["acor", Vote(["gcor", "params"], rule="borda", name="both")], limit=8, only_report=True)


def test_models_of_timm_are_read_from_its_own_results(table: Path) -> None:
    lines = ["model,img_size,top1", "test_resnet.a_in1k,160,60", "test_resnet.b_in1k,160,64", "test_byobnet.r,160,70"]
    lines += ["test_efficientnet.r,160,66", "resnet9999.x,160,1", "test_vit.r,999,50"]
    (table / "timm.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = run(
        table, space="timm", accuracies=table / "timm.csv", column="top1", proxies=["acor"], where={"img_size": "160"}
    )
    rows = read_scores(table / "out")
    assert {row["architecture"]: row["accuracy:top1"] for row in rows} == {
        "test_resnet": "62.0",
        "test_byobnet": "70.0",
        "test_efficientnet": "66.0",
    }
    assert report.get("acor").n == 3
    assert sum("resnet9999.x" in note for note in report.notes) == 1


def test_rows_of_nds_are_scored_with_their_width_and_depth(table: Path) -> None:
    cell = [[name, 0] for name in ("sep_conv_3x3", "skip_connect", "max_pool_3x3", "none")] * 2
    genotype = {"normal": cell, "normal_concat": [2, 3, 4, 5], "reduce": cell, "reduce_concat": [2, 3, 4, 5]}
    sizes = [(4, 2), (4, 3), (8, 2)]
    rows = [
        {"net": {"genotype": genotype, "width": width, "depth": depth}, "min_test_top1": 50.0 - width - depth}
        for width, depth in sizes
    ]
    (table / "nds.json").write_text(json.dumps({"DARTS": rows}), encoding="utf-8")
    space = '{"class_path": "DARTS", "init_args": {"form": "cifar"}}'
    report = run(table, space=space, accuracies=table / "nds.json", column="min_test_top1", proxies=["params"])
    assert report.get("params").spearman == pytest.approx(1, abs=1e-4)
    assert report.protocol["space"]["init_args"]["width"] == [4, 8]
    assert [float(row["accuracy:min_test_top1"]) for row in read_scores(table / "out")] == [56.0, 57.0, 60.0]


def test_a_proxy_that_refuses_is_counted_and_named(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_wrcor.benchmark import _scores

    search = _scores.zero_shot_search

    def refusing(*args: Any, **kwargs: Any) -> Any:
        result = search(*args, **kwargs)
        for row in result.history[:2]:
            del row.scores["gcor"]
            row.details["refused"] = {"gcor": "it is not for this network."}
        return result

    monkeypatch.setattr(_scores, "zero_shot_search", refusing)
    report = run(table, proxies=["acor", "gcor"])
    assert (report.get("gcor").refused, report.get("acor").refused, report.protocol["refused"]) == (2, 0, 2)
    assert "gcor refused 2, mostly: it is not for this network." in report.notes
    reasons = [row["refused:gcor"] for row in read_scores(table / "out")]
    assert reasons.count("it is not for this network.") == 2


def test_the_same_rows_can_be_scored_with_another_seed(table: Path) -> None:
    first = run(table, limit=5, proxies=["acor"], rows_seed=3)
    names = {row["architecture"] for row in read_scores(table / "out")}
    second = run(table, limit=5, proxies=["acor"], seed=7, rows_seed=3, out=table / "second")
    assert {row["architecture"] for row in read_scores(table / "second")} == names
    assert first.protocol["probe_fingerprint"] != second.protocol["probe_fingerprint"]


def test_the_command(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["correlate", *options(table, limit="6", proxies="acor,params", threads="1"), "--no-figures"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| acor |" in printed
    command = json.loads((table / "out" / "table.json").read_text())["protocol"]["command"]
    assert f"--space '{SMALL}'" in command
    assert "--proxies acor,params --limit 6 --batch-size 8" in command
    assert "--no-figures" in command
    assert command in printed
    assert torch.get_num_threads() == 1


def test_two_networks_have_no_correlation_and_the_table_says_so(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["correlate", *options(table, limit="2", proxies="acor"), "--no-figures"]) == 0
    printed = capsys.readouterr().out
    assert ", params, macs, depth: a rank correlation needs at least 3 networks, and there are 2 networks." in printed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"column": "acc"}, "has no column 'acc'; it has arch, accuracy, other, empty"),
        ({"match": "("}, "is no regular expression"),
        ({"where": "arch"}, "--where takes NAME=VALUE; got 'arch'"),
        ({"where": "other=1000"}, "No row of"),
        ({"space": "nasbench202"}, "There is no search space 'nasbench202'"),
        ({"space": "{class_path: 3}"}, "class_path must be text"),
        ({"images": "nowhere.npz"}, "nowhere.npz"),
        ({"proxies": "wrcorr"}, "There is no proxy named 'wrcorr'"),
        ({"limit": "0"}, "at least 1"),
        ({"batch-size": "1"}, "at least 2 images"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    table: Path, changed: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["correlate", *options(table, **changed)]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ")
    assert message in said


def test_an_interrupted_command_says_how_to_go_on(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(NASBench201, "build", interrupted)
    assert main(["correlate", *options(table)]) == 130
    assert "--only-report" in capsys.readouterr().err


def test_a_journal_is_known_by_its_proxies(table: Path) -> None:
    run(table, limit=3, proxies=["acor", "gcor"])
    with pytest.raises(ValueError, match="is of another search"):
        run(table, limit=3, proxies=["acor"])


def test_figures(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from lightning_wrcor.benchmark import _figures

    report = run(table, proxies=["params"], figures=True)
    drawn = {path.name for path in report.figures}
    assert drawn == {path.name for path in (table / "out" / "figures").iterdir()}
    assert drawn == {f"scatter_accuracy_{name}.png" for name in ("params", "macs", "depth")} | {"spearman_accuracy.png"}
    assert min(Image.open(path).width for path in report.figures) > 300
    dead = _figures._scatter(report.agreements[0], [1.0, -np.inf, 3.0], [10.0, 60.0, 70.0], [5.0, 6.0, 7.0])
    crosses = dead.axes[0].collections[1]
    assert crosses.get_offsets()[0][0] < 1.0, "left of every finite value"
    assert crosses.get_label() == "dead, refused or failed (1)"
    assert _figures._scatter(report.agreements[0], [None, -np.inf], [10.0, 60.0], [None, 6.0]).axes
    assert _figures._safe("wrcor:size_term/../x") == "wrcor_size_term_.._x"
    monkeypatch.setitem(sys.modules, "lightning_wrcor.benchmark._figures", None)
    (table / "out" / "table.md").unlink()
    report = run(table, proxies=["params"], figures=True)
    assert "pip install 'lightning_wrcor[recipes]'" in report.notes[-1]
    assert (table / "out" / "table.md").exists()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (list(range(20)), "linear"),
        ([10.0**place for place in range(20)], "log"),
        ([-(10.0**place) for place in range(20)], "rank"),
        ([1.0, 2.0], "linear"),
        ([3.0] * 20, "linear"),
    ],
)
def test_axes_suit_the_values(values: list[float], kind: str) -> None:
    pytest.importorskip("matplotlib")
    from lightning_wrcor.benchmark._figures import axis_of

    assert axis_of(values) == kind


def test_probe_of_a_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 10, 3), dtype=np.uint8)
    np.savez(tmp_path / "i.npz", x_train=pixels, y_train=np.arange(12))
    probe = read_probe(tmp_path / "i.npz", 5, 0, None, 224)
    scaled = pixels / 255.0
    expected = (scaled - scaled.mean((0, 1, 2))) / scaled.std((0, 1, 2), ddof=1)
    chosen = expected[probe.labels.numpy()].transpose(0, 3, 1, 2)
    assert probe.images.numpy() == pytest.approx(chosen, abs=1e-4)
    assert (probe.classes, probe.source) == (12, "5 images of i.npz (3 x 8 x 10)")
    assert not torch.equal(read_probe(tmp_path / "i.npz", 5, 1, None, 224).labels, probe.labels)
    assert read_probe(tmp_path / "i.npz", 50, 0, 4, 224).images.shape == (12, 3, 4, 4)
    wide = read_probe(tmp_path / "i.npz", 5, 0, 8, 224).images
    assert torch.allclose(wide, probe.images[..., 1:9], atol=1e-5), "the shorter side fits already: the middle is cut"


def test_grey_images_are_scored_with_one_channel(table: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 1), dtype=np.uint8)
    np.savez(table / "grey.npz", x_train=pixels, y_train=np.arange(16) % 4)
    report = run(table, images=table / "grey.npz", limit=4, proxies=["acor"])
    assert (report.get("acor").n, report.protocol["num_classes"]) == (4, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_train": np.zeros((4, 3, 8, 8), np.uint8), "y_train": np.arange(4)},
            r"with 1 or 3 channels; it is uint8 of",
        ),
        ({"x_train": np.zeros((4, 8, 8, 3), np.float32), "y_train": np.arange(4)}, "it is float32 of shape"),
        ({"x_train": np.zeros((4, 8, 8, 3), np.uint8), "y_train": np.arange(3)}, "there are 4 images"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8)}, "is no .npz file with x_train and y_train"),
    ],
)
def test_images_of_another_form_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "i.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_probe(tmp_path / "i.npz", 4, 0, None, 224)


def test_probe_of_a_folder(tmp_path: Path) -> None:
    for place, (name, size) in enumerate([("b", (20, 10)), ("a", (10, 10)), ("c", (9, 12))]):
        (tmp_path / "f" / name).mkdir(parents=True)
        Image.new("L" if name == "c" else "RGB", size, 60 * place if name == "c" else (60 * place,) * 3).save(
            tmp_path / "f" / name / "x.png"
        )
    (tmp_path / "f" / "a" / "notes.txt").write_text("no image")
    probe = read_probe(tmp_path / "f", 8, 0, None, 6)
    assert probe.images.shape == (3, 3, 6, 6)
    assert (probe.classes, sorted(probe.labels.tolist())) == (3, [0, 1, 2])
    grey = {0: 60, 1: 0, 2: 120}  # a, b, c in the order of their names
    for image, label in zip(probe.images, probe.labels.tolist(), strict=True):
        expected = (grey[label] / 255 - 0.485) / 0.229
        assert image[0].numpy() == pytest.approx(np.full((6, 6), expected), abs=1e-4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"a holds images, but no folders of them: .* Name the folder above it"):
        read_probe(tmp_path / "f" / "a", 8, 0, None, 6)
    with pytest.raises(ValueError, match="holds no images: it needs one folder a class"):
        read_probe(tmp_path / "empty", 8, 0, None, 6)
