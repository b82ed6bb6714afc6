"""Tar files: what folders hold, read by several processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from image_toys import Classifier, folder_data, rows, trainer, write_images, write_splits
from lightning.pytorch import seed_everything

from lightning_wrcor.data import ImageFolderData, TimmData
from lightning_wrcor.data._source import read_images

SMALL = {"image_size": 16, "batch_size": 4, "num_workers": 0}


def timm_data(name: str, root=None, **arguments) -> TimmData:
    return TimmData(name, root, **{**SMALL, **arguments})


def pack(folder, tar) -> None:
    with tarfile.open(tar, "w") as file:
        for path in sorted(folder.rglob("*.jpg")):
            file.add(path, path.relative_to(folder))


@pytest.fixture
def folders(tmp_path):
    return write_splits(tmp_path / "folders")


@pytest.fixture
def tars(folders, tmp_path):
    """The same images as ``folders``, in train.tar, val.tar and test.tar."""
    (tmp_path / "tars").mkdir()
    for split in ("train", "val", "test"):
        pack(folders / split, tmp_path / "tars" / f"{split}.tar")
    return tmp_path / "tars"


@pytest.mark.parametrize("workers", [0, 2])
def test_tar_files_hold_what_the_folders_hold(folders, tars, workers: int) -> None:
    packed = ImageFolderData(tars, **{**SMALL, "num_workers": workers})
    loose = folder_data(folders)
    assert packed.classes == loose.classes == ["cat", "dog", "emu"]
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        found, expected = rows(getattr(packed, loader)()), rows(getattr(loose, loader)())
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_workers_read_a_tar_file_that_the_training_process_has_open(folders, tars) -> None:
    """The search reads its probe batch before the workers are forked, which would share the place in the file."""
    packed = ImageFolderData(tars, **{**SMALL, "num_workers": 2, "batch_size": 1})
    [packed._get("train")[row] for row in range(3)]
    found = rows(packed.train_dataloader())
    assert torch.equal(found[0], rows(folder_data(folders, batch_size=1).train_dataloader())[0])
    assert packed.unreadable == []


def test_another_process_does_not_move_the_place_in_an_open_tar_file(tars) -> None:
    source = read_images(tars / "train.tar")
    source.read(0)
    file = source.reader.tar_state.tf.fileobj.fileno()
    before = os.lseek(file, 0, os.SEEK_CUR)
    child = multiprocessing.get_context("fork").Process(target=lambda: [source.read(row) for row in range(9, 18)])
    child.start()
    child.join()
    assert child.exitcode == 0
    assert os.lseek(file, 0, os.SEEK_CUR) == before
    again = pickle.loads(pickle.dumps(source))  # noqa: S301  (our own, as processes that are not forked get it)
    assert again.read(17)[0].tobytes() == source.read(17)[0].tobytes()


@pytest.mark.parametrize("how", ["folder", "timm"])
def test_one_tar_file_is_split(folders, tars, how: str) -> None:
    root = tars / "train.tar"
    data = ImageFolderData(root, **SMALL) if how == "folder" else timm_data("tar", root)
    data.setup()
    assert [len(data._get(split)) for split in ("train", "val", "test")] == [15, 3, 3]
    assert Counter(rows(data.val_dataloader())[1].tolist()) == {0: 1, 1: 1, 2: 1}
    assert data.num_classes == 3


def test_tar_files_one_a_class_are_in_one_order_whatever_the_file_system(folders, tmp_path, monkeypatch) -> None:
    """Equal names in several tar files: timm alone orders them as the folder is listed."""
    import timm.data.readers.reader_image_in_tar as reader

    (tmp_path / "classes").mkdir()
    for name in ("cat", "dog", "emu"):
        pack(folders / "train" / name, tmp_path / "classes" / f"{name}.tar")
    orders = []
    for backwards in (False, True):
        listing = reader.glob
        monkeypatch.setattr(reader, "glob", lambda *a, b=backwards, g=listing, **k: sorted(g(*a, **k), reverse=b))
        source = read_images(tmp_path / "classes")
        monkeypatch.undo()
        orders.append([source.name(row) for row in range(len(source))])
        assert source.labels() == [0] * 6 + [1] * 6 + [2] * 6
    assert orders[0] == orders[1]
    assert orders[0][:2] == ["cat.tar/0.jpg", "cat.tar/1.jpg"]
    data = timm_data("tar", tmp_path / "classes", val_split=None)
    images, labels = rows(data.val_dataloader())
    assert labels.tolist() == [0, 1, 2]
    assert [float(image.mean()) for image in images] == sorted(float(image.mean()) for image in images)


def test_splits_of_tar_files_by_name(tars) -> None:
    data = timm_data("tar", tars, val_split="val", test_split="test")
    data.setup()
    assert [len(data._get(split)) for split in ("train", "val", "test")] == [18, 9, 6]
    data = timm_data("tar", tars)  # there is no validation.tar
    assert [len(data._get(split)) for split in ("train", "val", "test")] == [15, 3, 3]


def test_a_broken_image_in_a_tar_file_is_named(tmp_path) -> None:
    write_images(tmp_path / "images" / "a", 20)
    (tmp_path / "images" / "a" / "7.jpg").write_bytes(b"no image")
    pack(tmp_path / "images", tmp_path / "all.tar")
    data = timm_data("tar", tmp_path / "all.tar", num_workers=1)
    (line,) = data.check(progress=False)
    assert line.startswith(f"{tmp_path / 'all.tar'}/a/7.jpg: UnidentifiedImageError: ")


def test_mistakes_with_files_are_named(tmp_path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"'.*images.zip' is a file of another kind: .* folders or in .tar files"):
        folder_data(tmp_path / "images.zip").setup("fit")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 300)
    with pytest.raises(ValueError, match=r"'.*bad.tar' is named .tar but is no tar file"):
        folder_data(tmp_path / "bad.tar").setup("fit")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    with tarfile.open(tmp_path / "text.tar", "w") as file:
        file.add(tmp_path / "notes", "notes")
    with pytest.raises(ValueError, match=r"no image \(.png, .jpg, .jpeg\) in the tar files of '.*text.tar'"):
        folder_data(tmp_path / "text.tar").setup("fit")
    write_images(tmp_path / "bare", 2)
    pack(tmp_path / "bare", tmp_path / "bare.tar")
    with pytest.raises(ValueError, match=r"images right in '.*bare.tar'"):
        folder_data(tmp_path / "bare.tar").setup("fit")
    with pytest.raises(ValueError, match=r"There is no tar file in '.*notes'"):
        timm_data("tar", tmp_path / "notes").setup("fit")
    with pytest.raises(FileNotFoundError, match=r"no file or folder '.*nowhere'"):
        timm_data("tar", tmp_path / "nowhere").setup("fit")


def test_a_class_without_training_images_is_named(folders) -> None:
    for path in (folders / "train" / "emu").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"train' has no images of 1, such as emu"):
        folder_data(folders).setup("fit")


def test_a_network_is_trained_on_tar_files(tars, tmp_path) -> None:
    seed_everything(0, verbose=False)
    module = Classifier(3 * 16 * 16, 3, lr=1e-3)
    data = timm_data("tar", tars, val_split="val", test_split="test", color_jitter=0.0)
    run = trainer(tmp_path, max_epochs=8)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    assert np.mean(module.right) > 0.9


def test_folders_beside_tar_files_are_refused(folders) -> None:
    """timm reads the tar files alone, and the other classes would be missing without a word."""
    pack(folders / "train" / "cat", folders / "train" / "cat.tar")
    (folders / "train" / "notes").mkdir()
    said = r"train' has tar files \(cat.tar\) and folders with images \(cat, dog, emu\): one of them would not be read"
    with pytest.raises(ValueError, match=said):
        folder_data(folders).setup("fit")
    with pytest.raises(ValueError, match=said):
        timm_data("tar", folders).setup("fit")
    for name in ("cat", "dog", "emu"):
        shutil.rmtree(folders / "train" / name)
    assert folder_data(folders).classes == ["cat"], "a folder without images does no harm"


def pack_from_inside(folder, tar) -> None:
    """As ``tar -C folder -cf tar .`` does."""
    with tarfile.open(tar, "w") as file:
        file.add(folder, ".")
    with tarfile.open(tar) as file:
        assert all(name == "." or name.startswith("./") for name in file.getnames())


def test_tar_files_that_were_packed_from_inside(folders, tmp_path) -> None:
    """One a class, all classes in one, and class tar files in one; one of the classes is packed in the usual way."""
    loose = [
        path.read_bytes() for name in ("cat", "dog", "emu") for path in sorted((folders / "train" / name).iterdir())
    ]
    (tmp_path / "classes").mkdir()
    for name in ("cat", "dog"):
        pack_from_inside(folders / "train" / name, tmp_path / "classes" / f"{name}.tar")
    pack(folders / "train" / "emu", tmp_path / "classes" / "emu.tar")
    pack_from_inside(folders / "train", tmp_path / "all.tar")
    pack_from_inside(tmp_path / "classes", tmp_path / "nested.tar")
    for packed in ("classes", "all.tar", "nested.tar"):
        source = read_images(tmp_path / packed)
        assert source.classes == ["cat", "dog", "emu"]
        assert source.labels() == [0] * 6 + [1] * 6 + [2] * 6
        assert [source.reader[row][0].read() for row in range(18)] == loose
    assert read_images(tmp_path / "classes").name(0) == "cat.tar/0.jpg"
    pack_from_inside(folders / "train" / "cat", tmp_path / "bare.tar")
    with pytest.raises(ValueError, match=r"images right in '.*bare.tar'"):
        read_images(tmp_path / "bare.tar")
