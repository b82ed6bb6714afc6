"""The most memory that an action takes, measured in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys

import torch

from lightning_wrcor.benchmark._speed_networks import scored, subject, training_step
from lightning_wrcor.proxies._precision import Precision


def peak_memory(
    name: str,
    what: str,
    batch_size: int,
    device: str,
    threads: int,
    image_size: int | None = None,
    precision: Precision = "float32",
) -> float | None:
    """Bytes above those that the network and the images take; None where the system does not say.

    Args:
        name: the network, one of `NAMES`.
        what: ``"step"`` or ``"score"``.
        batch_size: images.
        device: ``"cpu"`` or a CUDA device.
        threads: threads of torch.
        image_size: pixels; by default those of the table.
        precision: of the step or of the score.
    """
    if sys.platform == "win32" and device == "cpu":
        return None
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (name, what, batch_size, device, threads, image_size, precision))


def _measure(
    name: str, what: str, batch_size: int, device: str, threads: int, image_size: int | None, precision: Precision
) -> float:
    torch.set_num_threads(threads)
    one = subject(name, batch_size, image_size, device)
    # The smallest run first: kernels are compiled, and libraries take what they keep.
    small = subject(name, 2, image_size, device)
    training_step(small, precision=precision)
    scored(small, ["wrcor"], precision)
    del small
    gc.collect()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        before = float(torch.cuda.memory_allocated(device))
    else:
        before = _resident(peak=False)
    if what == "step":
        training_step(one, precision=precision)
    else:
        scored(one, ["wrcor"], precision)
    if device != "cpu":
        return float(torch.cuda.max_memory_allocated(device)) - before
    return _resident(peak=True) - before


def _resident(peak: bool) -> float:
    """Bytes of this process in memory, now or at most so far (Linux; elsewhere the most so far is both)."""
    name = "VmHWM" if peak else "VmRSS"
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(name):
                    return float(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
