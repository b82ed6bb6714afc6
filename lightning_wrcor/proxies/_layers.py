"""Convolutions and linear maps during a pass: what they give, and the gradients of their weights, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from lightning_wrcor.inspection import LayerCall
from lightning_wrcor.inspection.weights import Run
from lightning_wrcor.proxies._base import Needs, Observer
from lightning_wrcor.proxies._samples import samples_first


@contextmanager
def unwatched(tensor: Tensor) -> Iterator[None]:
    """What observers compute is no part of the network: no graph, not traced, not in half precision."""
    kind = tensor.device.type
    # Most of the time it is off, and to make such a context takes longer than all the rest.
    full = torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
    with torch.no_grad(), full, torch._C.DisableTorchFunction():
        yield


def place_of_samples(call: LayerCall, images: Tensor, batch_size: int, sequence_first: bool) -> int | None:
    """The dimension of a layer's input along which the images of the batch lie, in order; None where there is none."""
    if not call.depends:
        return None
    if sequence_first and images.dim() == 3 and images.shape[1] == batch_size:
        return 1
    return 0 if images.dim() > 1 and images.shape[0] % batch_size == 0 else None


def part_sizes(batch_size: int, parts: int) -> list[int]:
    """Images in each part of a batch that is parted as evenly as can be."""
    bounds = [round(part * batch_size / parts) for part in range(parts + 1)] if parts else []
    return [end - start for start, end in pairwise(bounds)]


class Layers:
    """Stands in place of every convolution and linear map of a pass.

    Each weight is replaced by aliases that are leaves of the graph, one for each part of the batch: the layer runs part by
    part, and autograd gives each part its own gradient. (Normalisation over the batch runs on the whole batch as ever.)

    Args:
        needs: what is wanted of the pass.
        observers: who is shown what.
        batch_size: number of images B.
        sequence_first: the second dimension of sequences holds the samples.

    Attributes:
        sizes: images in each part.
    """

    def __init__(self, needs: Needs, observers: Sequence[Observer], batch_size: int, sequence_first: bool) -> None:
        self._needs = needs
        self._observers = observers
        self._batch_size = batch_size
        self._sequence_first = sequence_first
        self.sizes = part_sizes(batch_size, min(needs.weights, batch_size))
        self._leaves: dict[tuple[int, int], list[Tensor]] = {}
        self._dark: dict[int, str] = {}

    def __call__(self, call: LayerCall, run: Run, images: Tensor, weight: Tensor) -> Tensor:
        """Run the layer."""
        if self._needs.weights and not torch.is_grad_enabled():
            self._dark.setdefault(call.owner, call.module)  # unless the backward pass runs it again
            out = run(images, weight)
        elif self._needs.weights:
            place = place_of_samples(call, images, self._batch_size, self._sequence_first)
            if place is None or len(self.sizes) == 1:
                out = run(images, self._aliases(call, weight, 1)[0])
            else:
                rows = images.shape[place] // self._batch_size
                pieces = images.split([size * rows for size in self.sizes], dim=place)
                aliases = self._aliases(call, weight, len(pieces))
                out = torch.cat([run(piece, alias) for piece, alias in zip(pieces, aliases, strict=True)], dim=place)
        else:
            out = run(images, weight)
        if self._needs.outputs and call.depends:
            self._show(call, "output", out)
            if self._needs.output_gradients and out.requires_grad:
                # A copy goes on: the network may overwrite it, and who waits for the gradient keeps what it saw.
                out.register_hook(partial(self._show, call, "gradient"))
                out = out.clone()
        return out

    @property
    def hidden(self) -> list[str]:
        """Modules whose weights were only ever used without autograd."""
        seen = {owner for owner, _ in self._leaves}
        return [module for owner, module in self._dark.items() if owner not in seen]

    @property
    def leaves(self) -> list[Tensor]:
        """All aliases, in call order."""
        return [leaf for leaves in self._leaves.values() for leaf in leaves]

    def _aliases(self, call: LayerCall, weight: Tensor, parts: int) -> list[Tensor]:
        key = (call.owner, parts)
        if key not in self._leaves:
            leaves = [weight.detach().requires_grad_() for _ in range(parts)]
            arrivals = _Arrivals(call, parts, self._observers)
            for part, leaf in enumerate(leaves):
                leaf.register_post_accumulate_grad_hook(partial(arrivals, part))
            self._leaves[key] = leaves
        return self._leaves[key]

    def _show(self, call: LayerCall, part: Literal["output", "gradient"], value: Tensor) -> None:
        tensor = samples_first(value.detach(), self._batch_size, self._sequence_first)
        if tensor is None:
            return
        with unwatched(value):
            for observer in self._observers:
                observer.see_layer(call, part, tensor)


class _Arrivals:
    """Shows the gradients of one weight once those of all parts are there.

    It knows nothing of the leaves, nor of what holds them: a leaf that its own hook leads back to would never be freed,
    because torch keeps such hooks where Python's garbage collection does not look.
    """

    def __init__(self, call: LayerCall, parts: int, observers: Sequence[Observer]) -> None:
        self._call = call
        self._parts = parts
        self._observers = observers
        self._waiting: dict[int, Tensor] = {}

    def __call__(self, part: int, leaf: Tensor) -> None:
        assert leaf.grad is not None
        self._waiting[part], leaf.grad = leaf.grad, None
        if len(self._waiting) < self._parts:
            return
        gradients = [self._waiting.pop(part) for part in range(self._parts)]
        with unwatched(leaf):
            for observer in self._observers:
                observer.see_weight(self._call, gradients)
