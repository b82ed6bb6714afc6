"""What a search is asked to do."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch

from lightning_wrcor.proxies import Proxy
from lightning_wrcor.proxies._precision import Precision
from lightning_wrcor.proxies._score import Batch
from lightning_wrcor.search.constraints import Constraints
from lightning_wrcor.search.racing import Racing
from lightning_wrcor.search.strategies import Strategy
from lightning_wrcor.spaces import Space


@dataclass(frozen=True)
class Asked:
    """The arguments of `zero_shot_search` under their own names, read: what is handed to every process of a search."""

    space: Space
    batch: Batch
    proxy: list[Proxy]
    strategy: Strategy
    budget: int | None
    constraints: Constraints
    seed: int
    num_classes: int | None
    journal: str | os.PathLike[str] | None
    racing: Racing | None
    progress: bool
    precision: Precision = "float32"

    def on(self, device: torch.device | str, batch: Batch | None = None) -> Asked:
        """The same with the batch, or another one, on a device."""
        images, labels = batch or self.batch
        return replace(self, batch=(images.detach().to(device), labels.detach().to(device)))
