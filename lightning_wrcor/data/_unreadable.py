"""Images that cannot be read: counted, named, and not too many."""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from PIL import Image

if TYPE_CHECKING:
    from lightning_wrcor.data._source import Source

PROBLEMS = (
    OSError,  # a file that is gone, no image, or ends too early
    SyntaxError,  # Pillow's, for a broken PNG
    ValueError,
    TypeError,
    AssertionError,  # timm's, for a row of a table without an image
    EOFError,
    struct.error,
    zlib.error,
    tarfile.TarError,
    Image.DecompressionBombError,
)
"""What reading and decoding one image may raise because of that image."""


class Unreadable:
    """Which images of a source could not be read; worker processes write it, the training process reads it.

    Args:
        source: the images.
        share: largest share of them that may be unreadable; one image may be, unless the share is 0.
    """

    def __init__(self, source: Source, share: float) -> None:
        self.source = source
        self.allowed = max(int(share * len(source)), 1) if share > 0 else 0
        self.marks = torch.zeros(len(source), dtype=torch.uint8).share_memory_()
        self._told: set[int] = set()

    def rows(self) -> list[int]:
        """Places in the source of the images that could not be read."""
        found: list[int] = self.marks.nonzero().flatten().tolist()
        return found

    def mark(self, rows: Iterable[int]) -> None:
        """Note that these could not be read.

        Raises:
            RuntimeError: if that makes too many.
        """
        self.marks[list(rows)] = 1
        self.check()

    def check(self) -> None:
        """Raise a RuntimeError if there are too many."""
        count = int(self.marks.sum())
        if count > self.allowed:
            raise RuntimeError(
                f"{count} of {len(self.source)} images in {self.source.where} cannot be read, and max_unreadable allows "
                f"{self.allowed}: {self.some(self.rows())}. check() of the data module reads all images and lists them."
            )

    def news(self) -> str | None:
        """A sentence on those that were found since the last call; None where there are none."""
        new = [row for row in self.rows() if row not in self._told]
        self._told.update(new)
        if not new:
            return None
        return f"{len(new)} of {len(self.source)} images in {self.source.where} could not be read: {self.some(new)}."

    def some(self, rows: list[int], most: int = 5) -> str:
        """Names of the first of them, and why they cannot be read."""
        named = [f"{self.source.name(row)} ({self.source.problem(row) or 'can be read now'})" for row in rows[:most]]
        return "; ".join(named) + (f"; and {len(rows) - most} more" if len(rows) > most else "")
