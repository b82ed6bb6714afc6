"""What a network makes of the order of its values in memory: where it would compute something else in another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

import torch
from torch import Tensor

_RESHAPING: frozenset[Any] = frozenset(
    getattr(home, name)
    for home in (Tensor, torch)
    for name in ("reshape", "flatten", "ravel", "contiguous", "reshape_as")
    if hasattr(home, name)
)
"""Functions that give a view or a copy, as the order of memory wants it."""

_STRIDING: frozenset[Any] = frozenset(
    getattr(home, name) for home in (Tensor, torch) for name in ("as_strided", "as_strided_") if hasattr(home, name)
)
"""Functions that give something else in another order of memory."""


class ReliesOnOrderError(RuntimeError):
    """A network writes into what is a view in one order of memory and a copy in the other, or counts places in memory."""


class OrderWatch:
    """Refuses what a network computes otherwise in channels-last than in the usual order.

    What is a copy in one order of memory may be a view in the other; a network that writes into one of the two tensors then
    finds it in both, or in one only. So the tensors that are reshaped are remembered, each with the version that it had.
    """

    def __init__(self) -> None:
        self._reshaped: dict[int, tuple[ref[Tensor], int]] = {}

    def look(self, func: Any, given: Any, result: Any, stack: Sequence[str]) -> None:
        """Look at one call of a function, after it.

        Args:
            func: the function of torch.
            given: its first argument.
            result: what it gave.
            stack: names of the modules that are running, the innermost last.

        Raises:
            ReliesOnOrderError: where the network counts places in memory, or wrote into a tensor that was reshaped.
        """
        if func in _STRIDING:
            raise ReliesOnOrderError(f"{_innermost(stack)} counts places in memory ({func.__name__}).")
        reshapes = func in _RESHAPING
        if not reshapes and not self._reshaped:
            return
        seen = [one for one in (given, result) if isinstance(one, Tensor)]
        owners = [one if one._base is None else one._base for one in seen]
        for one in owners:
            known, version = self._reshaped.get(id(one), (None, 0))
            if known is not None and known() is one and one._version != version:
                raise ReliesOnOrderError(f"{_innermost(stack)} overwrites a tensor that was reshaped.")
        if reshapes and len(seen) == 2 and (seen[0].data_ptr() == seen[1].data_ptr() or not given.is_contiguous()):
            self._reshaped.update((id(one), (ref(one), one._version)) for one in owners)


def _innermost(stack: Sequence[str]) -> str:
    return repr(stack[-1] if stack else "")
