"""How much memory activations take, found without computing them."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_wrcor.inspection._meta import QuickMeta
from lightning_wrcor.inspection.costs import evaluating, where_it_lives


def peak_activation_bytes(network: nn.Module, input_size: tuple[int, int, int]) -> int:
    """The most bytes that the activations of one image take at once in a forward pass, in evaluation and without gradients.

    Counted are the image and every tensor that an operation makes, from that operation until the last reference to it is
    gone, in the network's own precision; views and in-place operations take nothing more. Weights and buffers, and the
    workspace inside an operation, are not counted. A batch of B images takes B times as much.

    Best called on a network that was built on the meta device: nothing is computed there, and no memory is taken. (Attention
    counts as that device runs it, which may differ from fused kernels.)

    Args:
        network: any network; its training mode is left as it was.
        input_size: ``(channels, height, width)`` of the image.
    """
    image = torch.zeros(1, *input_size, **where_it_lives(network))
    living = _Living(network, image)
    with evaluating(network), torch.no_grad(), QuickMeta(), living:
        network(image)
    return living.peak


class _Living(TorchDispatchMode):
    """After every operation, the sum of bytes of what operations have made so far and is still referred to.

    Attributes:
        peak: the largest sum.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held = {_number(tensor) for tensor in chain(network.parameters(), network.buffers())}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak: int = 0
        self._add(image)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in pytree.tree_leaves(out):
            if isinstance(value, Tensor):
                self._add(value)
        return out

    def _add(self, tensor: Tensor) -> None:
        number = _number(tensor)
        if number in self._held:
            return
        # What has gone leaves before what is new comes: its number may be given again.
        self._alive = {other: entry for other, entry in self._alive.items() if not entry[0].expired()}
        if number not in self._alive:
            storage = tensor.untyped_storage()
            self._alive[number] = StorageWeakRef(storage), storage.nbytes()
            self.peak = max(self.peak, sum(size for _, size in self._alive.values()))


def _number(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
