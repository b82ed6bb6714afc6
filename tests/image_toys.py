"""Folders of small images, a classifier and a quiet Trainer, shared by the tests of the data modules."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import nn

from lightning_wrcor.data import ImageFolderData


def write_images(folder: Path, count: int, brightness: int = 0, size: tuple[int, int] = (40, 32)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(brightness)
    for number in range(count):
        pixels = rng.integers(brightness, brightness + 20, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")


def write_splits(root: Path, **counts: int) -> Path:
    """Folders of three classes, whose images differ in brightness; by default 6, 3 and 2 images a class."""
    for split, count in (counts or {"train": 6, "val": 3, "test": 2}).items():
        for place, name in enumerate(("cat", "dog", "emu")):
            write_images(root / split / name, count, brightness=100 * place)
    return root


def folder_data(root: Path, **arguments) -> ImageFolderData:
    return ImageFolderData(root, **{"image_size": 16, "batch_size": 4, "num_workers": 0, **arguments})


def rows(loader):
    return torch.cat([images for images, _ in loader]), torch.cat([labels for _, labels in loader])


class Classifier(LightningModule):
    def __init__(self, inputs: int, classes: int, lr: float = 0.1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, classes))
        self.lr = lr
        self.right: list[float] = []
        self.batch_sizes: list[int] = []

    def training_step(self, batch, batch_idx):
        self.batch_sizes.append(len(batch[1]))
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        self.right += (self.net(batch[0]).argmax(1) == batch[1]).tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def trainer(tmp_path: Path, **arguments) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings = {
        "accelerator": "cpu",
        "default_root_dir": tmp_path,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{**settings, **arguments})
