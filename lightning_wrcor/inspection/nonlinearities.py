"""Which function calls are non-linearities: the one documented list.

Functions are recognised by identity, whatever module calls them: ``F.relu``, ``torch.relu``, ``x.relu()`` and
``x.relu_()`` are the same non-linearity. Names play no part.
"""

from __future__ import annotations

import inspect
import math
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
        in_place: whether a call of it always overwrites its input (``relu_``).
        in_place_position: position of an ``inplace`` argument, or -1 where there is none.
    """

    kind: str
    gate: bool
    in_place: bool
    in_place_position: int = -1

    def overwrites(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this call overwrites its input.

        Args:
            args: positional arguments, the input first.
            kwargs: the others.
        """
        if self.in_place or kwargs.get("inplace"):
            return True
        return 0 <= self.in_place_position < len(args) and bool(args[self.in_place_position])


def _in_place_position(function: Callable[..., Any]) -> int:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions: none of them has such an argument
        return -1
    return names.index("inplace") if "inplace" in names else -1


def _table() -> dict[Any, NonLinearity]:
    """Every spelling of every listed function, in torch, torch.nn.functional and Tensor."""
    table: dict[Any, NonLinearity] = {}
    for gate, listed in ((False, _COUNTED), (True, _GATES)):
        for kind, names in listed.items():
            for name in names:
                for home in (F, torch, Tensor, torch._C._nn):
                    function = getattr(home, name, None)
                    if function is not None and function not in table:
                        in_place = name.endswith("_")
                        table[function] = NonLinearity(kind, gate, in_place, _in_place_position(function))
    return table


FUNCTIONS: dict[Any, NonLinearity] = _table()
"""Function object -> what it is."""


GRAPH_NODES: frozenset[str] = frozenset(
    f"{name}Backward0"
    for name in (
        *("Relu", "LeakyRelu", "RreluWithNoise", "PreluKernel", "Elu", "Celu", "Gelu", "Silu", "Mish", "Hardswish"),
        *("Softplus", "Threshold"),
    )
)
"""What the functions that count leave in the autograd graph (ReLU6 leaves what a hardtanh leaves, SELU an ELU)."""


def recognise(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NonLinearity | None:
    """The non-linearity that a call of ``function`` is, or None."""
    found = FUNCTIONS.get(function)
    if found is not None and found.kind == "Hardtanh":
        # nn.ReLU6 is a hardtanh from 0 to 6: rectifying, so it counts; from -1 to 1 it is a gate like tanh.
        low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        if low == 0:
            return NonLinearity("ReLU6", False, found.in_place, found.in_place_position)
    return found


def is_plain_leaf(module: nn.Module) -> bool:
    """A module with no children, parameters or buffers: an activation, a pooling, a dropout, a reshaping."""
    return not module._modules and not module._parameters and not module._buffers


def may_be_activation(module: nn.Module, example: Tensor) -> bool:
    """Whether a module could be a non-linearity of its own, so that it is worth trying (`judge_leaf`).

    A module without children and buffers, that has at most some numbers a channel as parameters. torch's own modules
    call functions that are recognised.
    """
    if module._modules or module._buffers or type(module).__module__.startswith("torch.nn."):
        return False
    most = max(example.shape[1:], default=1)
    return all(parameter is not None and parameter.numel() <= most for parameter in module._parameters.values())


@torch.no_grad()
def judge_leaf(module: nn.Module, example: Tensor) -> NonLinearity | None:
    """What a leaf module computes, found by trying it.

    Libraries write activations as modules of their own (``x * sigmoid(x)``, custom autograd functions that no
    interception of function calls can see). Such a module counts once when it is an element-by-element, non-linear
    function of one tensor; it is a gate when it stays within -1 and 1.

    Args:
        module: a module for which `may_be_activation` holds.
        example: the tensor that it is about to receive, ``(batch, ...)``; only its shape, dtype and device are used.

    Returns:
        The non-linearity, or None.
    """
    # An element-by-element function takes any shape, so a small one will do; channels that have parameters are kept.
    channels = {parameter.numel() for parameter in module._parameters.values() if parameter is not None}
    inner = [length if length in channels else min(length, 4) for length in example.shape[1:]]
    if 0 in inner:
        return None
    shape = (-(-64 // math.prod(inner)), *inner)  # at least 64 places to tell apart
    size = math.prod(shape)
    points = torch.linspace(-9.0, 9.0, size, device=example.device, dtype=torch.float32)
    # Drawn at random: a regular pattern may keep just those places on which a normalisation of channels depends.
    keep = torch.rand(size, generator=torch.Generator().manual_seed(0)).to(example.device) < 0.3
    forward = type(module).forward
    overwrites = False

    def apply(values: Tensor) -> Tensor | None:
        nonlocal overwrites
        given = values.reshape(shape).to(example.dtype, copy=True)
        before = given.clone()
        try:
            out = forward(module, given)
        except Exception:  # a module that needs other arguments or another shape is no element-wise function
            return None
        overwrites = overwrites or not torch.equal(given, before)
        return out.float().reshape(-1) if isinstance(out, Tensor) and out.shape == shape else None

    first = apply(points)
    second = None if first is None else apply(torch.where(keep, points, points.flip(0) * 0.5 + 0.25))
    if first is None or second is None or not torch.isfinite(first).all():
        return None
    if not torch.equal(first[keep], second[keep]):  # the output at a place depends on other places
        return None
    # Linear at every place (a dropout that is switched off, an identity, a scaling of channels): halfway between two
    # inputs it gives what is halfway between the outputs.
    others = points.roll(size // 3)
    half, other = apply((points + others) / 2), apply(others)
    if half is None or other is None:
        return None
    if ((first + other) / 2 - half).abs().max() <= 1e-2 * first.abs().max():
        return None
    distant = apply(torch.cat([points.new_tensor([-1e4, 1e4]), points])[:size])
    if distant is None:
        return None
    return NonLinearity(type(module).__name__, bool(distant.abs().max() <= 1.001), overwrites)
