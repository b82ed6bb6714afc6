"""What `ZeroShotSearchModule` does while it trains: each setting does what it says, inside a real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor

from lightning_wrcor import ZeroShotSearchModule, load_network
from lightning_wrcor.training import Mixing

import toys
from toys import CELLS, loader, trainer

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def module(**kwargs: Any) -> ZeroShotSearchModule:
    """A module with a given winner, so that nothing is searched."""
    settings: dict[str, Any] = {"num_classes": 10, "genotype": CELL, "lr": 0.05}
    return ZeroShotSearchModule(CELLS, **{**settings, **kwargs})


class Seen(Callback):
    """What the network and the loss were given in training, and the learning rates."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []
        self.rates: list[float] = []
        self.training: list[bool] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def note(network: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
            if network.training:
                self.images.append(given[0].detach())

        pl_module.network.register_forward_pre_hook(note)  # type: ignore[union-attr, operator]

    def on_train_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_mixing_reaches_the_network_and_ends_before_the_last_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[Tensor] = []
    real = F.cross_entropy

    def watched(logits: Tensor, target: Tensor, **settings: Any) -> Tensor:
        targets.append(target.detach())
        return real(logits, target, **settings)

    monkeypatch.setattr(F, "cross_entropy", watched)
    seen = Seen()
    trainer(max_epochs=3, callbacks=[seen]).fit(
        module(mixing={"mixup": 0.4, "off_epochs": 1}), loader(16, shuffle=False)
    )
    images, labels = toys.batch(16)
    assert len(seen.images) == len(targets) == 6
    for step, (given, target) in enumerate(zip(seen.images, targets, strict=True)):
        plain = images[step % 2 * 8 :][:8]
        if step < 4:
            assert target.shape == (8, 10)
            torch.testing.assert_close(target.sum(1), torch.ones(8))
            share = float(target.max(1).values.min())
            mixed = [share * plain + (1 - share) * plain.flip(0), (1 - share) * plain + share * plain.flip(0)]
            assert min(float((given - one).abs().max()) for one in mixed) < 1e-5, "pixels and labels have one share"
        else:
            assert torch.equal(given, plain)
            assert torch.equal(target, labels[step % 2 * 8 :][:8])


def test_steps_draw_the_same_numbers_whatever_was_drawn_before() -> None:
    losses: list[list[float]] = []
    for wasted in (0, 3):
        run = trainer(max_epochs=1)
        one = module(mixing={"mixup": 1.0})
        seen: list[float] = []

        class Watch(Callback):
            def on_train_batch_end(self, t: Any, m: Any, outputs: Any, *rest: Any, seen: list[float] = seen) -> None:
                seen.append(float(outputs["loss"]))

            def on_train_epoch_start(self, *args: Any, wasted: int = wasted) -> None:
                torch.rand(wasted)
                np.random.rand(wasted)

        run.callbacks.append(Watch())  # type: ignore[attr-defined]
        pl.seed_everything(3, verbose=False)
        run.fit(one, loader(shuffle=False))
        losses.append(seen)
    assert losses[0] == losses[1]


def test_averaged_weights_differ_and_are_the_ones_that_are_tested(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="one")
    run = trainer(
        max_epochs=3, callbacks=[EMAWeightAveraging(decay=0.9), saving], enable_checkpointing=True, limit_val_batches=2
    )
    one = module()
    run.fit(one, loader(), loader(shuffle=False))
    stored = torch.load(tmp_path / "one.ckpt", weights_only=True)
    averaged, last = stored["state_dict"], stored["current_model_state"]
    assert any(not torch.equal(averaged[name], last[name]) for name in averaged if name.endswith("weight"))

    # An average by hand from the weights after every step.
    class Steps(Callback):
        def __init__(self) -> None:
            self.average: dict[str, Tensor] = {}

        def on_train_batch_end(self, t: Any, m: pl.LightningModule, *rest: Any) -> None:
            now = {name: p.detach().clone() for name, p in m.named_parameters()}
            self.average = {name: 0.9 * self.average[name] + 0.1 * p if self.average else p for name, p in now.items()}

    steps = Steps()
    pl.seed_everything(0, verbose=False)
    again, ema = module(), EMAWeightAveraging(decay=0.9)
    fresh = trainer(max_epochs=2, callbacks=[ema, steps])
    fresh.fit(again, loader(shuffle=False))
    for name, p in again.named_parameters():  # at the end Lightning leaves the average in the module
        torch.testing.assert_close(p.detach(), steps.average[name], atol=1e-5, rtol=1e-4)

    (tested,) = trainer().test(module(), loader(shuffle=False), ckpt_path=tmp_path / "one.ckpt", verbose=False)
    (by_the_same,) = run.test(one, loader(shuffle=False), ckpt_path=tmp_path / "one.ckpt", verbose=False)
    assert by_the_same == tested, "Lightning alone tests the last weights here"
    other = module(in_chans=3)
    other.configure_model()
    before = toys.weights_hash(other, buffers=False)
    run.test(other, loader(shuffle=False), verbose=False)
    assert toys.weights_hash(other, buffers=False) == before, "averages of one module are not another's"
    images, labels = toys.batch(32)
    predicted = torch.cat(run.predict(one, loader(shuffle=False), ckpt_path=tmp_path / "one.ckpt"))  # type: ignore[arg-type]
    torch.testing.assert_close(predicted, load_network(tmp_path / "one.ckpt")(images).softmax(1), atol=1e-5, rtol=1e-4)
    network = load_network(tmp_path / "one.ckpt")
    losses = [float(F.cross_entropy(network(images), labels))]
    network.load_state_dict({name.removeprefix("network."): value for name, value in last.items()})
    losses.append(float(F.cross_entropy(network(images), labels)))
    assert tested["test/loss"] == pytest.approx(losses[0], rel=1e-4)
    assert abs(losses[0] - losses[1]) > 1e-3


def test_learning_rate_follows_the_batch_and_accumulation() -> None:
    seen = Seen()
    settings = {"lr": 0.8, "lr_batch": 64, "schedule": "constant", "warmup_epochs": 0}
    trainer(max_epochs=1, accumulate_grad_batches=2, callbacks=[seen]).fit(module(**settings), loader())
    assert seen.rates == pytest.approx([0.8 * 16 / 64] * 4)
    seen = Seen()
    trainer(max_epochs=1, callbacks=[seen]).fit(module(**settings, lr_scaling="sqrt"), loader())
    assert seen.rates[0] == pytest.approx(0.8 * (8 / 64) ** 0.5)


def test_the_schedule_steps_once_an_optimiser_step_under_accumulation() -> None:
    seen = Seen()
    run = trainer(max_epochs=4, accumulate_grad_batches=2, callbacks=[seen])
    run.fit(module(lr=1e-2, warmup_epochs=1, warmup_lr=0.5, min_lr=0.1), loader())
    factors = [rate / 1e-2 for rate in seen.rates]
    cosine = [0.1 + 0.9 * (1 + torch.cos(torch.tensor(torch.pi * done / 6)).item()) / 2 for done in range(6)]
    expected = [0.5, 0.75, *cosine]  # four epochs of four batches are eight steps, two of them warm-up
    assert factors == pytest.approx([factor for factor in expected for _ in range(2)])


def test_a_limit_of_steps_is_the_end_of_the_schedule_and_no_end_needs_none() -> None:
    seen = Seen()
    trainer(max_epochs=None, max_steps=6, callbacks=[seen]).fit(module(lr=1.0, warmup_epochs=0), loader())
    assert seen.rates[3] == pytest.approx(0.5)
    with pytest.raises(MisconfigurationException, match="without an end has no cosine schedule"):
        trainer(max_epochs=-1).fit(module(), loader())


def test_channels_last_and_compile_keep_the_names_of_the_weights(tmp_path: Path) -> None:
    seen = Seen()
    run = trainer(max_epochs=1, callbacks=[seen])
    one = module(channels_last=True, compile={"backend": "eager"})
    run.fit(one, loader())
    assert all(given.is_contiguous(memory_format=torch.channels_last) for given in seen.images)
    assert one.network is not None
    filters = [p for p in one.network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)
    assert one.network._compiled_call_impl is not None
    run.save_checkpoint(tmp_path / "one.ckpt")
    assert all("_orig_mod" not in name for name in torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"])
    plain = load_network(tmp_path / "one.ckpt")
    images = toys.batch()[0]
    torch.testing.assert_close(plain(images), one.eval()(images), atol=1e-5, rtol=1e-4)


def test_compiled_means_compiled() -> None:
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        calls.append(1)
        return graph.forward

    one = module(in_chans=3, compile={"backend": backend})
    one.configure_model()
    one(toys.batch()[0])
    assert calls


def test_bce_with_a_threshold_counts_both_of_two_mixed_classes() -> None:
    one = module(loss="bce", bce_threshold=0.2, label_smoothing=0.0)
    trainer(max_steps=1).fit(one, loader())
    one.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    images, labels = toys.batch(8)
    logits = one.eval()(images)
    by_hand = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 10).float())
    assert float(one.training_step((images, labels), 0)) == pytest.approx(float(by_hand), rel=1e-5)


