"""Small modules, data and networks that the tests of the Lightning side share."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_wrcor.spaces import NASBench201

CELLS = NASBench201(width=4, cells=1)


def batch(n: int = 16, size: int = 8, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, generator=generator), torch.arange(n) % classes


def loader(n: int = 32, batch_size: int = 8, shuffle: bool = True, **kwargs: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*batch(n)), batch_size, shuffle=shuffle, **kwargs)


class Augmented(Dataset[tuple[Tensor, int]]):
    """Images with noise from torch, NumPy and Python's random numbers."""

    def __init__(self, n: int = 48) -> None:
        self.images, self.labels = batch(n)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        noise = torch.rand(()) + np.random.rand() + random.random()
        return self.images[row] * noise.float(), int(self.labels[row])


class Lit(pl.LightningModule):
    """What a user has: a network in an attribute, a loss and an optimiser."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.lr = lr
        self.net: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

    def training_step(self, data: Any, index: int) -> Tensor:
        return F.cross_entropy(self.net(data[0]), data[1])

    def validation_step(self, data: Any, index: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(data[0]), data[1]))

    test_step = validation_step

    def predict_step(self, data: Any, index: int) -> Tensor:
        return self.net(data[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def with_dropout(width: int) -> Any:
    """A factory of a network whose training draws random numbers."""

    def build(num_classes: int, in_chans: int = 3) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(in_chans, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width, num_classes),
        )

    return build


def trainer(**kwargs: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": ".",
    }
    return pl.Trainer(**{**settings, **kwargs})


def weights_hash(module: nn.Module, buffers: bool = True) -> str:
    digest = hashlib.sha256()
    tensors = module.state_dict() if buffers else dict(module.named_parameters())
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    return weights_hash(first) == weights_hash(second)
