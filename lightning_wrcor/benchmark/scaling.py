"""What more processes are worth: candidates a second, and the time that does not go into networks."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lightning_wrcor.benchmark._networks import read_space
from lightning_wrcor.benchmark._threads import threads_of_torch
from lightning_wrcor.proxies._score import Batch
from lightning_wrcor.search import Constraints, Ranks, SearchError, get_strategy
from lightning_wrcor.search._asked import Asked
from lightning_wrcor.search._evaluate import read_proxies
from lightning_wrcor.search._handing_over import check_script
from lightning_wrcor.search._ranks import RankLostError, TorchRanks
from lightning_wrcor.search._search import check, search_as_asked
from lightning_wrcor.search._spawn import search_in_processes
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import Space, get_space

WARM_UP = 4
"""Candidates that are scored first and not counted."""


@dataclass(frozen=True)
class Timed:
    """One search.

    Attributes:
        processes: how many shared it.
        wall: seconds from its beginning to its end, with the processes running.
        networks: seconds that building and scoring networks took, over all processes.
        candidates: how many were scored.
        keys: what was scored, in the order of proposal, with the scores.
    """

    processes: int
    wall: float
    networks: float
    candidates: int
    keys: list[tuple[str, float]]

    @property
    def rate(self) -> float:
        """Candidates a second."""
        return self.candidates / self.wall

    @property
    def overhead(self) -> float:
        """Share of the processes' time that went elsewhere: proposals, counting, exchange, journal, waiting."""
        return 1 - self.networks / (self.processes * self.wall)


@dataclass(frozen=True)
class Scaling:
    """Searches by one number of processes.

    Attributes:
        processes: how many.
        rates: candidates a second, by repetition.
        ratios: each rate over that of the first number of processes in the same repetition.
        overheads: share of the time that did not go into networks, by repetition.
        seconds: seconds of a candidate, by repetition: they grow where processes get in each other's way.
    """

    processes: int
    rates: list[float]
    ratios: list[float]
    overheads: list[float]
    seconds: list[float]


def measure_scaling(
    space: str | Space | Mapping[str, Any],
    batch: Batch,
    processes: Sequence[int] = (1, 2),
    budget: int = 24,
    repeats: int = 3,
    proxy: str = "wrcor",
    strategy: str = "random",
    devices: Sequence[torch.device] | None = None,
) -> list[Scaling]:
    """Run the same search by different numbers of processes, with a journal and one thread each.

    The processes are started once and warmed up. Every repetition runs each number of them once, while those that take no
    part wait, so that ratios are within one moment. That all find the same is checked.

    Args:
        space: the space that is searched.
        batch: ``(images, labels)``.
        processes: how many; ratios are over the first.
        budget: candidates of each search.
        repeats: repetitions, after the warm-up.
        proxy: what scores.
        strategy: who is scored next.
        devices: one for each process; by default the CPU.

    Raises:
        ValueError: for settings that cannot work.
        RuntimeError: where two numbers of processes find different things.
    """
    if not processes or min(processes) < 1 or len(set(processes)) < len(processes):
        raise ValueError(f"processes are different numbers of at least 1; got {', '.join(map(str, processes))}.")
    if budget < 1 or repeats < 1:
        raise ValueError(f"budget and repeats are at least 1; got {budget} and {repeats}.")
    most = max(processes)
    if devices is not None and len(devices) < most:
        raise ValueError(f"{most} processes need as many devices; there are {len(devices)}.")
    check_script()
    with tempfile.TemporaryDirectory() as folder:
        asked = Asked(
            space=get_space(space),
            batch=batch,
            proxy=read_proxies(proxy),
            strategy=get_strategy(strategy),
            budget=budget,
            constraints=Constraints(),
            seed=0,
            num_classes=None,
            journal=str(Path(folder) / "journal"),
            racing=None,
            progress=False,
        )
        searches = partial(_searches, processes=list(processes), repeats=repeats)
        where = [torch.device("cpu")] * most if devices is None else list(devices)[:most]
        with threads_of_torch(1):  # of which each process gets at least one
            timed = search_in_processes(asked, where, searches, check)
    for one in timed:
        if one.keys != timed[0].keys:
            raise RuntimeError(f"{one.processes} and {timed[0].processes} processes found different things.")
    return summarise(timed, processes)


