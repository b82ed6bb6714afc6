"""Proxies of the common signal: what the maps inside a network have in common for all images."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._correlation import CONSTANT
from lightning_wrcor.proxies._samples import require_calls

_GRID = 2
"""Maps are averaged over a grid of so many fields each way: quarters of the image."""


class _Common(Observer):
    """Mean correlation between images of the coarse maps of each response; one number a response."""

    part: ClassVar[Literal["activation", "gradient"]]

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.maps = 0
        self._values: list[Tensor] = []

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Keep one number of a response that is made of maps larger than the grid."""
        if part != self.part or response.dim() != 4:
            return
        maps = response.movedim(3, 1) if _channels_last(response) else response
        if min(maps.shape[2:]) <= _GRID:
            return
        self.maps += 1
        maps = maps if maps.dtype is torch.float64 else maps.float()
        rows = F.adaptive_avg_pool2d(maps, _GRID).flatten(1)
        centred = rows - rows.mean(1, keepdim=True)
        norms = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        constant = norms <= CONSTANT * torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        # The mean over all pairs without their matrix: the sum of all unit rows has the sum of all products as its square.
        total = (centred / norms).sum(0).square().sum().double()
        images = len(rows)
        mean = (total - images) / max(1, images * (images - 1))
        # A constant row has no correlation, and a response with one has no value.
        self._values.append(torch.where(constant.any(), -math.inf, mean))

    def largest(self) -> float:
        """Over all responses; -inf where none has a value, NaN where one is no number."""
        return float(torch.stack(self._values).max())


def _channels_last(response: Tensor) -> bool:
    """Whether ``(B, H, W, C)`` and not ``(B, C, H, W)``; seen from square maps, for a tensor does not say."""
    _, first, second, third = response.shape
    return first == second != third


class _CommonActivations(_Common):
    part = "activation"


class _CommonGradients(_Common):
    part = "gradient"


class _CommonSignal(Proxy):
    _observer: ClassVar[type[_Common]]

    def measure(self, context: Context) -> float | Measurement:
        """The score, in [-1 / (B - 1), 1]; -inf for a network none of whose maps differs within an image.

        Raises:
            ValueError: for a network without maps larger than 2 x 2.
        """
        require_calls(context)
        seen = context.observer(self._observer)
        if not seen.maps:
            raise ValueError(
                f"{self.name} looks at maps larger than {_GRID} x {_GRID} that non-linearities receive, and "
                f"{type(context.network).__name__} has none for images of this size."
            )
        value = seen.largest()
        if value == -math.inf:
            return Measurement(-math.inf, f"dead: no {self._observer.part} map of the network has a correlation")
        return value


class CommonActivations(_CommonSignal):
    """The largest mean correlation, over all pairs of images, of what a non-linearity receives for them.

    Each map is averaged over the four quarters of the image; the row of an image holds all channels and quarters, and
    rows are compared by Pearson's correlation with its sign. The mean over pairs is taken for every non-linearity that
    receives maps ``(B, C, H, W)``, and the largest is the score. After a BatchNorm a channel's mean is 0, so what images
    have in common is where in the image a value is: what zero padding writes into maps, more of it with every spatial
    convolution that the signal goes through, and none in pooling and skip connections. One forward pass, no labels.

    Source: this project, docs/consensus.md.
    """

    name = "common_activations"
    observers = (_CommonActivations,)
    _observer = _CommonActivations


class CommonGradients(_CommonSignal):
    """As `CommonActivations`, of the gradient of the sum of all logits with respect to what non-linearities receive.

    One forward and one backward pass (no gradients of weights), which `jacob_cor` shares; no labels.

    Source: this project, docs/consensus.md.
    """

    name = "common_gradients"
    needs = Needs(gradients=True, target="logits")
    observers = (_CommonGradients,)
    _observer = _CommonGradients
