"""Networks that are looked at without their weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.inspection._meta import QuickMeta

T = TypeVar("T")


def without_weights(build: Callable[[], nn.Module], use: Callable[[nn.Module], T]) -> T:
    """Return ``use(build())`` with a network on the meta device, or a real one where that device does not suffice.

    While ``use`` runs, the parameters need no gradients. Random numbers are as they were afterwards.
    """
    with own_random_numbers():
        try:
            with torch.device("meta"), QuickMeta():
                network = build()
            with _frozen(network):
                return use(network)
        except Exception as error:
            # Reading a value, or an operation that the meta device lacks. Any other error would come again.
            if not re.search(r"\bmeta\b", str(error), re.IGNORECASE):
                raise
        network = build()
        with _frozen(network):
            return use(network)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    # torch's FLOP counter stops at some models (cait, pit) whose parameters need gradients while gradients are off.
    # They are put back because a user's factory may return a module that the user keeps.
    needing = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in needing:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in needing:
            parameter.requires_grad_(True)
