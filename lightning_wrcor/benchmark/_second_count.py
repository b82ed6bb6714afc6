"""A second count of what the tracer sees, by plain forward hooks, and a check that its rows are the samples."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.inspection import Call, Tracer
from lightning_wrcor.inspection.tracer import switch_off_randomness
from lightning_wrcor.proxies._samples import puts_sequences_first, samples_first


def activation_classes() -> set[type[nn.Module]]:
    """The activation classes of torch and timm that are no gates, by the names of the files that they stand in."""
    import timm.layers

    others = {"Sigmoid", "Hardsigmoid", "LogSigmoid", "Tanh", "Hardtanh", "Softsign", "Softmax", "Softmin", "Softmax2d"}
    others |= {"LogSoftmax", "GLU", "HardSigmoid", "HardSigmoidMe", "MultiheadAttention", "Module"}
    others |= {"Tanhshrink", "Softshrink", "Hardshrink"}
    found: set[type[nn.Module]] = set()
    for home in (nn.modules.activation, timm.layers.activations, getattr(timm.layers, "activations_me", None)):
        for name, cls in vars(home).items() if home is not None else ():
            if isinstance(cls, type) and issubclass(cls, nn.Module) and name not in others:
                found.add(cls)
    return found


def look_inside(network: nn.Module, images: Tensor) -> tuple[Counter[str], list[Call], int]:
    """Count by other means what the score saw. The network is changed: evaluation mode, dropout off.

    Returns:
        Calls of activation modules by module name, counted by plain hooks; what the tracer saw in the same pass; and the
        number of responses whose rows are not the samples.
    """
    called: Counter[str] = Counter()
    classes = activation_classes()
    handles = []
    for name, module in network.named_modules():
        if type(module) in classes:

            def count(_module: nn.Module, _args: object, name: str = name) -> None:
                called[name] += 1

            handles.append(module.register_forward_pre_hook(count))
    switch_off_randomness(network)
    network.eval()  # batch normalisation would mix the samples
    others = images.clone()
    others[0] = others[0].flip(-1) * 0.5
    calls, before = _responses(network, images)
    for handle in handles:
        handle.remove()
    mixed = 0
    for one, two in zip(before, _responses(network, others)[1], strict=True):
        if one is not None and two is not None:
            others_change = bool(((one - two)[1:].abs() > 1e-3 * one.abs().max()).any())
            mixed += others_change or (torch.equal(one[0], two[0]) and not torch.equal(one[:1].expand_as(one), one))
    return called, calls, mixed


def _responses(network: nn.Module, images: Tensor) -> tuple[list[Call], list[Tensor | None]]:
    """The calls of one pass, and their activations with the samples first."""
    found: list[Tensor | None] = []
    sequence_first = puts_sequences_first(network)

    def visit(call: Call, tensor: Tensor) -> Tensor:
        response = samples_first(tensor, len(images), sequence_first) if call.depends else None
        found.append(None if response is None else response.clone())
        return tensor

    with own_random_numbers(0), torch.no_grad(), Tracer(network, visit) as tracer:
        network(images.clone())
    return tracer.calls, found
