"""What proxies cost: seconds of each alone and of all together, beside a training step of the same network and batch."""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.proxies import get_proxy, list_proxies
from lightning_wrcor.proxies._score import Batch, score_prepared
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import Space, get_space

NASBENCH201_CONVOLUTIONS = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)


@dataclass(frozen=True)
class Cost:
    """What one thing costs.

    Attributes:
        name: the proxy, or what else was timed.
        seconds: median over the repetitions.
        ratio: median over the repetitions of its time over that of a training step in the same repetition.
    """

    name: str
    seconds: float
    ratio: float


def measure_costs(
    space: Space,
    architecture: str,
    batch: Batch,
    proxies: Sequence[str],
    num_classes: int = 10,
    repeats: int = 5,
    together: bool = True,
) -> list[Cost]:
    """Time proxies on one network. Every repetition times everything once, so that ratios are within one moment.

    Args:
        space: reads and builds the architecture.
        architecture: text that the space's ``parse`` reads.
        batch: ``(images, labels)`` on the device that is timed.
        proxies: names.
        num_classes: classes of the network.
        repeats: repetitions, after one that is not counted.
        together: time all proxies in one call as well.

    Returns:
        A training step's forward and backward pass first, then the proxies, then all together.
    """
    genotype = space.parse(architecture)
    layers = space.layers(genotype)
    network = space.build(genotype, num_classes=num_classes, in_chans=batch[0].shape[1]).to(batch[0].device)
    costs = space.costs(genotype, tuple(batch[0].shape[1:]), num_classes)  # type: ignore[arg-type]

    def step() -> None:
        network.train().zero_grad(set_to_none=True)
        F.cross_entropy(network(batch[0].clone()), batch[1]).backward()

    def scored(names: Sequence[str]) -> Callable[[], None]:
        def run() -> None:
            copied = _fresh(network)
            with own_random_numbers(0):
                score_prepared(copied, batch, [get_proxy(name) for name in names], seed=0, layers=layers, costs=costs)

        return run

    timed: dict[str, Callable[[], None]] = {"training step": step}
    timed |= {name: scored([name]) for name in proxies}
    if together and len(proxies) > 1:
        timed["all together"] = scored(proxies)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for repetition in range(repeats + 1):
        for name, run in timed.items():
            start = _now(batch)
            run()
            if repetition:
                times[name].append(_now(batch) - start)
    steps = times["training step"]
    return [
        Cost(
            name,
            statistics.median(own),
            statistics.median(mine / one for mine, one in zip(own, steps, strict=True)),
        )
        for name, own in times.items()
    ]


def _fresh(network: nn.Module) -> nn.Module:
    copied = copy.deepcopy(network)
    copied.zero_grad(set_to_none=True)
    return copied


def _now(batch: Batch) -> float:
    if batch[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def format_costs(costs: Sequence[Cost]) -> str:
    """A Markdown table."""
    lines = ["| | seconds | over a training step |", "|---|---|---|"]
    return "\n".join(lines + [f"| {one.name} | {one.seconds:.3f} | {one.ratio:.2f} |" for one in costs])


def add_command(commands: Any) -> None:
    """Add ``cost`` to the command line."""
    parser = commands.add_parser("cost", help="what proxies cost, beside a training step")
    parser.add_argument("--space", default="nasbench201", help="name of the search space (timm for timm's models)")
    parser.add_argument("--architecture", default=NASBENCH201_CONVOLUTIONS, help="a network, as the space writes it")
    parser.add_argument("--proxies", default="all", help="names with commas between, or all")
    parser.add_argument("--image-size", type=int, default=32, help="pixels a side")
    parser.add_argument("--batch-size", type=int, default=64, help="images in the batch (noise)")
    parser.add_argument("--num-classes", type=int, default=10, help="classes of the network")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions; medians are shown")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    size = arguments.image_size
    images = torch.randn(arguments.batch_size, 3, size, size, generator=generator).to(arguments.device)
    labels = (torch.arange(arguments.batch_size) % arguments.num_classes).to(arguments.device)
    try:
        costs = measure_costs(
            get_space(arguments.space),
            arguments.architecture,
            (images, labels),
            _all() if arguments.proxies == "all" else arguments.proxies.split(","),
            arguments.num_classes,
            arguments.repeats,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_costs(costs))
    where = torch.cuda.get_device_name() if images.is_cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"\n{arguments.architecture}, {arguments.batch_size} images of {size} pixels; {where}; {library_versions()}")
    return 0


def _all() -> list[str]:
    """Every proxy once, without votes."""
    proxies = {proxy.name: name for name in list_proxies() if not isinstance(proxy := get_proxy(name), Vote)}
    return list(proxies)
