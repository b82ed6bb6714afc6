"""What a network costs, counted without running it on data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

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

    held = next(chain(network.parameters(), network.buffers()), torch.empty(0))
    image = torch.zeros(1, *input_size, device=held.device, dtype=held.dtype)
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter, Tracer(network, unchanged) as tracer:
            network(image)
    finally:
        for module, mode in modes.items():
            module.training = mode
    params = sum(parameter.numel() for parameter in network.parameters())
    return Costs(params, counter.get_total_flops() // 2, len(tracer.calls))
