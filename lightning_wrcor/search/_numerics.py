"""The settings of torch that change what is computed, to be taken along into another process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch

_NEW = (
    "backends.cuda.matmul.fp32_precision",
    "backends.cudnn.conv.fp32_precision",
    "backends.mkldnn.matmul.fp32_precision",
)
_OLD = ("backends.cuda.matmul.allow_tf32", "backends.cudnn.allow_tf32")
_SWITCHES = (
    "backends.cudnn.benchmark",
    "backends.cudnn.deterministic",
    # Since torch 2.9. The old names must not be read where somebody has set the new ones.
    *(_NEW if hasattr(torch.backends.cuda.matmul, "fp32_precision") else _OLD),
)


def read_numerics() -> dict[str, Any]:
    """The settings as they are in this process."""
    return {
        "dtype": torch.get_default_dtype(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        **{name: reduce(getattr, name.split("."), torch) for name in _SWITCHES},
    }


def set_numerics(wanted: Mapping[str, Any]) -> None:
    """Make the settings those of another process; what is so already is not touched."""
    torch.set_default_dtype(wanted["dtype"])
    enabled, warn_only = wanted["deterministic"]
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    for name, value in read_numerics().items():
        if name in _SWITCHES and value != wanted[name]:
            *path, last = name.split(".")
            setattr(reduce(getattr, path, torch), last, wanted[name])
