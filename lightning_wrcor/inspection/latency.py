"""How long a network takes, measured on a device."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from lightning_wrcor.inspection.costs import evaluating

Precision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Latency:
    """How latency is measured: forward passes in evaluation mode and inference mode, after a warm-up.

    The value is the median of several passes; the device is waited for before each start and each end. What it says holds
    for this device, these settings, and nothing else running there.

    Args:
        batch_size: images in a pass; the value is for the whole batch.
        dtype: precision of weights and images: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        channels_last: memory format NHWC of weights and images.
        warmup: passes before those that count.
        repeats: passes that count.

    Raises:
        ValueError: for numbers below 1 (0 for ``warmup``) and a precision that there is not.
    """

    batch_size: int = 1
    dtype: Precision = "float32"
    channels_last: bool = False
    warmup: int = 3
    repeats: int = 10

    def __post_init__(self) -> None:
        for name, smallest in (("batch_size", 1), ("warmup", 0), ("repeats", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise ValueError(f"{name} of a latency is a whole number of at least {smallest}; got {value!r}.")
        if self.dtype not in get_args(Precision):
            raise ValueError(f"dtype of a latency is one of {', '.join(get_args(Precision))}; got {self.dtype!r}.")

    def measure(self, network: nn.Module, input_size: tuple[int, int, int], device: torch.device | str) -> float:
        """The median time of a pass, in milliseconds.

        Args:
            network: any network; it is moved to the device and changed to the precision and memory format.
            input_size: ``(channels, height, width)`` of the images, which are noise.
            device: where it runs.
        """
        device = torch.device(device)
        dtype = getattr(torch, self.dtype)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        network = network.to(device=device, dtype=dtype).to(memory_format=layout)
        images = torch.randn(self.batch_size, *input_size).to(device, dtype).contiguous(memory_format=layout)
        times = []
        with evaluating(network), torch.inference_mode():
            for _ in range(self.warmup):
                network(images)
            for _ in range(self.repeats):
                _wait(device)
                start = time.perf_counter()
                network(images)
                _wait(device)
                times.append(time.perf_counter() - start)
        return statistics.median(times) * 1e3

    def describe(self, device: torch.device | str) -> dict[str, Any]:
        """All that the value depends on beside the network: these settings and the device, as plain values."""
        return {**asdict(self), "device": _device_name(torch.device(device)), "torch": torch.__version__}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type in ("xpu", "mps"):
        getattr(torch, device.type).synchronize()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
