"""The journal: every evaluation on disk as soon as it is known, so that a search can go on where it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from lightning_wrcor.search.evaluation import Evaluation

FORMAT = "lightning_wrcor journal"
VERSION = 1
_BEGINNING = f'{{"format": "{FORMAT}"'.encode()
_ANOTHER = "Name another file with journal=..."


def fingerprint(batch: tuple[Tensor, Tensor]) -> str:
    """A hash of a probe batch: 16 hexadecimal digits of SHA-256 over shapes, dtypes and values."""
    digest = hashlib.sha256()
    for tensor in batch:
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.float().numpy().tobytes() if tensor.is_floating_point() else str(tensor.tolist()).encode())
    return digest.hexdigest()[:16]


class Journal:
    """A file of JSON lines: a header that says which search it is of, then one evaluation a line.

    A search is known by what a score depends on: its space, proxies, seed, number of classes, probe batch and the
    version of this package. Budget, strategy and constraints may change from one run to the next, and so may the order of
    the proxies and the vote that ranks by them: each value stands under its proxy's name. The value of a vote depends on
    the other candidates and is not in the file; a line of a candidate that waits for a vote has no ``score``.

    A file is changed only once it is known to be a journal of this search.

    Args:
        path: the file, made with its folder where it does not exist.
        search: the header's ``search``; plain values.

    Attributes:
        known: evaluations that were in the file, by key; of several with one key, the last.

    Raises:
        ValueError: for a file that is no journal, a journal of another search (the message says what differs), or a
            damaged line that is not the last (a torn last line is dropped).
        OSError: where the file cannot be read or written; the message names it.
    """

    def __init__(self, path: str | os.PathLike[str], search: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.known: dict[str, Evaluation] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._read(self.path.read_bytes(), search) if self.path.exists() else 0
            # Unbuffered: what `_write` gives is one write of one whole line, and nothing is left for `close`.
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  (closed in close)
            if self.path.is_file() and self.path.stat().st_size > whole:
                # Cut off in the middle of a write: drop the torn line, so that the next one starts afresh.
                os.truncate(self.path, whole)
        except OSError as error:
            raise self._unwritable(error) from error
        if not whole:
            self._write({"format": FORMAT, "version": VERSION, "search": dict(search)})

    def add(self, evaluation: Evaluation) -> None:
        """Append one evaluation; it is on the disk when this returns.

        Raises:
            OSError: where it cannot be written; the message names the file.
        """
        row = evaluation.to_dict()
        if evaluation.status == "ok" and row["score"] is None:
            del row["score"]
        self._write(row)
        self.known[evaluation.key] = evaluation

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
            if self.path.is_file():
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OSError:
        return OSError(f"The journal {self.path} cannot be written: {error}. {_ANOTHER}")

    def _read(self, data: bytes, search: Mapping[str, Any]) -> int:
        """Read what the file holds; returns how many of its bytes are whole lines."""
        whole = data.rfind(b"\n") + 1
        head, *rest = data[:whole].split(b"\n")[:-1] or [b""]
        # A header may be torn too.
        beginning = (head or data)[: len(_BEGINNING)]
        if beginning != _BEGINNING[: len(beginning) if not whole else None]:
            raise ValueError(f"{self.path} is no journal of lightning_wrcor. {_ANOTHER}")
        if not whole:
            return 0
        found = self._parsed(1, head, json.loads)
        if found.get("version") != VERSION:
            raise ValueError(
                f"The journal {self.path} has version {found.get('version')}; this package reads {VERSION}. {_ANOTHER}"
            )
        theirs, ours = _in_order(found.get("search")), _in_order(json.loads(json.dumps(search)))
        difference = _difference("search", theirs, ours)
        if difference:
            raise ValueError(f"The journal {self.path} is of another search: {difference}. {_ANOTHER}, or remove it.")
        for number, line in enumerate(rest, start=2):
            evaluation = self._parsed(number, line, lambda text: _evaluation(json.loads(text)))
            self.known[evaluation.key] = evaluation
        return whole

    def _parsed(self, number: int, line: bytes, parse: Callable[[bytes], Any]) -> Any:
        try:
            return parse(line)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"Line {number} of the journal {self.path} is damaged ({error}). Remove that line, or start a new journal "
                "with journal=..."
            ) from error


def _evaluation(row: Any) -> Evaluation:
    """An evaluation from its line."""
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


def _difference(name: str, theirs: Any, ours: Any) -> str | None:
    """The first place where two plain values differ, in words, or None."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in dict.fromkeys([*ours, *theirs]):
            found = _difference(f"{name}.{key}", theirs.get(key), ours.get(key))
            if found:
                return found
        return None
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        places = (_difference(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(theirs, ours, strict=True)))
        return next((found for found in places if found), None)
    if theirs == ours:
        return None
    return f"its {name.removeprefix('search.')} is {theirs!r}, this search's is {ours!r}"
