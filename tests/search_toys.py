"""Small spaces, proxies and processes that the tests of the search share."""

from __future__ import annotations

import math
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor.proxies import Context, Proxy
from lightning_wrcor.search import Ranks
from lightning_wrcor.spaces import FiniteSpace, Genotype, NASBench201, Space

CELLS = NASBench201(width=4, cells=1)


def batch(n: int = 16, size: int = 4, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, generator=generator), torch.arange(n) % classes


BATCH = batch()


class Endless(Space):
    """Networks of one hidden layer, of 1 to ``count`` channels; ``copies`` genotypes describe each of them.

    It cannot be enumerated, and what is drawn may be drawn again.
    """

    kind = "endless"

    def __init__(self, count: int = 12, copies: int = 1) -> None:
        self.count = count
        self.copies = copies

    def sample(self, rng: random.Random) -> Genotype:
        return rng.randrange(self.copies), rng.randint(1, self.count)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        return self.sample(rng)

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        width = _width(genotype)
        network = nn.Sequential(
            nn.Conv2d(in_chans, width, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )
        network.width = width  # for the proxies below
        return network

    def parse(self, text: str) -> Genotype:
        copy, width = text.split(".")
        return int(copy), int(width)

    def name(self, genotype: Genotype) -> str:
        assert isinstance(genotype, tuple)
        return f"{genotype[0]}.{genotype[1]}"

    def key(self, genotype: Genotype) -> str:
        return f"{_width(genotype):03d}"


class Widths(Endless, FiniteSpace):
    """The same, and it can be enumerated."""

    kind = "widths"

    def __len__(self) -> int:
        return self.count * self.copies

    def __iter__(self) -> Iterator[Genotype]:
        return ((copy, width) for width in range(1, self.count + 1) for copy in range(self.copies))


def _width(genotype: Genotype) -> int:
    assert isinstance(genotype, tuple)
    assert isinstance(genotype[1], int)
    return genotype[1]


class Noise(Proxy):
    """The sum of the weights: it depends on the candidate's seed and costs next to nothing."""

    name = "noise"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def measure(self, context: Context) -> float:
        self.seen.append(int(context.network.width))  # type: ignore[arg-type]
        return self.value(context)

    def value(self, context: Context) -> float:
        return float(sum(parameter.double().sum() for parameter in context.network.parameters()))


class Of(Noise):
    """What a function of the width gives; it may raise."""

    def __init__(self, function: Callable[[int], float] | None = None) -> None:
        super().__init__()
        self.function = function

    def value(self, context: Context) -> float:
        assert self.function is not None
        return float(self.function(self.seen[-1]))


class Stops(Noise):
    """The same as `Noise`, until it has scored so many."""

    def __init__(self) -> None:
        super().__init__()
        self.left = math.inf

    def value(self, context: Context) -> float:
        if len(self.seen) > self.left:
            raise KeyboardInterrupt
        return super().value(context)


class _Member(Ranks):
    """One of several processes, played by a thread."""

    def __init__(self, rank: int, team: Team) -> None:
        self.rank, self.world_size = rank, team.size
        self._team = team

    def gather(self, items: list[Any]) -> list[list[Any]]:
        team = self._team
        team.held[self.rank] = pickle.dumps(items)
        team.turn.release()
        team.barrier.wait()
        gathered = [pickle.loads(held) for held in team.held]  # noqa: S301  (our own)
        team.barrier.wait()
        team.turn.acquire()
        return gathered

    def broadcast(self, value: Any) -> Any:
        return self.gather([value])[0][0]


class Team:
    """Processes played by threads. One runs at a time, because random numbers belong to the whole process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held: list[bytes] = [b""] * size
        self.turn = threading.Lock()
        self.barrier = threading.Barrier(size, timeout=60)

    def run(self, work: Callable[[Ranks], Any]) -> list[Any]:
        """What ``work`` returned or raised in each process."""
        outcomes: list[Any] = [None] * self.size

        def member(rank: int) -> None:
            with self.turn:
                try:
                    outcomes[rank] = work(_Member(rank, self))
                except Exception as error:
                    outcomes[rank] = error

        threads = [threading.Thread(target=member, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes
