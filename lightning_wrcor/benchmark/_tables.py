"""Files of known accuracies: CSV tables of any benchmark, and the JSON files of NDS."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_wrcor._config import closest

USUAL = ("arch", "architecture", "channels", "model", "name")
"""Names of an architecture column that are found without being asked for."""

NDS_ERROR = "top1"
"""NDS writes errors in per cent, in the columns that hold this word."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of a table: the text of the architecture, and its accuracies by column (those that it has)."""

    text: str
    accuracies: dict[str, float]


@dataclass
class Table:
    """What was read of a file.

    Attributes:
        rows: the rows that are left, in the file's order.
        total: rows in the file.
        choices: widths and depths that occur in an NDS file, which its space needs to know.
        notes: what was left out, in sentences.
    """

    rows: list[Row]
    total: int
    choices: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_table(
    path: Path,
    columns: Sequence[str],
    architectures: str | None = None,
    *,
    table: str | None = None,
    where: Mapping[str, str] | None = None,
    match: str | None = None,
    errors: bool = False,
) -> Table:
    """Read architectures and accuracies. Architectures stay text, with their leading zeros.

    Args:
        path: a CSV file, or a JSON file of NDS; ``.gz`` too.
        columns: columns of accuracies; a row without a number in any of them is left out.
        architectures: column of the architectures, or several with commas between, which are joined with ``;``. Found by
            itself where it has a usual name.
        table: which table of a JSON file that holds several; several with commas between, or ``all``: then the texts
            begin with the name of the space and a colon, as in a `UnionSpace`.
        where: keeps the rows that have these values in these columns (numbers are compared as numbers).
        match: keeps the rows in whose architecture this regular expression is found.
        errors: the columns hold errors in per cent; the accuracy is 100 minus it. Always so for errors in NDS files.

    Raises:
        ValueError: for a column or table that is not there, a regular expression that does not compile, an accuracy that
            is no number, and where no row is left.
        OSError: for a file that cannot be read.
    """
    nds = ".json" in path.suffixes
    if table is not None and not nds:
        raise ValueError(f"A table ({table!r}) can be named for a JSON file only, and {path} is read as CSV.")
    records, names = _nds_records(path, table) if nds else csv_records(path)
    parts = architectures.split(",") if architectures else ([name for name in USUAL if name in names][:1] or [USUAL[0]])
    for wanted in (*parts, *columns, *(where or ())):
        if wanted not in names:
            hint = (
                " Name the architecture column with --architectures." if wanted in parts and not architectures else ""
            )
            raise ValueError(f"{path} has no column {wanted!r}; it has {', '.join(names)}.{hint}")
    pattern = _compiled(match)
    rows, empty, filtered = [], 0, 0
    for number, record in enumerate(records, start=1):
        text = ";".join(str(record[part]) for part in parts)
        if not _meets(record, where or {}) or (pattern is not None and not pattern.search(text)):
            filtered += 1
            continue
        found = {name: _number(record[name], f"Row {number} of {path}, column {name!r}") for name in columns}
        accuracies = {
            name: 100 - value if errors or (nds and NDS_ERROR in name) else value
            for name, value in found.items()
            if value is not None
        }
        if accuracies:
            rows.append(Row(text, accuracies))
        else:
            empty += 1
    filters = [f"{name}={value}" for name, value in (where or {}).items()] + ([f"match={match!r}"] if match else [])
    if not rows:
        why = [f"{filtered} do not pass the filter {', '.join(filters)}"] if filtered else []
        why += [f"{empty} have no number in {', '.join(columns)}"] if empty else []
        raise ValueError(f"No row of {path} is left: of {len(records)}, {' and '.join(why) or 'none can be used'}.")
    notes = [f"{filtered} of {len(records)} rows do not pass the filter {', '.join(filters)}."] if filtered else []
    notes += [f"{empty} row{'s have' if empty > 1 else ' has'} no number in {', '.join(columns)}."] if empty else []
    choices = {name: sorted({int(record[name]) for record in records}) for name in ("width", "depth")} if nds else {}
    return Table(rows, len(records), choices, notes)


def csv_records(path: Path) -> tuple[list[Record], list[str]]:
    """The rows of a CSV file (``.gz`` too) as text, and its columns."""
    with _opened(path) as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        return [{name: record[name] or "" for name in names} for record in reader], names


def _nds_records(path: Path, table: str | None) -> tuple[list[Record], list[str]]:
    """Rows as ``{"net": {"genotype": {...}, "width": w, "depth": d}, ...}``, as a list or in tables with names."""
    with _opened(path) as file:
        try:
            data = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
    if isinstance(data, Mapping) and table is not None and (table == "all" or "," in table):
        asked = list(data) if table == "all" else table.split(",")
        found = [(kind_of(one), *_nds_table(path, data, one)) for one in asked]
        records = [{**record, "arch": f"{kind}: {record['arch']}"} for kind, rows, _ in found for record in rows]
        return records, [name for name in found[0][2] if all(name in names for _, _, names in found)]
    return _nds_table(path, data, table)


def kind_of(table: str) -> str:
    """The name of the space that a table of NDS is of: its file writes ``DARTS_in``, ``Amoeba_in``, ..."""
    return {"amoeba": "amoebanet"}.get(name := table.lower().partition("_")[0], name)


def _nds_table(path: Path, data: Any, table: str | None) -> tuple[list[Record], list[str]]:
    if isinstance(data, Mapping):
        if table is None and len(data) == 1:
            table = next(iter(data))
        if table not in data:
            asked = f"no table {table!r}" if table else f"{len(data)} tables"
            raise ValueError(f"{path} has {asked}: choose one with --table: {', '.join(closest(table, data))}.")
        data = data[table]
    elif table is not None:
        raise ValueError(f"{path} holds one list of rows without a name; leave --table {table!r} out.")
    try:
        records = [_nds_record(row) for row in data]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not in the form of NDS, rows with net.genotype, net.width and net.depth: {error!r}"
        ) from error
    if not records:
        raise ValueError(f"{path} holds no rows.")
    return records, [name for name in records[0] if all(name in record for record in records)]


def _nds_record(row: Mapping[str, Any]) -> Record:
    net = row["net"]
    cells = {
        name: [(str(operation), int(node)) for operation, node in net["genotype"][name]]
        for name in ("normal", "reduce")
    }
    concats = {name: [int(node) for node in net["genotype"][name]] for name in ("normal_concat", "reduce_concat")}
    numbers = {name: int(net[name]) for name in ("width", "depth")}
    order = ("normal", "normal_concat", "reduce", "reduce_concat", "width", "depth")
    fields = {**cells, **concats, **numbers}
    text = f"Genotype({', '.join(f'{name}={fields[name]!r}' for name in order)})"
    others = {name: value for name, value in row.items() if isinstance(value, (int, float, str))}
    return {"arch": text, **others, **numbers}


def _opened(path: Path) -> Any:
    # "utf-8-sig": spreadsheets put a byte order mark before the first column's name.
    return (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="")


def _compiled(match: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(match) if match else None
    except re.error as error:
        raise ValueError(f"match={match!r} is no regular expression: {error}.") from error


def _meets(record: Record, where: Mapping[str, Any]) -> bool:
    for name, value in where.items():
        here = record[name]
        try:
            same = float(here) == float(value)
        except ValueError:
            same = str(here) == str(value)
        if not same:
            return False
    return True


def _number(value: Any, place: str) -> float | None:
    if value is None or str(value).strip() == "":
        return None
    try:
        number = float(value)
    except ValueError as error:
        raise ValueError(f"{place} holds {value!r}, which is no number.") from error
    return number if math.isfinite(number) else None