def test_progressive_images_grow_to_the_full_size() -> None:
    seen = Seen()
    run = trainer(max_epochs=3, limit_train_batches=1, callbacks=[seen])
    run.fit(module(progressive={"start": 4, "until": 0.6, "multiple": 2}), loader())
    assert [given.shape[-1] for given in seen.images] == [4, 6, 8]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 7}, "label_smoothing is a share, 0 or more and below 1; got 7"),
        ({"drop_path": 1.0}, "drop_path is a probability"),
        ({"warmup_epochs": -1}, "warmup_epochs is a number of epochs"),
        ({"min_lr": 2}, "min_lr is a share of lr, 0 to 1; got 2"),
        ({"bce_threshold": 0.2}, "bce_threshold=0.2 is for loss='bce'; got loss='cross_entropy'"),
        ({"mixing": {"mixup": 0}}, "Without mixing, give None"),
    ],
)
def test_mistakes_show_before_anything_runs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**settings)


def test_settings_are_plain_values_in_checkpoints(tmp_path: Path) -> None:
    run = trainer(max_steps=1)
    run.fit(module(mixing=Mixing(mixup=0.2), progressive={"start": 8}), loader())
    run.save_checkpoint(tmp_path / "one.ckpt")
    stored = torch.load(tmp_path / "one.ckpt", weights_only=True)["hyper_parameters"]
    assert stored["mixing"]["mixup"] == 0.2
    again = ZeroShotSearchModule.load_from_checkpoint(tmp_path / "one.ckpt")
    assert again.mixing == Mixing(mixup=0.2)
    assert again.progressive is not None


