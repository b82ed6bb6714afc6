"""Proxies from pruning: what the weights and their gradients say before training.

Layers are all convolutions and linear maps that the network calls, each weight once; biases and normalisations do not
count. A layer that the loss does not reach adds nothing.

Source of the collection: Abdelfattah et al., "Zero-cost proxies for lightweight NAS", ICLR 2021, arXiv 2101.08134.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lightning_wrcor.inspection import LayerCall
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._pass import run_pass
from lightning_wrcor.proxies._weights import WeightSums, dead_unless, require_weights


class _WeightSaliency(Proxy):
    """What grad_norm, snip and plain have in common: a sum over layers from one backward pass."""

    needs = Needs(labels=True, weights=1)
    observers = (WeightSums,)
    _column: int

    def measure(self, context: Context) -> float | Measurement:
        """The sum over all layers; -inf where no gradient reaches a weight."""
        require_weights(context, self.name)
        sums = context.observer(WeightSums).gather()
        return dead_unless(bool((sums[:, 3] != 0).any())) or float(sums[:, self._column].sum())


class GradNorm(_WeightSaliency):
    """Gradient norm: sum over layers of the 2-norm of the gradient of the cross-entropy with respect to the weight.

    One forward and one backward pass, with gradients of weights; needs labels.

    Source: Abdelfattah et al., arXiv 2101.08134.
    """

    name = "grad_norm"
    _column = 0


class SNIP(_WeightSaliency):
    """Connection sensitivity: sum over all weights of abs(g w), g the gradient of the cross-entropy.

    One forward and one backward pass, with gradients of weights; needs labels.

    Source: Lee et al., "SNIP", ICLR 2019, arXiv 1810.02340; summed up as a proxy in arXiv 2101.08134.
    """

    name = "snip"
    _column = 1


class Plain(_WeightSaliency):
    """Sum over all weights of g w, with its sign, g the gradient of the cross-entropy.

    One forward and one backward pass, with gradients of weights; needs labels. Behind batch normalisation the sum over
    one layer is 0 by definition (its output does not change with the weight's scale), so that in most networks rounding
    and the last layer are all that is left: over two seeds it agrees with itself no better than by chance.

    Source: arXiv 2101.08134, after Mozer and Smolensky, "Skeletonization", NeurIPS 1988.
    """

    name = "plain"
    _column = 2


class L2Norm(Proxy):
    """Sum over layers of the 2-norm of the weight, as the network initialises it. One forward pass, no labels.

    Source: Abdelfattah et al., arXiv 2101.08134.
    """

    name = "l2_norm"
    needs = Needs(outputs=True)
    observers = (Observer,)

    def measure(self, context: Context) -> float:
        """The sum over all weights that the network calls, each once."""
        require_weights(context, self.name)
        weights = {call.owner: call.weight for call in context.record.weighted}
        return math.fsum(float(torch.linalg.vector_norm(weight.double())) for weight in weights.values())


class _ChannelProducts(Observer):
    """Sum over weights of the mean over samples of (sum over positions of output times gradient)^2 of their channel."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._outputs: dict[int, Tensor] = {}
        self._sums: list[Tensor] = []

    def see_layer(self, call: LayerCall, part: Literal["output", "gradient"], tensor: Tensor) -> None:
        """Keep the output until its gradient comes."""
        if part == "output":
            self._outputs[call.index] = tensor
            return
        product = self._outputs.pop(call.index) * tensor
        channels = -1 if call.kind == "Linear" else 1 - call.weight.dim()
        product = product.movedim(channels, 1).flatten(2) if product.dim() > 2 else product[..., None]
        leading = call.weight.numel() // product.shape[1]  # weights that lead to each channel
        self._sums.append(product.double().sum(2).square().mean(0).sum() * leading)

    def gather(self) -> float:
        """The sum over layers."""
        return float(torch.stack(self._sums).sum()) if self._sums else 0.0


class Fisher(Proxy):
    """Sum over all weights of their channel's half mean over samples of (sum over positions of a g)^2.

    a is what a layer (convolution or linear map) gives, g the gradient of the cross-entropy with respect to it. A channel
    counts once for each weight that leads to it, as in the published proxy, which sums saliencies over weights. One
    forward and one backward pass; needs labels; holds every layer's output until its gradient comes.

    Source: Theis et al., arXiv 1801.05787; Turner et al., BlockSwap, ICLR 2020, arXiv 1906.04113; as a proxy arXiv
    2101.08134.
    """

    name = "fisher"
    # The graph must reach the first layer's output: weights have gradients too.
    needs = Needs(labels=True, outputs=True, output_gradients=True, weights=1)
    observers = (_ChannelProducts, WeightSums)

    def measure(self, context: Context) -> float | Measurement:
        """The sum over all layers; -inf where no gradient reaches one."""
        require_weights(context, self.name)
        moves = bool((context.observer(WeightSums).gather()[:, 3] != 0).any())
        return dead_unless(moves) or 0.5 * context.observer(_ChannelProducts).gather()


class SynFlow(Proxy):
    """Synaptic flow: log of the sum over all weights of abs(g w), on the network with abs weights and nothing normalised.

    g is the gradient of the sum of all logits for one image of ones; all parameters take their absolute value, every
    normalisation is left out, and all is computed in float64. The logarithm changes no ranking, and keeps figures up to
    1e300 readable. One forward and one backward pass of one image, on a copy of the network; needs no data and no labels.

    Source: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS
    2020, arXiv 2006.05467; as a proxy arXiv 2101.08134.
    """

    name = "synflow"

    def measure(self, context: Context) -> float | Measurement:
        """The logarithm of the sum; -inf where nothing flows.

        Raises:
            ValueError: where the sum leaves the range of float64.
        """
        network = context.copy().double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.abs_()
        ones = torch.ones_like(context.images[:1], dtype=torch.float64)
        sums = WeightSums(1)
        # Without normalisation no statistics of the batch are needed, so that one image is enough.
        context.record = run_pass(
            network, ones, None, Needs(weights=1, target="logits"), [sums], normalise=lambda function, images: images
        )
        require_weights(context, self.name)
        flow = float(sums.gather()[:, 1].sum())
        if not math.isfinite(flow):
            raise ValueError(f"synflow of {type(context.network).__name__} leaves the range of float64.")
        return (
            math.log(flow) if flow > 0 else Measurement(-math.inf, "dead: nothing flows from the image to the logits")
        )
