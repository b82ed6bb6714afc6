from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_wrcor._reach import unreached_parameters


class Branches(nn.Module):
    """One branch reaches the output always, one in training only, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)
        self.auxiliary = nn.Linear(4, 2)
        self.lost = nn.Linear(4, 2)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.body(images).mean((2, 3))
        self.lost(features)
        return (self.head(features), self.auxiliary(features)) if self.training else self.head(features)


def test_only_what_never_reaches_the_output_is_named() -> None:
    network = Branches().eval()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert unreached_parameters(network, (3, 8, 8)) == ["lost.weight", "lost.bias"]
    assert torch.equal(state, torch.get_rng_state())
    assert not network.training
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


class NeedsData(Branches):
    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return super().forward(images + float(images.sum()))


def test_networks_that_cannot_run_on_the_meta_device_are_tried_on_the_cpu() -> None:
    assert unreached_parameters(NeedsData(), (3, 8, 8)) == ["lost.weight", "lost.bias"]
