"""Alarms: each touch of the Trainer's insides, alone, so that a change in Lightning shows here first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

from lightning_wrcor import _trainer

import toys
from toys import Lit, loader, trainer


class Look(Callback):
    """Runs a function in setup and keeps what it gave."""

    def __init__(self, look: Any) -> None:
        self.look = look
        self.seen: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.seen.append(self.look(trainer))


def pair(batch: Any) -> Any:
    return batch[0], batch[1]


def probe(loaders: Any, n: int = 8, seed: int = 0) -> Any:
    look = Look(lambda trainer: _trainer.probe_batch(trainer, n, seed, pair))
    trainer(callbacks=[look], max_steps=1, limit_train_batches=1).fit(Anything(), loaders)
    return look.seen[0]


class Foreign:
    """Not a DataLoader at all."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.batches = [(images[:4], labels[:4]), (images[4:], labels[4:])]

    def __iter__(self) -> Any:
        return iter(self.batches)


class Anything(Lit):
    def training_step(self, data: Any, index: int) -> torch.Tensor:
        return sum(p.sum() for p in self.parameters())  # type: ignore[return-value]


def test_setup_comes_before_optimisers_wrapping_and_weights() -> None:
    look = Look(lambda t: (list(t.optimizers), t.strategy.root_device.type, t.strategy.model is t.lightning_module))
    trainer(callbacks=[look], max_steps=1).fit(Lit(), loader())
    assert look.seen == [([], "cpu", True)]


def test_the_requested_checkpoint_is_seen_in_setup(tmp_path: Path) -> None:
    one = trainer()
    one.fit(Lit(), loader())
    one.save_checkpoint(tmp_path / "a.ckpt")
    for verb in ("fit", "validate", "test", "predict"):
        look = Look(_trainer.requested_checkpoint)
        run = trainer(callbacks=[look], max_epochs=2)
        getattr(run, verb)(Lit(), loader(shuffle=False), ckpt_path=tmp_path / "a.ckpt")
        assert look.seen == [str(tmp_path / "a.ckpt")], verb
    look = Look(_trainer.requested_checkpoint)
    trainer(callbacks=[look]).fit(Lit(), loader())
    assert look.seen == [None]
    assert _trainer.requested_checkpoint(one) is None


def test_probe_batches_come_from_all_kinds_of_loaders() -> None:
    images, labels = toys.batch(32)
    rows = TensorDataset(images, labels)
    whole = {tuple(image.flatten().tolist()) for image in images}
    loaders = {
        "shuffled": DataLoader(rows, 4, shuffle=True),
        "mapping": {"a": DataLoader(rows, 4), "b": DataLoader(rows, 4)},
        "combined": CombinedLoader([DataLoader(rows, 4)]),
        "any iterable": Foreign(images, labels),
        "workers": DataLoader(rows, 4, shuffle=True, num_workers=1, persistent_workers=True),
    }
    for name, given in loaders.items():
        found, marks = probe(given)
        assert found.shape == (8, 3, 8, 8), name
        assert marks.shape == (8,), name
        assert all(tuple(image.flatten().tolist()) in whole for image in found), name
    assert len(probe(loader(n=5), n=64)[0]) == 5, "a small data set gives what it has"


def test_a_sampler_of_the_users_own_is_respected() -> None:
    images, labels = toys.batch(32)
    sampler = SubsetRandomSampler(range(4), generator=torch.Generator().manual_seed(0))
    before = sampler.generator.get_state()
    given = DataLoader(TensorDataset(images, labels), 2, sampler=sampler)
    look = Look(lambda t: (_trainer.probe_batch(t, 4, 0, pair), sampler.generator.get_state()))
    trainer(callbacks=[look], max_steps=1).fit(Anything(), given)
    (found, _), after = look.seen[0]
    allowed = {tuple(image.flatten().tolist()) for image in images[:4]}
    assert {tuple(image.flatten().tolist()) for image in found} == allowed
    assert torch.equal(before, after), "the user's generator is where it was"


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.full((3, 8, 8), float(i)), i) for i in range(20)])


def test_streams_work() -> None:
    found, _ = probe(DataLoader(Stream(), 4), n=6)
    assert found[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_same_seed_draws_the_same_images_whatever_the_global_random_numbers() -> None:
    torch.manual_seed(1)
    first = probe(loader())
    torch.manual_seed(2)
    second = probe(loader())
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], probe(loader(), seed=5)[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_drawing_leaves_random_numbers_and_training_batches_alone(workers: int) -> None:
    class Batches(Lit):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[torch.Tensor] = []

        def training_step(self, data: Any, index: int) -> torch.Tensor:
            self.seen.append(data[0].clone())
            return super().training_step(data, index)

    def run(callbacks: list[Callback]) -> torch.Tensor:
        pl.seed_everything(5, workers=True, verbose=False)
        generator = torch.Generator().manual_seed(9)
        module = Batches()
        given = DataLoader(
            toys.Augmented(), 8, shuffle=True, num_workers=workers, persistent_workers=workers > 0, generator=generator
        )
        trainer(callbacks=callbacks).fit(module, given)
        return torch.cat(module.seen)

    assert torch.equal(run([]), run([Look(lambda t: _trainer.probe_batch(t, 8, 0, pair))]))


def test_the_winner_is_written_by_the_modules_own_hook(tmp_path: Path) -> None:
    class Own(Lit):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["mine"] = 1

    from lightning_wrcor.search import Winner

    winner = Winner({"class_path": "x", "init_args": {}}, "g", "g", 2, 3, "net")
    module = Own()
    _trainer.remember_in_checkpoints(module, winner)
    one = trainer()
    one.fit(module, loader())
    one.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    stored = _trainer.read_checkpoint(tmp_path / "a.ckpt")
    assert stored["mine"] == 1
    assert Winner.from_dict(stored["lightning_wrcor"]) == winner
    assert next(iter(stored["state_dict"].values())).device.type == "meta", "weights are not read"


def test_remote_checkpoints_are_read_through_fsspec() -> None:
    import fsspec

    with fsspec.open("memory://a/b.ckpt", "wb") as file:
        torch.save({"lightning_wrcor": {"name": "n"}}, file)
    assert _trainer.read_checkpoint("memory://a/b.ckpt") == {"lightning_wrcor": {"name": "n"}}


def test_a_folder_that_cannot_be_looked_into_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="consolidate_checkpoint"):
        _trainer.read_checkpoint(tmp_path)
