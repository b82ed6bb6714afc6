"""The recipe through its real entry point, on data small enough for a test."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lightning.pytorch.plugins.environments import SLURMEnvironment
from PIL import Image
from warm_python import run_two

from lightning_wrcor import ZeroShotSearchModule
from lightning_wrcor._recipe import check_run
from lightning_wrcor.search.journal import fingerprint

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
CELLS = [
    "model.space.class_path=lightning_wrcor.spaces.NASBench201",
    "model.space.init_args={width: 4, cells: 1}",
    "budget=3",
    "model.probe_size=8",
    "model.log_figures=false",  # drawing takes its time
]
QUICK = ["trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]


def recipe(*arguments: str) -> dict[str, Any]:
    main = runpy.run_path(str(RECIPES / "imagenet.py"))["main"]
    figures: dict[str, Any] = main(arguments)
    return figures


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The search card is written without figures, which take their time; the batches that they would have been of."""
    seen: list[Any] = []

    def all_figures(result: object, batch: Any, **_: object) -> dict[str, Any]:
        seen.append(batch)
        return {}

    monkeypatch.setattr("lightning_wrcor.report._card.all_figures", all_figures)
    return seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve JPEGs of three classes, of noise about a colour each."""
    rng = np.random.default_rng(0)
    for channel, kind in enumerate(("cat", "dog", "eel")):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 120, (50, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(tmp_path / "images" / kind / f"{number}.JPEG")
    return tmp_path / "images"


def test_digits_without_an_imagenet_folder(capsys: pytest.CaptureFixture[str], batches: list[Any]) -> None:
    figures = recipe(*CELLS, *QUICK, "compare_random=1", "data.image_size=8")
    printed = capsys.readouterr().out
    assert "No ImageNet folder was given" in printed
    assert tables(printed) == 0, "the search has shown it"
    assert f"Test accuracy of the winner:  {figures['test_top1']:.2%}" in printed
    assert "One random candidate trained alike" in printed
    assert figures["winner"]["name"] in printed
    stored = json.loads(Path("runs/digits/result.json").read_text())
    assert stored["test_top1"] == figures["test_top1"] > 0.2
    assert stored["random"][0]["genotype"] != figures["winner"]["name"]
    assert f"The search card, which says why the winner won: {Path('runs/digits/card.html').resolve()}" in printed
    card = Path("runs/digits/card.html").read_text().replace("<wbr>", "")
    for said in (
        figures["winner"]["name"],
        stored["random"][0]["genotype"],
        f"{figures['test_top1']:.2%}",
        "359 images",
    ):
        assert said in card
    header = json.loads(next(Path("runs/digits/zero_shot_search").glob("*.jsonl")).read_text().splitlines()[0])
    assert [fingerprint(batch) for batch in batches] == [header["search"]["probe batch"]], "the search's own images"


def test_image_folders_and_a_file_of_settings_and_the_winner_again(folder: Path, tmp_path: Path) -> None:
    settings = {"trainer": {"max_epochs": 1}, "data": {"root": str(folder), "image_size": 16, "batch_size": 4}}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(settings))
    more = ["data.num_workers=1", "data.val_fraction=0.25", "model.num_classes=3", "export=null"]
    figures = recipe(str(tmp_path / "my.yaml"), *CELLS, *QUICK[:1], *more, "output=out")
    assert figures["winner"]["num_classes"] == 3
    selected = next(Path("out/winner").glob("*/selected.yaml"))
    again = recipe(str(tmp_path / "my.yaml"), *CELLS, *QUICK[:1], *more, "output=again", str(selected))
    assert again["winner"]["name"] == figures["winner"]["name"]
    assert again["winner"]["summary"] == {}, "given, not searched for"
    assert Path("out/card.html").is_file()
    assert not Path("again/card.html").exists(), "there is no search to tell of"


def test_a_list_of_networks_as_space() -> None:
    figures = recipe(
        "model.space=[test_resnet,test_efficientnet]",
        "export=null",
        "data.image_size=32",
        *QUICK[:1],
        "trainer.max_epochs=1",
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
    first, second = run_two(
        RECIPES / "imagenet.py",
        *[f"data.root={data / 'imagenet_samples'}", "data.image_size=64"],
        *["data.batch_size=16", "data.num_workers=1", "output=out", "trainer.devices=2", "trainer.strategy=ddp"],
        *CELLS[2:],
        "model.space.init_args={form: imagenet, width: 8, depth: 5}",
        *QUICK,
        *["compare_random=0", "export=null"],
    )
    figures = json.loads(Path("out/result.json").read_text())
    assert figures["winner"]["num_classes"] == 200
    assert figures["winner"]["space"]["class_path"] == "lightning_wrcor.spaces.DARTS"
    assert first.count("Test accuracy of the winner") == 1
    assert "Test accuracy of the winner" not in second, "rank zero alone reports"
    assert first.count("The search card, which says why the winner won") == 1
    assert "The search card" not in second, "likewise"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model.budgt=3"], r"There is no setting model\.budgt\. Did you mean model\.budget\?"),
        (["budgte=3"], r"There is no setting budgte\. Did you mean budget\?"),
        (["trainer.max_epoch=3"], r"Did you mean trainer\.max_epochs\?"),
        (["data.batchsize=3"], r"Did you mean data\.batch_size\?"),
        (["nothere.yaml"], r"There is no file 'nothere\.yaml', and no recipe of that name \(.*modern, .*paper"),
        (["data.rooot=x"], r"There is no setting data\.rooot\. Did you mean data\.root\? Known: image_size, "),
        (
            ["modern"],
            r"There is no setting data\.eval_size\. data\.eval_size is one for folders of images: give data\.root=",
        ),
        (["--budget", "10"], r"There is no option --budget: write budget=10 \(--help says more\)"),
        (["--model.lr=0.1"], r"There is no option --model\.lr: write model\.lr=0\.1 "),
        (["modern", "--resume"], r"There is no option --resume: write resume=\.\.\. "),
        (["--config", "my.yaml"], r"There is no option --config: write the file alone, my\.yaml "),
        (["modern", "data.root"], r"There is no file 'data\.root'"),
        (["checkpoint.monitr=val/loss"], r"no setting checkpoint\.monitr\. Did you mean checkpoint\.monitor\?"),
        (["resume=true", "ckpt=3"], r"There is no setting ckpt\."),
        (["model={"], "The configuration cannot be read"),
        (["trainer=[1]"], r"trainer is a section, with values trainer\.name=value; got \[1\]"),
        (["data=3"], r"data is a section, with values data\.name=value; got 3"),
        (["budget=${nothing}"], "Interpolation key 'nothing' not found"),
        (["compare_random=-1"], "compare_random is a number of networks, 0 or more; got -1"),
        (["trainer.logger=false"], r"trainer\.logger is no setting: the recipe gives the Trainer its own"),
    ],
)
def test_mistakes_in_the_configuration(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as stop:
        recipe(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(sentence, line)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("budget=abc", "budget: expected int, got 'abc'"),
        ("budget=0", "A budget is the number of candidates that are scored, at least 1; got 0."),
        ("output=", "output has no value."),
        ("model.lr=abc", "model.lr: expected float, got 'abc'"),
        ("model.schedule=linera", "model.schedule: expected one of 'cosine', 'linear', 'constant', got 'linera'"),
        ("model.space=nasbench20", "There is no search space 'nasbench20'. Did you mean nasbench201? There are: "),
        ("model.proxy=wrcorr", "There is no proxy named 'wrcorr'. Proxies, closest first: wrcor,"),
        ("model.constraints.max_param=3", "There is no constraint named 'max_param'. Did you mean max_params? "),
        ("model.constraints.max_params=-3", "The constraint max_params=-3 is negative."),
        ("model.optimizer=sdg", "timm has no optimiser named 'sdg'."),
        ("trainer.devices=foo", "`devices` selected with `CPUAccelerator` should be an int > 0."),
        ("trainer.max_epochs=abc", "trainer.max_epochs: expected int or null, got 'abc'"),
        ("data.image_size=abc", "data.image_size: expected int, got 'abc'"),
        ("model.label_smoothing=7", "label_smoothing is a share, 0 or more and below 1; got 7"),
        ("model.mixing={mixupp: 1}", "There is no setting named 'mixupp' of mixing. Did you mean mixup? "),
        ("model.distillation={teacher: resnet152}", "The teacher 'resnet152' is untrained, and teaches nothing:"),
        ("ema={decay: much}", "ema.decay: expected float, got 'much'"),
        ("finalists={count: 1, epochs: 1}", "count of finalists is a number of networks, at least 2; got 1"),
        ("export=[onxn]", "There is no format"),
        ("resume=gone.ckpt", "There is no such checkpoint: 'gone.ckpt'"),
        ("data.root=nowhere", "There is no folder 'nowhere' (root of the images)."),
    ],
)
def test_wrong_values_are_told_in_one_line(capsys: pytest.CaptureFixture[str], argument: str, said: str) -> None:
    with pytest.raises(SystemExit) as stop:
        recipe("trainer.accelerator=cpu", argument)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.removeprefix("error: ").startswith(said)


def test_errors_inside_training_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise ValueError("inside a step")

    monkeypatch.setattr("lightning_wrcor._classifier.classification_loss", fails)
    with pytest.raises(ValueError, match="inside a step"):
        recipe(*CELLS, *QUICK, "data.image_size=8", "model.journal=null")


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


# ---- the recipes beside the script

TRAINING = ["paper", "modern", "quick", "finetune"]
MACHINES = ["one_gpu", "one_node", "many_nodes"]
HERE = ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=1", "trainer.precision=32-true"]
HERE += ["trainer.strategy=auto", "trainer.sync_batchnorm=false"]


def test_settings_were_found() -> None:
    assert sorted(path.stem for path in RECIPES.glob("*.yaml")) == sorted(
        ["cli", "digits", "imagenet", *TRAINING, *MACHINES]
    )


def read_config(*arguments: str) -> dict[str, Any]:
    config: dict[str, Any] = runpy.run_path(str(RECIPES / "imagenet.py"))["read_config"](arguments)
    return config


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_recipe_goes_with_every_machine(training: str, machine: str, folder: Path) -> None:
    config = read_config(training, machine, f"data.root={folder}")
    assert config["trainer"]["devices"] == (1 if machine == "one_gpu" else 8)
    assert config["model"]["lr"] == float(yaml.safe_load((RECIPES / f"{training}.yaml").read_text())["model"]["lr"])
    own = yaml.safe_load((RECIPES / f"{machine}.yaml").read_text())
    assert config["data"]["batch_size"] == own["data"]["batch_size"]


@pytest.mark.parametrize("training", TRAINING)
def test_every_recipe_trains(training: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, but for a small space, small images, one epoch, and weights of the teacher and the winner from files."""
    import timm
    import torch

    small = {
        "paper": ["model.space.init_args={resolutions: 32, widths: WIDTHS, depths: DEPTHS, head: [16, 16]}"],
        "modern": [*CELLS[:2]],
        "quick": [
            *CELLS[:2],
            "model.progressive={start: 16, until: 0.8, multiple: 8}",
            "finalists={count: 2, steps: 1}",
        ],
        "finetune": ["model.space.init_args={include: [test_resnet, test_efficientnet], max_macs: null}"],
    }[training]
    widths, depths = str([[8, 16]] * 8), str([[1, 1]] * 7)
    small = [one.replace("WIDTHS", widths).replace("DEPTHS", depths) for one in small]
    if training == "paper":
        torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), "teacher.pth")
        small += ["model.distillation={teacher: test_resnet, pretrained: false, weights: teacher.pth}"]
    if training == "finetune":
        for name in ("test_resnet", "test_efficientnet"):
            torch.save(timm.create_model(name, num_classes=1000).state_dict(), f"{name}.pth")
        # The weights must fit whichever wins: one candidate.
        small = ["model.space.init_args={include: [test_resnet], max_macs: null}", "model.pretrained=test_resnet.pth"]
    quick = ["data.image_size=32", "data.eval_size=null", "data.batch_size=2", "data.num_workers=0", "budget=3"]
    quick += ["data.val_fraction=0.34", "model.probe_size=4", "trainer.max_epochs=2", "trainer.limit_train_batches=2"]
    quick += ["trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "trainer.accumulate_grad_batches=1"]
    quick += ["export=[weights]", f"output=runs/{training}"]
    figures = recipe(training, "one_gpu", f"data.root={folder}", *HERE, *quick, *small)
    assert 0 <= figures["test_top1"] <= 1
    assert figures["weights"] == ("averaged (EMA)" if training == "finetune" else "as trained")
    assert len(figures["finalists"]) == (2 if training == "quick" else 0)
    assert Path(f"runs/{training}/export/README.md").is_file()
    used = yaml.safe_load(Path(f"runs/{training}/config.yaml").read_text())
    assert used["data"]["batch_size"] == 2, "the command line wins over the files"
    assert used["trainer"]["accelerator"] == "cpu", "likewise"
    assert used["trainer"]["num_sanity_val_steps"] is None, "defaults are written down as well"


def test_the_configuration_that_was_used_runs_again(capsys: pytest.CaptureFixture[str]) -> None:
    recipe(
        *CELLS, *QUICK, "data.image_size=8", "compare_random=0", "export=null", "output=first", "trainer.max_epochs=1"
    )
    used = Path("first/config.yaml")
    assert yaml.safe_load(used.read_text()) == read_config(str(used))
    capsys.readouterr()
    again = recipe(str(used), "output=second", "--print_config")
    assert yaml.safe_load(capsys.readouterr().out) == again, "nothing but the configuration is printed"
    assert again == {**yaml.safe_load(used.read_text()), "output": "second"}
    assert not Path("second").exists()


def test_resume_goes_on_where_the_newest_checkpoint_stands(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch.utilities.rank_zero")
    quick = [
        *CELLS,
        *QUICK[:1],
        "trainer.enable_progress_bar=false",
        "data.image_size=8",
        "compare_random=0",
        "output=o",
    ]
    quick += ["export=null", "trainer.limit_train_batches=3", "model.schedule=constant", "ema={decay: 0.9}"]
    first = recipe(*quick, "trainer.max_epochs=1", "resume=true")
    assert "there is no checkpoint in o yet" in caplog.text
    resumed = recipe(*quick, "trainer.max_epochs=2", "resume=true")
    whole = recipe(*quick, "trainer.max_epochs=2", "output=whole")
    assert resumed["winner"]["name"] == first["winner"]["name"]
    assert resumed["figures"] == whole["figures"]
    assert Path(resumed["checkpoint"]).parent == Path("o/winner/version_0/checkpoints").resolve()


def tables(text: str) -> int:
    """How often the table of a search is in it."""
    return len(re.findall(r"^ +candidate .* depth$", text, re.MULTILINE))


def test_finalists_are_trained_and_the_best_wins(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch.utilities.rank_zero")
    quick = [*CELLS, *QUICK, "data.image_size=8", "compare_random=0", "finalists={count: 2, epochs: 1}", "model.lr=0.1"]
    figures = recipe(*quick, "export=[weights]")
    assert (tables(caplog.text), tables(capsys.readouterr().out)) == (1, 0), "once, by the search"
    rows = figures["finalists"]
    assert len(rows) == 2
    assert rows[0]["score"] > rows[1]["score"]
    best = max(rows, key=lambda row: row["val_top1"])
    assert figures["winner"]["name"] == best["genotype"]
    assert figures["winner"]["summary"]["score"] == best["score"], "the winner's own figures"
    assert "Finalist 2 of 2, trained for 1 epoch" in caplog.text
    card = Path("runs/digits/export/README.md").read_text()
    assert best["genotype"] in card
    assert f"{figures['test_top1']:.2%}" in card
    assert "among the best of it by a short training" in card
    said = "number 2 was trained as the best of the finalists" if best is rows[1] else "The winner was trained"
    assert said in Path("runs/digits/card.html").read_text()
    Path("runs/digits/winner").rename("runs/digits/gone")  # as if the training had not got to its first checkpoint
    again = recipe(*quick, "export=null", "resume=true", "trainer.max_epochs=1")
    assert "The finalists were trained already" in caplog.text
    assert (tables(caplog.text), tables(capsys.readouterr().out)) == (1, 1), "of a search that was not run again"
    assert again["finalists"] == rows
    assert again["winner"] == figures["winner"]


def test_averaged_weights_are_tested_and_it_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from lightning_wrcor import DigitsData, load_network

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("lightning_wrcor.report.write_card", full)
    figures = recipe(
        *CELLS, *QUICK, "data.image_size=8", "compare_random=0", "export=[timm]", "ema={decay: 0.95}", "model.lr=0.1"
    )
    printed = capsys.readouterr().out
    assert "weights averaged (EMA)" in printed
    assert "The export failed: " in printed, "timm knows no such cells; the training is not lost"
    assert "The search card could not be written: OSError: the disk is full" in printed, "likewise"
    assert json.loads(Path("runs/digits/result.json").read_text())["test_top1"] == figures["test_top1"]
    network = load_network(figures["checkpoint"])
    data = DigitsData(image_size=8)
    data.setup("test")
    with torch.no_grad():
        right = torch.cat([network(images).argmax(1) == labels for images, labels in data.test_dataloader()])
    assert figures["test_top1"] == pytest.approx(float(right.float().mean()))


# ---- what cannot work here is said before the search


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CUDA", "MPS"):
        monkeypatch.setattr(f"lightning_wrcor._recipe.{kind}Accelerator.is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("asked", "way_out"),
    [
        (["one_gpu"], "trainer.accelerator=cpu trainer.devices=1"),
        (["trainer.accelerator=gpu"], "trainer.accelerator=cpu trainer.devices=1"),
        (
            ["many_nodes"],
            "trainer.accelerator=cpu trainer.devices=1 trainer.num_nodes=1 trainer.sync_batchnorm=false",
        ),
    ],
)
def test_a_machine_without_a_gpu(capsys: pytest.CaptureFixture[str], asked: list[str], way_out: str) -> None:
    with pytest.raises(SystemExit) as stop:
        recipe(*asked, "output=out")
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: trainer.accelerator=gpu, but torch finds no GPU on this machine. On the CPU: ")
    assert f"On the CPU: {way_out}; or leave out the recipe of the machine" in line
    assert not Path("out").exists(), "nothing has begun"
    config = read_config(*asked, *way_out.split())
    check_run(config)
    runpy.run_path(str(RECIPES / "imagenet.py"))["make_trainer"](config, "x")  # Lightning takes it too


def test_growing_images_that_begin_too_large(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["quick", f"data.root={folder}", "trainer.accelerator=cpu", "data.image_size=96", "output=out"]
    with pytest.raises(SystemExit) as stop:
        recipe(*asked)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: model.progressive.start=128 is larger than data.image_size=96: ")
    assert "model.progressive=null" in line
    assert not Path("out").exists(), "nothing was searched"
    for mended in ("model.progressive=null", "model.progressive.start=96"):
        check_run(read_config(*asked, mended))


# ---- Ctrl-C, and schedulers


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Lightning switches the signal off where it ends an interrupted run."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("epoch", [0, 1])
def test_ctrl_c_in_training_says_how_to_go_on(
    epoch: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from lightning_wrcor import ZeroShotSearchModule

    step = ZeroShotSearchModule.training_step

    def stops(self: ZeroShotSearchModule, *args: Any) -> Any:
        if self.current_epoch == epoch:
            raise KeyboardInterrupt
        return step(self, *args)

    asked = [*CELLS, *QUICK, "data.image_size=8", "compare_random=0", "export=null", "trainer.limit_train_batches=2"]
    with monkeypatch.context() as patch:
        patch.setattr(ZeroShotSearchModule, "training_step", stops)
        with pytest.raises(SystemExit) as stop:
            recipe(*asked)
    assert stop.value.code == 130
    lines = capfd.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    if epoch == 0:
        assert lines[-1].startswith("Interrupted before the first checkpoint: the same command ")
        return
    checkpoint = Path("runs/digits/winner/version_0/checkpoints/last.ckpt")
    assert lines[-1] == f"Interrupted. The same command with resume=true goes on from {checkpoint}."
    assert checkpoint.is_file()
    assert recipe(*asked, "resume=true")["test_top1"] >= 0


@pytest.mark.usefixtures("ctrl_c")
def test_lightnings_requeueing_is_off_under_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoint in the run's folder would be taken by the next training there, whatever it trains."""
    make_trainer = runpy.run_path(str(RECIPES / "imagenet.py"))["make_trainer"]

    def catches(config: dict[str, Any]) -> bool:
        """Whether a training would catch SLURM's signal before the end of a job."""
        connector = make_trainer(config, "x")._signal_connector
        connector.register_signal_handlers()
        try:
            return signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
        finally:
            connector.teardown()

    config = read_config("trainer.accelerator=cpu")
    assert make_trainer(config, "x")._accelerator_connector.cluster_environment.__class__.__name__ == (
        "LightningEnvironment"
    )
    slurm = {"NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_ID": 12345, "JOB_NAME": "search"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    environment = make_trainer(config, "x")._accelerator_connector.cluster_environment
    assert type(environment).__name__ == "SLURMEnvironment"
    assert not catches(config)
    own = {**config, "trainer": {**config["trainer"], "plugins": [SLURMEnvironment()]}}
    assert catches(own), "a user's own plugins are left as they are"
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "0" if name != "WORLD_SIZE" else "1")
    environment = make_trainer(config, "x")._accelerator_connector.cluster_environment
    assert type(environment).__name__ == "TorchElasticEnvironment", "torchrun inside a SLURM job, as Lightning has it"


def forbidden(*_: object, **__: object) -> Any:
    raise AssertionError("a search whose training could not be tested")


@pytest.mark.parametrize("how", ["unsorted", "a class less", "a class more", "tar", "timm"])
def test_test_images_that_do_not_fit_are_refused_before_the_search(
    folder: Path, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder.parent / "sorted"
    shutil.copytree(folder, root / "train")
    shutil.copytree(folder, root / "val")
    said = r"The classes in '.*train.*' and '.*val.*' differ: '.*val.*' has no images of 1, such as eel\."
    if how == "unsorted":
        said = "There are images right in '.*val': put those of each class in a folder of its own"
        for path in list((root / "val").glob("*/*")):
            path.rename(root / "val" / f"{path.parent.name}_{path.name}")
    elif how == "a class more":
        said = r"'.*train' has no images of 1, such as fox\."
        shutil.copytree(folder / "cat", root / "val" / "fox")
    else:
        shutil.rmtree(root / "val" / "eel")
    if how in ("tar", "timm"):
        for split in ("train", "val"):
            shutil.make_archive(str(root / split), "tar", root / split)
            shutil.rmtree(root / split)
    settings = ["data.hold_out_val=true"]
    if how == "timm":
        settings = ["data.name=tar", "data.val_split=null", "data.test_split=val"]
    monkeypatch.setattr("lightning_wrcor.callback.zero_shot_search", forbidden)
    with pytest.raises(SystemExit) as stop:
        recipe(*CELLS, *QUICK, f"data.root={root}", *settings, "data.image_size=16", "data.num_workers=0")
    assert stop.value.code == 2
    assert re.search(f"error: .*{said}", capsys.readouterr().err)


def test_proxies_and_spaces_inside_of_lists_and_mappings() -> None:
    half = {"class_path": "lightning_wrcor.proxies.WRCor", "init_args": {"depth_normalised": True}}
    cells = {"class_path": "lightning_wrcor.spaces.NASBench201", "init_args": {"width": 4}}
    spaces = {"small": cells, "listed": "nasbench201"}
    vote = {"class_path": "lightning_wrcor.proxies.Vote", "init_args": {"members": [half, "params"]}}
    union = {"class_path": "lightning_wrcor.spaces.UnionSpace", "init_args": {"spaces": spaces}}
    Path("my.yaml").write_text(yaml.safe_dump({"model": {"proxy": ["params", half], "space": union}}))
    config = read_config("my.yaml")
    assert config["model"]["proxy"] == ["params", half]
    assert config["model"]["space"] == union
    module = ZeroShotSearchModule(**config["model"])
    assert module.hparams["proxy"][1]["init_args"]["depth_normalised"] is True
    assert module.hparams["space"]["init_args"]["spaces"]["small"]["init_args"]["width"] == 4
    voting = ZeroShotSearchModule(**read_config("model.proxy=" + json.dumps(vote))["model"])
    first, second = voting.hparams["proxy"]["init_args"]["members"]
    assert (first["init_args"]["depth_normalised"], second) == (True, "params")
    listed = ZeroShotSearchModule(**read_config("model.proxy=[wrcor, lightning_wrcor.proxies.SynFlow]")["model"])
    assert listed.hparams["proxy"][1]["class_path"] == "lightning_wrcor.proxies.SynFlow"
