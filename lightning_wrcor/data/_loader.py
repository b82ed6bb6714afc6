"""Loaders: training that goes on in the middle of an epoch, and evaluation without what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from lightning_wrcor.data._seeded import EpochSampler


class EpochLoader(DataLoader[Any]):
    """Training batches; a checkpoint holds how many of the epoch were given out, and resuming goes on with the next.

    Lightning calls ``iter`` before it knows the epoch (when a checkpoint is resumed, and sometimes not again for the next
    epoch), and what it tells samplers is one too many after some checkpoints. So an iteration begins when its first batch
    is asked for, no earlier, and asks the Trainer for the epoch.

    Attributes:
        current_epoch: tells the epoch; None: the sampler is told it (``set_epoch``).
        before_epoch: called with the epoch before its first batch, on all processes together.
    """

    current_epoch: Callable[[], int] | None = None
    before_epoch: Callable[[int], None] | None = None
    _epoch = 0
    _given = 0
    _stored: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        sampler = self.sampler
        if self.current_epoch is not None:
            self._epoch = self.current_epoch()
        elif isinstance(sampler, EpochSampler):
            self._epoch = sampler.epoch
        stored, self._stored = self._stored, None
        self._given = 0
        if stored is not None and stored["epoch"] == self._epoch:
            self._given = stored["batches"]
            self._compare(stored)
        if self.before_epoch is not None:
            self.before_epoch(self._epoch)
        if isinstance(sampler, EpochSampler) and self.batch_size is not None:
            sampler.epoch, sampler.first = self._epoch, self._given * self.batch_size
            batches: Iterator[Any] = super().__iter__()
        else:  # a stream has no places to begin at: it is read up to there
            batches = islice(super().__iter__(), self._given, None)
        for batch in batches:
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches that were given out, and what they depend on."""
        if self._stored is not None:  # loaded, and no batch was asked for since
            return dict(self._stored)
        return {"epoch": self._epoch, "batches": self._given, **self._setting()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader stopped, if the next iteration is of the same epoch."""
        self._stored = dict(state)

    def _compare(self, stored: dict[str, int]) -> None:
        now = self._setting()
        other = [
            f"{name} was {stored[name]} and is {now[name]}" for name in now if stored.get(name, now[name]) != now[name]
        ]
        if other and self._given:
            rank_zero_warn(
                f"The checkpoint is from the middle of an epoch, and {', '.join(other)}: the rest of this epoch does not "
                "have exactly the images that it would have had."
            )

    def _setting(self) -> dict[str, int]:
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler) or self.batch_size is None:
            return {}
        images = self.batch_size * sampler.num_replicas
        return {"images_a_batch": images, "seed": sampler.seed, "repeats": sampler.repeats}


class ReadableLoader(DataLoader[Any]):
    """Evaluation batches of what could be read; a batch of which nothing could be read is left out."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return (batch for batch in super().__iter__() if batch is not None)


def collate_readable(samples: list[tuple[Tensor, int] | None]) -> Any:
    """A batch of the images that could be read; None where none could."""
    readable = [sample for sample in samples if sample is not None]
    return default_collate(readable) if readable else None
