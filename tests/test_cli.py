from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningCLI

from lightning_wrcor import DigitsData, SearchResult, ZeroShotSearchModule
from lightning_wrcor.cli import main
from lightning_wrcor.proxies import SynFlow

import toys

QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
MODULE = [
    "--model=ZeroShotSearchModule",
    "--model.space=NASBench201",
    "--model.space.width=4",
    "--model.space.cells=1",
    "--model.budget=3",
    "--model.probe_size=16",
    "--model.log_figures=false",  # drawing takes its time
    "--data=DigitsData",
    "--data.image_size=8",
]


def test_fit_test_and_retrain_from_the_command_line(tmp_path: Path) -> None:
    cli = main(["fit", *MODULE, *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    module = cli.model
    assert isinstance(module, ZeroShotSearchModule)
    assert module.result is not None
    folder = Path(str(cli.trainer.log_dir))
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"]["class_path"] == "lightning_wrcor.ZeroShotSearchModule", "the short, public path"
    assert saved["model"]["init_args"]["space"]["class_path"] == "lightning_wrcor.spaces.NASBench201"
    path = cli.trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]

    tested = main(["test", *MODULE, *QUICK[:2], "--trainer.limit_test_batches=1", f"--ckpt_path={path}"])
    assert toys.same_weights(tested.model, module)
    assert tested.model.result is None

    # The configuration that was used, with the winner laid over it: no search.
    again = main(["fit", f"--config={folder / 'config.yaml'}", f"--config={folder / 'selected.yaml'}"])
    assert again.model.result is None
    assert again.model.winner.name == module.winner.name  # type: ignore[union-attr]


def test_print_config_is_a_configuration_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *MODULE, *QUICK, "--print_config"])
    assert stop.value.code == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    cli = main(["fit", f"--config={tmp_path / 'printed.yaml'}", f"--trainer.default_root_dir={tmp_path}"])
    assert cli.model.winner is not None


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name}


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("a search does not train")


