"""The networks whose speed is shown, and the things that are timed on each."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.benchmark.cost import NASBENCH201_CONVOLUTIONS
from lightning_wrcor.inspection import Call, Costs, count_costs
from lightning_wrcor.proxies import get_proxy
from lightning_wrcor.proxies._base import Needs, Observer
from lightning_wrcor.proxies._correlation import as_rows
from lightning_wrcor.proxies._pass import run_pass
from lightning_wrcor.proxies._precision import Precision, autocast
from lightning_wrcor.proxies._prepare import prepare
from lightning_wrcor.proxies._score import Batch, score_prepared
from lightning_wrcor.spaces import get_space

NAMES = ("nasbench201", "resnet50", "efficientnet_b0", "ea_600m", "vit_small", "convnext_tiny")
FOUR = ("wrcor", "naswot", "snip", "zico")
SJW = ("wrcor", "jacob_cor", "synflow")

_TIMM = {
    "resnet50": ("resnet50", 96, {}),
    "efficientnet_b0": ("efficientnet_b0", 128, {}),
    "vit_small": ("vit_small_patch16_224", 128, {"img_size": 128}),
    "convnext_tiny": ("convnext_tiny", 96, {}),
}


@dataclass(frozen=True)
class Subject:
    """A network that is timed.

    Attributes:
        name: one of `NAMES`.
        network: with weights from seed 0.
        layers: layer map, or None.
        costs: parameters, MACs, depth.
        batch: noise, and labels that go round the classes.
    """

    name: str
    network: nn.Module
    layers: Mapping[str, int] | None
    costs: Costs
    batch: Batch

    @property
    def pixels(self) -> int:
        """Height and width of the images."""
        return int(self.batch[0].shape[-1])


def subject(
    name: str, batch_size: int = 64, image_size: int | None = None, device: str = "cpu", cells: int = 5
) -> Subject:
    """Build one of the networks.

    Args:
        name: one of `NAMES`.
        batch_size: images.
        image_size: pixels; by default those of the table.
        device: where it is timed.
        cells: cells a stage of the NAS-Bench-201 network.

    Raises:
        ValueError: for a name that there is not.
    """
    if name not in NAMES:
        raise ValueError(f"There is no network {name!r} here; there are {', '.join(NAMES)}.")
    layers, classes = None, 1000
    with own_random_numbers(0):
        if name in _TIMM:
            import timm

            model, size, options = _TIMM[name]
            size = image_size or size
            if "img_size" in options:
                options = {"img_size": size}
            network: nn.Module = timm.create_model(model, **options)
            costs = count_costs(network, (3, size, size))
        else:
            cell = name == "nasbench201"
            # A network of the MobileNetV2 space brings images to its own resolution unless it is told not to.
            space = (
                get_space("nasbench201", cells=cells)
                if cell
                else get_space("mobilenet_v2", resolutions=224, resize=False)
            )
            size, classes = image_size or (32 if cell else 128), 10 if cell else 1000
            genotype = space.parse(NASBENCH201_CONVOLUTIONS if cell else name)
            network = space.build(genotype, num_classes=classes)
            layers, costs = space.layers(genotype), space.costs(genotype, (3, size, size), classes)
    images = torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch_size) % classes
    return Subject(name, network.to(device), layers, costs, (images.to(device), labels.to(device)))


def in_channels_last(one: Subject) -> Subject:
    """The same with a copy of the network whose weights are in channels-last, so that no timing lays them out."""
    return replace(one, network=copy.deepcopy(one.network).to(memory_format=torch.channels_last))


def training_step(one: Subject, channels_last: bool = False, precision: Precision = "float32") -> None:
    """Forward and backward with gradients of parameters; the gradients are dropped.

    Args:
        one: the network and the batch.
        channels_last: the order of the images' memory; the network's is as it is.
        precision: ``"bfloat16"`` runs the forward pass under autocast.
    """
    order = torch.channels_last if channels_last else torch.contiguous_format
    network = one.network.train()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    images = one.batch[0].to(memory_format=order, copy=True)
    with autocast(precision, images.device.type):
        loss = F.cross_entropy(network(images), one.batch[1])
    loss.backward()
    network.zero_grad(set_to_none=True)


def scored(one: Subject, proxies: Sequence[str], precision: Precision = "float32") -> float:
    """Score the network as a search does once it is built."""
    report = score_prepared(
        one.network,
        one.batch,
        [get_proxy(name) for name in proxies],
        seed=0,
        layers=one.layers,
        costs=one.costs,
        precision=precision,
    )
    return report.value


class _NumPyCorrelations(Observer):
    """What the published code does with each response: NumPy's correlation in float64 on the CPU, added up."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.total = np.zeros((batch_size, batch_size))

    def see(self, call: Call, part: str, response: Tensor) -> None:
        """Add one response."""
        self.total += numpy_correlation(response.reshape(len(response), -1))


def numpy_correlation(rows: Tensor) -> np.ndarray[Any, Any]:
    """The published way: ``(B, D)`` to ``(B, B)``."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray[Any, Any] = np.nan_to_num(np.abs(np.corrcoef(rows.detach().cpu().numpy())))
    return found


def published_score(one: Subject) -> float:
    """The score as published code forms it: a whole training step, NumPy's correlation of every response."""
    prepare(one.network)
    seen = _NumPyCorrelations(len(one.batch[0]))
    run_pass(one.network, *one.batch, Needs(gradients=True, labels=True, weights=1), [seen], one.layers)
    return float(np.linalg.slogdet(seen.total)[1])


class _Sizes(Observer):
    """How many values each different response has an image, and how many there are in all."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.columns: list[int] = []

    def see(self, call: Call, part: str, response: Tensor) -> None:
        """Count one response."""
        if part == "gradient" or call.same_as is None:
            self.columns.append(as_rows(response).shape[1])


@dataclass(frozen=True)
class Work:
    """Multiply-adds that a WRCor score cannot do without.

    Attributes:
        passes: of the forward pass and the backward pass to activations.
        products: of the correlations, each pair of images once.
    """

    passes: int
    products: int

    @property
    def macs(self) -> int:
        """All of them."""
        return self.passes + self.products


def count_work(one: Subject) -> Work:
    """Count them by torch's flop counter, and by the responses that were seen."""
    from torch.utils.flop_counter import FlopCounterMode

    network = copy.deepcopy(one.network)
    prepare(network)
    sizes = _Sizes(len(one.batch[0]))
    with FlopCounterMode(display=False) as counter:
        run_pass(network, *one.batch, Needs(gradients=True, labels=True), [sizes], one.layers)
    pairs = len(one.batch[0]) * (len(one.batch[0]) + 1) // 2
    return Work(counter.get_total_flops() // 2, pairs * sum(sizes.columns))


def timed(actions: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each action, by repetition; one repetition more comes first and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for repetition in range(repeats + 1):
        for name, action in actions.items():
            start = now(device)
            action()
            if repetition:
                times[name].append(now(device) - start)
    return times


def now(device: str) -> float:
    """Seconds, with everything done that was begun."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the ratios of two lists of the same repetitions."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))
