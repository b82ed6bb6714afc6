"""Hugging Face tables and streams, and WebDataset shards, all made here and read without a network."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from collections import Counter

import pytest
import torch
from image_toys import Classifier, rows, trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from lightning_wrcor.data import TimmData

SMALL = {"image_size": 16, "batch_size": 4, "num_workers": 0}


def timm_data(name: str, root=None, **arguments) -> TimmData:
    return TimmData(name, root, **{**SMALL, **arguments})


# Hugging Face


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A local Hugging Face dataset: 18 training and 9 validation images of two named classes, in two files."""
    datasets = pytest.importorskip("datasets")
    # Seconds that it waits for Arrow's threads after each pass over a stream.
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cold", "warm"])})
    for split, count in (("train", 18), ("validation", 9)):
        for part in range(2):
            numbers = range(part, count, 2)
            images = [Image.new("RGB", (20, 20), (200 * (number % 3 == 0), 0, number * 10)) for number in numbers]
            columns = {"image": images, "label": [int(number % 3 == 0) for number in numbers]}
            path = tmp_path / "table" / "data" / f"{split}-{part:05d}-of-00002.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    return tmp_path / "table"


def test_hugging_face_tables(table, tmp_path) -> None:
    data = timm_data(f"hfds/{table}", tmp_path / "cache")
    data.setup()
    assert data.classes == ["cold", "warm"]
    assert data.num_classes == 2
    assert [len(data._get(split)) for split in ("train", "val")] == [18, 9]
    images, labels = rows(data.val_dataloader())
    assert labels.sum() == 3
    assert torch.equal(images[:, 0].mean((1, 2)) > 0, labels == 1), "the warm ones are red"
    first = rows(data.train_dataloader())[0]
    workers = timm_data(f"hfds/{table}", tmp_path / "cache", num_workers=2)
    assert torch.equal(rows(workers.train_dataloader())[0], first)
    held = timm_data(f"hfds/{table}", tmp_path / "cache", val_split=None, val_fraction=0.34)
    assert [len(held._get(split)) for split in ("train", "val", "test")] == [12, 6, 6]
    assert Counter(rows(held.val_dataloader())[1].tolist()) == {0: 4, 1: 2}
    assert held.check(progress=False) == []


def test_hugging_face_streams_go_on_too(table, tmp_path) -> None:
    """A stream is read up to where the checkpoint was written."""

    class Watching(Classifier):
        def __init__(self) -> None:
            super().__init__(3 * 16 * 16, 2)
            self.seen: list[torch.Tensor] = []

        def training_step(self, batch, batch_idx):
            self.seen.append(batch[0].clone())
            return super().training_step(batch, batch_idx)

    def fit(callbacks, path=None) -> list[torch.Tensor]:
        counts = {"train": 16, "validation": 9}
        data = timm_data(f"hfids/{table}", tmp_path / "cache", num_samples=counts, num_classes=2)
        module = Watching()
        settings = {"max_epochs": 2, "limit_val_batches": 0, "enable_checkpointing": bool(callbacks)}
        trainer(tmp_path, callbacks=callbacks, **settings).fit(module, datamodule=data, ckpt_path=path)
        assert data.num_classes == 2
        return module.seen

    whole = fit([ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)])
    assert len(whole) == 8
    assert not torch.equal(torch.cat(whole[:4]), torch.cat(whole[4:])), "another order and augmentation"
    for step in (2, 4):
        rest = fit([], tmp_path / f"step={step}.ckpt")
        assert len(rest) == 8 - step
        assert all(torch.equal(one, other) for one, other in zip(rest, whole[step:], strict=True)), step


def test_streams_refuse_what_they_cannot_do(table) -> None:
    name = f"hfids/{table}"
    with pytest.raises(ValueError, match="is read as a stream, which cannot have val_split=None"):
        timm_data(name, val_split=None)
    with pytest.raises(ValueError, match="cannot have repeats=3"):
        timm_data(name, repeats=3)
    with pytest.raises(ValueError, match="leaves out what it cannot read"):
        timm_data(name).check()


# WebDataset


def test_web_dataset_shards(tmp_path) -> None:
    pytest.importorskip("webdataset")
    splits = {}
    for split, shards in (("train", 2), ("validation", 1)):
        names = []
        for shard in range(shards):
            names.append(f"{split}-{shard:04d}.tar")
            with tarfile.open(tmp_path / names[-1], "w") as file:
                for number in range(8):
                    picture = io.BytesIO()
                    Image.new("RGB", (20, 20), (200 * (number % 2), 0, 0)).save(picture, "png")
                    for ending, content in (("png", picture.getvalue()), ("cls", str(number % 2).encode())):
                        entry = tarfile.TarInfo(f"{shard}{number}.{ending}")
                        entry.size = len(content)
                        file.addfile(entry, io.BytesIO(content))
        splits[split] = {"name": split, "num_samples": 8 * shards, "filenames": names, "shard_lengths": [8] * shards}
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    data = timm_data("wds/", tmp_path, num_classes=2)
    assert data.num_classes == 2
    images, labels = rows(data.val_dataloader())
    assert Counter(labels.tolist()) == {0: 4, 1: 4}
    assert torch.equal(images[:, 0].mean((1, 2)) > 0, labels == 1)
    batches = list(data.train_dataloader())
    assert [len(labels) for _, labels in batches] == [4] * 4
    with pytest.raises(ValueError, match="does not say how many classes there are: pass num_classes"):
        _ = timm_data("wds/", tmp_path).num_classes


# Names


@pytest.mark.parametrize(
    ("name", "package"),
    [("hfds/a", "datasets"), ("hfids/a", "datasets"), ("wds/", "webdataset"), ("tfds/a", "tensorflow-datasets")],
)
def test_a_missing_package_is_named(monkeypatch, name: str, package: str) -> None:
    real = importlib.util.find_spec
    missing = package.replace("-", "_")
    monkeypatch.setattr(
        "lightning_wrcor.data.readers.find_spec", lambda asked: None if asked == missing else real(asked)
    )
    with pytest.raises(ImportError, match=rf"^'{name}' is read through {package}, .*: pip install {package}$"):
        timm_data(name, "root")


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'tar', 'hfds/\.\.\.'.*; got 'hdfs/a'"):
        timm_data("hdfs/a")
    with pytest.raises(ValueError, match="'tar' reads files: root must be a tar file"):
        timm_data("tar")