def test_batches_of_unknown_size_have_no_scaled_learning_rate() -> None:
    class Batches:
        def __iter__(self) -> Any:
            return iter([toys.batch(8), toys.batch(8)])

    with pytest.raises(MisconfigurationException, match="lr_batch scales the learning rate with the batch"):
        trainer(max_epochs=1).fit(module(lr_batch=256, schedule="constant"), Batches())
    with pytest.raises(MisconfigurationException, match="warmup_epochs=1 needs training data with a length"):
        trainer(max_epochs=1, max_steps=3).fit(module(warmup_epochs=1), Batches())


def pictures(n: int = 16) -> Any:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*toys.batch(n, size=32)), 8)


def test_a_teacher_is_learned_from_and_belongs_to_nobody(tmp_path: Path) -> None:
    torch.manual_seed(1)
    teacher = timm.create_model("test_resnet", num_classes=10)
    with torch.no_grad():
        teacher.get_classifier().weight *= 30  # a teacher that is sure of something
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    settings = {
        "teacher": "test_resnet",
        "weights": str(tmp_path / "teacher.pth"),
        "normalise": False,
        "temperature": 2.0,
    }
    images = toys.batch(16, size=32)[0]
    with torch.no_grad():
        taught = F.softmax(teacher.eval()(images) / 2, 1)
    distances = []
    for alpha in (0.0, 0.9):
        pl.seed_everything(0, verbose=False)
        one = module(lr=0.05, mixing={"mixup": 0.2}, distillation={**settings, "alpha": alpha})
        run = trainer(max_epochs=8, callbacks=[EMAWeightAveraging(decay=0.5)])
        run.fit(one, pictures())
        with torch.no_grad():
            student = F.log_softmax(one.eval()(images) / 2, 1)
        distances.append(float((taught * (taught.log() - student)).sum(1).mean() * 4))
        run.save_checkpoint(tmp_path / "one.ckpt")
        names = torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"]
        assert set(names) == {name for name, _ in one.network.state_dict(prefix="network.").items()}  # type: ignore[union-attr]
        assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in one.network.parameters())  # type: ignore[union-attr]
    assert distances[1] < 0.8 * distances[0]


def test_drop_path_and_first_weights_reach_the_network(tmp_path: Path) -> None:
    from timm.layers import DropPath

    source = timm.create_model("test_resnet", num_classes=10)
    torch.save(source.state_dict(), tmp_path / "first.pth")

    def named(**more: Any) -> ZeroShotSearchModule:
        settings = {"num_classes": 10, "genotype": "test_resnet", "lr": 0.0, "weight_decay": 0.0, "drop_path": 0.2}
        return ZeroShotSearchModule(["test_resnet"], **settings, **more)

    one = named(pretrained=str(tmp_path / "first.pth"))
    run = trainer(max_steps=1)
    run.fit(one, pictures())
    rates = [part.drop_prob for part in one.network.modules() if isinstance(part, DropPath)]  # type: ignore[union-attr]
    assert max(rates) == pytest.approx(0.2)
    weights = dict(one.network.named_parameters())  # type: ignore[union-attr]
    assert all(torch.equal(weights[name], value) for name, value in source.named_parameters())
    run.save_checkpoint(tmp_path / "one.ckpt")
    (tmp_path / "first.pth").unlink()
    again = ZeroShotSearchModule.load_from_checkpoint(tmp_path / "one.ckpt")  # the checkpoint's own weights follow
    assert again.network is not None
    trainer(max_steps=2).fit(named(pretrained="gone.pth"), pictures(), ckpt_path=tmp_path / "one.ckpt")


def test_a_winner_without_residual_branches_trains_without_drop_path() -> None:
    one = module(drop_path=0.1)
    with pytest.warns(UserWarning, match="no residual branch that could be dropped.*trained without"):
        one.prepare(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()))
