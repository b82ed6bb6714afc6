"""What all data modules share: splits, loaders, and the count of images that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Sized
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lightning_wrcor import _trainer
from lightning_wrcor._random import derive_seed
from lightning_wrcor.data._images import Stream
from lightning_wrcor.data._loader import EpochLoader, ReadableLoader, collate_readable
from lightning_wrcor.data._seeded import EpochSampler
from lightning_wrcor.data._unreadable import Unreadable


class ImageData(LightningDataModule):
    """What the data modules share: data sets, made by ``_dataset``, and their loaders.

    Attributes:
        will_test: whether the training is followed by a test: its images are then listed when the training is prepared, so
            that folders or classes that do not fit are refused before it.
    """

    will_test = False

    def __init__(self, batch_size: int, num_workers: int, seed: int, repeats: int = 1) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            got = f"got {batch_size} and {num_workers}."
            raise ValueError(f"batch_size must be at least 1 and num_workers at least 0; {got}")
        if repeats < 1:
            raise ValueError(
                f"repeats, how often an image that is drawn comes in an epoch, must be 1 or more; got {repeats}."
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.repeats = repeats
        self._datasets: dict[str, Dataset[Any]] = {}
        self._marks: dict[str, Unreadable] = {}
        self._made: EpochLoader | None = None
        self._running: EpochLoader | None = None
        self._place: dict[str, int] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Prepare the splits that ``stage`` (``fit``, ``validate``, ``test``; None for all) needs, once."""
        fit = ("train", "val", "test") if self.will_test else ("train", "val")
        splits = {"fit": fit, "validate": ("val",), "test": ("test",), None: ("train", "val", "test")}
        for split in splits.get(stage, ()):
            self._get(split)

    def teardown(self, stage: str | None = None) -> None:
        """Tell what could not be read since it was last told."""
        self._tell()

    @property
    def unreadable(self) -> list[str]:
        """Files that could not be read so far, as far as this process knows: each is told at the end of its epoch."""
        return [marks.source.name(row) for marks in self._marks.values() for row in marks.rows()]

    @property
    def test_images(self) -> str:
        """Which images the test is of, in words, once they were read."""
        dataset = self._datasets.get("test")
        count = f"{len(dataset):,} " if isinstance(dataset, Sized) else ""
        if dataset is not None and dataset is self._datasets.get("val"):
            return f"{count}validation images, which also chose the checkpoint"
        return f"{count}images that neither trained nor chose the network"

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; the last one is dropped if it is incomplete and not the only one of a process.

        Order and augmentation depend on the seed, the epoch and the image; the seed is that of ``seed_everything`` and the
        data module's own together. Without a Trainer, ``loader.sampler.set_epoch`` chooses the epoch.
        """
        dataset = self._get("train")
        if isinstance(dataset, IterableDataset):
            return self._stream_loader(dataset)
        rank, processes = self._share()
        sampler = EpochSampler(len(dataset), self._training_seed(), rank, processes, self.repeats)  # type: ignore[arg-type]
        loader = EpochLoader(
            dataset,
            sampler=sampler,
            collate_fn=default_collate,
            drop_last=len(sampler) > self.batch_size,
            generator=torch.Generator().manual_seed(self.seed),  # iterating leaves the global random numbers alone
            **self._workers(),
        )
        return self._prepared(loader)

    def val_dataloader(self) -> DataLoader[Any]:
        """All validation images in a fixed order; those that cannot be read are left out."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """All test images in a fixed order; those that cannot be read are left out."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader[Any]:
        # No sampler of our own: Lightning puts a DistributedSampler in where there are several processes.
        return ReadableLoader(self._get(split), collate_fn=collate_readable, **self._workers())

    def _stream_loader(self, dataset: Any) -> DataLoader[Any]:
        workers = self._workers()
        generator = torch.Generator().manual_seed(derive_seed(self._training_seed(), "stream", self._share()[0] or 0))
        loader = EpochLoader(dataset, collate_fn=default_collate, drop_last=True, generator=generator, **workers)
        return self._prepared(loader)

    def _prepared(self, loader: EpochLoader) -> EpochLoader:
        trainer = self.trainer
        if trainer is not None:
            loader.current_epoch = lambda: trainer.current_epoch
        loader.before_epoch = lambda epoch: self._begin_epoch(loader, epoch)
        if self._place is not None:
            loader.load_state_dict(self._place)
        self._made = loader
        return loader

    # Lightning brings a loader's own state back only where nobody has asked for the loader before: a module whose
    # optimiser needs the number of steps (`Trainer.estimated_stepping_batches`) has. So the data module keeps it too. The
    # loader that trains may be made before or after its state comes, and others beside it (for the search's batch): the
    # state waits until one of them begins.

    def state_dict(self) -> dict[str, Any]:
        """The place in the training data."""
        return self._running.state_dict() if self._running is not None else dict(self._place or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at that place, if this is a training."""
        if state_dict and self.trainer is not None and self.trainer.state.fn == "fit":
            self._place = dict(state_dict)
            if self._made is not None:
                self._made.load_state_dict(self._place)

    def _workers(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def _training_seed(self) -> int:
        return derive_seed(self.seed, "training", os.environ.get("PL_GLOBAL_SEED", 0))

    def _share(self) -> tuple[int | None, int | None]:
        """This process's number among those that get different images, and how many those are; None where nobody knows."""
        if self.trainer is None:
            return None, None
        told = self.trainer.distributed_sampler_kwargs  # model parallelism: several processes get the same images
        return (told["rank"], told["num_replicas"]) if told else (self.trainer.global_rank, self.trainer.world_size)

    def _get(self, split: str) -> Dataset[Any]:
        if split not in self._datasets:
            self._datasets[split] = self._dataset(split)
        return self._datasets[split]

    def _dataset(self, split: str) -> Dataset[Any]:
        raise NotImplementedError

    # ---- what cannot be read

    def _begin_epoch(self, loader: EpochLoader, epoch: int) -> None:
        self._running, self._place = loader, None
        if isinstance(loader.dataset, Stream):
            loader.dataset.set_epoch(epoch)
        self._tell()
        for marks in self._marks.values():
            marks.check()

    def _tell(self) -> None:
        """Bring together what all processes found; rank zero tells. All processes come here at the same places."""
        if not self._marks:
            return
        if self.trainer is not None and self.trainer.world_size > 1 and torch.distributed.is_initialized():
            found = {split: marks.rows() for split, marks in self._marks.items()}
            for (elsewhere,) in _trainer.TrainerRanks(self.trainer).gather([found]):
                for split, rows in elsewhere.items():
                    self._marks[split].marks[rows] = 1
        for marks in self._marks.values():
            news = marks.news()
            if news is not None:
                rank_zero_warn(news)
