"""The journal: every evaluation on disk as soon as it is known, so that a search can go on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from lightning_wrcor.search.evaluation import Evaluation

FORMAT = "lightning_wrcor journal"
VERSION = 1


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

    A search is known by its space, proxies, seed, number of classes and probe batch: what a score depends on. Budget,
    strategy and constraints may change from one run to the next.

    Args:
        path: the file, made with its folder where it does not exist.
        search: the header's ``search``; plain values.

    Attributes:
        known: evaluations that were in the file, by key.

    Raises:
        ValueError: for a journal of another search (the message says what differs), or a damaged line that is not the
            last (a torn last line is dropped).
        OSError: where the file cannot be written; the message names it.
    """

    def __init__(self, path: str | os.PathLike[str], search: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.known: dict[str, Evaluation] = {}
        header = {"format": FORMAT, "version": VERSION, "search": dict(search)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size:
                self._read(header)
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  (closed in close)
            if not self.path.stat().st_size:
                self._write(header)
        except OSError as error:
            raise OSError(f"The journal {self.path} cannot be written: {error}. Name another with journal=...") from error

    def add(self, evaluation: Evaluation) -> None:
        """Append one evaluation; it is on the disk when this returns."""
        self._write(evaluation.to_dict())
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
        # One write of one whole line: a process that is killed leaves at most a torn last line.
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, header: dict[str, Any]) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            # Cut off in the middle of a write: drop the torn line, so that the next one starts afresh.
            os.truncate(self.path, whole)
        lines = data[:whole].decode("utf-8", errors="replace").splitlines()
        if not lines:
            return
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"Line {number} of the journal {self.path} is damaged ({error}). Remove that line, or start a new "
                    "journal with journal=..."
                ) from error
        found = rows[0]
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"{self.path} is no journal of lightning_wrcor. Name another file with journal=...")
        if found.get("version") != VERSION:
            raise ValueError(f"{self.path} has journal version {found.get('version')}; this package reads {VERSION}.")
        ours, theirs = json.loads(json.dumps(header["search"])), found["search"]
        for name in ours:
            if ours[name] != theirs.get(name):
                raise ValueError(
                    f"The journal {self.path} is of another search: its {name} is {theirs.get(name)!r}, this search's is "
                    f"{ours[name]!r}. Name another file with journal=..., or remove it."
                )
        for number, row in enumerate(rows[1:], start=2):
            try:
                evaluation = Evaluation.from_dict(row)
            except (TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"Line {number} of the journal {self.path} is no evaluation ({error}).") from error
            self.known[evaluation.key] = evaluation
