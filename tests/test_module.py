from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_wrcor import DigitsData, ZeroShotSearch, ZeroShotSearchModule, load_network

import toys
from toys import CELLS, loader, same_weights, trainer


def module(**kwargs: Any) -> ZeroShotSearchModule:
    settings: dict[str, Any] = {"num_classes": 10, "budget": 3, "probe_size": 16, "journal": None, "lr": 0.05}
    return ZeroShotSearchModule(CELLS, **{**settings, **kwargs})


def test_it_searches_once_and_trains_the_winner(tmp_path: Path) -> None:
    one = module()
    run = trainer(max_epochs=2)
    run.fit(one, loader(), loader(shuffle=False))
    assert one.result is not None
    assert one.winner is not None
    assert one.network is not None
    assert one.winner.name == one.result.best.name
    assert not same_weights(one.winner.build(), one.network)
    (figures,) = run.test(one, loader(shuffle=False), verbose=False)
    assert set(figures) == {"test/loss", "test/top1", "test/top5"}
    assert figures["test/top1"] <= figures["test/top5"]


def test_accuracies_equal_a_count_by_hand() -> None:
    one, run = module(), trainer()
    run.fit(one, loader())
    images, labels = toys.batch(32)
    (figures,) = run.test(one, loader(shuffle=False), verbose=False)
    logits = one.eval()(images)
    top5 = logits.topk(5, dim=1).indices
    assert figures["test/top1"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert figures["test/top5"] == pytest.approx(float((top5 == labels[:, None]).any(1).float().mean()))


def test_a_checkpoint_is_enough_to_build_it_again(tmp_path: Path) -> None:
    one = module()
    saving = ModelCheckpoint(tmp_path, filename="one")
    run = trainer(callbacks=[saving], enable_checkpointing=True)
    run.fit(one, loader(), loader(shuffle=False))
    path = tmp_path / "one.ckpt"
    again = ZeroShotSearchModule.load_from_checkpoint(path)
    assert again.result is None
    assert same_weights(again, one)
    assert again.hparams["genotype"] == one.winner.name  # type: ignore[union-attr]
    assert torch.equal(load_network(path)(toys.batch()[0]), one.eval()(toys.batch()[0]))
    for verb in ("validate", "test", "predict"):
        fresh = module()
        getattr(trainer(), verb)(fresh, loader(shuffle=False), ckpt_path=path)
        assert fresh.result is None
        assert same_weights(fresh, one)


class Crash(Callback):
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("crash")


def test_crash_and_resume_equals_the_uninterrupted_run(tmp_path: Path) -> None:
    def run(folder: str, crash: bool = False, resume: bool = False) -> ZeroShotSearchModule:
        pl.seed_everything(3, verbose=False)
        one = module(warmup_epochs=1)
        saving = ModelCheckpoint(tmp_path / folder, filename="{epoch}", save_top_k=-1)
        fit = trainer(max_epochs=4, callbacks=[saving] + [Crash()] * crash, enable_checkpointing=True)
        path = tmp_path / folder / "epoch=1.ckpt" if resume else None
        if crash:
            with pytest.raises(RuntimeError, match="crash"):
                fit.fit(one, loader(shuffle=False))
        else:
            fit.fit(one, loader(shuffle=False), ckpt_path=path)
        return one

    straight = run("straight")
    run("broken", crash=True)
    resumed = run("broken", resume=True)
    assert resumed.result is None, "no second search"
    assert same_weights(straight, resumed)


def test_weight_averaging_holds_the_winner() -> None:
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this Lightning has no EMAWeightAveraging")
    ema, one = callbacks.EMAWeightAveraging(decay=0.5), module()
    trainer(callbacks=[ema], max_steps=3).fit(one, loader())
    averaged = list(ema._average_model.module.network.parameters())
    assert one.network is not None
    assert len(averaged) == len(list(one.network.parameters())) > 0
    assert one.result is not None


def test_learning_rate_follows_warm_up_and_cosine() -> None:
    class Rates(Callback):
        def __init__(self) -> None:
            self.rates: list[float] = []

        def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    rates = Rates()
    trainer(max_epochs=4, callbacks=[rates]).fit(module(lr=0.4, warmup_epochs=1), loader())
    assert len(rates.rates) == 16
    assert rates.rates[0] == pytest.approx(0.4 * 1e-3)
    assert rates.rates[2] == pytest.approx(0.4 * (1e-3 + (1 - 1e-3) * 2 / 4))
    expected = [0.2 * (1 + torch.cos(torch.tensor(torch.pi * step / 12)).item()) for step in range(12)]
    assert rates.rates[4:] == pytest.approx(expected)


def test_norms_and_biases_have_no_weight_decay() -> None:
    one = module(weight_decay=0.3)
    run = trainer(max_steps=1)
    run.fit(one, loader())
    assert one.network is not None
    decayed = {id(p): group["weight_decay"] for group in run.optimizers[0].param_groups for p in group["params"]}
    for parameter in one.network.parameters():
        assert decayed[id(parameter)] == (0.3 if parameter.dim() > 1 else 0.0)


def test_label_smoothing_is_in_the_training_loss() -> None:
    one = module(label_smoothing=0.5)
    trainer(max_steps=1).fit(one, loader())
    one.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    images, labels = toys.batch(8)
    logits = one.eval()(images)
    log_p = logits.log_softmax(1)
    by_hand = -(0.5 * log_p[range(8), labels] + 0.5 * log_p.mean(1)).mean()
    assert float(one.training_step((images, labels), 0)) == pytest.approx(float(by_hand), rel=1e-5)


def test_the_data_module_tells_the_classes_and_digits_are_learned() -> None:
    one = module(num_classes=None, lr=0.05)
    run = trainer(max_epochs=3)
    data = DigitsData(image_size=8, batch_size=32)
    run.fit(one, datamodule=data)
    (figures,) = run.test(one, datamodule=data, verbose=False)
    assert figures["test/top1"] > 0.4


def test_a_winner_given_as_text_is_not_searched_for() -> None:
    name = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    one = module(genotype=name)
    trainer(max_steps=1).fit(one, loader())
    assert one.result is None
    assert one.winner is not None
    assert one.winner.name == name


def test_unknown_number_of_classes_and_missing_network_say_what_to_do() -> None:
    with pytest.raises(MisconfigurationException, match=r"pass num_classes=\.\.\."):
        trainer().fit(module(num_classes=None), loader())
    with pytest.raises(MisconfigurationException, match=r"Give ckpt_path=\.\.\."):
        trainer().test(module(), loader(shuffle=False))
    with pytest.raises(MisconfigurationException, match="There is no network yet"):
        module()(toys.batch()[0])
    with pytest.raises(MisconfigurationException, match="ZeroShotSearchModule searches by itself"):
        trainer(callbacks=[ZeroShotSearch(CELLS)]).fit(module(), loader())


def test_mistakes_show_before_the_search() -> None:
    with pytest.raises(ValueError, match=r"timm has no optimiser named .adamww.\. Closest: adamw"):
        module(optimizer="adamww")
    one = module(in_chans=1)
    with pytest.raises(MisconfigurationException, match="in_chans is 1, but the images have 3 channels"):
        trainer().fit(one, loader())
    assert one.result is None


def test_a_checkpoint_holds_plain_values_only(tmp_path: Path) -> None:
    one = module(proxy=["wrcor", "params"], constraints={"max_params": 1e6}, optimizer_args={"momentum": 0.9})
    run = trainer()
    run.fit(one, loader())
    run.save_checkpoint(tmp_path / "one.ckpt")
    stored = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["genotype"] == one.winner.name  # type: ignore[union-attr]
    assert stored["hyper_parameters"]["constraints"] == {"max_params": 1e6}
    again = ZeroShotSearchModule.load_from_checkpoint(tmp_path / "one.ckpt")
    assert [proxy.name for proxy in again.search_settings.proxy] == ["wrcor", "params"]  # type: ignore[union-attr]
