"""The journal: every evaluation on disk as soon as it is known, so that a search can go on where it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from lightning_wrcor.search._stored import differences, header_line, read_stored, to_line
from lightning_wrcor.search.evaluation import Evaluation

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
    the other candidates and is not in the file; a line of a candidate that waits for a vote has no ``score``. A score that
    was repeated in a race is a line of its own, with the number of its ``repetition``.

    A file is changed only once it is known to be a journal of this search.

    Args:
        path: the file, made with its folder where it does not exist.
        search: the header's ``search``; plain values.
        about: what else a reader may want to know of the search that begins the file; plain values. It is written into a
            new file, and makes no difference to who may go on with it.

    Attributes:
        known: evaluations that are in the file, by key; of several with one key, the last.
        repeated: the scores of a race, by key and number of the repetition.

    Raises:
        ValueError: for a file that is no journal, a journal of another search (the message says what differs), or a
            damaged line that is not the last (a torn last line is dropped).
        OSError: where the file cannot be read or written; the message names it.
    """

    def __init__(
        self, path: str | os.PathLike[str], search: Mapping[str, Any], about: Mapping[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self.known: dict[str, Evaluation] = {}
        self.repeated: dict[tuple[str, int], Evaluation] = {}
        whole = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():  # not a device, which may never end
                stored = read_stored(self.path, lambda theirs: self._check(theirs, search), _ANOTHER)
                self.known, self.repeated, whole = stored.known, stored.repeated, stored.whole
            # Unbuffered: what `_write` gives is one write of one whole line, and nothing is left for `close`.
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  (closed in close)
            if self.path.is_file() and self.path.stat().st_size > whole:
                # Cut off in the middle of a write: drop the torn line, so that the next one starts afresh.
                os.truncate(self.path, whole)
        except OSError as error:
            raise self._unwritable(error) from error
        if not whole:
            try:
                self._write(header_line(search, about or {}))
            except BaseException:
                self.close()
                raise

    def add(self, evaluation: Evaluation, repetition: int | None = None) -> None:
        """Append one evaluation; it is on the disk when this returns.

        Args:
            evaluation: the evaluation.
            repetition: which repetition of a race it is of, from 1; None for the candidate's own score.

        Raises:
            OSError: where it cannot be written; the message names the file.
        """
        self._write(to_line(evaluation, repetition))
        if repetition is None:
            self.known[evaluation.key] = evaluation
        else:
            self.repeated[evaluation.key, repetition] = evaluation

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        if found := differences(theirs, ours):
            listed = "; ".join(f"its {name} is {one!r}, this search's is {other!r}" for name, one, other in found)
            raise ValueError(f"The journal {self.path} is of another search: {listed}. {_ANOTHER}, or remove it.")

    def _write(self, line: bytes) -> None:
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