def _searches(asked: Asked, ranks: Ranks, *, processes: Sequence[int], repeats: int) -> list[Timed]:
    """All searches, in every process; those that take part in one return when it is over, the others wait."""
    groups = {count: dist.new_group(list(range(count)), backend="gloo") for count in processes}
    timed = []
    for repetition in range(repeats + 1):
        for count in processes:
            ranks.gather([])  # all begin together
            if ranks.rank >= count:
                continue
            found = _timed(asked, TorchRanks(ranks.rank, count, groups[count]), repetition)
            timed += [found] if repetition else []
    return timed


def _timed(asked: Asked, ranks: TorchRanks, repetition: int) -> Timed:
    journal = f"{asked.journal}-{ranks.world_size}-{repetition}"
    budget = asked.budget if repetition else WARM_UP
    start = time.perf_counter()
    result = search_as_asked(replace(asked, journal=journal, budget=budget), ranks)
    wall = time.perf_counter() - start
    rows = result.history
    return Timed(
        ranks.world_size, wall, sum(row.seconds for row in rows), len(rows), [(row.key, row.score) for row in rows]
    )


def summarise(timed: Sequence[Timed], processes: Sequence[int]) -> list[Scaling]:
    """Searches by number of processes; the repetitions are in their order."""
    by_count = {count: [one for one in timed if one.processes == count] for count in processes}
    first = by_count[processes[0]]
    return [
        Scaling(
            count,
            [one.rate for one in found],
            [one.rate / base.rate for one, base in zip(found, first, strict=True)],
            [one.overhead for one in found],
            [one.networks / one.candidates for one in found],
        )
        for count, found in by_count.items()
    ]


def format_scaling(found: Sequence[Scaling]) -> str:
    """A Markdown table of medians; the range of the ratios stands beside them."""
    lines = [
        "| processes | candidates a second | ratio | lowest to highest | not building and scoring | seconds a candidate |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = [
            str(one.processes),
            f"{statistics.median(one.rates):.2f}",
            f"{statistics.median(one.ratios):.2f}",
            f"{min(one.ratios):.2f} to {max(one.ratios):.2f}",
            f"{statistics.median(one.overheads):.1%}",
            f"{statistics.median(one.seconds):.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def add_command(commands: Any) -> None:
    """Add ``scaling`` to the command line."""
    parser = commands.add_parser("scaling", help="candidates a second by number of processes, with one thread each")
    parser.add_argument("--space", default="nasbench201", help="name of the space, or JSON or YAML text")
    parser.add_argument(
        "--processes", default="1,2", help="numbers of processes with commas between; ratios are over the first"
    )
    parser.add_argument("--budget", type=int, default=24, help="candidates of each search")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; medians are shown")
    parser.add_argument("--proxy", default="wrcor", help="what scores")
    parser.add_argument("--strategy", default="random", help="who is scored next")
    parser.add_argument("--image-size", type=int, default=32, help="pixels a side")
    parser.add_argument("--batch-size", type=int, default=16, help="images in the batch (noise)")
    parser.add_argument("--num-classes", type=int, default=10, help="classes of the networks")
    parser.add_argument("--accelerator", default="cpu", help="such as gpu: a device for each process")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    generator = torch.Generator().manual_seed(0)
    size = arguments.image_size
    images = torch.randn(arguments.batch_size, 3, size, size, generator=generator)
    labels = torch.arange(arguments.batch_size) % arguments.num_classes
    try:
        processes = _numbers(arguments.processes)
        devices = None
        if arguments.accelerator != "cpu":
            from lightning_wrcor.search._fabric import find_devices  # which imports Lightning

            devices = find_devices("auto", arguments.accelerator)
        found = measure_scaling(
            read_space(arguments.space, {}),
            (images, labels),
            processes,
            arguments.budget,
            arguments.repeats,
            arguments.proxy,
            arguments.strategy,
            devices,
        )
    except (ValueError, OSError, SearchError, RankLostError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_scaling(found))
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    what = f"{arguments.budget} candidates, {arguments.repeats} times, {arguments.batch_size} images of {size} pixels"
    where = f"{os.cpu_count()} cores, {load}" if devices is None else f"{devices[0].type}"
    print(f"\n{arguments.space}, {arguments.proxy}, {what}; one thread each; {where}; {library_versions()}")
    return 0


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--processes takes numbers with commas between; got {text!r}.") from None
