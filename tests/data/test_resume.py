"""A training that goes on from a checkpoint sees the batches, to the pixel, that it would have seen without a break."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from image_toys import Classifier, folder_data, trainer, write_splits
from lightning.pytorch.callbacks import ModelCheckpoint
from warm_python import run_two

from lightning_wrcor.data import DigitsData

SCRIPT = Path(__file__).parents[1] / "scripts" / "resume_data.py"
NOISY = {"auto_augment": "rand-m9-mstd0.5", "re_prob": 0.5, "re_mode": "pixel"}


@pytest.fixture
def folders(tmp_path):
    return write_splits(tmp_path / "images")


class Watching(Classifier):
    """Notes epoch, number and pixels of every batch."""

    def __init__(self, inputs: int = 3 * 16 * 16, classes: int = 3) -> None:
        super().__init__(inputs, classes, lr=0.01)
        self.seen: list[tuple[int, int, str]] = []

    def training_step(self, batch, batch_idx):
        pixels = hashlib.sha256(batch[0].numpy().tobytes()).hexdigest()
        self.seen.append((self.trainer.current_epoch, batch_idx, pixels))
        return super().training_step(batch, batch_idx)


def fit(data, callbacks, path=None, module=None, **settings) -> Watching:
    module = module or Watching()
    torch.manual_seed(len(callbacks))  # the global random numbers play no part
    settings = {"enable_checkpointing": bool(callbacks), "num_sanity_val_steps": 0, **settings}
    run = trainer(Path.cwd(), callbacks=callbacks, **settings)
    run.fit(module, datamodule=data, ckpt_path=path)
    return module


def steps(folder: Path) -> dict[int, Path]:
    return {int(path.stem.partition("=")[2]): path for path in folder.glob("*.ckpt")}


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (0, 2)])
def test_every_step_can_be_the_last_before_a_break(folders, tmp_path, before: int, after: int) -> None:
    """18 images in batches of 4: four batches an epoch, two epochs; also where the workers are other than before."""
    saving = ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, every_n_train_steps=1)
    whole = fit(folder_data(folders, num_workers=before, **NOISY), [saving], max_epochs=2)
    assert len({pixels for _, _, pixels in whole.seen}) == 8
    saved = steps(tmp_path / "saved")
    assert sorted(saved) == list(range(1, 9))
    for step in (1, 3, 4, 6) if after else range(1, 8):
        resumed = fit(folder_data(folders, num_workers=after, **NOISY), [], saved[step], max_epochs=2)
        assert resumed.seen == whole.seen[step:], step


@pytest.mark.parametrize("length", [{"max_epochs": 2}, {"max_steps": 16}])
@pytest.mark.parametrize("validation", [0, 1])
@pytest.mark.parametrize("when", [{"save_on_train_epoch_end": True}, {"save_on_train_epoch_end": False}])
def test_checkpoints_between_epochs(tmp_path, length, validation: int, when) -> None:
    """However the run is bounded, and whether it is saved before or after the validation."""
    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    settings = {**length, "limit_val_batches": validation}
    whole = fit(DigitsData(image_size=8, batch_size=128), [saving], module=Watching(192, 10), **settings)
    assert len(whole.seen) == 16
    for step, path in steps(tmp_path).items():
        data = DigitsData(image_size=8, batch_size=128)
        resumed = fit(data, [], path, module=Watching(192, 10), **settings)
        assert [pixels for _, _, pixels in resumed.seen] == [pixels for _, _, pixels in whole.seen[step:]], step


def test_an_epoch_that_the_trainer_cuts_short(folders, tmp_path) -> None:
    saving = ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, every_n_train_steps=1)
    settings = {"max_epochs": 3, "limit_train_batches": 3}
    whole = fit(folder_data(folders, **NOISY), [saving], **settings)
    for step, path in steps(tmp_path / "saved").items():
        assert fit(folder_data(folders, **NOISY), [], path, **settings).seen == whole.seen[step:], step


def test_repeated_images_and_accumulated_batches(folders, tmp_path) -> None:
    saving = ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, every_n_train_steps=1)
    settings = {"max_epochs": 2, "accumulate_grad_batches": 2}
    whole = fit(folder_data(folders, repeats=3, **NOISY), [saving], **settings)
    resumed = fit(folder_data(folders, repeats=3, **NOISY), [], steps(tmp_path / "saved")[3], **settings)
    assert resumed.seen == whole.seen[6:]


def test_a_loader_alone_goes_on_where_it_stopped(folders) -> None:
    data = folder_data(folders, **NOISY)
    whole = [images for images, _ in data.train_dataloader()]
    first = data.train_dataloader()
    running = iter(first)
    next(running), next(running)
    state = json.loads(json.dumps(first.state_dict()))
    assert (state["epoch"], state["batches"]) == (0, 2)
    second = data.train_dataloader()
    second.load_state_dict(state)
    assert second.state_dict() == state, "also before the next batch"
    rest = [images for images, _ in second]
    assert len(rest) == 2
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[2:], strict=True))
    assert len(list(second)) == 4, "the next iteration is a whole one"
    later = data.train_dataloader()
    later.load_state_dict(state)
    later.sampler.set_epoch(1)
    assert len(list(later)) == 4, "what was given out belongs to another epoch"


def test_another_batch_size_or_seed_in_the_middle_of_an_epoch_is_told(folders) -> None:
    first = folder_data(folders).train_dataloader()
    next(iter(first))

    def go_on(**arguments) -> None:
        loader = folder_data(folders, **arguments).train_dataloader()
        loader.load_state_dict(first.state_dict())
        next(iter(loader))

    with pytest.warns(UserWarning, match=r"images_a_batch was 4 and is 6: the rest of this epoch"):
        go_on(batch_size=6)
    with pytest.warns(UserWarning, match=r"seed was \d+ and is \d+"):
        go_on(seed=1)


class Counted(Watching):
    """Its optimiser needs the number of steps, for which Lightning makes the loader before it restores its state."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        steps = int(self.trainer.estimated_stepping_batches)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)]


@pytest.mark.parametrize("same", [False, True])
def test_modules_that_ask_for_the_number_of_steps(folders, tmp_path, same: bool) -> None:
    """With a data module of its own, and with the one that has trained before; other loaders beside play no part."""
    saving = ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, every_n_train_steps=1)
    data = folder_data(folders, **NOISY)
    whole = fit(data, [saving], module=Counted(), max_epochs=2)
    for step, path in steps(tmp_path / "saved").items():
        if step == 8:
            continue
        again = data if same else folder_data(folders, **NOISY)
        again.train_dataloader()
        assert fit(again, [], path, module=Counted(), max_epochs=2).seen == whole.seen[step:], step


@pytest.mark.processes
def test_two_processes(folders, tmp_path) -> None:
    said = "".join(run_two(SCRIPT, folders, tmp_path))
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for facts in (first, second):
        assert len(facts["whole"]) == 4
        assert facts["resumed"] == facts["whole"][1:]
    assert not {tuple(batch) for batch in first["whole"]} & {tuple(batch) for batch in second["whole"]}
    # Two images are broken, both processes know of both at the end, and rank zero tells.
    assert first["unreadable"] == second["unreadable"] == ["cat/0.jpg", "dog/0.jpg"]
    assert "2 of 18 images" in said
    assert said.count("could not be read") == 1
