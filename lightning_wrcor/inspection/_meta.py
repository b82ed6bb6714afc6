"""Networks on the meta device, quickly: nothing is computed there, yet some operations take milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten

_IN_PLACE = {
    _aten.normal_,
    _aten.uniform_,
    _aten.bernoulli_,
    _aten.hardswish_,
    _aten.silu_,
    _aten.hardtanh_,
    _aten.leaky_relu_,
}
_ONE_TO_ONE = {
    _aten.gelu,
    _aten.hardsigmoid,
    _aten.hardswish,
    _aten.silu,
    _aten.hardtanh,
    _aten.leaky_relu,
    _aten._softmax,
    _aten._safe_softmax,
}
_NORMALISATIONS = {_aten.native_batch_norm, _aten._native_batch_norm_legit_no_training, _aten.native_layer_norm}


class QuickMeta(TorchDispatchMode):
    """Answers common operations on meta tensors from the shape of their input.

    torch works their shapes out through decompositions in Python, milliseconds each, which is most of what building a
    network on the meta device and running it takes. Statistics of normalisations, which nothing reads in evaluation mode,
    are left empty. Tensors elsewhere are computed as ever.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.is_meta and not (kwargs or {}).keys() - {"generator", "approximate"}:
            operation = func.overloadpacket
            if operation in _IN_PLACE:
                return first
            if operation in _ONE_TO_ONE and first.is_floating_point():
                return torch.empty_like(first)
            if operation in _NORMALISATIONS:
                return torch.empty_like(first), first.new_empty(0), first.new_empty(0)
        return func(*args, **(kwargs or {}))
