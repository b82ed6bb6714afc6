"""The processes that share a search."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch.distributed as dist


class RankLostError(RuntimeError):
    """One of the processes died, or could not be reached any more."""


class Ranks:
    """One process alone; a subclass shares the work with others.

    A search enters it as a context, on all processes together.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def gather(self, items: list[Any]) -> list[list[Any]]:
        """What every process gave, in order of rank, on every process. All processes call it together."""
        return [items]

    def broadcast(self, value: Any) -> Any:
        """What rank 0 gave, on every process. All processes call it together."""
        return value

    def turns(self, count: int) -> Iterator[int]:
        """Which of ``count`` tasks this process is to do, one after the other; each task falls to one process.

        By default every ``world_size``-th. All processes call it together; each draws from it as fast as it can.
        """
        return iter(range(self.rank, count, self.world_size))

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@contextmanager
def stopping_together(ranks: Ranks) -> Iterator[None]:
    """What rank zero alone writes: where it cannot (a full disk), all processes stop, so that none waits for the others."""
    problem = None
    try:
        yield
    except OSError as error:
        problem = error
    problem = ranks.broadcast(problem)
    if problem is not None:
        raise problem


class TorchRanks(Ranks):
    """The processes of torch.distributed.

    As a context it exchanges through gloo, whatever the processes train with: gloo notices at once that a process has
    died, where NCCL waits until its time is up, which is half an hour by default.

    Args:
        rank: number of this process.
        world_size: number of processes.
        group: their process group, where they are not all that there are; rank 0 of all is in it.

    Raises:
        RankLostError: from everything that is done together, where one of the processes has died.
    """

    def __init__(self, rank: int, world_size: int, group: Any = None) -> None:
        self.rank = rank
        self.world_size = world_size
        self._given = self._group = group
        self._name = ""
        self._shared = 0

    def gather(self, items: list[Any]) -> list[list[Any]]:
        """What every process gave, in order of rank."""
        if self.world_size == 1:
            return [items]
        gathered: list[Any] = [None] * self.world_size
        with _noticing_death():
            dist.all_gather_object(gathered, items, group=self._group)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """What rank 0 gave."""
        if self.world_size == 1:
            return value
        held = [value]
        with _noticing_death():
            dist.broadcast_object_list(held, src=0, group=self._group)
        return held[0]

    def turns(self, count: int) -> Iterator[int]:
        """Whoever is free takes the next task: the processes draw numbers from one counter."""
        if self.world_size == 1:
            yield from range(count)
            return
        # Unlike any other counter of these processes, of other searches too.
        self._name = self._name or self.broadcast(uuid.uuid4().hex)
        self._shared += 1
        counter = f"lightning_wrcor/{self._name}/{self._shared}"
        # Not public, but there is no other way to the store that all process groups have.
        store = dist.distributed_c10d._get_default_store()
        while True:
            with _noticing_death():
                turn = store.add(counter, 1) - 1
            if turn >= count:
                return
            yield turn

    def __enter__(self) -> TorchRanks:
        if self.world_size > 1 and self._given is None and dist.get_backend() != "gloo":
            with _noticing_death():
                self._group = dist.new_group(backend="gloo")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._group is not self._given:
            dist.destroy_process_group(self._group)
            self._group = self._given


@contextmanager
def _noticing_death() -> Iterator[None]:
    """Turn what torch says when a process does not answer (a RuntimeError of many kinds) into one error."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).strip().split("\n")[0]
        raise RankLostError(f"One of the processes died, or could not be reached any more ({said}).") from error
