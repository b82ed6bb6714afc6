"""The copy of a network that is scored: what is changed in it, and that it is said."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lightning_wrcor.inspection.nonlinearities import is_plain_leaf
from lightning_wrcor.inspection.tracer import switch_off_randomness


def scoring_copy(network: nn.Module) -> nn.Module:
    """A deep copy; what cannot be scored is refused by name.

    Raises:
        ValueError: for scripted and compiled parts, which cannot be looked into, and networks that cannot be copied.
    """
    refuse_opaque(network)
    try:
        return copy.deepcopy(network)
    except RuntimeError as error:  # tensors that are results of a computation (weight norm in its old form)
        raise ValueError(
            f"{type(network).__name__} cannot be copied ({error}). Score it through a function that builds it, in a "
            "NetworkList, instead of passing the network."
        ) from error


def refuse_opaque(network: nn.Module) -> None:
    """Refuse parts whose non-linearities cannot be seen."""
    for name, module in network.named_modules():
        where = f"The part {name!r}" if name else "The network"
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{where} is scripted, so its non-linearities cannot be seen. Pass the unscripted network.")
        if hasattr(module, "_orig_mod") and type(module).__name__ == "OptimizedModule":
            raise ValueError(f"{where} is compiled, so its non-linearities cannot be seen. Compile it after the search.")


def prepare(network: nn.Module) -> list[str]:
    """Make a network ready to be scored, in place.

    Training mode with dropout and drop-path off; no gradients for weights; scales and matrices that are initialised to
    zero (the last norm of a residual branch, a classifier) set to one and to random values, because all gradients behind
    them would be exactly zero.

    Returns:
        Sentences that say what was changed.
    """
    switch_off_randomness(network)
    notes: list[str] = []
    scales = matrices = 0
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            parameter.requires_grad_(False)
            if "bias" in name or parameter.numel() == 0 or bool(parameter.any()):
                continue
            if parameter.dim() <= 1:
                nn.init.ones_(parameter)
                scales += 1
            elif name == "weight":
                # As torch initialises linear and convolutional layers.
                nn.init.kaiming_uniform_(parameter, a=5**0.5)
                matrices += 1
    if scales:
        notes.append(f"{scales} scale{'s' * (scales > 1)} initialised to zero set to one")
    if matrices:
        notes.append(f"{matrices} weight{'s' * (matrices > 1)} initialised to zero drawn at random")
    return notes


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
