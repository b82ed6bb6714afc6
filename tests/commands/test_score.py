"""``score``: the numbers are those of the library, what cannot be scored says why, and mistakes are told in one line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from lightning_wrcor import score, zero_shot_search
from lightning_wrcor.__main__ import main
from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.benchmark._scores import Listed
from lightning_wrcor.commands import _score_table
from lightning_wrcor.proxies import SynFlow, Vote, WRCor
from lightning_wrcor.spaces import NASBench201, TimmModels

TINY = ["test_resnet", "test_vit", "test_efficientnet"]
QUICK = ["--image-size=32", "--batch-size=8", "--num-classes=4", "--seed=3"]
GOOD = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
OTHER = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
SMALL = '{"class_path": "NASBench201", "init_args": {"width": 4, "cells": 1}}'


def noise(size: int = 32, batch: int = 8, classes: int = 4, seed: int = 3) -> tuple[Tensor, Tensor]:
    """What the help says that noise is."""
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return images, torch.arange(batch) % classes


def read(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int = 0) -> dict[str, Any]:
    assert main(["score", *arguments, "--json"]) == status
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def shown(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int = 0) -> str:
    assert main(["score", *arguments]) == status
    return capsys.readouterr().out


def by_name(said: dict[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in said["networks"]}


def test_costs_are_those_that_timm_publishes(capsys: pytest.CaptureFixture[str]) -> None:
    said = by_name(read(capsys, ["resnet50", "resnet18", "--proxy=params", "--batch-size=2"]))
    assert said["resnet50"]["params"] == 25_557_032
    assert said["resnet18"]["params"] == 11_689_512
    # GMACs at 224 pixels, as timm's tables of results round them.
    assert round(said["resnet50"]["macs"] / 1e9, 1) == 4.1
    assert round(said["resnet18"]["macs"] / 1e9, 1) == 1.8
    assert said["resnet18"]["depth"] == 17, "one ReLU in the stem, two in each of eight blocks"


def test_scores_and_order_are_those_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    said = read(capsys, [*TINY, *QUICK, "--proxy=wrcor,naswot"])
    space = TimmModels(TINY, image_size=32)
    result = zero_shot_search(space, noise(), ["wrcor", "naswot"], "exhaustive", seed=3, num_classes=4, progress=False)
    assert [row["name"] for row in said["networks"]] == [row.name for row in result.leaderboard]
    assert [row["scores"] for row in said["networks"]] == [row.scores for row in result.leaderboard]
    assert said["space"] == space.config()
    assert (said["seed"], said["num_classes"], said["input_size"]) == (3, 4, [3, 32, 32])


def test_the_score_is_that_of_the_network_with_the_weights_of_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    said = by_name(read(capsys, ["test_efficientnet", *QUICK]))["test_efficientnet"]
    with own_random_numbers(derive_seed(3, "test_efficientnet")):
        network = timm.create_model("test_efficientnet", num_classes=4)
    report = score(network, noise(), WRCor(depth_normalised=True))
    assert said["score"] == pytest.approx(report.value, rel=1e-9)
    assert said["details"]["size_term"] + said["details"]["shape_term"] == pytest.approx(said["score"])
    assert said["details"]["coverage"] == 1.0


def test_half_precision_is_that_of_a_search_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    full = by_name(read(capsys, [*TINY, *QUICK]))
    said = read(capsys, [*TINY, *QUICK, "--precision=bfloat16"])
    result = zero_shot_search(
        TimmModels(TINY, image_size=32),
        noise(),
        strategy="exhaustive",
        seed=3,
        num_classes=4,
        precision="bfloat16",
        progress=False,
    )
    assert {row["name"]: row["score"] for row in said["networks"]} == {row.name: row.score for row in result.history}
    assert said["precision"] == "bfloat16"
    for name, row in by_name(said).items():
        assert row["score"] != full[name]["score"]
        assert row["score"] == pytest.approx(full[name]["score"], rel=0.05)
    assert "4 classes, seed 3, in bfloat16." in shown(capsys, ["test_resnet", *QUICK, "--precision=bfloat16"])
    assert "float32" not in shown(capsys, ["test_resnet", *QUICK])
    with pytest.raises(SystemExit) as stop:
        main(["score", "test_resnet", "--precision=fp8"])
    assert stop.value.code == 2


def test_a_vote_ranks_those_that_were_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(capsys, [*TINY, *QUICK, "--proxy=spw"])["networks"]
    members = {name: [row["scores"][name] for row in rows] for name in ("synflow", "pnorm", "wrcor")}
    assert [row["score"] for row in rows] == Vote(list(members)).combine(members)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    text = shown(capsys, [*TINY, *QUICK, "--proxy=spw", "--proxy", "acor"])
    head = next(line for line in text.splitlines() if line.startswith("network"))
    titles = [part.strip() for part in head.split("  ") if part.strip()]
    # Members that were not asked for come last; the terms stand beside the proxy whose they are.
    assert titles[:8] == ["network", "spw", "acor", "size term", "shape term", "synflow", "pnorm", "wrcor"]
    row = next(line for line in text.splitlines() if line.startswith("test_resnet")).split()
    assert float(row[2]) == pytest.approx(float(row[3]) + float(row[4]), abs=2e-4)
    assert "spw is a vote (copeland of synflow, pnorm, wrcor) among these 3 networks" in text


def test_cells_by_their_text(capsys: pytest.CaptureFixture[str]) -> None:
    said = read(capsys, [DEAD, GOOD, OTHER, GOOD, f"--space={SMALL}", *QUICK, "--proxy=wrcor"])
    result = zero_shot_search(
        NASBench201(width=4, cells=1),
        noise(),
        strategy=Listed([GOOD, OTHER, DEAD]),
        seed=3,
        num_classes=4,
        progress=False,
    )
    expected = {row.name: row.score for row in result.history}
    assert [row["name"] for row in said["networks"]] == [row.name for row in result.leaderboard] + [DEAD]
    assert [row["score"] for row in said["networks"][:2]] == [row.score for row in result.leaderboard]
    assert (said["networks"][2]["status"], expected[DEAD]) == ("dead", -math.inf)
    text = shown(capsys, [DEAD, f"--space={SMALL}", *QUICK])
    assert f"{DEAD} is dead: every activation response is constant." in text.replace("\n", " ")
    assert "-inf" in text


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    said = by_name(read(capsys, [*TINY, *QUICK]))
    lines = shown(capsys, [*TINY, *QUICK]).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("network"))
    titles = ["network", "wrcor", "size term", "shape term", "params", "MACs", "depth", "coverage", "seconds"]
    assert lines[start] == "  ".join(lines[start].split("  ")), "no tabs"
    assert [part.strip() for part in lines[start].split("  ") if part.strip()] == titles
    for line in lines[start + 1 : start + 4]:
        name, value, size, shape, params, *_, coverage, _ = line.split()
        assert float(value) == pytest.approx(said[name]["score"], abs=1e-4)
        assert float(size) + float(shape) == pytest.approx(float(value), abs=2e-4)
        assert float(params.removesuffix("k")) == pytest.approx(said[name]["params"] / 1e3, abs=0.01)
        assert coverage == "100%"
        assert len(line) == len(lines[start]), "columns are aligned"
    rest = " ".join(lines)
    assert (
        "8 images of noise (3 x 32 x 32) with made-up labels, 4 classes, seed 3. Scores on noise are only a quick"
        in rest
    )
    assert "wrcor is normalised by depth here" in rest
    assert "test_resnet: 4 scales initialised to zero set to one." in rest
    assert "Rank correlation" not in rest, "of three networks it says nothing"


def test_a_long_list_stands_beside_its_baselines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_score_table, "ENOUGH", 4)
    text = shown(capsys, ["test_efficientnet*", *QUICK, "--proxy=depth"])
    assert "Rank correlation of depth with " in text
    assert len(re.findall("^test_efficientnet", text, re.MULTILINE)) == len(timm.list_models("test_efficientnet*"))
    assert len(timm.list_models("test_efficientnet*")) >= 4


@pytest.fixture
def images(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    path = tmp_path / "images.npz"
    np.savez(path, x_train=pixels, y_train=np.arange(12) % 5)
    return path


def test_images_of_a_file(capsys: pytest.CaptureFixture[str], images: Path) -> None:
    said = read(capsys, ["test_resnet", f"--images={images}", "--batch-size=99"])
    assert (said["noise"], said["batch_size"], said["num_classes"]) == (False, 12, 5)
    assert (said["images"], said["input_size"]) == ("12 images of images.npz (3 x 20 x 20)", [3, 20, 20])
    # Fewer images than asked for: all of them, in a drawn order; labels follow.
    stored = np.load(images)
    pixels = torch.from_numpy(stored["x_train"]).float().permute(0, 3, 1, 2) / 255
    pixels = (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    batch = (pixels[order], torch.arange(12)[order] % 5)
    result = zero_shot_search(TimmModels("test_resnet"), batch, num_classes=5, budget=1, progress=False)
    assert said["networks"][0]["score"] == result.best.score
    text = shown(capsys, ["test_resnet", f"--images={images}"])
    assert "noise" not in text
    assert "made-up" not in text


def test_a_network_that_cannot_be_scored_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, ["test_vit", "test_resnet", *QUICK, "--proxy=zen"], status=1)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("test_")}
    assert "test_vit could not be scored. ValueError: zen puts back the scale of batch normalisation" in text
    assert float(rows["test_resnet"][1]) > 0
    said = by_name(read(capsys, ["test_vit", "test_resnet", *QUICK, "--proxy=zen"], status=1))
    assert (said["test_vit"]["status"], said["test_vit"]["score"]) == ("failed", None)
    assert said["test_resnet"]["status"] == "ok"
    # What a second proxy refuses is no failure.
    text = shown(capsys, ["test_vit", *QUICK, "--proxy=wrcor,zen"])
    assert "test_vit has no zen. zen puts back" in text


def test_what_cannot_even_be_built_is_told_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    # A model whose patches do not fit 8 pixels.
    said = by_name(read(capsys, ["test_resnet", "test_vit", "--image-size=8", *QUICK[1:]], status=1))
    assert said["test_resnet"]["status"] == "ok"
    assert said["test_vit"]["reason"].startswith("ValueError: ")
    lines = shown(capsys, ["test_vit", "--image-size=8", *QUICK[1:]], status=1).splitlines()
    row = next(line for line in lines if line.startswith("test_vit"))
    assert row.split()[:-1] == ["test_vit", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test_resnett"], "timm has no model 'test_resnett'. Closest: test_resnet,"),
        (
            ["test_resnet.r160_in1k"],
            "timm has no model 'test_resnet.r160_in1k'. The part after the dot names pretrained",
        ),
        (["testt_*"], "NAME: no model of timm matches 'testt_*'. Closest: test_"),
        (["test_resnet", "--proxy=wrcorr"], "There is no proxy named 'wrcorr'. Proxies, closest first: wrcor,"),
        (["test_resnet", "--proxy=,"], "The list of proxies is empty"),
        (["test_resnet", "--proxy=sjw", "--proxy=sjw"], "Two proxies have the name 'sjw'"),
        (["x", "--space=nasbench21"], "There is no search space 'nasbench21'. Did you mean nasbench201? There"),
        (["x", "--space=nasbench201"], "An arch string has 3 parts joined by '+', got 1 in 'x'."),
        (["test_resnet", "--batch-size=1"], "--batch-size is a whole number, at least 2; got 1."),
        (["test_resnet", "--image-size=0"], "--image-size is a whole number, at least 1; got 0."),
        (["test_resnet", "--threads=0"], "--threads is a whole number, at least 1; got 0."),
        (["test_resnet", "--images=nowhere"], "No such file or directory: 'nowhere'"),
        (["test_resnet", "--images=."], " holds no images: it needs one folder a class"),
        (["test_resnet", "--device=cpuu"], "Networks cannot be scored on --device cpuu: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_before_anything_is_scored(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["score", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_labels_beyond_the_classes_are_a_mistake(capsys: pytest.CaptureFixture[str], images: Path) -> None:
    assert main(["score", "test_resnet", f"--images={images}", "--num-classes=3", "--batch-size=12"]) == 2
    assert "error: The largest label is 4, but num_classes is 3" in capsys.readouterr().err


def test_threads_are_put_back_and_no_random_number_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    state = torch.get_rng_state()
    shown(capsys, ["test_resnet", *QUICK, "--threads=2"])
    assert torch.get_num_threads() == 1
    assert torch.equal(state, torch.get_rng_state())


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: SynFlow, context: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(SynFlow, "measure", stop)
    assert main(["score", "test_resnet", *QUICK, "--proxy=synflow"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
