"""Parameters, MACs and depth as proxies: the baselines that every other proxy must beat."""

from __future__ import annotations

from lightning_wrcor.proxies._base import Context, Proxy


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
