"""Run by test_resume.py in two processes: a training with averages, mixing, drop path and accumulation; killed, resumed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from lightning_wrcor import DigitsData, ZeroShotSearchModule

import toys

torch.set_num_threads(1)
HOW, FOLDER, WORKERS = sys.argv[1].split(","), Path(sys.argv[2]), int(sys.argv[3])
DIES_AT = (1, 5)  # epoch and batch: after the checkpoint of the second epoch's second step


class Dies(Callback):
    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == DIES_AT:
            os.kill(os.getpid(), signal.SIGKILL)


def run(how: str) -> None:
    folder = FOLDER / ("whole" if how == "whole" else "broken")
    pl.seed_everything(5, verbose=False)
    module = ZeroShotSearchModule(
        toys.CELLS,
        budget=3,
        probe_size=8,
        lr=0.05,
        mixing={"mixup": 0.4, "cutmix": 1.0, "mode": "elem"},
        drop_path=0.3,
        weight_decay=1e-3,
        warmup_epochs=0.5,
        journal=None,
    )
    saving = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    ema = EMAWeightAveraging(decay=0.9)
    trainer = toys.trainer(
        strategy="ddp",
        devices=2,
        max_epochs=3,
        limit_train_batches=8,
        accumulate_grad_batches=2,
        limit_val_batches=1,
        callbacks=[ema, saving, *([Dies()] if how == "crash" else [])],
        enable_checkpointing=True,
    )
    data = DigitsData(image_size=8, batch_size=8, num_workers=WORKERS)
    path = folder / "step=6.ckpt" if how == "resume" else None
    trainer.fit(module, datamodule=data, ckpt_path=path)
    assert trainer.global_step == 12
    state = torch.load(folder / "step=12.ckpt", weights_only=True)  # the last: averages, last weights, optimiser
    momentum = state["optimizer_states"][0]["state"]
    sums = {
        "averaged": {name: value.double().sum().item() for name, value in state["state_dict"].items()},
        "last": {name: value.double().sum().item() for name, value in state["current_model_state"].items()},
        "momentum": [value["momentum_buffer"].double().sum().item() for value in momentum.values()],
    }
    facts = {
        **sums,
        "hash": toys.weights_hash(module, buffers=False),
        "searched": module.result is not None,
        "lr": trainer.optimizers[0].param_groups[0]["lr"],
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }
    (FOLDER / f"{how}{trainer.global_rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    for one in HOW:
        run(one)
