"""What each member is worth in a vote: the vote without it, and it alone, from scores that `correlate` wrote."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_wrcor.benchmark._statistics import rank_codes, spearman
from lightning_wrcor.proxies import Proxy, Vote, get_proxy


@dataclass(frozen=True)
class Ablation:
    """A vote on one run's networks, against one column of accuracies.

    Attributes:
        run: name of the run: the folder that ``scores.csv`` is in.
        column: the accuracies.
        n: networks.
        spearman: Spearman's rank correlation by row: ``whole``, ``equal weights``, ``without NAME`` and ``NAME alone``;
            None where it is undefined.
        weights: how much each member counts.
    """

    run: str
    column: str
    n: int
    spearman: Mapping[str, float | None]
    weights: Mapping[str, float]


def ablate(
    scores: str | Path, vote: str | Proxy | Mapping[str, Any] = "consensus", column: str | None = None
) -> Ablation:
    """Count a vote again without each of its members.

    Networks that a member has no value for rank last in its ranking, as in the vote itself.

    Args:
        scores: ``scores.csv`` of a run of `correlate` that scored all members.
        vote: the vote.
        column: name of the accuracies; the first where it is left out.

    Raises:
        ValueError: for what is no vote, a file that is no ``scores.csv``, a column that it does not have, a member that
            was not scored, and values that are no numbers.
        OSError: for a file that cannot be read.
    """
    made = get_proxy(vote)
    if not isinstance(made, Vote):
        raise ValueError(f"{made.name!r} is no vote: it has no members.")
    path = Path(scores)
    rows = _read(path)
    columns = [name for name in rows[0] if name.startswith("accuracy:")]
    wanted = columns[0] if column is None and columns else f"accuracy:{column}"
    for name in (wanted, *made.names):
        if name not in rows[0]:
            raise ValueError(f"{path} has no column {name!r}; it has {', '.join(rows[0])}.")
    rows = [row for row in rows if row[wanted].strip()]
    accuracies = rank_codes(_numbers(rows, wanted, path))
    table = {name: _numbers(rows, name, path) for name in made.names}

    def agreement(values: Sequence[float]) -> float | None:
        return spearman(rank_codes(values), accuracies)

    found = {"whole": agreement(made.combine(table))}
    if made.rule != "log_rank":
        found["equal weights"] = agreement(Vote(made.names, "log_rank").combine(table))
    for name in made.names:
        smaller = _without(made, name)
        found[f"without {name}"] = agreement(smaller.combine(table)) if smaller else None
    if made.beside or made.adjusted:
        smaller = _without(made, *made.beside, *made.adjusted)
        found["without all that look beside size"] = agreement(smaller.combine(table)) if smaller else None
    found |= {f"{name} alone": agreement(table[name]) for name in made.names}
    return Ablation(path.parent.name, wanted.partition(":")[2], len(rows), found, made.weights(table))


def format_ablations(found: Sequence[Ablation]) -> str:
    """Two Markdown tables: the correlations, and the weights; a column each run."""
    heads = [f"{one.run} {one.column}" for one in found]
    lines = [f"| Spearman | {' | '.join(heads)} |", "|---|" + "---|" * len(found)]
    lines.append(f"| networks | {' | '.join(str(one.n) for one in found)} |")
    for name in dict.fromkeys(name for one in found for name in one.spearman):
        lines.append(f"| {name} | {' | '.join(_text(one.spearman.get(name), 3) for one in found)} |")
    lines += ["", f"| weight | {' | '.join(heads)} |", "|---|" + "---|" * len(found)]
    for name in dict.fromkeys(name for one in found for name in one.weights):
        lines.append(f"| {name} | {' | '.join(_text(one.weights.get(name), 2) for one in found)} |")
    return "\n".join(lines)


def add_command(commands: Any) -> None:
    """Add ``ablation`` to the command line."""
    parser = commands.add_parser("ablation", help="a vote without each of its members, from the scores of correlate")
    parser.add_argument("scores", nargs="+", help="scores.csv of runs of correlate that scored all members")
    parser.add_argument("--vote", default="consensus", help="name of the vote")
    parser.add_argument("--column", help="name of the accuracies, the first of each file without it")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        found = [ablate(path, arguments.vote, arguments.column) for path in arguments.scores]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_ablations(found))
    return 0


def _without(vote: Vote, *names: str) -> Vote | None:
    """The vote of the others in their parts; None where fewer than two are left, or no anchor for those that need one."""
    members = [name for name in vote.names if name not in names]
    anchors = [name for name in vote.anchors if name not in names]
    beside = [name for name in vote.beside if name not in names]
    adjusted = {name: weight for name, weight in vote.adjusted.items() if name not in names}
    if len(members) < 2 or ((beside or adjusted) and not anchors):
        return None
    return Vote(members, vote.rule, anchors=anchors, beside=beside, adjusted=adjusted)


def _read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "architecture" not in rows[0]:
        raise ValueError(f"{path} is no scores.csv of this benchmark with networks in it.")
    return rows


def _numbers(rows: Sequence[Mapping[str, str]], name: str, path: Path) -> list[float]:
    """The column; NaN for what has no value."""
    try:
        return [float(row[name]) if row[name].strip() else math.nan for row in rows]
    except ValueError as error:
        raise ValueError(f"{path} holds text where numbers of {name!r} should be: {error}.") from error


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
