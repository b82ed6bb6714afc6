"""The recipe through its real entry point, on data small enough for a test."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
CELLS = [
    "model.space.class_path=lightning_wrcor.spaces.NASBench201",
    "model.space.init_args={width: 4, cells: 1}",
    "budget=3",
    "model.probe_size=8",
]
QUICK = ["trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]


def recipe(*arguments: str) -> dict[str, Any]:
    main = runpy.run_path(str(RECIPES / "imagenet.py"))["main"]
    figures: dict[str, Any] = main(arguments)
    return figures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve JPEGs of three classes."""
    for kind, colour in (("cat", "red"), ("dog", "green"), ("eel", "blue")):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 50), colour).save(tmp_path / "images" / kind / f"{number}.JPEG")
    return tmp_path / "images"


def test_digits_without_an_imagenet_folder(capsys: pytest.CaptureFixture[str]) -> None:
    figures = recipe(*CELLS, *QUICK, "compare_random=1", "data.image_size=8")
    printed = capsys.readouterr().out
    assert "No ImageNet folder was given" in printed
    assert f"Test accuracy of the winner:  {figures['test_top1']:.2%}" in printed
    assert "One random candidate trained alike" in printed
    assert figures["winner"]["name"] in printed
    stored = json.loads(Path("runs/digits/result.json").read_text())
    assert stored["test_top1"] == figures["test_top1"] > 0.2
    assert stored["random"][0]["genotype"] != figures["winner"]["name"]


def test_image_folders_and_a_file_of_settings_and_the_winner_again(folder: Path, tmp_path: Path) -> None:
    settings = {"trainer": {"max_epochs": 1}, "data": {"root": str(folder), "image_size": 16, "batch_size": 4}}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(settings))
    more = ["data.num_workers=1", "data.val_fraction=0.25", "model.num_classes=3"]
    figures = recipe(str(tmp_path / "my.yaml"), *CELLS, *QUICK[:1], *more, "output=out")
    assert figures["winner"]["num_classes"] == 3
    selected = next(Path("out/winner").glob("*/selected.yaml"))
    again = recipe(str(tmp_path / "my.yaml"), *CELLS, *QUICK[:1], *more, "output=again", str(selected))
    assert again["winner"]["name"] == figures["winner"]["name"]
    assert again["winner"]["summary"] == {}, "given, not searched for"


def test_a_list_of_networks_as_space() -> None:
    figures = recipe(
        "model.space=[test_resnet,test_efficientnet]", "data.image_size=32", *QUICK[:1], "trainer.max_epochs=1"
    )
    assert figures["winner"]["name"] in ("test_resnet", "test_efficientnet")
    assert len(figures["random"]) == 1, "there is only one other"


def test_the_callback_script(folder: Path) -> None:
    trainer = runpy.run_path(str(RECIPES / "callback.py"))["main"](str(folder))
    assert trainer.callback_metrics["test/top1"] >= 0
    assert list(Path("runs/callback").glob("*/*/search.json"))


def test_the_command_line_file(folder: Path) -> None:
    from lightning_wrcor.cli import main

    small = ["--model.space={class_path: lightning_wrcor.spaces.NASBench201, init_args: {width: 4, cells: 1}}"]
    small += ["--model.budget=2", "--model.probe_size=4", "--data.image_size=16", "--data.batch_size=4"]
    small += ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.num_workers=0", "--model.warmup_epochs=0"]
    cli = main(["fit", f"--config={RECIPES / 'cli.yaml'}", f"--data.root={folder}", "--data.val_fraction=0.25", *small])
    assert cli.model.result is not None
    assert cli.config["fit"]["model"]["init_args"]["seed"] == 0, "taken from seed_everything"


