"""The search as one more callback of a training that exists already.

Usage: python recipes/callback.py [FOLDER_OF_CLASS_FOLDERS] [DEVICES]

Without a folder it trains on scikit-learn's digits.
"""

from __future__ import annotations

import sys
from typing import Any

import timm
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from lightning_wrcor import DigitsData, ImageFolderData, ZeroShotSearch


class Classifier(LightningModule):
    """What is there before anybody thinks of a search."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = timm.create_model("resnet18", num_classes=num_classes)
        self.accuracy = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def test_step(self, batch: Any, index: int) -> None:
        """Accuracy."""
        self.accuracy.update(self.net(batch[0]), batch[1])
        self.log("test/top1", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Made after the search, so that it holds the winner."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(folder: str | None = None, devices: int = 1) -> Trainer:
    """Train."""
    seed_everything(0)
    data = ImageFolderData(folder, image_size=96, batch_size=16, num_workers=2) if folder else DigitsData(image_size=32)
    search = ZeroShotSearch(  # the one addition
        ["resnet10t", "test_efficientnet", "test_convnext", "test_byobnet", "lcnet_050", "mobilenetv3_small_050"],
        constraints={"max_params": 4e6},
        attribute="net",
    )
    trainer = Trainer(max_epochs=2, devices=devices, strategy="ddp" if devices > 1 else "auto",
                      default_root_dir="runs/callback", callbacks=[search])  # fmt: skip
    trainer.fit(Classifier(data.num_classes), datamodule=data)
    trainer.test(datamodule=data, ckpt_path="best")
    return trainer


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
