"""The benchmark's report: every statistic, the protocol behind it, and the files that hold both."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_wrcor.benchmark._compare import TOP, Agreement, Interval
from lightning_wrcor.benchmark._scores import COSTS, Column, Scored

FORMAT = "lightning_wrcor correlation"
VERSION = 1

READING = (
    "In brackets: 95 % percentile bootstrap intervals over networks. Networks that are dead (-inf), refused by the proxy "
    "or failed rank last, below every finite value. *Given parameters*: Spearman's correlation with the number of "
    "parameters held fixed. *Within 2x MACs*: of the pairs of networks whose MACs are within a factor of two, the share "
    "that is ordered rightly minus the share ordered wrongly. *Regret*: the best accuracy of all minus the best among the "
    "k that rank highest (ties: expected value). *Against params*: worse or better where the whole interval of the "
    "difference of the two Spearman correlations, on the same resamples, lies on that side of zero."
)


@dataclass
class CorrelationReport:
    """What `correlate` found.

    Attributes:
        agreements: every score with every column of accuracies, by column.
        protocol: what was done with what: plain values.
        notes: what a reader has to know (rows left out, networks not scored yet), in sentences.
        figures: the figures that were drawn.
    """

    agreements: list[Agreement]
    protocol: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The columns of accuracies."""
        return list(dict.fromkeys(row.column for row in self.agreements))

    def get(self, name: str, column: str | None = None) -> Agreement:
        """One score; ``column`` may be left out where there is one.

        Raises:
            ValueError: for a name or a column that is not there.
        """
        column = column or self.columns[0]
        for row in self.agreements:
            if (row.name, row.column) == (name, column):
                return row
        there = ", ".join(dict.fromkeys(row.name for row in self.agreements))
        raise ValueError(
            f"There is no {name!r} with {column!r}. Scores: {there}; accuracies: {', '.join(self.columns)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON."""
        agreements = [row.to_dict() for row in self.agreements]
        return {
            "format": FORMAT,
            "version": VERSION,
            "protocol": self.protocol,
            "notes": self.notes,
            "agreements": agreements,
        }

    def to_markdown(self) -> str:
        """The tables, with the protocol above and the notes below."""
        parts = [self._protocol(), f"```bash\n{self.protocol['command']}\n```"]
        if len(self.columns) > 1:
            parts.append(self._overview())
        for column in self.columns:
            parts += [f"**{column}**"] * (len(self.columns) > 1)
            parts.append(_table([row for row in self.agreements if row.column == column]))
        parts += [READING, *self.notes]
        return "\n\n".join(parts) + "\n"

    def _protocol(self) -> str:
        said = self.protocol
        unfinished = said["not_scored_yet"]
        counted = [f"{said['n']} of {said['n'] + unfinished} networks" if unfinished else f"{said['n']} networks"]
        counted += [f"{said[status]} {status}" for status in ("dead", "failed") if said[status]]
        counted += [f"{said['refused']} refused by a proxy"] if said["refused"] else []
        classes, size = said["num_classes"], said["probe"]
        rows = f"rows of {Path(said['accuracies']).name}" + (f" ({said['table']})" if said["table"] else "")
        rows += f", drawn from seed {said['rows_seed']}" if said["limit"] else ""
        seconds = "" if said["seconds_per_network"] is None else f", {said['seconds_per_network']:.2f} s a network"
        versions = ", ".join(f"{name} {version}" for name, version in said["versions"].items())
        return (
            f"{', '.join(counted)}; {rows}. Weights and images from seed "
            f"{said['seed']}; batch {said['batch_size']}: {size}; {classes} classes. {said['date']}, {versions}, "
            f"{said['device']}{seconds}."
        )

    def _overview(self) -> str:
        """Spearman's correlation with all columns of accuracies."""
        lines = [f"| Spearman | {' | '.join(self.columns)} |", "|---|" + "---|" * len(self.columns)]
        for name in dict.fromkeys(row.name for row in self.agreements):
            cells = [self.get(name, column) for column in self.columns]
            lines.append(
                f"| {name} | {' | '.join(_with_interval(row.spearman, row.spearman_interval) for row in cells)} |"
            )
        return "\n".join(lines)

    def write(self, folder: Path, scored: Scored, columns: Sequence[Column]) -> None:
        """Write ``scores.csv``, ``table.md`` and ``table.json``."""
        write_scores(folder / "scores.csv", scored, columns, self.columns)
        (folder / "table.md").write_text(self.to_markdown(), encoding="utf-8")
        text = json.dumps(self.to_dict(), allow_nan=False, indent=1)
        (folder / "table.json").write_text(text + "\n", encoding="utf-8")


def write_scores(path: Path, scored: Scored, columns: Sequence[Column], accuracies: Sequence[str]) -> None:
    """Write every score of every network.

    Columns: ``architecture``, ``accuracy:NAME``, every proxy, vote and cost under its name (``-inf`` for a dead network,
    empty for none), ``status``, ``reason``, ``seconds``, and where there are such ``seconds:PROXY`` and ``refused:PROXY``
    (the reason).
    """
    times = [row.proxy_seconds for row in scored.evaluations]
    timed = list(dict.fromkeys(name for row in times for name in row))
    refusing = [column for column in columns if any(column.refusals)]
    head = ["architecture", *(f"accuracy:{name}" for name in accuracies), *(column.name for column in columns)]
    head += ["status", "reason", "seconds", *(f"seconds:{name}" for name in timed)]
    head += [f"refused:{column.name}" for column in refusing]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for place, (network, row) in enumerate(zip(scored.networks, scored.evaluations, strict=True)):
            known: list[Any] = [network.accuracies.get(name, "") for name in accuracies]
            values = [_cell(column.name, column.values[place]) for column in columns]
            about = [row.status, row.reason or "", f"{row.seconds:.3f}"]
            seconds = [times[place].get(name, "") for name in timed]
            reasons = [column.refusals[place] or "" for column in refusing]
            writer.writerow([network.name, *known, *values, *about, *seconds, *reasons])


def _cell(name: str, value: float | None) -> Any:
    if value is None:
        return ""
    return int(value) if name in COSTS and value.is_integer() else value


def _table(rows: Sequence[Agreement]) -> str:
    timed = any(row.seconds is not None for row in rows)
    head = [
        "",
        "Spearman",
        "Kendall",
        "given parameters",
        "within 2x MACs",
        "top-1 accuracy",
        f"regret at {', '.join(map(str, TOP))}",
    ]
    head += ["against params", "n", "dead", "refused", "failed"] + ["s a network"] * timed
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [
            row.name,
            _with_interval(row.spearman, row.spearman_interval),
            _with_interval(row.kendall, row.kendall_interval),
            _with_interval(row.given_params, row.given_params_interval),
            _with_interval(row.near_macs, row.near_macs_interval),
            _plain(row.top1_accuracy, 2),
            ", ".join(f"{value:.2f}" for value in row.regret.values()) or "–",
            row.verdict,
            *map(str, (row.n, row.dead, row.refused, row.failed)),
        ]
        lines.append(f"| {' | '.join(cells + [_plain(row.seconds, 3)] * timed)} |")
    undefined: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            undefined.setdefault(row.note, []).append(row.name)
    said = [f"No correlation for {', '.join(names)}: {note}." for note, names in undefined.items()]
    return "\n\n".join(["\n".join(lines), *said])


def _plain(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_interval(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return _plain(value, 3)
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
