"""Images that cannot be read: replaced in training, left out of evaluation, counted, named, and not too many."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from image_toys import Classifier, folder_data, rows, trainer, write_images, write_splits
from torch import nn

from lightning_wrcor.data._seeded import Draw


@pytest.fixture
def folders(tmp_path):
    return write_splits(tmp_path, train=20, val=5, test=2)


def truncate(path, kept: int = 300) -> str:
    path.write_bytes(path.read_bytes()[:kept])
    return str(path)


class Counting(Classifier):
    """Notes how many images evaluation sees, and what their labels are."""

    def __init__(self) -> None:
        super().__init__(3 * 16 * 16, 3, lr=1e-3)
        self.labels: list[int] = []

    def validation_step(self, batch, batch_idx):
        assert len(batch[0]) == len(batch[1]) > 0
        self.labels += batch[1].tolist()
        self.log("val", nn.functional.cross_entropy(self.net(batch[0]), batch[1]), batch_size=len(batch[1]))


def test_a_training_image_is_replaced_by_the_next_that_can_be_read(folders) -> None:
    broken = [truncate(folders / "train" / "cat" / f"{number}.jpg") for number in (3, 4)]
    data = folder_data(folders, max_unreadable=0.1)
    train = data._get("train")
    given = train[Draw(3, seed=8)]
    assert torch.equal(given[0], train[Draw(5, seed=8)][0])
    assert given[1] == 0
    assert data.unreadable == broken
    (folders / "train" / "emu" / "19.jpg").write_bytes(b"no image")
    assert train[59][1] == 0, "after the last comes the first"
    assert len(data.unreadable) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_left_out_of_evaluation(folders, workers: int) -> None:
    truncate(folders / "val" / "dog" / "1.jpg")
    data = folder_data(folders, max_unreadable=0.1, num_workers=workers)
    images, labels = rows(data.val_dataloader())
    assert labels.tolist() == [0] * 5 + [1] * 4 + [2] * 5
    assert len(images) == 14
    assert data.unreadable == [str(folders / "val" / "dog" / "1.jpg")], "workers' marks are seen here"


def test_a_batch_of_which_nothing_can_be_read_is_left_out(folders) -> None:
    for number in range(5):
        truncate(folders / "val" / "dog" / f"{number}.jpg")
    data = folder_data(folders, max_unreadable=0.5, batch_size=5)
    batches = [labels.tolist() for _, labels in data.val_dataloader()]
    assert batches == [[0] * 5, [2] * 5]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_tells_once_what_could_not_be_read(folders, tmp_path, workers: int) -> None:
    train = truncate(folders / "train" / "cat" / "7.jpg")
    val = truncate(folders / "val" / "dog" / "0.jpg")
    data = folder_data(folders, max_unreadable=0.1, num_workers=workers, batch_size=10)
    module = Counting()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer(tmp_path, max_epochs=3, num_sanity_val_steps=0).fit(module, datamodule=data)
    said = [str(warning.message) for warning in told if "could not be read" in str(warning.message)]
    assert len(said) == 2
    for text, split, count, path in zip(sorted(said), ("val", "train"), (15, 60), (val, train), strict=True):
        where = re.escape(str(folders / split))
        assert re.fullmatch(
            rf"1 of {count} images in '{where}' could not be read: {re.escape(path)} \(OSError: .+\)\.", text
        )
    assert module.batch_sizes == [10] * 18
    assert module.labels == ([0] * 5 + [1] * 4 + [2] * 5) * 3
    assert sorted(data.unreadable) == [train, val]


def test_an_image_found_in_the_last_epoch_is_told_too(folders, tmp_path) -> None:
    truncate(folders / "train" / "cat" / "7.jpg")
    data = folder_data(folders)
    with pytest.warns(UserWarning, match=r"1 of 60 images in .*train' could not be read: .*cat/7.jpg \(OSError"):
        trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(Counting(), datamodule=data)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_end_the_training_and_are_named(folders, tmp_path, workers: int) -> None:
    for number in range(7):
        truncate(folders / "train" / "dog" / f"{number}.jpg")
    data = folder_data(folders, max_unreadable=0.1, num_workers=workers)
    message = (
        r"7 of 60 images in .*train' cannot be read, and max_unreadable allows 6: .*dog/0.jpg \(OSError: .*and 2 more"
    )
    with pytest.raises(RuntimeError, match=message):
        trainer(tmp_path, max_epochs=1).fit(Counting(), datamodule=data)


def test_one_is_allowed_in_a_small_folder_unless_none_is(folders) -> None:
    truncate(folders / "val" / "dog" / "1.jpg")
    assert len(rows(folder_data(folders).val_dataloader())[0]) == 14  # 1 of 15 is more than one in a hundred
    with pytest.raises(RuntimeError, match="max_unreadable allows 0"):
        rows(folder_data(folders, max_unreadable=0.0).val_dataloader())
    truncate(folders / "val" / "dog" / "2.jpg")
    with pytest.raises(RuntimeError, match=r"2 of 15 images .* allows 1"):
        rows(folder_data(folders).val_dataloader())


def test_nothing_that_can_be_read_is_an_error_not_an_endless_search(tmp_path) -> None:
    for split in ("train", "val"):
        write_images(tmp_path / split / "a", 3)
    for path in (tmp_path / "train" / "a").iterdir():
        path.write_bytes(b"")
    data = folder_data(tmp_path, max_unreadable=1.0)
    with pytest.raises(RuntimeError, match=r"No image in .*train' can be read: .*0.jpg \(UnidentifiedImageError"):
        next(iter(data.train_dataloader()))


def test_a_held_out_image_counts_for_its_folder(tmp_path) -> None:
    for name in ("a", "b"):
        write_images(tmp_path / name, 10)
    data = folder_data(tmp_path, val_fraction=0.5, max_unreadable=0.5)
    row = data._get("val").indices[0]
    path = data._source("train").name(row)
    truncate(type(tmp_path)(path))
    assert len(rows(data.val_dataloader())[0]) == 9
    assert data.unreadable == [path]
    list(data.train_dataloader())
    assert data.unreadable == [path]


@pytest.mark.parametrize("workers", [0, 2])
def test_check_reads_all_splits_and_says_why(folders, workers: int, capsys) -> None:
    broken = [truncate(folders / "train" / "cat" / "3.jpg"), truncate(folders / "test" / "dog" / "0.jpg", 0)]
    (folders / "val" / "emu" / "extra.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    data = folder_data(folders)
    lines = data.check(num_workers=workers)
    assert len(lines) == 3
    assert lines[0].startswith(f"{broken[0]}: OSError: ")
    assert "truncated" in lines[0].lower()
    assert lines[1].startswith(f"{folders / 'val' / 'emu' / 'extra.png'}: ")
    assert lines[2].startswith(f"{broken[1]}: UnidentifiedImageError: ")
    assert len(data.unreadable) == 3
    shown = capsys.readouterr().err
    assert all(f"reading {split}" in shown for split in ("train", "val", "test"))
    data = folder_data(folders)
    assert data.check(num_workers=workers, progress=False) == lines
    assert capsys.readouterr().err == ""


def test_check_of_sound_images_finds_nothing(folders) -> None:
    assert folder_data(folders).check(progress=False) == []
