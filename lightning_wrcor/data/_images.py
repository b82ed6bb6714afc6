"""The data sets behind the loaders: images of a source, and images of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lightning_wrcor._random import derive_seed
from lightning_wrcor.data._seeded import SeededDataset, _restored, mix, seed_cpu
from lightning_wrcor.data._source import Source
from lightning_wrcor.data._unreadable import PROBLEMS, Unreadable

Transform = Callable[[Any], Tensor]


class Images(SeededDataset[tuple[Tensor, int] | None]):
    """Images of a source, transformed.

    Args:
        source: where they are read.
        indices: which of them, by their place in the source.
        transform: timm's transform.
        unreadable: notes what cannot be read.
        replace: whether the next readable image takes the place of one that cannot be read (in training); otherwise
            there is None in its place, which the loader leaves out.
    """

    def __init__(
        self, source: Source, indices: Sequence[int], transform: Transform, unreadable: Unreadable, replace: bool
    ) -> None:
        self.source, self.indices, self.transform = source, indices, transform
        self.unreadable, self.replace = unreadable, replace

    def __len__(self) -> int:
        return len(self.indices)

    def make(self, place: int) -> tuple[Tensor, int] | None:
        """The image at a place and its label, or those of the next that can be read, or None."""
        for other in range(len(self) if self.replace else 1):
            row = self.indices[(place + other) % len(self)]
            try:
                image, label = self.source.read(row)
            except PROBLEMS:
                self.unreadable.mark([row])
                continue
            return self.transform(image), int(label)
        if self.replace:
            raise RuntimeError(
                f"No image in {self.source.where} can be read: {self.unreadable.some(list(self.indices))}."
            )
        return None


class Stream(IterableDataset[tuple[Tensor, int]]):
    """Images in the order in which timm's reader gives them, shared by processes and workers as the reader does.

    Args:
        images: timm's data set, without a transform.
        transform: timm's transform.
        seed: seed of the augmentation, which depends on it, the epoch, the process, the worker and the place there.
        rank: number of this process.
    """

    def __init__(self, images: Any, transform: Transform, seed: int, rank: int) -> None:
        self.images, self.transform, self.seed, self.rank = images, transform, seed, rank
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that stay must see it change

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is of."""
        self._epoch.fill_(epoch)
        self.images.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        worker = get_worker_info()
        base = derive_seed(self.seed, "stream", int(self._epoch), self.rank, worker.id if worker is not None else 0)
        for place, (image, label) in enumerate(self.images):
            with _restored():
                seed_cpu(int(mix(base, np.array([place]))[0]))
                transformed = self.transform(image)
            yield transformed, int(label)
