"""What the winner may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from lightning_wrcor._config import plain, read_settings
from lightning_wrcor.inspection import Costs, Latency

COUNTED = ("params", "macs", "depth")
"""Costs that every candidate has, without its weights."""
MEASURED = ("memory_mb", "latency_ms")
"""Costs that a candidate has only where they are bounded or asked for, because they take time."""
BOUNDED = (*COUNTED, "resolution", *MEASURED)
"""What can be bounded, in the order in which it is checked."""


@dataclass(frozen=True)
class Constraints:
    """Bounds on what a candidate may cost; checked before it is scored. Both ends are allowed.

    All are counted without the network's weights, but for latency, which is measured last, for candidates that meet all
    other bounds.

    Args:
        max_params: most parameters.
        min_params: fewest parameters.
        max_macs: most multiply-adds of one image at the probe batch's size (the papers' "600M FLOPs" are these).
        min_macs: fewest multiply-adds.
        max_depth: most non-linearities in a forward pass.
        min_depth: fewest non-linearities.
        max_resolution: largest height and width of images, in pixels, in spaces where that is part of the genotype.
        min_resolution: smallest height and width of images.
        max_memory_mb: most memory that the activations of one image take at once in a forward pass without gradients, in
            10^6 bytes (`lightning_wrcor.inspection.peak_activation_bytes`).
        min_memory_mb: least of it.
        max_latency_ms: longest time of a forward pass on the probe batch's device, in milliseconds.
        min_latency_ms: shortest time.
        latency: how latency is measured (batch size, precision, memory format, passes): a `Latency` or a mapping of its
            arguments; None is its defaults. Where it is given, latency is measured even without a bound.

    Raises:
        ValueError: for a bound that is no number, not finite or negative, or a lower bound above the upper one.
    """

    max_params: float | None = None
    min_params: float | None = None
    max_macs: float | None = None
    min_macs: float | None = None
    max_depth: int | None = None
    min_depth: int | None = None
    max_resolution: int | None = None
    min_resolution: int | None = None
    max_memory_mb: float | None = None
    min_memory_mb: float | None = None
    max_latency_ms: float | None = None
    min_latency_ms: float | None = None
    latency: Latency | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "latency", read_settings(Latency, self.latency, "the latency of constraints"))
        for name, bound in self._bounds().items():
            if isinstance(bound, bool) or not isinstance(bound, Real):
                hint = " (YAML reads 5e6 as text, and 5.0e+6 or 5_000_000 as numbers)" if isinstance(bound, str) else ""
                raise ValueError(f"The constraint {name} is a number or None; got {bound!r}{hint}.")
            if not math.isfinite(bound):
                raise ValueError(f"The constraint {name}={bound!r} is not finite; None is no bound.")
            if bound < 0:
                raise ValueError(f"The constraint {name}={bound!r} is negative.")
        for cost in BOUNDED:
            low, high = getattr(self, f"min_{cost}"), getattr(self, f"max_{cost}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"No network can meet min_{cost}={low:,} and max_{cost}={high:,} together.")

    def _bounds(self) -> dict[str, Any]:
        """The bounds that are set."""
        named = {name: getattr(self, name) for cost in BOUNDED for name in (f"max_{cost}", f"min_{cost}")}
        return {name: bound for name, bound in named.items() if bound is not None}

    def bounds(self, cost: str) -> bool:
        """Whether a cost, such as ``"latency_ms"``, has a bound."""
        return getattr(self, f"max_{cost}") is not None or getattr(self, f"min_{cost}") is not None

    def violated(self, costs: Costs | Mapping[str, float]) -> str | None:
        """Name of the first constraint that ``costs`` break, such as ``"max_macs"``, or None.

        Args:
            costs: values by name (`BOUNDED`); what is not among them is not checked.
        """
        known = costs if isinstance(costs, Mapping) else vars(costs)
        for name, bound in self._bounds().items():
            end, _, cost = name.partition("_")
            if cost not in known:
                continue
            if (end == "max" and known[cost] > bound) or (end == "min" and known[cost] < bound):
                return name
        return None

    def to_dict(self) -> dict[str, Any]:
        """The bounds that are set, and how latency is measured, as plain values."""
        latency = {"latency": asdict(self.latency)} if self.latency is not None else {}
        return {**{name: plain(bound) for name, bound in self._bounds().items()}, **latency}

    @classmethod
    def read(cls, given: Constraints | Mapping[str, Any] | None) -> Constraints:
        """Constraints from what a user gives: an object, a mapping of bounds, or None for no bounds.

        Raises:
            TypeError: for anything else.
            ValueError: for a bound that is not known; the message lists those there are, closest first.
        """
        return read_settings(cls, given, "a set of constraints", "constraint") or cls()
