"""Training images whose random numbers depend on the seed, the epoch and the image alone."""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import Dataset, DistributedSampler, get_worker_info

from lightning_wrcor._random import derive_seed

Sample = TypeVar("Sample", covariant=True)
_CHUNK = 8192


class Draw(NamedTuple):
    """What the sampler asks for: the place of an image in its data set, and the seed of its random numbers."""

    place: int
    seed: int


class SeededDataset(Dataset[Sample], Generic[Sample]):
    """A data set that makes each image with the random numbers that the sampler asks for.

    A plain number in the place of a ``Draw`` takes the global random numbers as they are.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def make(self, place: int) -> Sample:
        """The image at a place, augmented with the global random numbers."""

    def __getitem__(self, place: int | Draw) -> Sample:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int | Draw]) -> list[Sample]:
        """The images of one batch; DataLoader asks for them together."""
        if not any(isinstance(place, Draw) for place in places):
            return [self.make(place) for place in places]  # type: ignore[arg-type]
        with _restored():  # once a batch: it costs more than the seeding
            return [self._seeded(place) for place in places]

    def _seeded(self, place: int | Draw) -> Sample:
        if not isinstance(place, Draw):
            return self.make(place)
        seed_cpu(place.seed)
        return self.make(place.place)


def seed_cpu(seed: int) -> None:
    """Seed what transforms draw from: Python's, NumPy's and torch's random numbers on the CPU."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def _restored() -> Iterator[None]:
    """Leave the training process's random numbers as they were; a worker's belong to nobody."""
    if get_worker_info() is not None:
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


class EpochSampler(DistributedSampler[Any]):
    """One process's share of the images, in an order that depends on the seed and the epoch alone.

    Lightning leaves a ``DistributedSampler`` alone, and tells it the epoch (``set_epoch``). The images of all processes
    together are those of one process: the processes take turns. Where they do not share evenly, some images come twice.

    With ``repeats`` above 1, each image that is drawn comes that many times, with different augmentation, one after the
    other, so that different processes get them where there are several; the epoch keeps its length, so that only one in
    ``repeats`` images is drawn. Hoffer et al., "Augment your batch", CVPR 2020, https://arxiv.org/abs/1901.09335.

    Args:
        images: number of images in the data set.
        seed: seed of order and augmentation.
        rank: number of this process.
        processes: number of processes; None for both: those of torch.distributed when it is iterated, where there are any.
        repeats: how often each image that is drawn comes.

    Attributes:
        first: samples of this process that the next iteration leaves out, to go on where another stopped.
    """

    def __init__(
        self, images: int, seed: int, rank: int | None = None, processes: int | None = None, repeats: int = 1
    ) -> None:
        super().__init__(range(images), processes or 1, rank or 0, seed=seed)  # type: ignore[arg-type]
        self.repeats = repeats
        self.first = 0
        self._told = processes is not None

    def __len__(self) -> int:
        self._join()
        return self.num_samples

    def _join(self) -> None:
        """A loader that is made before there is a Trainer does not know the processes."""
        if not self._told and dist.is_available() and dist.is_initialized():
            self.rank, self.num_replicas = dist.get_rank(), dist.get_world_size()
            self.num_samples = math.ceil(len(self.dataset) / self.num_replicas)  # type: ignore[arg-type]
            self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[Any]:
        self._join()
        first, self.first = self.first, 0
        return self._draws(self.epoch, first)

    def _draws(self, epoch: int, first: int) -> Iterator[Draw]:
        images = len(self.dataset)  # type: ignore[arg-type]
        order = torch.randperm(images, generator=torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch)))
        base = derive_seed(self.seed, "augmentation", epoch)
        for start in range(first, self.num_samples, _CHUNK):  # in parts: numbers of Python are large
            turns = np.arange(start, min(start + _CHUNK, self.num_samples), dtype=np.int64)
            turns = turns * self.num_replicas + self.rank
            places = order.numpy()[turns // self.repeats % images]
            seeds = mix(base, places, turns % self.repeats)
            yield from map(Draw, places.tolist(), seeds.tolist())


def mix(base: int, places: np.ndarray[Any, Any], copies: np.ndarray[Any, Any] | int = 0) -> np.ndarray[Any, Any]:
    """Seeds below 2**63 that depend on the base, the place and the copy of an image.

    Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the finaliser of SplitMix64).
    """
    counter = places.astype(np.uint64) + (np.asarray(copies).astype(np.uint64) << np.uint64(40))
    mixed = np.uint64(base) + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # wraps around, as it should
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)
