"""Random numbers that belong to us alone."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *parts: object) -> int:
    """A seed in ``[0, 2**63)`` that depends on the arguments alone (not on the process, the order or the time)."""
    digest = hashlib.sha256(json.dumps([int(seed), *map(str, parts)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's (where it is loaded) and torch's global random numbers, those of all devices included."""
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def own_random_numbers(seed: int | None = None) -> Iterator[None]:
    """Leave every global random number generator as it was found, also when the block raises.

    Covers Python's, NumPy's (where it is loaded), and torch's on the CPU, on CUDA devices and on MPS.

    Args:
        seed: seed them all at the start of the block; None goes on from where they are.
    """
    numpy = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy is not None else None
    torch_state = torch.get_rng_state()
    cuda = _cuda_in_use()
    cuda_states = torch.cuda.get_rng_state_all() if cuda else []
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        if seed is not None:
            random.seed(seed)
            if numpy is not None:
                numpy.random.seed(seed % 2**32)
            # Not torch.manual_seed: before CUDA has started, that would seed it for later, outside this block.
            torch.default_generator.manual_seed(seed)
            if cuda:
                torch.cuda.manual_seed_all(seed)
            if mps_state is not None:
                torch.mps.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda_states)
        elif _cuda_in_use():
            # CUDA started inside the block: give it the state that it would have started with.
            torch.cuda.manual_seed_all(torch.initial_seed())
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_available() and torch.cuda.is_initialized())  # type: ignore[no-untyped-call, unused-ignore]
