"""The contract of a search space, and what every space gets for nothing."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, Union

from torch import nn

from lightning_wrcor._config import Configurable
from lightning_wrcor._matplotlib import check_drawing
from lightning_wrcor.inspection import Costs, count_costs, peak_activation_bytes
from lightning_wrcor.spaces._drawing import Drawing, costs_drawing
from lightning_wrcor.spaces._without_weights import without_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Genotype: TypeAlias = Union[str, int, "tuple[Genotype, ...]"]
"""Plain, hashable data that JSON can hold: text, whole numbers and (nested) tuples of them."""


LISTABLE = 10_000
"""Up to so many genotypes are options of one single place, where a space names no places."""


def freeze(data: Any) -> Genotype:
    """Turn data read from JSON or YAML (lists inside lists) into a genotype (tuples inside tuples).

    Args:
        data: text, a whole number, or a list or tuple of such.

    Raises:
        TypeError: for anything else; the message shows the offending part.
    """
    if isinstance(data, (list, tuple)):
        return tuple(freeze(part) for part in data)
    if isinstance(data, str) or (isinstance(data, int) and not isinstance(data, bool)):
        return data
    raise TypeError(f"A genotype holds text, whole numbers and lists of them; got {type(data).__name__}: {data!r}.")


class ImageSizeError(ValueError):
    """A network of a space that takes images, but not of the size asked for; a search leaves it out."""


class Space(Configurable, ABC):
    """A search space: genotypes (plain data), and the network that each of them describes.

    A subclass stores each constructor argument in an attribute of the same name, so that the space can be written into
    checkpoints and journals as plain values (``config``) and built again from them (`get_space`).
    """

    kind: ClassVar[str]
    """The name in the registry, such as ``"nasbench201"``."""

    input_size: tuple[int, int, int] = (3, 224, 224)
    """Shape ``(channels, height, width)`` of the images that the networks are meant for; other sizes work as well
    unless the space says so."""

    @abstractmethod
    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype. The same state of ``rng`` gives the same genotype."""

    @abstractmethod
    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change one choice of ``genotype``; the result is in the space and differs from ``genotype``."""

    @abstractmethod
    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained network, initialised from torch's global random numbers.

        Args:
            genotype: a member of this space.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images.
        """

    @abstractmethod
    def parse(self, text: str) -> Genotype:
        """Read the text form that `name` gives. Raises ValueError showing the part that cannot be read."""

    @abstractmethod
    def name(self, genotype: Genotype) -> str:
        """A text form of ``genotype`` that `parse` reads back; the community's own notation where there is one."""

    def key(self, genotype: Genotype) -> str:
        """One canonical text for all genotypes that describe the same network; by default the name."""
        return self.name(genotype)

    def places(self) -> tuple[tuple[Genotype, ...], ...] | None:
        """What can stand at each place of a genotype, where genotypes are made of choices of equal standing.

        Strategies that learn place by place, cross two genotypes or look at all neighbours of one need this. `parts`
        takes a genotype apart into what stands at its places, and `assemble` puts one together. None (the default) for
        genotypes that are not made in this way, such as graphs.
        """
        return None

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """What stands at each of the `places` of ``genotype``; by default the genotype is the only one."""
        return (genotype,)

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """The genotype that has these `parts`, one of each place's options.

        Raises:
            ValueError: where the space rejects this combination.
        """
        (genotype,) = parts
        return genotype

    def layers(self, genotype: Genotype) -> Mapping[str, int] | None:
        """Layer index of the modules, as ``{module name: index}`` counted from the input.

        A module that is not listed takes the index of its nearest listed ancestor. None (the default) leaves it to the
        rule for any network, `lightning_wrcor.inspection.layers`.
        """
        return None

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and depth of the network, without its weights.

        Args:
            genotype: a member of this space.
            input_size: ``(channels, height, width)`` of one image; by default the space's own.
            num_classes: width of the logits.

        By default the network is built and run on the meta device; spaces with a closed form override this.

        Raises:
            ImageSizeError: (a ValueError) if the network takes images of other sizes only, where the space knows that.
        """
        size = input_size or self.input_size
        return without_weights(
            lambda: self.build(genotype, num_classes=num_classes, in_chans=size[0]),
            lambda network: count_costs(network, size),
        )

    def resolution(self, genotype: Genotype) -> int | None:
        """Height and width in pixels that the network brings images to; None (the default) where it takes any."""
        return None

    def peak_memory(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> int:
        """Bytes that the activations of one image take at most, `lightning_wrcor.inspection.peak_activation_bytes`.

        The network is built and run without its weights, which takes milliseconds to tenths of a second.

        Args:
            genotype: a member of this space.
            input_size: ``(channels, height, width)`` of one image; by default the space's own.
            num_classes: width of the logits.
        """
        size = input_size or self.input_size
        return without_weights(
            lambda: self.build(genotype, num_classes=num_classes, in_chans=size[0]),
            lambda network: peak_activation_bytes(network, size),
        )

    def draw(
        self,
        genotype: Genotype,
        *,
        width: float = 7.0,
        input_size: tuple[int, int, int] | None = None,
        num_classes: int = 1000,
    ) -> Figure:
        """Draw the genotype: its cells as graphs, its stages or choices as a table, or else its name and its costs.

        Nothing is shown, and pyplot knows nothing of the figure: ``space.draw(genotype).savefig("cell.pdf")``. The
        figure is as large as what it shows, with text of 7 to 8 points up to a width of 7 inches and in proportion
        above that, for a slide. Operations ``none`` are left out.

        Args:
            genotype: a member of this space.
            width: inches that the figure may be wide; text is smaller than 7 points only where it would not fit.
            input_size: ``(channels, height, width)`` of one image, where costs are shown; by default the space's own.
            num_classes: width of the logits, where costs are shown.

        Raises:
            ImportError: if matplotlib is not installed.
            ValueError: if the genotype is not in this space.
        """
        check_drawing(width)
        drawing = self._drawing(genotype)
        if drawing is None:
            size = input_size or self.input_size
            costs = self.costs(genotype, size, num_classes)
            drawing = costs_drawing(self.name(genotype), costs, size, num_classes)
        from lightning_wrcor.spaces._figure import render

        return render(drawing, width)

    def _drawing(self, genotype: Genotype) -> Drawing | None:
        """What `draw` shows of the choices in a genotype, as plain data; None (the default) shows its name and its costs."""
        return None

    @property
    def mixed_depth(self) -> bool:
        """Whether the networks differ in their number of layers by nature, so that scores need normalising by depth."""
        return False


class FiniteSpace(Space):
    """A search space that can be enumerated: it has a length, and iterating gives every genotype once, in order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Genotype]: ...

    def most(self) -> int:
        """How many genotypes there are at most, known at once; by default the length."""
        return type(self).__len__(self)  # not len(self), which fails beyond 2^63

    def shuffled(self, rng: random.Random) -> Iterator[Genotype]:
        """Every genotype once, in an order drawn from ``rng``; spaces that are slow to enumerate yield as they go."""
        candidates = list(self)
        rng.shuffle(candidates)
        return iter(candidates)

    def places(self) -> tuple[tuple[Genotype, ...], ...] | None:
        """One place for the whole genotype, in spaces of up to 10,000; None in larger ones that name no places."""
        return (tuple(self),) if type(self).__len__(self) <= LISTABLE else None
