"""Weights that proxies prescribe: drawn at the moment a layer is called, so that the network itself stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_wrcor._random import derive_seed
from lightning_wrcor.inspection import LayerCall
from lightning_wrcor.inspection.weights import Run
from lightning_wrcor.proxies._base import Context


class DrawnWeights:
    """Stands in place of every convolution and linear map, with weights drawn from a normal distribution and no bias.

    Drawn on the CPU in call order, so that one seed gives the same weights on every device; a weight is the same in all
    calls that share it, and in all passes.

    Args:
        context: its seed counts.
        purpose: what the weights are for: other purposes draw other weights.
        deviation: standard deviation for a weight.
    """

    def __init__(self, context: Context, purpose: str, deviation: Callable[[Tensor], float]) -> None:
        self._generator = torch.Generator().manual_seed(derive_seed(context.seed, purpose))
        self._deviation = deviation
        self._drawn: dict[int, Tensor] = {}

    def weight(self, call: LayerCall, like: Tensor) -> Tensor:
        """The weight of this call."""
        if call.owner not in self._drawn:
            values = torch.randn(like.shape, generator=self._generator, dtype=torch.float64)
            self._drawn[call.owner] = (values * self._deviation(like)).to(like)
        return self._drawn[call.owner]

    def __call__(self, call: LayerCall, run: Run, images: Tensor, weight: Tensor) -> Tensor:
        """Run the layer."""
        return run(images, self.weight(call, weight), bias=False)

    def noise(self, *shape: int, like: Tensor) -> Tensor:
        """Gaussian noise from the same random numbers."""
        return torch.randn(shape, generator=self._generator, dtype=torch.float64).to(like)


def standard(weight: Tensor) -> float:
    """Standard deviation 1."""
    return 1.0


def kaiming_fan_in(weight: Tensor) -> float:
    """Kaiming's normal initialisation for ReLU: sqrt(2 / fan in)."""
    return math.sqrt(2.0 / max(1, weight[0].numel()))
