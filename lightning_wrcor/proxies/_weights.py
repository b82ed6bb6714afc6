"""What is kept of the weights and their gradients during a pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_wrcor.inspection import LayerCall
from lightning_wrcor.proxies._base import Context, Measurement, Observer


class WeightSums(Observer):
    """Sums over each weight tensor, from its gradient: numbers only, one transfer at the end."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._sums: list[Tensor] = []

    def see_weight(self, call: LayerCall, gradients: Sequence[Tensor]) -> None:
        """Keep four sums of one weight."""
        gradient = gradients[0] if len(gradients) == 1 else torch.stack(list(gradients)).sum(0)
        product = gradient * call.weight
        sums = (gradient.square().sum().sqrt(), product.abs().sum(), product.sum(), gradient.abs().max())
        self._sums.append(torch.stack([value.double() for value in sums]))

    def gather(self) -> Tensor:
        """``(weights, 4)`` in float64 on the CPU: the gradient's norm, sum abs(g w), sum g w, the largest abs(g)."""
        return torch.stack(self._sums).cpu() if self._sums else torch.zeros(0, 4, dtype=torch.float64)


def require_weights(context: Context, name: str) -> None:
    """Refuse a network whose weights cannot be seen, or that has none.

    Raises:
        ValueError: with the reason.
    """
    record = context.record
    if record.hiding:
        raise ValueError(
            f"{name} needs every weight, but {record.hiding[0]!r} is torch's own multi-head attention, which hides its."
        )
    if not record.weighted:
        raise ValueError(
            f"{type(context.network).__name__} calls no convolution and no linear map, so it has no {name}."
        )


def dead_unless(moves: bool) -> Measurement | None:
    """The measurement of a network that no gradient reaches, or None where one does."""
    return None if moves else Measurement(float("-inf"), "dead: no gradient reaches a weight")
