"""Journals of one search, written in several places, become one."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning_wrcor.search._stored import Stored, differences, header_line, read_stored, to_line
from lightning_wrcor.search.constraints import COUNTED
from lightning_wrcor.search.evaluation import TIE, Evaluation

K = TypeVar("K", bound=Hashable)


def merge_journals(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Make one journal of several of the same search; a search with ``journal=out`` goes on from all of them.

    They are of the same search if their space, proxies, seed, number of classes, probe batch and package version are the
    same; strategy, budget, constraints and the machine may differ. Evaluations follow in the order of the files. Of several
    with one key the first stays that has not failed; a candidate that failed everywhere stays failed, and is tried again.
    The scores of races are merged in the same way. A torn last line of a file is left out; the files are only read.

    The new header says what the files' headers say in agreement; the proxies are listed as in the first file that says how.

    Args:
        paths: two or more journals.
        out: the new file, made with its folder. It is there once it is complete.

    Returns:
        The path of the new file.

    Raises:
        FileExistsError: if there is a file ``out`` already.
        OSError: where a file cannot be read or written.
        ValueError: for fewer than two journals, a file that is none, journals of different searches, and two lines of one
            candidate that disagree: values of a proxy further apart than 1e-6 relatively, or other parameters, MACs or
            depth. The message names both files.
    """
    if isinstance(paths, (str, os.PathLike)) or len(paths) < 2:
        raise ValueError(f"Merging takes a list of two or more journals; got {paths!r}.")
    target = Path(out)
    _refuse_existing(target)
    journals = [read_stored(path) for path in paths]
    first = journals[0]
    for one in journals:
        if not one.search:
            raise ValueError(f"The journal {one.path} is empty: leave it out.")
        if found := differences(one.search, first.search):
            listed = "; ".join(
                f"the {name} {'are' if name == 'proxies' else 'is'} {b!r} in the first and {a!r} in the second"
                for name, a, b in found
            )
            raise ValueError(
                f"The journals {first.path} and {one.path} are of different searches: {listed}. Scores of different "
                "searches cannot be compared."
            )
    known = _merged([(one, one.known) for one in journals])
    repeated = _merged([(one, one.repeated) for one in journals])
    lines = [header_line(first.search, _about(journals)), *(to_line(row) for row in known.values())]
    lines += [to_line(row, number) for (_, number), row in repeated.items()]
    _write_new(target, b"".join(lines))
    return target


def _merged(parts: Sequence[tuple[Stored, Mapping[K, Evaluation]]]) -> dict[K, Evaluation]:
    """The rows of all files by key, the best of each; all that have not failed must agree."""
    merged: dict[K, Evaluation] = {}
    source: dict[K, Path] = {}
    for stored, rows in parts:
        for key, row in rows.items():
            present = merged.get(key)
            if present is not None and "failed" not in (present.status, row.status):
                _check(present, source[key], row, stored.path)
            if present is None or _worth(row) > _worth(present):
                merged[key], source[key] = row, stored.path
    return merged


def _worth(row: Evaluation) -> tuple[bool, int]:
    """Failed last; a proxy may have refused the network in one run and not in another."""
    return row.status != "failed", len(row.scores)


def _check(one: Evaluation, path: Path, other: Evaluation, other_path: Path) -> None:
    for name in COUNTED:
        if getattr(one, name) != getattr(other, name):
            raise ValueError(
                f"The journals {path} and {other_path} are of other networks: {one.name} has {getattr(one, name):,} {name} "
                f"in the first and {getattr(other, name):,} in the second. The code that builds it must have changed."
            )
    for name in one.scores.keys() & other.scores.keys():
        ours, theirs = one.scores[name], other.scores[name]
        if not (ours == theirs or math.isclose(ours, theirs, rel_tol=TIE)):
            raise ValueError(
                f"The journals {path} and {other_path} disagree: the {name} of {one.name} is {ours!r} in the first and "
                f"{theirs!r} in the second. Machines or libraries that compute different scores make one ranking worthless: "
                "score all candidates in one place, or keep one of the files."
            )


def _about(journals: Sequence[Stored]) -> dict[str, Any]:
    """What the headers agree on; a file that does not say something does not contradict."""
    about: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in journals for name in one.about):
        said = [one.about[name] for one in journals if name in one.about]
        if name == "proxies" or all(value == said[0] for value in said):
            about[name] = said[0]
    return about


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise FileExistsError(f"There is a file {target} already, which is not overwritten: name another one.")


def _write_new(target: Path, data: bytes) -> None:
    """Write a file that is not there yet: another program sees all of it or nothing, and its own is never replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with open(fresh, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, target)  # which fails where a rename would replace
        except OSError:
            _refuse_existing(target)
            os.rename(fresh, target)  # a file system without links
    finally:
        fresh.unlink(missing_ok=True)
