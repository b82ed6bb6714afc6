"""Which function calls are non-linearities: the one documented list.

Functions are recognised by identity, whatever module calls them: ``F.relu``, ``torch.relu``, ``x.relu()`` and
``x.relu_()`` are the same non-linearity. Names play no part.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Functions that stay within -1 and 1, and softmax and GLU, scale something else: they are gates.
_COUNTED: dict[str, tuple[str, ...]] = {
    "ReLU": ("relu", "relu_"),
    "ReLU6": ("relu6",),
    "LeakyReLU": ("leaky_relu", "leaky_relu_"),
    "RReLU": ("rrelu", "rrelu_"),
    "PReLU": ("prelu",),
    "ELU": ("elu", "elu_"),
    "CELU": ("celu", "celu_"),
    "SELU": ("selu", "selu_"),
    "GELU": ("gelu",),
    "SiLU": ("silu", "silu_"),
    "Mish": ("mish", "mish_"),
    "Hardswish": ("hardswish", "hardswish_"),
    "Softplus": ("softplus",),
    "Threshold": ("threshold", "threshold_"),
}
_GATES: dict[str, tuple[str, ...]] = {
    "Sigmoid": ("sigmoid", "sigmoid_"),
    "Hardsigmoid": ("hardsigmoid", "hardsigmoid_"),
    "LogSigmoid": ("logsigmoid",),
    "Tanh": ("tanh", "tanh_"),
    "Hardtanh": ("hardtanh", "hardtanh_"),
    "Softsign": ("softsign",),
    "Softmax": ("softmax", "softmin"),
    "GLU": ("glu",),
}


@dataclass(frozen=True, slots=True)
class NonLinearity:
    """One function that counts (or is reported as a gate).

    Attributes:
        kind: its common name, such as ``"SiLU"``.
        gate: it scales something else (sigmoid, tanh, softmax): reported, and counted only on request.
        function: the form that does not overwrite its input.
        in_place: whether a call of it always overwrites its input (``relu_``).
        in_place_position: position of an ``inplace`` argument, or -1 where there is none.
    """

    kind: str
    gate: bool
    function: Callable[..., Any]
    in_place: bool
    in_place_position: int

    def overwrites(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this call overwrites its input."""
        if self.in_place or kwargs.get("inplace"):
            return True
        return 0 <= self.in_place_position < len(args) and bool(args[self.in_place_position])

    def out_of_place(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments with in-place operation switched off."""
        kwargs = {name: value for name, value in kwargs.items() if name != "inplace"}
        position = self.in_place_position
        if 0 <= position < len(args):
            args = (*args[:position], False, *args[position + 1 :])
        return args, kwargs


def _in_place_position(function: Callable[..., Any]) -> int:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions: none of them has such an argument
        return -1
    return names.index("inplace") if "inplace" in names else -1


def _table() -> dict[Any, NonLinearity]:
    """Every spelling of every listed function, in torch, torch.nn.functional and Tensor."""
    table: dict[Any, NonLinearity] = {}
    homes = (F, torch, Tensor, torch._C._nn)
    for gate, listed in ((False, _COUNTED), (True, _GATES)):
        for kind, names in listed.items():
            plain = next(getattr(home, names[0]) for home in homes if hasattr(home, names[0]))
            for name in names:
                for home in homes:
                    function = getattr(home, name, None)
                    if function is None or function in table:
                        continue
                    position = _in_place_position(function)
                    keeps = not name.endswith("_")
                    table[function] = NonLinearity(kind, gate, function if keeps else plain, not keeps, position)
    return table


FUNCTIONS: dict[Any, NonLinearity] = _table()
"""Function object -> what it is."""

def recognise(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NonLinearity | None:
    """The non-linearity that a call of ``function`` is, or None."""
    found = FUNCTIONS.get(function)
    if found is not None and found.kind == "Hardtanh":
        # nn.ReLU6 is a hardtanh from 0 to 6: rectifying, so it counts; from -1 to 1 it is a gate like tanh.
        low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        if low == 0:
            return NonLinearity("ReLU6", False, F.hardtanh, found.in_place, found.in_place_position)
    return found


def is_plain_leaf(module: nn.Module) -> bool:
    """A module with no children, parameters or buffers: an activation, a pooling, a dropout, a reshaping."""
    return not module._modules and not module._parameters and not module._buffers


@torch.no_grad()
def judge_leaf(module: nn.Module, example: Tensor) -> NonLinearity | None:
    """What a plain leaf module computes, found by trying it.

    Libraries write activations as modules of their own (``x * sigmoid(x)``, custom autograd functions that no
    interception of function calls can see). Such a module counts once when it is an element-by-element, non-linear
    function of one tensor; it is a gate when it stays within -1 and 1.

    Args:
        module: a module for which `is_plain_leaf` holds.
        example: the tensor that it is about to receive, ``(batch, ...)``; only its shape, dtype and device are used.

    Returns:
        The non-linearity (its ``function`` is the module itself), or None.
    """
    one = example[:1].numel()
    shape = (max(1, -(-64 // max(1, one))), *example.shape[1:])  # at least 64 places to tell apart
    size = shape[0] * one
    points = torch.linspace(-9.0, 9.0, size, device=example.device, dtype=torch.float32)
    keep = torch.arange(size, device=example.device) % 3 == 0
    others = torch.where(keep, points, points.flip(0) * 0.5 + 0.25)
    far = torch.cat([points.new_tensor([-1e4, 1e4]), points])[:size]
    forward = type(module).forward

    def apply(values: Tensor) -> Tensor | None:
        try:
            out = forward(module, values.reshape(shape).to(example.dtype))
        except Exception:  # a module that needs other arguments or another shape is no element-wise function
            return None
        return out.float().reshape(-1) if isinstance(out, Tensor) and out.shape == shape else None

    first, second, distant = apply(points.clone()), apply(others.clone()), apply(far.clone())
    if first is None or second is None or distant is None:
        return None
    if not torch.equal(first[keep], second[keep]):  # the output at a place depends on other places
        return None
    slopes = first.diff() / points.diff()
    if not torch.isfinite(first).all() or (slopes - slopes.mean()).abs().max() < 1e-3 * slopes.abs().max() + 1e-12:
        return None  # linear: a dropout that is switched off, an identity, a scaling
    gate = bool(distant.abs().max() <= 1.001)
    return NonLinearity(type(module).__name__, gate, module, False, -1)
