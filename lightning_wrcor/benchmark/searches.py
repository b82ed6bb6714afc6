"""Whole searches: what each strategy finds with a proxy, what it takes, and how accurate it is where that is known."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from lightning_wrcor.benchmark._networks import read_networks, read_space
from lightning_wrcor.benchmark._probe import Probe, read_probe
from lightning_wrcor.benchmark._tables import read_table
from lightning_wrcor.benchmark._threads import threads_of_torch
from lightning_wrcor.benchmark.strategies import read_strategy
from lightning_wrcor.search import SearchError, SearchResult, zero_shot_search
from lightning_wrcor.spaces import Space

STRATEGIES = ("random", "evolution", "reinforce")


@dataclass(frozen=True)
class Found:
    """What one search found.

    Attributes:
        strategy: as it was asked for.
        proxy: what ranked.
        winner: name of the best network.
        score: its score.
        params: its parameters.
        macs: its multiply-adds.
        accuracies: what the table says of the winner; empty where it is not in it.
        place: place in the ranking of the best network that is in the table, from 1; None where none is.
        accuracies_there: what the table says of that one.
        scored: candidates that were scored.
        seconds: what building and scoring all of them took, also those that another search had scored.
        funnel: what became of the candidates, in words.
    """

    strategy: str
    proxy: str
    winner: str
    score: float
    params: int
    macs: int
    accuracies: dict[str, float] = field(default_factory=dict)
    place: int | None = None
    accuracies_there: dict[str, float] = field(default_factory=dict)
    scored: int = 0
    seconds: float = 0.0
    funnel: str = ""


def compare_searches(
    space: str | Space | Mapping[str, Any],
    out: Path,
    strategies: Sequence[str] = STRATEGIES,
    proxy: Any = "wrcor",
    budget: int = 1000,
    *,
    images: Path | None = None,
    accuracies: Path | None = None,
    columns: Sequence[str] = (),
    architectures: str | None = None,
    constraints: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    image_size: int | None = None,
    num_classes: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    done: Callable[[Found], None] = lambda found: None,
) -> list[Found]:
    """Search a space with each strategy.

    All searches share one journal: a network is scored once, and a run that was cut off goes on where it was.

    Args:
        space: as `correlate` takes it.
        out: folder for the journal, each search's result (``evolution.json``, ...) and ``searches.json``.
        strategies: ``name`` or ``name:argument=value,argument=value``.
        proxy: what ranks.
        budget: candidates of each search.
        images: probe images as `correlate` takes them; None makes noise of ``image_size``.
        accuracies: table of known accuracies, if there is one.
        columns: its columns of accuracies.
        architectures: its column of architectures, where that has no usual name.
        constraints: bounds that candidates must meet.
        seed: of the searches and of the images.
        batch_size: images in the probe batch.
        image_size: pixels a side; by default the space's own.
        num_classes: classes; by default those of the images, and 1,000 for noise.
        device: where networks are scored.
        threads: threads of torch.
        done: called with each outcome.

    Raises:
        ValueError: for what cannot be used; the message says what is wrong.
        OSError: for a file that cannot be read or written.
        SearchError: where a search finds nothing.
    """
    read = [(name, read_strategy(name)) for name in strategies]
    searched, known = _read(space, accuracies, columns, architectures)
    probe = _probe(searched, images, batch_size, image_size, seed)
    outcomes = []
    with threads_of_torch(threads):
        for name, strategy in read:
            result = zero_shot_search(
                searched,
                (probe.images.to(device), probe.labels.to(device)),
                proxy,
                strategy,
                budget,
                constraints,
                seed,
                num_classes=num_classes or probe.classes,
                journal=out / "journal.jsonl",
            )
            result.to_json(out / f"{name.replace(':', '_').replace('=', '_')}.json")
            outcomes.append(_found(name, searched, result, known))
            done(outcomes[-1])
    text = json.dumps({"outcomes": [asdict(one) for one in outcomes], "versions": result.versions}, indent=1)
    (out / "searches.json").write_text(text + "\n", encoding="utf-8")
    return outcomes


def _read(
    space: Any, accuracies: Path | None, columns: Sequence[str], architectures: str | None
) -> tuple[Space, dict[str, dict[str, float]]]:
    """The space, and known accuracies by key: the mean of all rows that are one network."""
    if accuracies is None:
        return read_space(space, {}), {}
    table = read_table(accuracies, list(columns), architectures)
    searched = read_space(space, table.choices)
    grouped: dict[str, list[dict[str, float]]] = {}
    for network in read_networks(searched, table)[0]:
        grouped.setdefault(network.key, []).append(network.accuracies)
    means = {
        key: {column: sum(row[column] for row in rows) / len(rows) for column in columns}
        for key, rows in grouped.items()
    }
    return searched, means


def _probe(space: Space, images: Path | None, batch_size: int, image_size: int | None, seed: int) -> Probe:
    size = image_size or space.input_size[-1]
    if images is not None:
        return read_probe(images, batch_size, seed, image_size, size)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch_size, space.input_size[0], size, size, generator=generator)
    return Probe(noise, torch.arange(batch_size) % 1000, 1000, f"{batch_size} images of noise, {size} pixels a side")


def _found(name: str, space: Space, result: SearchResult, known: Mapping[str, dict[str, float]]) -> Found:
    best = result.best
    listed = next(((place, row.key) for place, row in enumerate(result.leaderboard, 1) if row.key in known), None)
    return Found(
        strategy=name,
        proxy=next(iter(best.scores)),
        winner=best.name,
        score=best.score,
        params=best.params,
        macs=best.macs,
        accuracies=known.get(best.key, {}),
        place=listed[0] if listed else None,
        accuracies_there=known[listed[1]] if listed else {},
        scored=len(result.history),
        seconds=sum(row.seconds for row in result.history),
        funnel=str(result.funnel),
    )


def format_searches(outcomes: Sequence[Found], columns: Sequence[str] = ()) -> str:
    """A Markdown table."""
    heads = [*columns, *(f"{column} of the best that is known" for column in columns[:1])]
    lines = [
        f"| strategy | proxy | params | MACs | {' | '.join([*heads, 'candidates', 'seconds'])} |",
        "|---" * (6 + len(heads)) + "|",
    ]
    for one in outcomes:
        cells = [f"{one.accuracies[column]:.2f}" if one.accuracies else "not known" for column in columns]
        if columns:
            there = f"{one.accuracies_there[columns[0]]:.2f} (place {one.place})" if one.place else "none is"
            cells.append(there)
        cells += [f"{one.scored:,}", f"{one.seconds:,.0f}"]
        lines.append(f"| {one.strategy} | {one.proxy} | {one.params:,} | {one.macs:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def add_command(commands: Any) -> None:
    """Add ``search`` to the command line."""
    parser = commands.add_parser(
        "search", help="whole searches with several strategies, and what their winners are worth"
    )
    add = parser.add_argument
    add("--space", default="nasbench201", help="name of the space, or JSON or YAML text")
    add("--out", required=True, help="folder for the journal and the results; the same command goes on there")
    add("--strategy", action="append", metavar="NAME[:ARGUMENT=VALUE,...]", help="may be repeated")
    add("--proxy", default="wrcor", help="a proxy or a vote")
    add("--budget", type=int, default=1000, help="candidates of each search")
    add("--images", help=".npz file or folder of folders with probe images; noise without it")
    add("--accuracies", help="CSV file (.gz too) of architectures and accuracies")
    add("--column", default="", help="column of accuracies, or several with commas between")
    add("--architectures", help="column of the architectures, found where it has a usual name")
    add("--constraint", action="append", metavar="NAME=VALUE", help="such as max_macs=600e6; may be repeated")
    add("--seed", type=int, default=0, help="of the searches and of the images")
    add("--batch-size", type=int, default=64, help="images in the probe batch")
    add("--image-size", type=int, help="pixels a side; by default the space's own")
    add("--num-classes", type=int, help="classes of the networks")
    add("--device", default="cpu", help="such as cuda")
    add("--threads", type=int, help="threads of torch")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    columns = [part for part in arguments.column.split(",") if part]
    try:
        if bool(columns) != bool(arguments.accuracies):
            raise ValueError("--accuracies and --column go together.")
        outcomes = compare_searches(
            arguments.space,
            Path(arguments.out),
            arguments.strategy or STRATEGIES,
            arguments.proxy,
            arguments.budget,
            images=Path(arguments.images) if arguments.images else None,
            accuracies=Path(arguments.accuracies) if arguments.accuracies else None,
            columns=columns,
            architectures=arguments.architectures,
            constraints=_constraints(arguments.constraint or ()),
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            image_size=arguments.image_size,
            num_classes=arguments.num_classes,
            device=arguments.device,
            threads=arguments.threads,
            done=lambda found: print(f"{found.strategy}: {found.winner}; {found.funnel}", file=sys.stderr),
        )
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on.", file=sys.stderr)
        return 130
    except (ValueError, OSError, SearchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_searches(outcomes, columns))
    return 0


def _constraints(texts: Sequence[str]) -> dict[str, Any]:
    read = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--constraint takes NAME=VALUE; got {text!r}.")
        try:
            read[name] = float(value)
        except ValueError:
            raise ValueError(f"--constraint {name} takes a number; got {value!r}.") from None
    return read
