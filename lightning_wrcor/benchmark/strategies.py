"""What search strategies are worth: searches among networks of known accuracy, which takes the place of a proxy."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml  # jsonargparse brings it

from lightning_wrcor.benchmark._known import KnownAccuracy, KnownNetworks
from lightning_wrcor.benchmark._networks import read_space
from lightning_wrcor.benchmark._tables import read_table
from lightning_wrcor.search import Evaluation, SearchError, Strategy, get_strategy, zero_shot_search
from lightning_wrcor.spaces import Space

PAPER = "reinforce:learning_rate=0.001,first=100,reward=z_score,learn_first=false,entropy=0"
STRATEGIES = ("evolution", "reinforce", PAPER, "local_search", "nsga2:population=20")
"""Those that are compared with random search where none is named."""


@dataclass(frozen=True)
class Outcome:
    """One strategy against random search with the same seeds.

    Attributes:
        name: the strategy as it was asked for.
        regrets: best known accuracy minus the best that was found, by seed.
        volumes: area under the front of accuracy against MACs, as a share of that of all networks, by seed.
        p_regret: one-sided p of Wilcoxon's signed-rank test that regrets are lower than random search's only by chance.
        p_volume: the same for volumes being larger.
    """

    name: str
    regrets: list[float]
    volumes: list[float]
    p_regret: float
    p_volume: float


def compare_strategies(
    space: str | Space | Mapping[str, Any],
    accuracies: Path,
    column: str,
    strategies: Sequence[str] = STRATEGIES,
    budget: int = 200,
    seeds: int = 20,
    architectures: str | None = None,
    done: Callable[[str], None] = lambda name: None,
) -> list[Outcome]:
    """Search among known networks with each strategy and each seed.

    Args:
        space: the space that reads the architectures.
        accuracies: table of architectures and accuracies.
        column: the accuracy that is searched for.
        strategies: ``name`` or ``name:argument=value,argument=value``; random search is always the first.
        budget: candidates of each search.
        seeds: searches of each strategy, with the seeds 0, 1, ...
        architectures: column of the architectures, where it has no usual name.
        done: called with the name of each strategy when it is through.

    Raises:
        ValueError: for a strategy, space or table that cannot be read, and a budget that leaves nothing to choose.
    """
    read = [(name, read_strategy(name)) for name in ("random", *(name for name in strategies if name != "random"))]
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1; got {seeds}.")
    table = read_table(accuracies, [column], architectures)
    known = KnownNetworks(read_space(space, table.choices), {row.text: row.accuracies[column] for row in table.rows})
    if not 1 <= budget < known.networks:
        raise ValueError(
            f"The budget must be at least 1 and below {known.networks}, the networks of the table; got {budget}."
        )
    everything = _searched(known, get_strategy("exhaustive"), known.networks, 0)
    best, whole = max(row.score for row in everything), _volume(everything, everything)
    outcomes: list[Outcome] = []
    for name, strategy in read:
        regrets, volumes = [], []
        for seed in range(seeds):
            history = _searched(known, strategy, budget, seed)
            regrets.append(best - max(row.score for row in history))
            volumes.append(_volume(history, everything) / whole)
        first = outcomes[0] if outcomes else None
        outcomes.append(
            Outcome(
                name,
                regrets,
                volumes,
                p_regret=1.0 if first is None else wilcoxon(regrets, first.regrets),
                p_volume=1.0 if first is None else wilcoxon(first.volumes, volumes),
            )
        )
        done(name)
    return outcomes


def read_strategy(text: str) -> Strategy:
    """A strategy from ``name`` or ``name:argument=value,argument=value``.

    Raises:
        ValueError: for a name or an argument that there is not.
    """
    name, _, listed = text.partition(":")
    arguments = {}
    for part in listed.split(",") if listed else ():
        argument, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"The arguments of a strategy are written name:argument=value,...; got {text!r}.")
        arguments[argument] = yaml.safe_load(value)
    return get_strategy(name, **arguments)


def _searched(known: KnownNetworks, strategy: Strategy, budget: int, seed: int) -> list[Evaluation]:
    batch = torch.zeros(2, 3, 1, 1), torch.tensor([0, 1])  # nothing looks at it
    return zero_shot_search(
        known, batch, KnownAccuracy(), strategy, budget, seed=seed, num_classes=10, progress=False
    ).history


def _volume(rows: Sequence[Evaluation], everything: Sequence[Evaluation]) -> float:
    """Area between the front of score against MACs and the corner of the lowest score and the most MACs of all."""
    lowest, most = min(row.score for row in everything), max(row.macs for row in everything)
    steps: list[tuple[int, float]] = []
    for row in sorted(rows, key=lambda row: (row.macs, -row.score)):
        if not steps or row.score > steps[-1][1]:
            steps.append((row.macs, row.score))
    ends = [*steps, (most, 0.0)]
    return sum((right - left) * (score - lowest) for (left, score), (right, _) in pairwise(ends))


def wilcoxon(lower: Sequence[float], higher: Sequence[float]) -> float:
    """One-sided p of Wilcoxon's signed-rank test, exact: the chance that ``lower`` lies so far below without a difference.

    Pairs without a difference are left out; equal differences share their mean rank.
    """
    differences = sorted((a - b for a, b in zip(lower, higher, strict=True) if a != b), key=abs)
    sizes = [abs(value) for value in differences]
    # Twice the rank, so that mean ranks are whole numbers.
    ranks = [sizes.index(size) + 1 + len(sizes) - sizes[::-1].index(size) for size in sizes]
    ways = {0: 1}  # of giving signs, by the sum of the ranks with a plus
    for rank in ranks:
        added = dict(ways)
        for total, count in ways.items():
            added[total + rank] = added.get(total + rank, 0) + count
        ways = added
    observed = sum(rank for rank, value in zip(ranks, differences, strict=True) if value > 0)
    return sum(count for total, count in ways.items() if total <= observed) / sum(ways.values())


def format_outcomes(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table."""
    lines = [
        "| strategy | median regret | mean regret | p | median volume of the front | p |",
        "|---|---|---|---|---|---|",
    ]
    for place, one in enumerate(outcomes):
        regret = f"{statistics.median(one.regrets):.3f} | {statistics.fmean(one.regrets):.3f}"
        p_regret, p_volume = (f"{p:.2g}" if place else "" for p in (one.p_regret, one.p_volume))
        lines.append(f"| {one.name} | {regret} | {p_regret} | {statistics.median(one.volumes):.3f} | {p_volume} |")
    return "\n".join(lines)


def add_command(commands: Any) -> None:
    """Add ``strategies`` to the command line."""
    parser = commands.add_parser("strategies", help="what search strategies find among networks of known accuracy")
    parser.add_argument("--space", default="nasbench201", help="name of the space, or JSON or YAML text")
    parser.add_argument("--accuracies", required=True, help="CSV file (.gz too) of architectures and accuracies")
    parser.add_argument("--column", required=True, help="column of the accuracies")
    parser.add_argument("--architectures", help="column of the architectures, found where it has a usual name")
    parser.add_argument(
        "--strategy", action="append", metavar="NAME[:ARGUMENT=VALUE,...]", help="may be repeated; by default all"
    )
    parser.add_argument("--budget", type=int, default=200, help="candidates of each search")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each strategy")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        outcomes = compare_strategies(
            arguments.space,
            Path(arguments.accuracies),
            arguments.column,
            arguments.strategy or STRATEGIES,
            arguments.budget,
            arguments.seeds,
            arguments.architectures,
            done=lambda name: print(f"{name}: done", file=sys.stderr),
        )
    except (ValueError, OSError, SearchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_outcomes(outcomes))
    return 0
