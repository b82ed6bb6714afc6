"""Run by test_processes.py: FSDP2 (ModelParallelStrategy) on two CPU processes: fit, save in full and sharded, resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard

from lightning_wrcor import ZeroShotSearch, ZeroShotSearchModule
from lightning_wrcor.search import SearchResult

import toys

torch.set_num_threads(1)
FOLDER = Path(sys.argv[1])


class Sharded(ZeroShotSearchModule):
    """Shards the winner, as a user of this strategy does."""

    def configure_model(self) -> None:
        super().configure_model()
        if self.network is not None and self.device_mesh is not None:
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])


def main() -> None:
    facts: dict[str, Any] = {}
    for kind in ("full", "sharded"):
        results: list[SearchResult | None] = []
        for epochs, path in ((1, None), (2, FOLDER / f"{kind}.ckpt")):
            seed_everything(1, verbose=False)
            module = Sharded(toys.CELLS, num_classes=10, budget=4, probe_size=16, journal=None, lr=0.05)
            saving = ModelCheckpoint(FOLDER, filename=kind if path is None else f"{kind}2")
            strategy = ModelParallelStrategy(save_distributed_checkpoint=kind == "sharded")
            trainer = toys.trainer(
                strategy=strategy, devices=2, callbacks=[saving], max_epochs=epochs, enable_checkpointing=True
            )
            trainer.fit(module, toys.loader(32), ckpt_path=path)
            results.append(module.result)
            facts[f"{kind}_winner_{epochs}"] = module.winner.name if module.winner else None
            facts[f"{kind}_step_{epochs}"] = trainer.global_step
        facts[f"{kind}_searches"] = [result is not None for result in results]
    facts["callback"] = ZeroShotSearch(toys.CELLS).state_key
    (FOLDER / f"rank{trainer.global_rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
