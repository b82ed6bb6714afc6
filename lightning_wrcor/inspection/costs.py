"""What a network costs, counted without running it on data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lightning_wrcor.inspection._meta import QuickMeta
from lightning_wrcor.inspection.tracer import Call, Tracer


@dataclass(frozen=True)
class Costs:
    """What one network costs.

    Attributes:
        params: number of trainable and frozen parameters (buffers are not counted).
        macs: multiply-adds of one forward pass of one image; convolutions, matrix products and attention are counted,
            as torch's flop counter does (its FLOPs are twice this).
        depth: non-linearities that one forward pass calls (gates such as sigmoid are not counted).
    """

    params: int
    macs: int
    depth: int


def count_costs(network: nn.Module, input_size: tuple[int, int, int]) -> Costs:
    """Count parameters, MACs and depth by one forward pass of one image, in evaluation mode and without gradients.

    Best called on a network that was built on the meta device: nothing is computed there. On any other device the pass
    runs on an image of zeros.

    Args:
        network: any network; its training mode is left as it was.
        input_size: ``(channels, height, width)`` of the image.
    """

    def unchanged(call: Call, tensor: Tensor) -> Tensor:
        return tensor

    image = torch.zeros(1, *input_size, **where_it_lives(network))
    counter, tracer = _FlopCounter(), Tracer(network, unchanged)
    with evaluating(network), torch.no_grad(), QuickMeta(), counter, tracer:
        network(image)
    params = sum(parameter.numel() for parameter in network.parameters())
    return Costs(params, counter.flops // 2, len(tracer.calls))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def where_it_lives(network: nn.Module) -> dict[str, Any]:
    """``device`` and ``dtype`` of the images that a network takes: those of its first floating-point weight."""
    for held in chain(network.parameters(), network.buffers()):
        if held.is_floating_point():
            return {"device": held.device, "dtype": held.dtype}
    return {"device": torch.empty(0).device, "dtype": torch.get_default_dtype()}


class _FlopCounter(TorchDispatchMode):
    """Torch's flop counter without its table by module, which takes longer than a small network itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:  # a function made of others (only seen in inference mode)
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        self.flops += count(*args, **kwargs, out_val=out)
        return out
