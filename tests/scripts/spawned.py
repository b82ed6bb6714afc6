"""Run by test_processes.py: two spawned processes; the parent's network has names in common with the winner's."""

from __future__ import annotations

import sys
from pathlib import Path

import timm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_wrcor import ZeroShotSearch

import toys


class Resnet(toys.Lit):
    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("test_resnet", num_classes=10)


def main() -> None:
    search = ZeroShotSearch(
        ["resnet10t", "test_efficientnet"], batch_size=8, journal=None, constraints={"min_params": 2e6}
    )
    module, saving = Resnet(), ModelCheckpoint(sys.argv[1])
    before = toys.weights_hash(module)
    trainer = toys.trainer(
        strategy="ddp_spawn", devices=2, callbacks=[search, saving], max_steps=2, enable_checkpointing=True
    )
    trainer.fit(module, DataLoader(TensorDataset(*toys.batch(16, size=32)), 4))
    assert toys.weights_hash(module) == before
    # What the children trained, in the parent: in one process, because two more would start.
    here = toys.trainer(callbacks=[search])
    here.validate(module, DataLoader(TensorDataset(*toys.batch(8, size=32)), 4), saving.best_model_path, verbose=False)


if __name__ == "__main__":
    main()
