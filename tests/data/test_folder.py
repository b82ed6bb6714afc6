"""Folders of real JPEG files, alone and under Lightning's Trainer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from image_toys import Classifier, folder_data, rows, trainer, write_images, write_splits
from lightning.pytorch import seed_everything
from PIL import Image
from warm_python import run_two

from lightning_wrcor.data import ImageFolderData
from lightning_wrcor.data._split import hold_out


@pytest.fixture
def folders(tmp_path):
    return write_splits(tmp_path)


@pytest.fixture
def flat(tmp_path):
    for place, name in enumerate(("cat", "dog", "emu")):
        write_images(tmp_path / name, 10, brightness=100 * place)
    return tmp_path


def test_folders_with_a_split(folders):
    data = folder_data(folders)
    data.setup()
    assert data.classes == ["cat", "dog", "emu"]
    assert data.num_classes == 3
    assert data.input_size == (3, 16, 16)
    assert [len(data._get(split)) for split in ("train", "val", "test")] == [18, 9, 6]
    for loader in (data.val_dataloader(), data.test_dataloader()):
        images, labels = rows(loader)
        assert images.shape[1:] == (3, 16, 16)
        # Brightness rises with the class, so images and labels belong together.
        brightness = [images[labels == label].mean() for label in range(3)]
        assert brightness == sorted(brightness)
        assert labels.tolist() == sorted(labels.tolist())


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_validation_folder(folders, name):
    (folders / "val").rename(folders / name)
    assert len(folder_data(folders)._get("val")) == 9


def test_evaluation_is_resize_crop_and_normalisation(tmp_path):
    """One image of one colour: what comes out is (colour / 255 - mean) / std everywhere."""
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (40, 32), (255, 0, 51)).save(tmp_path / split / "a" / "one.png")
    data = folder_data(tmp_path, mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 0.1))
    image, label = data._get("val")[0]
    assert label == 0
    torch.testing.assert_close(image, torch.tensor([1.0, -2.0, 0.0]).view(3, 1, 1).expand(3, 16, 16))


def test_a_flat_folder_is_split_by_class(flat):
    data = folder_data(flat, val_fraction=0.2)
    data.setup("fit")
    train, val = data._get("train"), data._get("val")
    assert (len(train), len(val)) == (24, 6)
    assert sorted(train.indices + val.indices) == list(range(30))
    _, labels = rows(data.val_dataloader())
    assert Counter(labels.tolist()) == {0: 2, 1: 2, 2: 2}
    again, other = folder_data(flat, val_fraction=0.2), folder_data(flat, val_fraction=0.2, seed=1)
    assert again._get("val").indices == val.indices
    assert other._get("val").indices != val.indices
    assert data._get("test") is val  # there is no test folder


def test_a_train_folder_alone_is_split_and_the_test_folder_is_not_validation(folders):
    for path in sorted((folders / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folders / "val").rmdir()
    data = folder_data(folders, val_fraction=0.34)
    assert [len(data._get(split)) for split in ("train", "val", "test")] == [12, 6, 6]


def test_validation_images_are_not_augmented(flat):
    data = folder_data(flat, auto_augment="rand-m9-mstd0.5", re_prob=1.0)
    val, train = data._get("val"), data._get("train")
    assert torch.equal(val[0][0], val[0][0])
    assert not torch.equal(train[0][0], train[0][0])


def test_classes_with_one_image_are_split_at_random_with_a_warning(tmp_path):
    for name in "abcdefgh":
        write_images(tmp_path / name, 1)
    data = folder_data(tmp_path, val_fraction=0.25)
    with pytest.warns(UserWarning, match="8 of 8 classes have one image only"):
        data.setup("fit")
    assert [len(data._get(split)) for split in ("train", "val")] == [6, 2]


@pytest.mark.parametrize(
    ("labels", "fraction"), [([0] * 9 + [1] * 5 + [2] * 2, 0.3), ([0, 1, 1, 1], 0.25), ([0, 0], 0.9)]
)
@pytest.mark.filterwarnings("ignore:.*one image only")
def test_split_keeps_and_holds_out_every_row_once(labels, fraction):
    kept, held = hold_out(labels, fraction, seed=0)
    assert sorted(kept + held) == list(range(len(labels)))
    assert kept
    assert held
    if min(Counter(labels).values()) > 1:
        assert {labels[row] for row in kept} == {labels[row] for row in held} == set(labels)


def test_the_validation_folder_as_test_and_validation_from_training(folders):
    held = folder_data(folders, hold_out_val=True, val_fraction=0.34)
    assert [len(held._get(split)) for split in ("train", "val", "test")] == [12, 6, 6], "a test folder stays the test"
    for path in sorted((folders / "test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folders / "test").rmdir()
    held = folder_data(folders, hold_out_val=True, val_fraction=0.34)
    assert [len(held._get(split)) for split in ("train", "val", "test")] == [12, 6, 9]
    assert held.test_images == "9 images that neither trained nor chose the network"
    plain = folder_data(folders)
    assert plain._get("test") is plain._get("val")
    assert plain.test_images == "9 validation images, which also chose the checkpoint"


def test_mistakes_in_folders_are_named(tmp_path, folders):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere'"):
        folder_data(folders / "nowhere").setup("fit")
    empty = tmp_path / "empty"
    (empty / "class").mkdir(parents=True)
    (empty / "class" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"no image \(.png, .jpg, .jpeg\) in the folders of '.*empty'"):
        folder_data(empty).setup("fit")
    write_images(empty, 2)
    with pytest.raises(ValueError, match=r"images right in '.*empty'"):
        folder_data(empty).setup("fit")
    write_images(tmp_path / "one" / "class", 1)
    with pytest.raises(ValueError, match="has one image only"):
        folder_data(tmp_path / "one").setup("fit")
    write_images(tmp_path / "half" / "val" / "class", 1)
    with pytest.raises(ValueError, match="has a folder 'val' but no folder 'train'"):
        folder_data(tmp_path / "half").setup("fit")


def test_classes_that_differ_are_named(folders):
    (folders / "val" / "emu").rename(folders / "val" / "eel")
    data = folder_data(folders)
    with pytest.raises(
        ValueError, match=r"train' has no images of 1, such as eel; .*val' has no images of 1, such as emu"
    ):
        data.setup("fit")
    data.setup("test")  # the test folder is right


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size must be positive"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"num_workers": -1}, "num_workers at least 0"),
    ],
)
def test_folder_settings_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        folder_data(tmp_path, **arguments)


def test_an_unknown_augmentation_is_named(flat):
    with pytest.raises(ValueError, match=r"auto_augment='rnad-m9'.*rand-m9-mstd0.5"):
        folder_data(flat, auto_augment="rnad-m9").setup("fit")


@pytest.mark.parametrize(("batch_size", "batches"), [(4, [4, 4, 4, 4]), (6, [6, 6, 6]), (18, [18]), (64, [18])])
def test_the_last_batch_is_dropped_only_if_it_is_not_the_only_one(folders, batch_size, batches):
    loader = folder_data(folders, batch_size=batch_size).train_dataloader()
    assert [len(labels) for _, labels in loader] == batches


def test_training_is_shuffled_and_evaluation_is_not(folders):
    data = folder_data(folders, batch_size=18)
    loader = data.train_dataloader()
    orders = set()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        orders.add(tuple(next(iter(loader))[1].tolist()))
    assert len(orders) == 3
    assert tuple(sorted(orders.pop())) == (0,) * 6 + (1,) * 6 + (2,) * 6
    assert len({tuple(rows(data.val_dataloader())[1].tolist()) for _ in range(2)}) == 1


def test_workers_stay(folders):
    loader = folder_data(folders, num_workers=1).train_dataloader()
    assert loader.persistent_workers
    first, second = (sum(len(labels) for _, labels in loader) for _ in range(2))
    assert first == second == 16


def test_lightning_trains_and_tests_on_folders(folders, tmp_path):
    seed_everything(0, verbose=False)
    module = Classifier(3 * 16 * 16, 3, lr=1e-3)
    data = folder_data(folders, color_jitter=0.0)
    run = trainer(tmp_path, max_epochs=8)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    assert np.mean(module.right) > 0.9  # the classes differ in brightness


@pytest.mark.processes
def test_two_processes_share_the_images(folders, tmp_path):
    """Each of two processes sees half of the 18 images, in whole batches where there are several."""
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import torch
from torch.utils.data import DistributedSampler
from image_toys import Classifier, folder_data, trainer
torch.set_num_threads(1)


class Checked(Classifier):
    def on_train_end(self):
        assert isinstance(self.trainer.train_dataloader.sampler, DistributedSampler)
        name = f"{{self.batch_sizes}} on {{self.global_rank}}"
        open({str(tmp_path / "seen")!r} + name, "w").close()


for batch_size in (4, 12):
    run = trainer({str(tmp_path)!r}, max_epochs=1, devices=2, strategy="ddp")
    run.fit(Checked(768, 3), datamodule=folder_data({str(folders)!r}, batch_size=batch_size))
"""
    )
    run_two(script)
    seen = sorted(path.name.removeprefix("seen") for path in tmp_path.glob("seen*"))
    assert seen == ["[4, 4] on 0", "[4, 4] on 1", "[9] on 0", "[9] on 1"]


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*one image only")
def test_real_imagenet_files(data):
    samples = data / "imagenet_samples"
    data = ImageFolderData(samples, image_size=64, batch_size=16, num_workers=0, auto_augment="rand-m9-mstd0.5")
    data.setup()
    assert data.num_classes == 200
    assert data.classes == sorted(path.name for path in samples.iterdir() if path.is_dir())
    assert [len(data._get(split)) for split in ("train", "val")] == [180, 20]
    images, labels = rows(data.val_dataloader())
    assert images.shape == (20, 3, 64, 64)
    assert len(set(labels.tolist())) == 20
    assert abs(images.mean()) < 0.5  # ImageNet's own mean and deviation were taken
    assert 0.7 < images.std() < 1.5
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (16, 3, 64, 64)


def test_test_images_are_looked_at_before_training_where_a_test_follows(tmp_path) -> None:
    write_splits(tmp_path, train=4, val=2)
    for path in (tmp_path / "val" / "emu").iterdir():
        path.unlink()
    folder_data(tmp_path, hold_out_val=True).setup("fit")  # who never tests may have any folder there
    data = folder_data(tmp_path, hold_out_val=True)
    data.will_test = True
    with pytest.raises(ValueError, match=r"val' has no images of 1, such as emu"):
        data.setup("fit")