@pytest.mark.data
@pytest.mark.processes
def test_real_jpegs_under_two_processes(data: Path) -> None:
    command = [
        *[sys.executable, str(RECIPES / "imagenet.py"), f"data.root={data / 'imagenet_samples'}", "data.image_size=64"],
        *["data.batch_size=16", "data.num_workers=1", "output=out", "trainer.devices=2", "trainer.strategy=ddp"],
        *CELLS[2:],
        "model.space.init_args={form: imagenet, width: 8, depth: 5}",
        *QUICK,
    ]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    figures = json.loads(Path("out/result.json").read_text())
    assert figures["winner"]["num_classes"] == 200
    assert figures["winner"]["space"]["class_path"] == "lightning_wrcor.spaces.DARTS"
    assert done.stdout.count("Test accuracy of the winner") == 1, "rank zero alone reports"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model.budgt=3"], r"There is no setting model\.budgt\. Did you mean model\.budget\?"),
        (["budgte=3"], r"There is no setting budgte\. Did you mean budget\?"),
        (["trainer.max_epoch=3"], r"Did you mean trainer\.max_epochs\?"),
        (["data.batchsize=3"], r"Did you mean data\.batch_size\?"),
        (["nothere.yaml"], r"There is no file 'nothere\.yaml'"),
        (["model={"], "cannot be read"),
        (["trainer=[1]"], r"trainer is a section, with values trainer\.name=value; got \[1\]"),
        (["data=3"], r"data is a section, with values data\.name=value; got 3"),
        (["budget=${nothing}"], "Interpolation key 'nothing' not found"),
        (["compare_random=-1"], "compare_random is a number of networks, 0 or more; got -1"),
        (["trainer.logger=false"], r"trainer\.logger is no setting: the recipe gives the Trainer its own"),
    ],
)
def test_mistakes_in_the_configuration(arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence) as stop:
        recipe(*arguments)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("budget=abc", "budget: expected int, got 'abc'"),
        ("budget=0", "A budget is the number of candidates that are scored, at least 1; got 0."),
        ("output=", "output has no value."),
        ("model.lr=abc", "model.lr: expected float, got 'abc'"),
        ("model.schedule=linear", "model.schedule: expected one of 'cosine', 'constant', got 'linear'"),
        ("model.space=nasbench20", "There is no search space 'nasbench20'. There are: nasbench201,"),
        ("model.proxy=wrcorr", "There is no proxy named 'wrcorr'. Proxies, closest first: wrcor,"),
        ("model.constraints.max_params=-3", "The constraint max_params=-3 is negative."),
        ("model.optimizer=sdg", "timm has no optimiser named 'sdg'."),
        ("trainer.devices=foo", "`devices` selected with `CPUAccelerator` should be an int > 0."),
        ("trainer.max_epochs=abc", "trainer.max_epochs: expected int or null, got 'abc'"),
        ("data.image_size=abc", "data.image_size: expected int, got 'abc'"),
        ("data.root=nowhere", "There is no folder 'nowhere' (root of the images)."),
    ],
)
def test_wrong_values_are_told_in_one_line(capsys: pytest.CaptureFixture[str], argument: str, said: str) -> None:
    with pytest.raises(SystemExit) as stop:
        recipe("trainer.accelerator=cpu", argument)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.removeprefix("error: ").startswith(said)


def test_errors_inside_training_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="label_smoothing must be between"):
        recipe(*CELLS, *QUICK, "data.image_size=8", "model.label_smoothing=7", "model.journal=null")


WINNER = {
    "space": {"class_path": "lightning_wrcor.spaces.NASBench201", "init_args": {"width": 4, "cells": 1}},
    "genotype": "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|",
}
SEARCHING = {"class_path": "lightning_wrcor.ZeroShotSearch", "init_args": {"budget": 3, "batch_size": 8, **WINNER}}


@pytest.mark.parametrize(
    "selected",
    [
        {"model": {"init_args": WINNER}},
        WINNER,
        {"trainer": {"callbacks": [{"class_path": "lightning.pytorch.callbacks.Timer"}, SEARCHING]}},
    ],
    ids=["the module's", "the callback's", "the callback's from the command line"],
)
def test_every_form_of_selected_yaml(selected: dict[str, Any]) -> None:
    Path("selected.yaml").write_text(yaml.safe_dump(selected))
    config = runpy.run_path(str(RECIPES / "imagenet.py"))["read_config"](["selected.yaml", "data.image_size=8"])
    assert config["model"]["space"] == WINNER["space"]
    assert config["model"]["genotype"] == WINNER["genotype"]
    assert config["trainer"]["max_epochs"] == 6, "the rest is the recipe's"
    assert "callbacks" not in config["trainer"]


def test_settings_were_found() -> None:
    assert sorted(path.name for path in RECIPES.glob("*.yaml")) == ["cli.yaml", "digits.yaml", "imagenet.yaml"]
