"""What the file of a journal holds, read without changing it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_wrcor.search.evaluation import Evaluation

FORMAT = "lightning_wrcor journal"
VERSION = 1
"""Facts beside ``search`` and the lines of races came within it: files without them are read as ever."""

_BEGINNING = f'{{"format": "{FORMAT}"'.encode()


@dataclass
class Stored:
    """A journal's header and lines.

    Attributes:
        path: the file.
        search: what the search is known by; empty where the file is, or where its header is torn.
        about: further facts about the search that began the file.
        known: evaluations by key, in the order of the file; of several with one key the last.
        repeated: scores of a race, by key and number of the repetition; of several the last.
        whole: bytes of whole lines.
    """

    path: Path
    search: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Evaluation] = field(default_factory=dict)
    repeated: dict[tuple[str, int], Evaluation] = field(default_factory=dict)
    whole: int = 0


def read_stored(
    path: str | os.PathLike[str], check: Callable[[Mapping[str, Any]], None] | None = None, way_out: str = ""
) -> Stored:
    """Read a journal; a torn last line is left aside.

    Args:
        path: the file.
        check: looks at the header's ``search`` before a line is read, and may raise.
        way_out: what to do about a file that is no journal; ends the messages.

    Raises:
        OSError: where the file cannot be read.
        ValueError: for a file that is no journal, one of another version, and a damaged line that is not the last.
    """
    stored = Stored(Path(path))
    data = stored.path.read_bytes()
    stored.whole = data.rfind(b"\n") + 1
    head, *rest = data[: stored.whole].split(b"\n")[:-1] or [b""]
    # A header may be torn too.
    beginning = (head or data)[: len(_BEGINNING)]
    if beginning != _BEGINNING[: len(beginning) if not stored.whole else None]:
        raise ValueError(f"{path} is no journal of lightning_wrcor. {way_out}".rstrip())
    if not stored.whole:
        return stored
    header = _parsed(stored, 1, head, json.loads)
    if header.get("version") != VERSION:
        version = header.get("version")
        raise ValueError(f"The journal {path} has version {version}; this package reads {VERSION}. {way_out}".rstrip())
    stored.search, stored.about = (_mapping(header.get(name)) for name in ("search", "about"))
    if check is not None:
        check(stored.search)
    for number, line in enumerate(rest, start=2):
        evaluation, repetition = _parsed(stored, number, line, _read_line)
        if repetition is None:
            stored.known[evaluation.key] = evaluation
        else:
            stored.repeated[evaluation.key, repetition] = evaluation
    return stored


def to_line(evaluation: Evaluation, repetition: int | None = None) -> bytes:
    """The line of an evaluation.

    A value that waits for a vote is left out. What a race found stands in lines of its own, one for each repetition.
    """
    row = evaluation.to_dict()
    row.pop("race", None)
    if evaluation.status == "ok" and row["score"] is None:
        del row["score"]
    return line_of({"repetition": repetition, **row} if repetition is not None else row)


def header_line(search: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    """The first line; facts beside ``search`` only where there are any."""
    further = {"about": dict(about)} if about else {}
    return line_of({"format": FORMAT, "version": VERSION, "search": dict(search), **further})


def line_of(row: Mapping[str, Any]) -> bytes:
    """One line of strict JSON."""
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def differences(theirs: Any, ours: Any) -> list[tuple[str, Any, Any]]:
    """The places where two headers' ``search`` differ, with both values; none where they are of one search.

    The order of the proxies makes no difference.
    """
    return list(_differences("", _in_order(theirs), _in_order(json.loads(json.dumps(ours)))))


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _parsed(stored: Stored, number: int, line: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(line)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Line {number} of the journal {stored.path} is damaged ({error}). Remove that line, or start a new journal "
            "with journal=..."
        ) from error


def _read_line(line: bytes) -> tuple[Evaluation, int | None]:
    """An evaluation, and which repetition of a race it is of."""
    row = json.loads(line)
    if not isinstance(row, Mapping) or "repetition" not in row:
        return _evaluation(row), None
    row = dict(row)
    repetition = row.pop("repetition")
    if isinstance(repetition, bool) or not isinstance(repetition, int) or repetition < 1:
        raise ValueError(f"a repetition is a whole number of at least 1; got {repetition!r}")
    return _evaluation(row), repetition


def _evaluation(row: Any) -> Evaluation:
    if not isinstance(row, Mapping) or "score" in row:
        return Evaluation.from_dict(row)
    finite = (value for value in row.get("scores", {}).values() if value is not None)
    evaluation = Evaluation.from_dict({**row, "score": next(finite, None)})  # checks that one member at least is finite
    evaluation.score = math.nan
    return evaluation


def _in_order(search: Any) -> Any:
    """The header's ``search`` with its proxies in an order that does not depend on the user's."""
    if not isinstance(search, Mapping) or not isinstance(search.get("proxies"), list):
        return search
    return {**search, "proxies": sorted(search["proxies"], key=lambda proxy: json.dumps(proxy, sort_keys=True))}


def _differences(name: str, theirs: Any, ours: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        keys = dict.fromkeys([*ours, *theirs])
        if theirs.get("class_path") != ours.get("class_path"):
            keys = {"class_path": None}  # arguments of two classes are not to be compared
        for key in keys:
            yield from _differences(f"{name}.{key}".lstrip("."), theirs.get(key), ours.get(key))
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for place, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(f"{name}[{place}]", *pair)
    elif theirs != ours:
        yield name, theirs, ours
