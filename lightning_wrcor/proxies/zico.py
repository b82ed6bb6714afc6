"""ZiCo: how steady the gradients of the weights are from one part of the batch to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_wrcor.inspection import LayerCall
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._layers import part_sizes
from lightning_wrcor.proxies._pass import run_pass
from lightning_wrcor.proxies._weights import require_weights


class _Steadiness(Observer):
    """Sum over each weight of mean abs(gradient) / standard deviation over the parts of the batch."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.sums: list[Tensor] = []
        self.whole: list[str] = []

    def see_weight(self, call: LayerCall, gradients: Sequence[Tensor]) -> None:
        """Keep one number of one weight."""
        if len(gradients) < 2:
            if bool(gradients[0].any()):
                self.whole.append(call.module)
            return
        sizes = part_sizes(self.batch_size, len(gradients))
        if len(set(sizes)) > 1:
            # The parts sum to the gradient of the whole batch's mean loss: a larger part weighs more in it.
            gradients = [gradient / size for gradient, size in zip(gradients, sizes, strict=True)]
        parts = torch.stack(list(gradients))
        self.sums.append(steadiness(parts))


def steadiness(parts: Tensor) -> Tensor:
    """Sum over weights of mean abs(gradient) over its standard deviation; weights whose gradients are all alike add nothing.

    Args:
        parts: ``(parts, ...)`` gradients of one weight tensor.
    """
    wide = parts.double()  # gradients may be so small that float32 cannot hold their squares; torch.std is far slower
    deviation = (wide - wide.mean(0)).square_().mean(0).sqrt_()
    ratio = wide.abs_().mean(0) / deviation
    return torch.where(deviation == 0, torch.zeros_like(ratio), ratio).sum()  # NaN stays


class ZiCo(Proxy):
    """Zero-shot inverse coefficient of variation: sum over layers of log(sum over weights of E abs(g) / std(g)).

    g is the gradient of the cross-entropy with respect to one weight, mean and standard deviation are over parts of the
    probe batch: by default two halves, whose gradients come apart from one forward and one backward pass (normalisation
    sees the whole batch); it shares that pass with proxies such as `SNIP`. Layers are all convolutions and linear maps.
    Needs labels.

    Args:
        parts: parts of the batch, at least 2. The paper takes two batches.
        separate: each part goes through the network alone, as a batch of its own (with a probe batch twice as large: the
            two batches of the paper). Costs passes of its own.

    Source: Li et al., "ZiCo: zero-shot NAS via inverse coefficient of variation on gradients", ICLR 2023, arXiv
    2301.11300, equation 11.
    """

    name = "zico"

    def __init__(self, parts: int = 2, separate: bool = False) -> None:
        if parts < 2:
            raise ValueError(f"A standard deviation needs at least 2 parts of the batch; got parts={parts}.")
        self.parts = parts
        self.separate = separate

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Gradients of weights, part by part."""
        return Needs(labels=True, weights=self.parts)

    @property
    def observers(self) -> tuple[type[Observer], ...]:  # type: ignore[override]
        """What watches the shared pass, if it is used."""
        return () if self.separate else (_Steadiness,)

    def measure(self, context: Context) -> Measurement:
        """The sum over layers; -inf where no layer has a gradient.

        Raises:
            ValueError: for a batch with fewer images than parts (or than two a part, where each goes alone), and for
                layers whose gradients cannot be told apart by image.
        """
        size = len(context.images)
        least = 2 * self.parts if self.separate else self.parts
        if size < least:
            raise ValueError(f"zico in {self.parts} parts needs a batch of at least {least} images; got {size}.")
        if self.separate:
            sums = self._separately(context)
        else:
            require_weights(context, self.name)
            seen = context.observer(_Steadiness)
            if seen.whole:
                raise ValueError(
                    f"zico needs gradients by image, but those of {seen.whole[0]!r} cannot be told apart; with "
                    "separate=True each part of the batch goes through the network alone."
                )
            sums = torch.stack(seen.sums).cpu().tolist() if seen.sums else []
        positive = [value for value in sums if value != 0]
        if not positive:
            return Measurement(-math.inf, "dead: no gradient reaches a weight")
        return Measurement(math.fsum(map(math.log, positive)))

    def _separately(self, context: Context) -> list[float]:
        keepers = []
        for images, labels in zip(
            context.images.tensor_split(self.parts), context.labels.tensor_split(self.parts), strict=True
        ):
            keeper = _Gradients(len(images))
            context.record = run_pass(context.network, images, labels, Needs(weights=1), [keeper])
            require_weights(context, self.name)
            keepers.append(keeper.gradients)
        zeros = {owner: torch.zeros_like(gradient) for keeper in keepers for owner, gradient in keeper.items()}
        return [
            float(steadiness(torch.stack([keeper.get(owner, zero) for keeper in keepers])))
            for owner, zero in zeros.items()
        ]


class _Gradients(Observer):
    """The gradients of all weights, in call order."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.gradients: dict[int, Tensor] = {}

    def see_weight(self, call: LayerCall, gradients: Sequence[Tensor]) -> None:
        """Keep one gradient."""
        self.gradients[call.index] = gradients[0]
