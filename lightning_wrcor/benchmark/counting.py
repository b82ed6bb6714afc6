"""How fast costs are counted: genotypes a second, by space."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning_wrcor.benchmark._threads import threads_of_torch
from lightning_wrcor.spaces import Genotype, Space, get_space, list_spaces


@dataclass(frozen=True)
class Counting:
    """How fast the costs of one space's genotypes are counted.

    Attributes:
        space: its name.
        fresh: genotypes a second, none of which was counted before; the first call of all is not timed.
        again: the same genotypes a second time.
    """

    space: str
    fresh: float
    again: float


def measure_counting(space: Space, seconds: float = 2.0, most: int = 20_000, seed: int = 0) -> Counting:
    """Count the costs of random genotypes, each on its own, at the space's own size of images.

    Args:
        space: any space.
        seconds: how long fresh genotypes are counted.
        most: genotypes at most.
        seed: of the draws, which are not timed.
    """
    rng = random.Random(seed)
    space.costs(space.sample(rng))
    counted: list[Genotype] = []
    spent = 0.0
    while spent < seconds and len(counted) < most:
        genotype = space.sample(rng)
        start = time.perf_counter()
        space.costs(genotype)
        spent += time.perf_counter() - start
        counted.append(genotype)
    start = time.perf_counter()
    for genotype in counted:
        space.costs(genotype)
    return Counting(space.kind, len(counted) / spent, len(counted) / (time.perf_counter() - start))


def format_counting(rows: Sequence[Counting]) -> str:
    """A Markdown table."""
    lines = ["| space | fresh genotypes a second | the same again |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.space} | {_rounded(row.fresh)} | {_rounded(row.again)} |" for row in rows)])


def _rounded(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}"


def add_command(commands: Any) -> None:
    """Add ``counting`` to the command line."""
    parser = commands.add_parser("counting", help="how many genotypes' costs are counted in a second")
    parser.add_argument("--space", action="append", help="name of a space; may be repeated; by default all with a name")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each is tried")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    rows = []
    try:
        spaces = [get_space(name) for name in arguments.space or list_spaces()]
    except (ValueError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with threads_of_torch(1):
        for space in spaces:
            rows.append(measure_counting(space, arguments.seconds))
            print(f"{space.kind}: done", file=sys.stderr)
    print(format_counting(rows))
    return 0
