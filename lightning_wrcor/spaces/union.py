"""Several spaces as one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_wrcor._config import closest
from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._base import Genotype, Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class UnionSpace(Space):
    """Several search spaces as one, so that one search compares their members.

    A genotype is ``(name of the space, genotype in that space)``, its text ``name: text``. Scores of networks that differ
    in depth by nature are normalised by depth (see `WRCor`): here that is always so.

    Args:
        spaces: the spaces by a name of your choice (without ``": "``): spaces, names of spaces, or mappings with
            ``class_path`` and ``init_args``.

    Raises:
        ValueError: for no space, or a name that cannot be read back.

    Example:
        >>> space = UnionSpace({"cells": "nasbench201", "sizes": "natsbench_size"})
        >>> space.name(space.parse("sizes: 8:16:32:32:64"))
        'sizes: 8:16:32:32:64'
    """

    kind = "union"

    def __init__(self, spaces: Mapping[str, Space | str | Mapping[str, Any]]) -> None:
        from lightning_wrcor.spaces._registry import get_space  # which knows this space too

        if not isinstance(spaces, Mapping) or not spaces:
            raise ValueError(f"A union takes its spaces by name, {{'small': ..., 'large': ...}}; got {spaces!r}.")
        for name in spaces:
            if not isinstance(name, str) or not name.strip() or ": " in name:
                raise ValueError(f"The name of a space in a union is text without ': '; got {name!r}.")
        self.spaces = {name: get_space(spec) for name, spec in spaces.items()}
        self.input_size = next(iter(self.spaces.values())).input_size

    @property
    def mixed_depth(self) -> bool:
        """True: the spaces differ in depth."""
        return True

    def sample(self, rng: random.Random) -> Genotype:
        """Draw a space, each with equal chance, and a genotype from it."""
        name = rng.choice(list(self.spaces))
        return (name, self.spaces[name].sample(rng))

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Mutate within the genotype's own space."""
        name, space, own = self._read(genotype)
        return (name, space.mutate(own, rng))

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the network as its space does."""
        _, space, own = self._read(genotype)
        return space.build(own, num_classes=num_classes, in_chans=in_chans)

    def parse(self, text: str) -> Genotype:
        """Read ``name: text``.

        Raises:
            ValueError: for a space that is not in the union, and whatever that space refuses.
        """
        name, colon, rest = text.partition(": ")
        if not colon or name not in self.spaces:
            raise ValueError(f"{text!r} does not begin with a space of the union and ': '; {self._there(name)}")
        return (name, self.spaces[name].parse(rest))

    def name(self, genotype: Genotype) -> str:
        """``name of the space: text in that space``."""
        name, space, own = self._read(genotype)
        return f"{name}: {space.name(own)}"

    def key(self, genotype: Genotype) -> str:
        """As the name, with the key in that space. A network that two spaces have is two networks here."""
        name, space, own = self._read(genotype)
        return f"{name}: {space.key(own)}"

    def draw(
        self,
        genotype: Genotype,
        *,
        width: float = 7.0,
        input_size: tuple[int, int, int] | None = None,
        num_classes: int = 1000,
    ) -> Figure:
        """As the genotype's own space draws it."""
        _, space, own = self._read(genotype)
        return space.draw(own, width=width, input_size=input_size, num_classes=num_classes)

    def layers(self, genotype: Genotype) -> Mapping[str, int] | None:
        """As the genotype's own space says."""
        _, space, own = self._read(genotype)
        return space.layers(own)

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """As the genotype's own space counts."""
        _, space, own = self._read(genotype)
        return space.costs(own, input_size or self.input_size, num_classes)

    def resolution(self, genotype: Genotype) -> int | None:
        """As the genotype's own space says."""
        _, space, own = self._read(genotype)
        return space.resolution(own)

    def peak_memory(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> int:
        """As the genotype's own space counts."""
        _, space, own = self._read(genotype)
        return space.peak_memory(own, input_size or self.input_size, num_classes)

    def _read(self, genotype: Genotype) -> tuple[str, Space, Genotype]:
        if not isinstance(genotype, tuple) or len(genotype) != 2 or not isinstance(genotype[0], str):
            raise ValueError(f"A genotype of a union is (name of a space, genotype); got {genotype!r}.")
        name, own = genotype
        assert isinstance(name, str)
        if name not in self.spaces:
            raise ValueError(f"There is no space {name!r} in this union; {self._there(name)}")
        return name, self.spaces[name], own

    def _there(self, name: str) -> str:
        return f"it has, closest first: {', '.join(closest(name, self.spaces))}."
