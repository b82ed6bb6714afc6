"""Parameters that a network's output never depends on."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lightning_wrcor._random import own_random_numbers


def unreached_parameters(network: nn.Module, input_size: tuple[int, int, int]) -> list[str]:
    """Names of the parameters that the output does not depend on, neither in training nor in evaluation mode.

    Distributed training waits for the gradient of every trainable parameter, so these must be frozen. Found on a copy on
    the meta device (on the CPU where the network cannot run there); nothing of the network changes.

    Args:
        network: any network.
        input_size: ``(channels, height, width)`` of the images.
    """
    with own_random_numbers(0):
        for device in ("meta", "cpu"):
            try:
                return _find(copy.deepcopy(network).to(device), input_size, device)
            except (NotImplementedError, RuntimeError):
                if device == "cpu":
                    raise
    raise AssertionError("unreachable")


def _find(copied: nn.Module, input_size: tuple[int, int, int], device: str) -> list[str]:
    reached: set[str] = set()
    parameters = {name: p.requires_grad_() for name, p in copied.named_parameters()}
    with torch.enable_grad():
        for training in (True, False):
            output = copied.train(training)(torch.zeros(2, *input_size, device=device))
            outputs = output if isinstance(output, (tuple, list)) else [output]
            total = torch.stack([part.float().sum() for part in outputs if isinstance(part, torch.Tensor)]).sum()
            gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
            reached |= {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    return [name for name in parameters if name not in reached]
