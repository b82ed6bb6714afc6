from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningCLI

from lightning_wrcor import DigitsData, SearchResult, ZeroShotSearchModule
from lightning_wrcor.cli import main

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


def test_misspelt_keys_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", *MODULE, "--model.budgett=3"])
    assert "budgett" in capsys.readouterr().err


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
