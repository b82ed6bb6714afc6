"""Run by test_processes.py: two processes of distributed data parallel search, train, save; rank facts as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_wrcor import ZeroShotSearch
from lightning_wrcor.proxies import Context, Measurement, WRCor

import toys

torch.set_num_threads(1)
FOLDER = Path(sys.argv[1])


class Watched(WRCor):
    """Notes who is scored here; one candidate fails."""

    name = "watched"
    scored: list[int] = []  # noqa: RUF012

    def measure(self, context: Context) -> Measurement:
        Watched.scored.append(context.seed)
        if context.costs.depth == 7:
            raise RuntimeError("depth seven is unlucky")
        return super().measure(context)


def main() -> None:
    facts: dict[str, Any] = {}
    seed_everything(1, verbose=False)
    callback = ZeroShotSearch(toys.CELLS, proxy=Watched(), budget=12, batch_size=16, journal=str(FOLDER / "journal"))
    module = toys.Lit()
    saving = ModelCheckpoint(FOLDER, filename="trained")
    trainer = toys.trainer(
        strategy="ddp", devices=2, callbacks=[callback, saving], max_steps=3, enable_checkpointing=True
    )
    trainer.fit(module, toys.loader(64))
    assert callback.result is not None
    facts["scored_here"] = Watched.scored
    facts["result"] = [[row.key, row.score if row.status == "ok" else None] for row in callback.result.history]
    facts["failed"] = [row.reason for row in callback.result.history if row.status == "failed"]
    facts["winner"] = callback.winner.name if callback.winner else None
    facts["weights"] = toys.weights_hash(module, buffers=False)  # running statistics are each rank's own

    # A network with convolutions whose output is never used: all parameters must be frozen or reached, or DDP waits.
    unused = ZeroShotSearch([WithUnused], genotype="WithUnused", batch_size=2, journal=None)
    lost = toys.Lit()
    toys.trainer(strategy="ddp", devices=2, callbacks=[unused], max_steps=3).fit(lost, toys.loader(64))
    facts["lost_weights"] = toys.weights_hash(lost, buffers=False)
    facts["frozen"] = [name for name, p in lost.net.named_parameters() if not p.requires_grad]
    (FOLDER / f"rank{trainer.global_rank}.json").write_text(json.dumps(facts))


class WithUnused(torch.nn.Module):
    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.used = torch.nn.Conv2d(in_chans, 4, 3)
        self.unused = torch.nn.Conv2d(4, 4, 1)
        self.act = torch.nn.ReLU()
        self.head = torch.nn.Linear(4, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.act(self.used(images))
        self.unused(features)
        return self.head(features.mean((2, 3)))


if __name__ == "__main__":
    main()
