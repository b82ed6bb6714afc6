"""Networks of known accuracy as a space, and their accuracy as a proxy."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies import Context, Proxy
from lightning_wrcor.search.strategies import ENUMERABLE
from lightning_wrcor.spaces import FiniteSpace, Genotype, Space

_TRIES = 200
_MOST_CHANGES = 20


class KnownNetworks(FiniteSpace):
    """The networks of a table as a space: all genotypes of another space whose network has a known accuracy.

    A genotype that is another form of a listed network (of the same key) belongs to it: so a network is as likely to be
    drawn, beside the others, as it is in the other space. Where that cannot be enumerated, only the genotypes of the
    table are drawn. A mutation is drawn from the
    other space again and again until it leads to a known network: one change, or after 200 draws two, and so on. Places
    are those of the other space; combinations that lead elsewhere are rejected.

    Args:
        space: the space that the architectures are of.
        accuracies: accuracy of each network, by its text.
    """

    kind = "known"

    def __init__(self, space: Space, accuracies: Mapping[str, float]) -> None:
        self.space = space
        self.accuracies = dict(accuracies)
        self.input_size = space.input_size
        self._keys: dict[Genotype, str] = {}  # asked for again and again
        known: dict[str, list[float]] = {}
        listed: list[Genotype] = []
        for text, accuracy in self.accuracies.items():
            genotype = space.parse(text)
            listed.append(genotype)
            known.setdefault(self.key(genotype), []).append(accuracy)
        self._known = {key: statistics.fmean(values) for key, values in known.items()}
        self._members = listed
        if isinstance(space, FiniteSpace) and type(space).__len__(space) <= ENUMERABLE:
            self._members = [genotype for genotype in space if self.key(genotype) in self._known]

    def config(self) -> dict[str, Any]:
        """The other space alone: nothing here is built again from it."""
        return self.space.config()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Genotype]:
        return iter(self._members)

    @property
    def networks(self) -> int:
        """How many different ones there are."""
        return len(self._known)

    def accuracy(self, genotype: Genotype) -> float:
        """The mean of the accuracies of all that are this network."""
        return self._known[self.key(genotype)]

    def sample(self, rng: random.Random) -> Genotype:
        """Draw a genotype; all are equally likely."""
        return rng.choice(self._members)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """A known network that few changes lead to.

        Raises:
            ValueError: if not even 20 changes lead to one.
        """
        own = self.key(genotype)
        for changes in range(1, _MOST_CHANGES + 1):
            for _ in range(_TRIES):
                changed = genotype
                for _ in range(changes):
                    changed = self.space.mutate(changed, rng)
                key = self.key(changed)
                if key in self._known and key != own:
                    return changed
        raise ValueError(f"No other network of the table is within {_MOST_CHANGES} changes of {self.name(genotype)}.")

    def places(self) -> tuple[tuple[Genotype, ...], ...] | None:
        """Those of the other space."""
        return self.space.places()

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """As the other space takes it apart."""
        return self.space.parts(genotype)

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """As the other space does it. Raises ValueError for a network whose accuracy is not known."""
        genotype = self.space.assemble(parts)
        if self.key(genotype) not in self._known:
            raise ValueError(f"The accuracy of {self.name(genotype)} is not known.")
        return genotype

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """An empty network that knows its accuracy."""
        return _Known(self.accuracy(genotype))

    def parse(self, text: str) -> Genotype:
        """As the other space reads it."""
        return self.space.parse(text)

    def name(self, genotype: Genotype) -> str:
        """As the other space writes it."""
        return self.space.name(genotype)

    def key(self, genotype: Genotype) -> str:
        """That of the other space."""
        if genotype not in self._keys:
            self._keys[genotype] = self.space.key(genotype)
        return self._keys[genotype]

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Those of the network itself, at the other space's own size of images."""
        return self.space.costs(genotype, None, num_classes)


class _Known(nn.Module):
    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy = accuracy


class KnownAccuracy(Proxy):
    """The accuracy that a network of `KnownNetworks` has in the table."""

    name = "accuracy"

    def measure(self, context: Context) -> float:
        """The accuracy of the candidate."""
        return float(context.network.accuracy)  # type: ignore[arg-type]
