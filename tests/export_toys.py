"""Checkpoints as Lightning writes them, without a training, for the tests of the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor.search import CHECKPOINT_KEY, Winner
from lightning_wrcor.spaces import Space

SUMMARY: dict[str, Any] = {
    "score": 12.5,
    "scores": {"wrcor": 12.5, "naswot": float("-inf")},
    "funnel": "9 sampled, 2 repeated, 7 scored",
    "baselines": {"params": 0.61, "macs": -0.2},
    "seconds": 3.25,
    "seed": 11,
    "proxies": [{"class_path": "lightning_wrcor.proxies.WRCor", "init_args": {}}],
    "strategy": {"class_path": "lightning_wrcor.search.RandomSearch", "init_args": {}},
}


def trained(network: nn.Module, in_chans: int = 3, size: int = 32) -> nn.Module:
    """A network whose weights and running statistics are not those that it was built with, in evaluation mode."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        network.train()
        network(torch.randn(4, in_chans, size, size, generator=generator))
    return network.eval()


def save_checkpoint(
    path: Path, space: Space, genotype: Any, classes: int = 5, in_chans: int = 3, size: int = 32, **extra: Any
) -> nn.Module:
    """Write a checkpoint of a winner; returns the network whose weights it holds, in evaluation mode."""
    network = trained(space.build(genotype, classes, in_chans), in_chans, size)
    winner = Winner(space.config(), genotype, space.name(genotype), classes, in_chans, "net", SUMMARY)
    state = {f"net.{name}": value for name, value in network.state_dict().items()}
    contents = {
        "state_dict": {**state, "other.weight": torch.zeros(2)},
        CHECKPOINT_KEY: winner.to_dict(),
        "epoch": 6,
        "global_step": 1234,
        "pytorch-lightning_version": "2.6.6",
        "callbacks": {},
        **extra,
    }
    torch.save(contents, path)
    return network


def images(count: int, *size: int) -> Tensor:
    return torch.randn(count, *size, generator=torch.Generator().manual_seed(8))


class Branching(nn.Module):
    """What torch.export cannot follow: Python looks at a value."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        return self.head(pooled if float(pooled.sum()) > 0 else -pooled)


class TwoOutputs(nn.Module):
    """An auxiliary output beside the logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(x.mean((2, 3)))
        return logits, 2 * logits
