"""The number format of the pass that proxies share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch

Precision = Literal["float32", "bfloat16"]
"""``"bfloat16"``: layers run in bfloat16 where torch's autocast lets them; correlations are still formed in float32."""


def read_precision(given: Any) -> Precision:
    """Check a precision.

    Raises:
        ValueError: for one that there is not.
    """
    if given not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(map(repr, get_args(Precision)))}; got {given!r}.")
    return given  # type: ignore[no-any-return]


def autocast(precision: Precision, device_type: str) -> AbstractContextManager[Any]:
    """What the network runs in. In float32 that is whatever surrounds it."""
    return torch.autocast(device_type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()
