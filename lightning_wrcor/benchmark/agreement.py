"""Whether two runs agree: a proxy's scores from other seeds, and from other people's code."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_wrcor.benchmark._statistics import rank_codes, spearman
from lightning_wrcor.benchmark._tables import USUAL, csv_records

ALIASES = {"naswot": "nwot", "nwot": "naswot", "jacob_cov": "jacov", "jacob_cor": "jacov", "macs": "flops"}
"""Names that the published columns have for our proxies."""

_NOT_SCORES = ("architecture", "status", "reason", "seconds")

Scores = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class RunAgreement:
    """Spearman's correlation between scores of the same networks; None where it is undefined or nothing is published.

    Attributes:
        name: the proxy, vote or cost.
        n: networks that both runs have; those without a value in either rank last.
        between_runs: the two runs.
        published_n: of these, networks with a published value.
        first_published: the first run and the published values, on those networks.
        second_published: the second run and the published values, on those networks.
        between_runs_there: the two runs on those networks, to compare with.
    """

    name: str
    n: int
    between_runs: float | None
    published_n: int = 0
    first_published: float | None = None
    second_published: float | None = None
    between_runs_there: float | None = None


def compare_runs(
    first: str | Path | Sequence[str | Path],
    second: str | Path | Sequence[str | Path],
    published: str | Path | None = None,
    prefix: str = "published_",
    names: Mapping[str, str] | None = None,
    architectures: str | None = None,
) -> list[RunAgreement]:
    """Compare two runs of `correlate` that scored the same networks, and published scores of these.

    Args:
        first: ``scores.csv`` of one run, or several of one that was scored in parts (the scores that all of them have).
        second: ``scores.csv`` of the other, with another seed (and the same ``rows_seed``).
        published: a CSV file (``.gz`` too) with columns of architectures and published scores.
        prefix: what the names of the published columns begin with.
        names: published names of our proxies, where they differ and are not known anyway.
        architectures: the published file's column of architectures; found by itself where it has a usual name.

    Raises:
        ValueError: for a file that is no ``scores.csv``, runs without a common network or score, and a published column
            that ``names`` asks for and the file does not have.
        OSError: for a file that cannot be read.
    """
    one, two = _read_run(first), _read_run(second)
    common = [text for text in one if text in two]
    if not common:
        raise ValueError(f"{first} and {second} have no architecture in common: score the same rows (--rows-seed).")
    scores = [name for name in one[common[0]] if name in two[common[0]]]
    if not scores:
        raise ValueError(f"{first} and {second} have no score in common.")
    theirs = _read_published(Path(published), prefix, names or {}, architectures) if published is not None else {}
    found = []
    for name in scores:
        known = [text for text in common if theirs.get(name, {}).get(text) is not None]
        ours = [[run[text][name] for text in common] for run in (one, two)]
        there = [[run[text][name] for text in known] for run in (one, two)]
        reference = [theirs[name][text] for text in known] if known else []
        found.append(
            RunAgreement(
                name,
                len(common),
                _spearman(*ours),
                len(known),
                _spearman(there[0], reference),
                _spearman(there[1], reference),
                _spearman(*there),
            )
        )
    return found


def format_agreement(rows: Sequence[RunAgreement]) -> str:
    """The comparison as a Markdown table."""
    with_published = any(row.published_n for row in rows)
    head = ["", "between the runs", "n"]
    head += ["first run and published", "second run and published", "between the runs there", "n"] * with_published
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.name, _text(row.between_runs), str(row.n)]
        if with_published:
            others = (row.first_published, row.second_published, row.between_runs_there)
            cells += [_text(value) for value in others] + [str(row.published_n)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _read_run(paths: str | Path | Sequence[str | Path]) -> Scores:
    parts = [_read_scores(Path(path)) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    names = [set(next(iter(part.values()))) for part in parts if part]
    shared = set.intersection(*names) if names else set()
    return {
        text: {name: value for name, value in row.items() if name in shared}
        for part in parts
        for text, row in part.items()
    }


def _read_scores(path: Path) -> Scores:
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        if "architecture" not in columns or "status" not in columns:
            raise ValueError(f"{path} is no scores.csv of this benchmark: it has the columns {', '.join(columns)}.")
        left_out = ("accuracy:", "seconds:", "refused:")
        names = [name for name in columns if name not in _NOT_SCORES and not name.startswith(left_out)]
        return {row["architecture"]: {name: _number(row[name], path) for name in names} for row in reader}


def _read_published(
    path: Path, prefix: str, names: Mapping[str, str], architectures: str | None
) -> dict[str, dict[str, float]]:
    """Published values by our name and architecture."""
    records, columns = csv_records(path)
    where = architectures or next((name for name in USUAL if name in columns), USUAL[0])
    for wanted in (where, *(prefix + name for name in names.values())):
        if wanted not in columns:
            raise ValueError(f"{path} has no column {wanted!r}; it has {', '.join(columns)}.")
    by_column = {column.removeprefix(prefix): column for column in columns if column.startswith(prefix)}
    if not by_column:
        raise ValueError(f"{path} has no column that begins with {prefix!r}; it has {', '.join(columns)}.")
    ours = {name: name for name in by_column}
    ours |= {name: alias for name, alias in ALIASES.items() if name not in by_column and alias in by_column}
    ours |= names
    found: dict[str, dict[str, float]] = {}
    for name, theirs in ours.items():
        values = {record[where]: _number(record[prefix + theirs], path) for record in records}
        found[name] = {text: value for text, value in values.items() if value is not None}
    return found


def _number(text: str, path: Path) -> float | None:
    try:
        value = float(text) if text.strip() else None
    except ValueError as error:
        raise ValueError(f"{path} holds {text!r} where a number should be.") from error
    return None if value is None or math.isnan(value) else value


def _spearman(first: Sequence[float | None], second: Sequence[float | None]) -> float | None:
    return spearman(rank_codes(first), rank_codes(second))


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
