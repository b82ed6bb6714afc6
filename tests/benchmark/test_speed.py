"""The speed benchmark: what it counts and compares is what it says; how long anything takes is no matter of tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_wrcor.benchmark import _speed_networks, speed
from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark._growth import draw_growth, measure_growth
from lightning_wrcor.benchmark._speed_networks import count_work, numpy_correlation, published_score, scored, subject
from lightning_wrcor.benchmark.speed import NetworkSpeed, Speed, format_speed
from lightning_wrcor.spaces import get_space


def test_the_published_way_gives_the_unweighted_score() -> None:
    one = subject("nasbench201", batch_size=8, image_size=8, cells=1)
    theirs = published_score(one)
    assert theirs == pytest.approx(scored(subject("nasbench201", 8, 8, cells=1), ["rcor"]), rel=1e-5)


def test_numpy_correlation_leaves_out_what_is_constant() -> None:
    rows = torch.randn(4, 100)
    assert np.allclose(numpy_correlation(rows), np.abs(np.corrcoef(rows.numpy())))
    rows[1] = 0.0
    assert not np.isnan(numpy_correlation(rows)).any()


def test_work_is_that_of_the_passes_and_of_each_different_response() -> None:
    one = subject("nasbench201", batch_size=4, image_size=8, cells=1)
    work = count_work(one)
    # Forward, and back to what each non-linearity receives: all but the stem, whose input needs no gradient, twice.
    stem = 3 * 3 * 3 * 16 * 8 * 8
    assert work.passes == pytest.approx(4 * (2 * one.costs.macs - stem), rel=0.02)
    # Per cell six convolutions on three different inputs: 3 activations and 6 gradients of each stage's size.
    sides = ((16, 8), (32, 4), (64, 2))
    cells = sum(9 * channels * side * side for channels, side in sides)
    # A reduction block: its input before the stride, and its middle; the last activation: both parts.
    blocks = sum(
        2 * (before * size * size + after * (size // 2) ** 2) for before, size, after in ((16, 8, 32), (32, 4, 64))
    )
    assert work.products == (cells + blocks + 2 * 64 * 2 * 2) * 4 * 5 // 2


@pytest.mark.parametrize("name", _speed_networks.NAMES)
def test_networks_are_those_that_they_are_called(name: str) -> None:
    params = {
        "resnet50": 25_557_032,
        "efficientnet_b0": 5_288_548,
        "ea_600m": 10_807_432,
        "nasbench201": 1_531_546,
        "convnext_tiny": 28_589_128,
    }
    one = subject(name, batch_size=2)
    assert one.costs.params == params.get(name, sum(p.numel() for p in one.network.parameters()))
    assert tuple(one.batch[0].shape) == (2, 3, one.pixels, one.pixels)


def test_the_table_and_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = subject("nasbench201", 4, 8, cells=1)
    monkeypatch.setattr(speed, "subject", lambda *_, **__: small)
    monkeypatch.setattr(speed, "WIDE", 1000)
    monkeypatch.setattr(speed, "machine_rate", lambda device: 50.0)
    out = tmp_path / "folder" / "speed.json"
    asked = [
        "speed",
        "--networks",
        "nasbench201",
        "--aspects",
        "networks,published,proxies",
        "--repeats",
        "1",
        "--out",
        str(out),
    ]
    assert main([*asked, "--batch-size", "4"]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("| nasbench201"))
    data = json.loads(out.read_text())
    assert f"{data['networks'][0]['over_step']:.2f}" in row
    assert data["rate"] == 50.0
    assert data["networks"][0]["memory_over_step"] is None
    assert data["wide_response"] > 0


def test_the_median_is_told() -> None:
    rows = [NetworkSpeed(str(value), 8, 1.0, value, value, value, 1.0, 0.1, 0.5) for value in (0.5, 0.75, 0.9)]
    found = Speed({"batch size": 4, "repetitions": 1, "device": "CPU", "versions": {}}, 10.0, rows)
    assert "Median of WRCor over a training step: 0.75." in format_speed(found)


def test_growth_is_drawn(tmp_path: Path) -> None:
    found = measure_growth(1, sizes={"images": (2, 4), "pixels": (8, 16), "candidates": (1, 2)})
    assert [one.what for one in found] == ["images", "pixels", "candidates"]
    assert found[1].gmacs[1] / found[1].gmacs[0] == pytest.approx(4, rel=0.1)
    draw_growth(found, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


@pytest.mark.parametrize("wrong", [["--networks", "resnet"], ["--aspects", "colour"]])
def test_a_mistake_is_one_sentence(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", *wrong]) == 2
    assert "There is no" in capsys.readouterr().err


def test_half_precision_ranks_as_full_precision_does() -> None:
    space = get_space("nasbench201", cells=1, width=4)
    assert speed.rank_agreement(candidates=8, batch_size=8, space=space) > 0.9


def test_what_is_not_scoring_is_counted_and_the_space_is_as_it_was() -> None:
    space = get_space("nasbench201", cells=1, width=4)
    assert speed.measure_overhead(space, 4, 8, budget=2) > 0
    assert "build" not in vars(space)
