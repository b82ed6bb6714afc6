"""The layers with weights: convolutions and linear maps, found by the functions that are called, and normalisations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

_WEIGHTED: dict[str, tuple[str, ...]] = {
    "Conv": ("conv1d", "conv2d", "conv3d"),
    "ConvTranspose": ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    "Linear": ("linear",),
}
_NORMALISING = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm")
_HIDING = ("multi_head_attention_forward", "bilinear")


def _functions(names: tuple[str, ...]) -> set[Any]:
    homes = (F, torch, torch._C._nn)
    return {getattr(home, name) for home in homes for name in names if hasattr(home, name)}


WEIGHTED: dict[Any, str] = {function: kind for kind, names in _WEIGHTED.items() for function in _functions(names)}
"""Function that multiplies its input by a weight -> the kind of layer that it is."""

NORMALISING: frozenset[Any] = frozenset(_functions(_NORMALISING))
"""Functions that normalise: what remains of each without its normalisation is the identity."""

HIDING: frozenset[Any] = frozenset(_functions(_HIDING))
"""Functions with weights inside that cannot be told apart from outside (torch's own multi-head attention)."""


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of a convolution or a linear map.

    Attributes:
        index: position in call order, from 0.
        kind: ``"Conv"``, ``"ConvTranspose"`` or ``"Linear"``.
        module: name of the innermost module that was running.
        weight: what the input is multiplied by, detached: mostly a parameter, or what a layer makes of one
            (weight standardisation).
        owner: identity of that weight: calls that share a parameter have the same.
        depends: its input depends on the images.
        again: it ran already; the backward pass runs this part once more (checkpointing).
    """

    index: int
    kind: str
    module: str
    weight: Tensor
    owner: int
    depends: bool
    again: bool = False


class Run(Protocol):
    """The layer's function of its input and its weight, with all other arguments filled in."""

    def __call__(self, images: Tensor, weight: Tensor, bias: bool = True) -> Tensor:
        """What the layer gives, with or without its bias."""


VisitLayer = Callable[[LayerCall, Run, Tensor, Tensor], Tensor]
"""Receives a call, its function, its input and its weight; returns the layer's output."""

Normalise = Callable[[Any, Tensor], "Tensor | None"]
"""Receives a normalising function and its input; returns what shall stand in place of its output, or None to run it."""
