"""Proxies that the processes of a search import: some die, fail or are slow."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from search_toys import Noise
from torch import distributed as dist

from lightning_wrcor.proxies import Context
from lightning_wrcor.search import RandomSearch


class Unlucky(Noise):
    """Fails for one width, or for all."""

    name = "unlucky"

    def __init__(self, width: int | None = 7) -> None:
        super().__init__()
        self.width = width

    def value(self, context: Context) -> float:
        if self.width in (None, self.seen[-1]):
            raise ValueError("an unlucky width")
        return super().value(context)


class Mortal(Noise):
    """`Noise` that kills its own process on one rank, once the journal holds so many lines."""

    def __init__(self, journal: str, rank: int, lines: int) -> None:
        super().__init__()
        self.journal = journal
        self.rank = rank
        self.lines = lines

    def config(self) -> dict[str, Any]:
        return Noise().config()  # the same search as one that nobody kills

    def value(self, context: Context) -> float:
        time.sleep(0.02)  # so that no process takes all candidates
        here = dist.is_initialized() and dist.get_rank() == self.rank
        if here and Path(self.journal).read_text().count("\n") >= self.lines:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().value(context)


class Slow(Noise):
    """`Noise` with time to press a key."""

    def value(self, context: Context) -> float:
        print("scoring", flush=True)
        time.sleep(0.5)
        return super().value(context)


def by_eight() -> RandomSearch:
    """Random search in small generations, each of which is in the journal before the next begins."""
    strategy = RandomSearch()
    strategy.generation = 8
    return strategy
