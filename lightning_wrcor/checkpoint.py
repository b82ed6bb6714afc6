"""The trained winner from a checkpoint, without a Trainer."""

from __future__ import annotations

import os
from pickle import UnpicklingError
from typing import Any

from torch import nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.search import CHECKPOINT_KEY, Winner
from lightning_wrcor.spaces import Space, get_space


def load_network(checkpoint_path: str | os.PathLike[str], space: Any = None) -> nn.Module:
    """Build the trained winner from any checkpoint written with the callback or the module.

    Args:
        checkpoint_path: a checkpoint file.
        space: the space that was searched, needed only where it held modules or functions that a checkpoint cannot hold.

    Returns:
        The network alone, with its trained weights, in evaluation mode, on the CPU. With weight averaging, the averaged
        weights.

    Raises:
        ValueError: for a checkpoint without a winner.
        FileNotFoundError: for a path that does not exist, or a folder of a kind that cannot be looked into.
    """
    from lightning_wrcor._trainer import read_checkpoint

    if not os.path.exists(checkpoint_path) and "://" not in str(checkpoint_path):
        raise FileNotFoundError(f"There is no checkpoint {os.fspath(checkpoint_path)!r}.")
    try:
        checkpoint = read_checkpoint(checkpoint_path, device="cpu")
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{checkpoint_path} cannot be read as a checkpoint ({type(error).__name__}).") from error
    if CHECKPOINT_KEY not in checkpoint:
        raise ValueError(
            f"{checkpoint_path} holds no winner of a search. Checkpoints written while ZeroShotSearch (or "
            "ZeroShotSearchModule) is in use do."
        )
    if "state_dict" not in checkpoint:
        raise FileNotFoundError(
            f"{checkpoint_path} is sharded over several files. Turn it into one first: python -m "
            "lightning.pytorch.utilities.consolidate_checkpoint FOLDER"
        )
    winner = Winner.from_dict(checkpoint[CHECKPOINT_KEY])
    given: Space | None = get_space(space) if space is not None else None
    with own_random_numbers():
        network = winner.build(given)
    prefix = winner.attribute + "."
    weights = {
        name[len(prefix) :].removeprefix("_orig_mod."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
    network.load_state_dict(weights)
    return network.eval()
