"""The processes that share a search."""

from __future__ import annotations

from typing import Any


class Ranks:
    """One process alone; a subclass shares the work with others.

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
