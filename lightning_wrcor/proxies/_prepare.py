"""The copy of a network that is scored: what is changed in it, and that it is said."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lightning_wrcor.inspection.nonlinearities import is_plain_leaf
from lightning_wrcor.inspection.tracer import switch_off_randomness


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products in full float32, whatever the user set for training (TF32 and bfloat16 are wrong by 1e-3)."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set a backend at a time, which torch offers since 2.9 and does not mix with the above
        matmuls: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
        precisions = [matmul.fp32_precision for matmul in matmuls]
        try:
            for matmul in matmuls:
                matmul.fp32_precision = "ieee"
            yield
        finally:
            for matmul, precision in zip(matmuls, precisions, strict=True):
                matmul.fp32_precision = precision
        return
    try:
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def scoring_copy(network: nn.Module) -> nn.Module:
    """A deep copy; what cannot be scored is refused by name.

    Raises:
        ValueError: for scripted and compiled parts, which cannot be looked into, and networks that cannot be copied.
    """
    refuse_opaque(network)
    try:
        return copy.deepcopy(network)
    # Tensors that are results of a computation (weight norm in its old form); what cannot be pickled.
    except (RuntimeError, TypeError, pickle.PickleError) as error:
        raise ValueError(
            f"{type(network).__name__} cannot be copied ({error}). Score it through a function that builds it, in a "
            "NetworkList, instead of passing the network."
        ) from error


def refuse_opaque(network: nn.Module) -> None:
    """Refuse parts whose non-linearities cannot be seen."""
    for name, module in network.named_modules():
        where = f"The part {name!r}" if name else "The network"
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"{where} is scripted, so its non-linearities cannot be seen. Pass the unscripted network."
            )
        if hasattr(module, "_orig_mod") and type(module).__name__ == "OptimizedModule":
            raise ValueError(
                f"{where} is compiled, so its non-linearities cannot be seen. Compile it after the search."
            )


_SHIFTS = ("bias", "beta", "shift", "offset", "token", "pos", "embed")
"""Words in the names of parameters that are added or looked up: they may be zero."""


def prepare(network: nn.Module) -> list[str]:
    """Make a network ready to be scored, in place.

    Training mode with dropout and drop-path off; no gradients for weights; scales and matrices that are initialised to
    zero (the last norm of a residual branch, a classifier) set to one and to random values, because all gradients behind
    them would be exactly zero. Zeros that let the input through are kept (shifts, thresholds, global response norms).

    Returns:
        Sentences that say what was changed.
    """
    switch_off_randomness(network)
    notes: list[str] = []
    scales = matrices = 0
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            parameter.requires_grad_(False)
            if parameter.numel() == 0 or any(word in name for word in _SHIFTS) or isinstance(module, nn.Embedding):
                continue
            # One number is enough to say no of nearly all.
            if bool(parameter[(0,) * parameter.dim()]) or bool(parameter.any()):
                continue
            if sum(length > 1 for length in parameter.shape) <= 1:
                if not _lets_through(module, parameter.numel()):
                    nn.init.ones_(parameter)
                    scales += 1
            elif "weight" in name:
                # As torch initialises linear and convolutional layers.
                nn.init.kaiming_uniform_(parameter, a=5**0.5)
                matrices += 1
    if scales:
        notes.append(f"{scales} scale{'s' * (scales > 1)} initialised to zero set to one")
    if matrices:
        notes.append(f"{matrices} weight{'s' * (matrices > 1)} initialised to zero drawn at random")
    return notes


@torch.no_grad()
def _lets_through(module: nn.Module, channels: int) -> bool:
    """Whether a module without children gives different outputs for different inputs, found by trying it."""
    if module._modules or type(module).__module__.startswith("torch.nn."):
        return False
    held = next(module.parameters())
    for shape in ((2, channels, 4, 4), (2, 4, 4, channels), (2, 4, channels), (2, channels)):
        values = torch.arange(math.prod(shape), device=held.device, dtype=held.dtype).reshape(shape)
        try:
            first, second = copy.deepcopy(module)(values.sin()), copy.deepcopy(module)(values.cos())
        except Exception:  # it takes another shape
            continue
        return not torch.equal(first, second)
    return False


def reinitialise(network: nn.Module) -> None:
    """Draw all weights anew, in place, from torch's global random numbers.

    Every module's own ``reset_parameters`` runs, then the network's ``init_weights`` where it has one (timm).

    Raises:
        ValueError: where no module knows how to do that.
    """
    done = 0
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset) and not is_plain_leaf(module):
            reset()
            done += 1
    whole = getattr(network, "init_weights", None)
    if callable(whole):
        try:
            whole()
            done += 1
        except TypeError:  # another meaning of the name: it wants arguments
            pass
    if not done:
        raise ValueError(
            f"{type(network).__name__} cannot be initialised anew: none of its modules has reset_parameters(). "
            "Leave seed=None to score it with the weights that it has."
        )