def test_search_chooses_as_fit_does_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        for name in ("training_step", "validation_step", "configure_optimizers", "on_fit_start"):
            patch.setattr(ZeroShotSearchModule, name, forbidden)
        with caplog.at_level("INFO", logger="lightning.pytorch"):
            cli = main(["search", *MODULE, *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    folder = Path(str(cli.trainer.log_dir))
    assert files(folder) == {"config.yaml", "hparams.yaml", "search.json", "selected.yaml"}
    result = SearchResult.from_json(folder / "search.json")
    assert str(result.table()) in caplog.text
    assert f"fit --config ... --config {folder}/selected.yaml" in caplog.text
    assert cli.model.network is None, "not even built"
    assert cli.trainer.state.finished

    # The same configuration, fitted, has the same winner; the journal shows that it is the same search.
    fitted = main(["fit", *MODULE, *QUICK, f"--trainer.default_root_dir={tmp_path}"]).model
    assert fitted.result.best.name == result.best.name
    assert fitted.result.funnel.resumed == 3
    # What the search wrote, fitted, needs no search.
    again = main(["fit", f"--config={folder / 'config.yaml'}", f"--config={folder / 'selected.yaml'}"]).model
    assert again.result is None
    assert again.winner.name == result.best.name


OWN = """
import toys
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_wrcor import DigitsData, ZeroShotSearch


class Plain(toys.Lit):
    pass


class Brings(toys.Lit):
    def configure_callbacks(self):
        return [ModelCheckpoint(), ZeroShotSearch(["test_resnet", "test_efficientnet"], batch_size=8)]


class BrokenStep(toys.Lit):
    def training_step(self, batch, index):
        raise ValueError("a bug in a step")


class BrokenInit(toys.Lit):
    def __init__(self):
        raise TypeError("a bug in a constructor")


class BrokenData(DigitsData):
    def setup(self, stage):
        raise ValueError("a bug in a set-up")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of a user's own, that the command line imports by class path."""
    (tmp_path / "own_classes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_classes", raising=False)


FILE = """
model: own_classes.Plain
data: {class_path: lightning_wrcor.DigitsData, init_args: {image_size: 32}}
trainer:
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true}
    - class_path: lightning_wrcor.ZeroShotSearch
      init_args: {space: [test_resnet, test_efficientnet], batch_size: 8}
    - class_path: lightning.pytorch.callbacks.LearningRateMonitor
"""


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("verb", "config"), [("search", "config.yaml"), ("fit", "../../a.yaml")])
def test_the_callbacks_winner_is_trained_from_files(tmp_path: Path, verb: str, config: str) -> None:
    (tmp_path / "a.yaml").write_text(FILE)
    cli = main([verb, f"--config={tmp_path / 'a.yaml'}", *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    folder = Path(str(cli.trainer.log_dir))
    assert {"config.yaml", "search.json", "selected.yaml"} <= files(folder)
    assert bool(list(tmp_path.rglob("*.ckpt"))) == (verb == "fit")
    # Its own arguments, or the user's file, and the winner laid over either: no search, and all callbacks are there.
    both = [f"--config={folder / config}", f"--config={folder / 'selected.yaml'}"]
    again = main(["fit", *both, *QUICK, f"--trainer.default_root_dir={tmp_path / 'again'}"]).trainer
    callbacks = {type(one).__name__: one for one in again.callbacks}  # type: ignore[attr-defined]
    assert {"ModelCheckpoint", "ZeroShotSearch", "LearningRateMonitor"} <= set(callbacks)
    assert again.checkpoint_callback.save_last  # type: ignore[union-attr]
    assert callbacks["ZeroShotSearch"].result is None
    assert callbacks["ZeroShotSearch"].winner.name == SearchResult.from_json(folder / "search.json").best.name


@pytest.mark.usefixtures("own")
def test_search_with_a_callback_that_the_module_brings(tmp_path: Path) -> None:
    own = ["--model=own_classes.Brings", "--data=DigitsData", "--data.image_size=32"]
    cli = main(["search", *own, *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    found = SearchResult.from_json(Path(str(cli.trainer.log_dir)) / "search.json")
    assert len(found.history) == 2


def test_a_trial_search_writes_nothing(tmp_path: Path) -> None:
    quick = [*QUICK[:2], "--trainer.fast_dev_run=true", f"--trainer.default_root_dir={tmp_path}"]
    cli = main(["search", *MODULE, *quick])
    assert len(cli.model.result.history) == 2
    assert files(tmp_path) == set()


@pytest.mark.processes
@pytest.mark.usefixtures("own")
def test_search_under_two_processes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FILE)
    two = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "lightning_wrcor", "search", f"--config={tmp_path / 'a.yaml'}", *two]
    paths = [
        str(tmp_path),
        str(Path(__file__).parent),
        str(Path(__file__).parents[1]),
        os.environ.get("PYTHONPATH", ""),
    ]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    done = subprocess.run(
        [*command, "--trainer.default_root_dir=out"], capture_output=True, text=True, timeout=300, env=environment
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-4000:]
    assert printed.count("To train the winner") == 1, "rank zero alone reports"
    assert files(Path("out")) >= {"config.yaml", "search.json", "selected.yaml"}
    assert not list(Path("out").rglob("*.ckpt"))
    (result,) = Path("out").rglob("search.json")
    (journal,) = Path("out").rglob("*.jsonl")
    assert len(SearchResult.from_json(result).history) == 2
    assert len(journal.read_text().splitlines()) == 1 + 2


def message(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """What the command says when it ends with status 2, which must be one line and no traceback."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model.budgett=3"], "model: ZeroShotSearchModule has no argument 'budgett'. Did you mean budget?"),
        (["--model.budget=abc"], "model.budget: expected int or null, got 'abc'"),
        (["--model.budget=0"], "A budget is the number of candidates that are scored, at least 1; got 0."),
        (["--model.space=nasbench20"], "There is no search space 'nasbench20'. Did you mean nasbench201? There are: "),
        (["--model.space.wwidth=3"], "'wwidth=3' does not fit the class that it is to be an argument of"),
        (["--model.proxy=wrcorr"], "There is no proxy named 'wrcorr'. Proxies, closest first: wrcor,"),
        (["--model.strategy=evolutio"], "There is no strategy named 'evolutio'. Strategies, closest first: evolution,"),
        (
            ["--model.schedule=linera"],
            "model.schedule: expected one of 'cosine', 'linear', 'constant' or null, got 'linera'",
        ),
        (["--model.constraints={max_params: -3}"], "The constraint max_params=-3.0 is negative."),
        (
            ["--model.constraints={max_param: 3}"],
            "There is no constraint named 'max_param'. Did you mean max_params? Constraints: max_params,",
        ),
        (
            ["--model.progressive={start: 128}"],
            "progressive starts with images of 128 pixels, but those of the data have only 8: start must be at most 8; "
            "without progressive (None, in YAML null) all have 8.",
        ),
        (
            ["--model.constraints={max_params: 3}", "--model.space=[test_resnet]"],
            "No candidate meets the constraints {'max_params': 3",
        ),
        (["--model.optimizer=sdg"], "timm has no optimiser named 'sdg'. Closest: sgd,"),
        (["--model.genotype=x"], "An arch string has 3 parts joined by '+', got 1 in 'x'."),
        (["--model=ZeroShotModule"], "model: there is no class named 'ZeroShotModule'; give its class path"),
        (["--modell.budget=3"], "unrecognized arguments: --modell.budget=3. Did you mean model?"),
        (
            ["--trainer.max_epoch_s=3"],
            "unrecognized arguments: --trainer.max_epoch_s=3. Did you mean trainer.max_epochs?",
        ),
        (["--trainer.devices=foo"], "`devices` selected with `CPUAccelerator` should be an int > 0."),
        (["--trainer.accelerator=gpuu"], "You selected an invalid accelerator name: `accelerator='gpuu'`."),
        (["--config=nothere.yaml"], "File does not exist: "),
        (["--config=file.yaml"], "there is no setting 'trainer.max_epoch'. Did you mean trainer.max_epochs?"),
        (["--config=broken.yaml"], "The configuration broken.yaml cannot be read: while parsing a flow mapping in "),
        (["--config=bytes.yaml"], "The configuration bytes.yaml cannot be read: 'utf-8' codec can't decode byte 0xff"),
        (
            ["--config=list.yaml"],
            "The configuration list.yaml cannot be read: it has no sections with names and values",
        ),
        (
            ["--config=linked.yaml"],
            "The configuration linked.yaml cannot be read: Interpolation key 'nothing' not found",
        ),
        (["--ckpt_path=nothere.ckpt"], "No such file or directory: "),
        (["--data=ImageFolderData", "--data.root=nowhere"], "There is no folder 'nowhere' (root of the images)."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_mistakes_are_told_in_one_message(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    Path("file.yaml").write_text("trainer: {max_epoch: 3}")
    Path("broken.yaml").write_text("trainer: {max_epochs: 3\nmodel: [x")
    Path("bytes.yaml").write_bytes(b"\xff\xfe\xff")
    Path("list.yaml").write_text("- trainer\n- model")
    Path("linked.yaml").write_text("trainer:\n  max_epochs: ${nothing}")
    data = [] if arguments[0].startswith("--data") else MODULE[-1:]
    assert message(capsys, ["fit", *MODULE[:-1], *data, *QUICK, *arguments]).startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], 'expected "subcommand" to be one of'),
        (["serch"], "argument subcommand: invalid choice: 'serch'"),
        (["search"], "the following arguments are required: search.data, search.model"),
        (
            ["search", "--model=own_classes.Plain", "--data=DigitsData"],
            "There is nothing to search: Plain is no ZeroShotSearchModule, and none of the Trainer's callbacks is a "
            "ZeroShotSearch.",
        ),
        (
            ["search", *MODULE, "--model.genotype=|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"],
            "There is nothing to search: the winner is given (genotype='|none~0|",
        ),
        (
            ["search", *MODULE, "--ckpt_path=a.ckpt"],
            "There is nothing to search: the checkpoint a.ckpt holds a network.",
        ),
    ],
)
@pytest.mark.usefixtures("own")
def test_mistakes_with_commands(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert message(capsys, arguments).startswith(said)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Lightning switches the signal off where it ends an interrupted run."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("verb", ["search", "fit"])
@pytest.mark.parametrize("journal", ["auto", "null"])
def test_ctrl_c_in_a_search_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], verb: str, journal: str
) -> None:
    measure, measured = SynFlow.measure, []

    def stops(self: SynFlow, context: Any) -> Any:
        measured.append(context)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(self, context)

    monkeypatch.setattr(SynFlow, "measure", stops)
    asked = [verb, *MODULE, *QUICK, "--model.proxy=synflow", f"--model.journal={journal}"]
    asked.append(f"--trainer.default_root_dir={tmp_path}")
    with pytest.raises(SystemExit) as stop:
        main(asked)
    assert stop.value.code == 130
    lines = capfd.readouterr().err.splitlines()
    (said,) = [line for line in lines if line.startswith("Interrupted. ")]
    assert lines[-1] == said
    assert not any("Traceback" in line for line in lines)
    if journal == "null":
        assert said == (
            "Interrupted. Nothing of the search is kept without a journal: name a file with journal=... to go on after such "
            "an end."
        )
        return
    (path,) = tmp_path.rglob("*.jsonl")
    assert said == f"Interrupted. What was scored is in {path}; the same search goes on from there."
    assert main(asked).model.result.funnel.resumed == 2


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_training_is_left_to_lightning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stops(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ZeroShotSearchModule, "training_step", stops)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *MODULE, *QUICK, "--model.journal=null"])
    assert stop.value.code == 1
    assert "Interrupted. " not in capfd.readouterr().err


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("arguments", "bug"),
    [
        (["--model=own_classes.BrokenStep", "--data=DigitsData"], "a bug in a step"),
        (["--model=own_classes.BrokenInit", "--data=DigitsData"], "a bug in a constructor"),
        (["--model=own_classes.Plain", "--data=own_classes.BrokenData"], "a bug in a set-up"),
    ],
)
def test_errors_of_other_code_keep_their_traceback(arguments: list[str], bug: str) -> None:
    with pytest.raises((ValueError, TypeError), match=bug):
        main(["fit", *arguments, "--data.image_size=8", *QUICK])


def test_refusals_inside_training_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this package raises is told plainly in the set-up, but not once the loops run."""
    monkeypatch.setattr(ZeroShotSearchModule, "forward", lambda self, images: toys.CELLS.parse("x"))
    with pytest.raises(ValueError, match="An arch string has 3 parts"):
        main(["fit", *MODULE, *QUICK])


def test_a_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEBUG", "true")
    with pytest.raises(ValueError, match="nasbench20"):
        main(["fit", *MODULE, "--model.space=nasbench20"])


def test_interpolation_in_files(tmp_path: Path) -> None:
    text = """
seed_everything: 3
model:
  class_path: lightning_wrcor.ZeroShotSearchModule
  init_args:
    space: {class_path: lightning_wrcor.spaces.NASBench201, init_args: {width: 4, cells: 1}}
    budget: ${seed_everything}
    probe_size: 16
data: {class_path: lightning_wrcor.DigitsData, init_args: {image_size: 8}}
"""
    (tmp_path / "a.yaml").write_text(text)
    cli = main(["fit", f"--config={tmp_path / 'a.yaml'}", *QUICK])
    assert len(cli.model.result.history) == 3


class Own(toys.Lit):
    """A user's module under a user's own CLI."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)


CALLBACK = [
    "--trainer.callbacks+=lightning_wrcor.ZeroShotSearch",
    "--trainer.callbacks.space=[test_resnet, test_efficientnet]",
    "--trainer.callbacks.budget=2",
    "--trainer.callbacks.batch_size=8",
    "--data.image_size=32",
]


def own_cli(args: list[str], **kwargs: Any) -> LightningCLI:
    return LightningCLI(Own, DigitsData, args=args, **kwargs)


def test_the_callback_in_a_users_own_cli(tmp_path: Path) -> None:
    args = ["fit", *QUICK, *CALLBACK, f"--trainer.default_root_dir={tmp_path}"]
    cli = own_cli(args, auto_configure_optimizers=False)
    result = SearchResult.from_json(Path(str(cli.trainer.log_dir)) / "search.json")
    assert {row.name for row in result.history} == {"test_resnet", "test_efficientnet"}
    assert cli.model.net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_clis_own_optimizer_would_train_nothing_and_is_refused(tmp_path: Path) -> None:
    args = ["fit", *QUICK, *CALLBACK, "--optimizer=SGD", "--optimizer.lr=0.1", f"--trainer.default_root_dir={tmp_path}"]
    with pytest.raises(MisconfigurationException, match=r"in no optimiser .*auto_configure_optimizers=False"):
        own_cli(args)


class Smaller(ZeroShotSearchModule):
    """A user's own subclass."""


@pytest.mark.parametrize("kind", [ZeroShotSearchModule, Smaller])
def test_a_checkpoint_that_no_command_line_wrote(tmp_path: Path, kind: type) -> None:
    """A recipe's, or Python's: it does not say of which class it is. Its arguments count, not those of the file."""
    cells = {"class_path": "lightning_wrcor.spaces.NASBench201", "init_args": {"width": 4, "cells": 1}}
    module = kind(cells, num_classes=10, budget=2, probe_size=8, seed=3, lr=0.05, journal=None, log_figures=False)
    run = toys.trainer(max_steps=1, default_root_dir=tmp_path, limit_val_batches=0)
    run.fit(module, datamodule=DigitsData(image_size=8))
    run.save_checkpoint(tmp_path / "best.ckpt")
    path = f"{kind.__module__}.{kind.__qualname__}"
    model = {"class_path": path, "init_args": {"space": "darts", "budget": 9, "lr": 0.2}}
    config = {"model": model, "data": {"class_path": "DigitsData", "init_args": {"image_size": 8}}}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(config))
    tested = main(
        ["test", f"--config={tmp_path / 'search.yaml'}", f"--ckpt_path={tmp_path / 'best.ckpt'}", *QUICK[:2]]
    ).model
    assert type(tested) is kind
    assert toys.same_weights(tested, module)
    assert tested.hparams["genotype"] == module.winner.name
    assert (tested.hparams["budget"], tested.hparams["lr"], tested.hparams["seed"]) == (2, 0.05, 3)
