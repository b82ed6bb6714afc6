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
    ],
)
def test_mistakes_in_the_configuration(arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        recipe(*arguments)


def test_settings_were_found() -> None:
    assert sorted(path.name for path in RECIPES.glob("*.yaml")) == ["cli.yaml", "digits.yaml", "imagenet.yaml"]
