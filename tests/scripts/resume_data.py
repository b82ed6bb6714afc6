"""Run by data/test_resume.py: two processes train, one goes on from a checkpoint; rank facts as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from image_toys import Classifier, folder_data, trainer
from lightning.pytorch.callbacks import ModelCheckpoint

torch.set_num_threads(1)
FOLDERS, OUT = Path(sys.argv[1]), Path(sys.argv[2])
SETTINGS = {"devices": 2, "strategy": "ddp", "max_epochs": 2, "num_sanity_val_steps": 0, "limit_val_batches": 0}


class Watching(Classifier):
    def __init__(self) -> None:
        super().__init__(3 * 16 * 16, 3, lr=0.01)
        self.seen: list[list[float]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append([self.current_epoch, batch_idx, *batch[0].double().sum((1, 2, 3)).tolist()])
        return super().training_step(batch, batch_idx)


def main() -> None:
    data = folder_data(FOLDERS, auto_augment="rand-m9-mstd0.5", max_unreadable=0.2, num_workers=1)
    saving = ModelCheckpoint(OUT, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    whole = Watching()
    trainer(OUT, callbacks=[saving], enable_checkpointing=True, **SETTINGS).fit(whole, datamodule=data)
    resumed = Watching()
    again = folder_data(FOLDERS, auto_augment="rand-m9-mstd0.5")
    run = trainer(OUT, **SETTINGS)
    run.fit(resumed, datamodule=again, ckpt_path=OUT / "step=1.ckpt")
    facts = {"whole": whole.seen, "resumed": resumed.seen}

    # Two images that cannot be read: what one process meets, the other learns of.
    for name in ("cat", "dog") if run.global_rank == 0 else ():
        path = FOLDERS / "train" / name / "0.jpg"
        path.write_bytes(path.read_bytes()[:200])
    torch.distributed.barrier()
    broken = folder_data(FOLDERS, max_unreadable=0.2, batch_size=3)
    trainer(OUT, **{**SETTINGS, "max_epochs": 1}).fit(Watching(), datamodule=broken)
    facts["unreadable"] = [str(Path(path).relative_to(FOLDERS / "train")) for path in broken.unreadable]
    (OUT / f"rank{run.global_rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
