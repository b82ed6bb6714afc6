"""Timm's optimisers by name, and the learning rate over a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from lightning_wrcor._config import closest

Schedule = Literal["cosine", "linear", "constant"]
Scaling = Literal["linear", "sqrt"]


def check_optimizer(name: str) -> None:
    """Refuse a misspelt optimiser.

    Raises:
        ValueError: the message lists those of timm that are closest.
    """
    from timm.optim import get_optimizer_class, list_optimizers

    try:
        get_optimizer_class(name.removeprefix("lookahead_"))
    except ValueError as error:
        names = ", ".join(closest(name, list_optimizers())[:8])
        raise ValueError(f"timm has no optimiser named {name!r}. Closest: {names}.") from error


def make_optimizer(
    network: nn.Module,
    name: str,
    lr: float,
    weight_decay: float = 0.0,
    layer_decay: float | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """One of timm's optimisers over the trainable parameters of a network.

    Norms and biases have no weight decay (all parameters of one dimension, and those that the network's own
    ``no_weight_decay`` names).

    Args:
        network: the network.
        name: timm's name: ``sgd``, ``adamw``, ``lamb``, ``lookahead_adamw``, ...
        lr: learning rate of the last layer.
        weight_decay: weight decay of the other parameters.
        layer_decay: factor of the learning rate from each layer to the one before it, counted from the head (BEiT, Bao et
            al. 2022); None: all layers alike. The layers are those of the network's ``group_matcher``.
        arguments: further arguments of the optimiser, such as ``{"momentum": 0.9}``.

    Raises:
        ValueError: for an argument that the optimiser does not have, or a layer_decay that is no share.
    """
    from timm.optim import create_optimizer_v2

    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay is a factor above 0 and at most 1; got {layer_decay}.")
    settings = dict(opt=name, lr=lr, weight_decay=weight_decay, layer_decay=layer_decay, **(arguments or {}))
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(network, **settings)
    except TypeError as error:
        raise ValueError(f"timm's optimiser {name!r} does not take these arguments: {error}.") from error
    for group in optimizer.param_groups:
        # Timm leaves this to its own schedulers, which Lightning cannot step.
        group["lr"] = lr * group.get("lr_scale", 1.0)
    return optimizer


def scaled_learning_rate(lr: float, batch: int, lr_batch: int | None, scaling: Scaling = "linear") -> float:
    """The learning rate for a batch of another size than it was meant for.

    Args:
        lr: learning rate for batches of ``lr_batch`` images.
        batch: images in an optimiser step, over all processes and accumulated batches.
        lr_batch: the batch that ``lr`` is meant for; None: whatever the batch is.
        scaling: ``linear`` (Goyal et al. 2017, for SGD) or ``sqrt`` (You et al. 2020, for LAMB; Adam).
    """
    if lr_batch is None:
        return lr
    share = batch / lr_batch
    return lr * (share if scaling == "linear" else math.sqrt(share))


def learning_rate_factor(
    step: int, steps: int, warmup: int = 0, schedule: Schedule = "cosine", warmup_lr: float = 0.0, min_lr: float = 0.0
) -> float:
    """The share of the peak learning rate that a step has.

    It grows linearly from ``warmup_lr`` to 1 over the warm-up. Then, with t from 0 (first step after it) to 1 (after the
    last step): cosine is min_lr + (1 - min_lr) (1 + cos(pi t)) / 2 (Loshchilov & Hutter, ICLR 2017), linear is 1 - (1 -
    min_lr) t, and constant is 1.

    Args:
        step: number of optimiser steps that have been made.
        steps: steps of the whole training.
        warmup: steps of warm-up, fewer than ``steps``.
        schedule: the form after the warm-up.
        warmup_lr: share at the first step.
        min_lr: share at the end.
    """
    if step < warmup:
        return warmup_lr + (1 - warmup_lr) * step / warmup
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    left = (1 + math.cos(math.pi * done)) / 2 if schedule == "cosine" else 1 - done
    return min_lr + (1 - min_lr) * left
