"""Counts as proxies: parameters, MACs and depth, which every other proxy must beat, and the fan-in of layers."""

from __future__ import annotations

import math

from lightning_wrcor.proxies._base import Context, Needs, Observer, Proxy
from lightning_wrcor.proxies._weights import require_weights


class Params(Proxy):
    """Number of parameters (buffers are not counted). Needs no pass and no weights."""

    name = "params"

    def measure(self, context: Context) -> float:
        """The number of parameters."""
        return float(context.costs.params)


class MACs(Proxy):
    """Multiply-adds of one forward pass of one image, as torch's flop counter sees them. Needs no pass and no weights."""

    name = "macs"

    def measure(self, context: Context) -> float:
        """The number of multiply-adds."""
        return float(context.costs.macs)


class Depth(Proxy):
    """Number of non-linearities that one forward pass calls (gates such as sigmoid do not count). Needs no weights."""

    name = "depth"

    def measure(self, context: Context) -> float:
        """The number of non-linearities."""
        return float(context.costs.depth)


class FanIn(Proxy):
    """Sum over the calls of convolutions and linear maps of log(fan-in): values that one value of the output is made of.

    For a chain of layers it is the log of the number of paths that lead to one output. A 3x3 convolution adds log(9 C)
    for C input channels (of its group), a depthwise one log 9, pooling and skip connections nothing; a layer that is
    called twice counts twice. (For a transposed convolution, all input channels times the kernel.) Values of weights do
    not matter, so one forward pass is all it takes; no labels.

    Source: this project, docs/consensus.md.
    """

    name = "fan_in"
    needs = Needs(outputs=True)
    observers = (Observer,)

    def measure(self, context: Context) -> float:
        """The sum, in nats, at least 0."""
        require_weights(context, self.name)
        calls = [call for call in context.record.weighted if call.depends]  # those that run again are not in it
        outputs = (call.weight.shape[1 if call.kind == "ConvTranspose" else 0] for call in calls)
        return math.fsum(math.log(call.weight.numel() / of) for call, of in zip(calls, outputs, strict=True))
