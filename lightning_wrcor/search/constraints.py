"""What the winner may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

from lightning_wrcor._config import closest, plain
from lightning_wrcor.inspection import Costs

COSTS = ("params", "macs", "depth")
"""The costs that can be bounded."""


@dataclass(frozen=True)
class Constraints:
    """Bounds on what a candidate may cost; checked before it is scored, without its weights. Both ends are allowed.

    Args:
        max_params: most parameters.
        min_params: fewest parameters.
        max_macs: most multiply-adds of one image at the probe batch's size (the papers' "600M FLOPs" are these).
        min_macs: fewest multiply-adds.
        max_depth: most non-linearities in a forward pass.
        min_depth: fewest non-linearities.

    Raises:
        ValueError: for a bound that is no number, not finite or negative, or a lower bound above the upper one.
    """

    max_params: float | None = None
    min_params: float | None = None
    max_macs: float | None = None
    min_macs: float | None = None
    max_depth: int | None = None
    min_depth: int | None = None

    def __post_init__(self) -> None:
        for name, bound in asdict(self).items():
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, Real):
                hint = " (YAML reads 5e6 as text, and 5.0e+6 or 5_000_000 as numbers)" if isinstance(bound, str) else ""
                raise ValueError(f"The constraint {name} is a number or None; got {bound!r}{hint}.")
            if not math.isfinite(bound):
                raise ValueError(f"The constraint {name}={bound!r} is not finite; None is no bound.")
            if bound < 0:
                raise ValueError(f"The constraint {name}={bound!r} is negative.")
        for cost in COSTS:
            low, high = getattr(self, f"min_{cost}"), getattr(self, f"max_{cost}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"No network can meet min_{cost}={low:,} and max_{cost}={high:,} together.")

    def violated(self, costs: Costs) -> str | None:
        """Name of the first constraint that ``costs`` break, such as ``"max_macs"``, or None."""
        for name, bound in vars(self).items():
            if bound is None:
                continue
            end, _, cost = name.partition("_")
            value = getattr(costs, cost)
            if (end == "max" and value > bound) or (end == "min" and value < bound):
                return name
        return None

    def to_dict(self) -> dict[str, float]:
        """The bounds that are set."""
        return {name: plain(bound) for name, bound in asdict(self).items() if bound is not None}

    @classmethod
    def read(cls, given: Constraints | Mapping[str, Any] | None) -> Constraints:
        """Constraints from what a user gives: an object, a mapping of bounds, or None for no bounds.

        Raises:
            TypeError: for anything else.
            ValueError: for a bound that is not known; the message lists those there are, closest first.
        """
        if isinstance(given, Constraints):
            return given
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise TypeError(f"Constraints are given as Constraints(max_params=...) or a mapping; got {given!r}.")
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                listed = ", ".join(closest(name, known))
                raise ValueError(f"There is no constraint named {name!r}. Constraints: {listed}.")
        return cls(**given)
