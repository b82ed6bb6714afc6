"""Proxies of how evenly gradients are spread inside the network."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._samples import require_calls


class _Spread(Observer):
    """Of the gradient with respect to each response: its density, and the share that is not zero."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.densities: list[Tensor] = []
        self.shares: list[Tensor] = []

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Keep two numbers of a gradient."""
        if part != "gradient":
            return
        wide = response if response.dtype is torch.float64 else response.float()
        sizes = wide.abs().flatten(1)
        mean = sizes.mean()
        # In units of their mean, for gradients may be so small that float32 cannot hold their squares.
        sizes /= torch.where(mean == 0, 1.0, mean)
        square = torch.linalg.vector_norm(sizes, dim=1).double().square().sum() / sizes.numel()
        self.densities.append(torch.where(square == 0, square, 1 / square))
        share = sizes.sign_().mean().double()
        self.shares.append(torch.where(square.isnan(), square, share))


class _OfGradients(Proxy):
    needs = Needs(gradients=True, target="logits")
    observers = (_Spread,)

    def measure(self, context: Context) -> float | Measurement:
        """The score, in [0, 1]; -inf where no gradient is left.

        Raises:
            ValueError: for a network without non-linearities.
        """
        require_calls(context)
        seen = context.observer(_Spread)
        # NaN is no zero: it stays, and is refused.
        if not seen.densities or not bool(torch.stack(seen.densities).any()):
            return Measurement(-math.inf, "dead: no gradient reaches a non-linearity")
        return float(self._of(seen))

    @abstractmethod
    def _of(self, seen: _Spread) -> Tensor:
        """The score of what was seen."""


class GradientDensity(_OfGradients):
    """How evenly the gradient is spread over units and images, in the response where it is spread least.

    For the gradient g of the sum of all logits with respect to what a non-linearity receives, the density is
    ``mean(abs g)^2 / mean(g^2)``: 1 where all entries have one size, 2 / pi for Gaussian entries, and s times as much
    where only a share s is not zero. The least density over the non-linearities is the score. It falls where few entries
    carry the gradient: behind max pooling, dead units and sharp peaks. One forward and one backward pass without gradients
    of weights, which `JacobCor` shares; no labels.

    Source: this project, docs/consensus.md.
    """

    name = "gradient_density"

    def _of(self, seen: _Spread) -> Tensor:
        return torch.stack(seen.densities).min()


class GradientReach(_OfGradients):
    """Share of the network that the gradient reaches: of its entries, those that are not zero; mean over all responses.

    The gradient is that of the sum of all logits with respect to what a non-linearity receives. A ReLU that is off half
    of the time halves the share, max pooling over 2 x 2 quarters it, an operation that leads nowhere makes it 0. One
    forward and one backward pass without gradients of weights, which `JacobCor` shares; no labels.

    Source: this project, docs/consensus.md.
    """

    name = "gradient_reach"

    def _of(self, seen: _Spread) -> Tensor:
        return torch.stack(seen.shares).mean()
