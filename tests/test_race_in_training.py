"""A race on the Lightning side: the callback, the module and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_wrcor import SearchResult, ZeroShotSearch, ZeroShotSearchModule
from lightning_wrcor.cli import main
from lightning_wrcor.search import Racing

import toys


def test_the_callback_installs_the_winner_of_the_race(tmp_path: Path) -> None:
    module = toys.Lit()
    search = ZeroShotSearch(toys.CELLS, budget=5, batch_size=8, racing={"finalists": 3, "seeds": 2})
    assert search.racing == Racing(3, 2)
    trainer = toys.trainer(callbacks=[search], default_root_dir=tmp_path, max_steps=1)
    trainer.fit(module, toys.loader())
    assert search.result is not None
    assert search.winner is not None
    raced = {row.name: row.race for row in search.result.history if row.race is not None}
    assert len(raced) == 3
    assert raced[search.winner.name].place == 1
    assert sum(parameter.numel() for parameter in module.net.parameters()) == search.result.best.params
    assert SearchResult.from_json(tmp_path / "search.json").race == search.result.race
    again = ZeroShotSearch(toys.CELLS, budget=5, batch_size=8, racing=Racing(3, 2))
    toys.trainer(callbacks=[again], default_root_dir=tmp_path, max_steps=1).fit(toys.Lit(), toys.loader())
    assert again.result is not None
    assert again.result.funnel.resumed == 5
    assert again.result.race == search.result.race


def test_a_fast_dev_run_races_in_short() -> None:
    search = ZeroShotSearch(toys.CELLS, batch_size=8, racing=Racing(6, 5))
    toys.trainer(callbacks=[search], fast_dev_run=True).fit(toys.Lit(), toys.loader())
    assert search.result is not None
    assert [len(row.race.scores) for row in search.result.history if row.race is not None] == [2, 2]


def test_mistakes_show_at_once() -> None:
    for make in (ZeroShotSearch, ZeroShotSearchModule):
        with pytest.raises(ValueError, match=r"There is no setting named .seed. of a race\. Did you mean seeds\?"):
            make(toys.CELLS, racing={"seed": 3})
        with pytest.raises(TypeError, match="A race is given as Racing"):
            make(toys.CELLS, racing=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("racing", [None, {"finalists": 2, "seeds": 2}])
def test_the_module_keeps_it_as_plain_values(tmp_path: Path, racing: Any) -> None:
    module = ZeroShotSearchModule(toys.CELLS, num_classes=10, budget=2, probe_size=8, racing=racing, journal=None)
    expected = None if racing is None else Racing.read(racing).to_dict()  # type: ignore[union-attr]
    assert module.hparams["racing"] == expected
    trainer = toys.trainer(default_root_dir=tmp_path, max_steps=1)
    trainer.fit(module, toys.loader())
    assert bool(module.result.race) == (racing is not None)  # type: ignore[union-attr]
    path = tmp_path / "one.ckpt"
    trainer.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["hyper_parameters"]["racing"] == expected
    again = ZeroShotSearchModule.load_from_checkpoint(path)
    assert again.search_settings.racing == Racing.read(racing)
    assert toys.same_weights(again, module)


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    arguments = [
        "--model=ZeroShotSearchModule",
        "--model.space=NASBench201",
        "--model.space.width=4",
        "--model.space.cells=1",
        "--model.budget=3",
        "--model.probe_size=8",
        "--model.racing.finalists=2",
        "--model.racing.seeds=2",
        "--data=DigitsData",
        "--data.image_size=8",
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        "--trainer.max_steps=1",
        "--trainer.limit_val_batches=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        f"--trainer.default_root_dir={tmp_path}",
    ]
    cli = main(["fit", *arguments])
    assert isinstance(cli.trainer, Trainer)
    assert cli.model.result.race.startswith("Race of 2 finalists, 2 fresh seeds each: ")
