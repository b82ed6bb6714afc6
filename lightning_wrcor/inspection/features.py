"""The features of a network: the last tensor that still has positions, before they are pooled for the classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_wrcor.inspection.weights import NORMALISING, WEIGHTED

_NAMES = ("mean", "sum", "amax", "max", "amin", "logsumexp", "norm")
_POOLINGS: frozenset[Any] = frozenset(
    getattr(home, name) for home in (torch, Tensor) for name in _NAMES if hasattr(home, name)
) | frozenset(
    getattr(F, f"{kind}_pool{dimensions}d")
    for kind in ("avg", "max", "lp", "adaptive_avg", "adaptive_max")
    for dimensions in (1, 2, 3)
    if hasattr(F, f"{kind}_pool{dimensions}d")
)

_MARK = "_is_pooled"


class Features(TorchFunctionMode):
    """Finds, while a network runs inside the ``with`` block, the features that its classifier sees pooled.

    They are the last tensor of three or more dimensions that was not made from pooled tensors alone (a head of 1x1
    convolutions behind the pooling does not count, nor does the gate of a squeeze-and-excitation), from the first
    convolution or linear map on. For a network that has no such tensor (a multi-layer perceptron) they are what its last
    linear map receives.

    Args:
        batch_size: number of images B.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._positioned: Tensor | None = None
        self._flat: Tensor | None = None
        self._weighted = False  # a convolution or linear map was called

    @property
    def tensor(self) -> Tensor:
        """The features, ``(B, ...)``.

        Raises:
            ValueError: where nothing was seen that could be features.
        """
        found = self._flat if self._positioned is None else self._positioned
        if found is None:
            raise ValueError("The network has no features: it calls no convolution and no linear map.")
        return found

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((*args, *kwargs.values())))
        if func in WEIGHTED or func in NORMALISING:
            del given[1:]  # of weights and running statistics nothing was pooled
        if func in WEIGHTED and given:
            self._weighted = True
            if given[0].dim() == 2:
                self._flat = given[0]
        result = func(*args, **kwargs)
        if isinstance(result, nn.Parameter) or not given:
            return result
        pooled = all(hasattr(value, _MARK) for value in given)
        for part in _tensors((result,)):
            if pooled or (func in _POOLINGS and all(length == 1 for length in part.shape[2:])):
                setattr(part, _MARK, True)
            elif (
                part is result
                and part.dim() >= 3
                and self._weighted
                and len(part) > 0
                and len(part) % self._batch_size == 0
            ):
                self._positioned = part
        return result


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The floating point tensors among these values and in their lists, without parameters."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _tensors(value)
        elif isinstance(value, Tensor) and value.is_floating_point() and not isinstance(value, nn.Parameter):
            yield value
