"""What the spaces have in common whose genotypes choose one value from each of several lists."""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

from lightning_wrcor._config import plain
from lightning_wrcor.spaces._base import FiniteSpace, Genotype
from lightning_wrcor.spaces._drawing import Drawing, choices_table

Value: TypeAlias = bool | int | float | str | None
"""What a choice can be."""

COUNTABLE = 1_000_000
"""Up to so many combinations are counted one by one, where a space rejects some of them."""

_DRAWS = 10_000


@dataclass(frozen=True)
class Choice:
    """One list to choose from.

    Attributes:
        name: what is chosen.
        values: what there is to choose from.
        lead: the text before the value in the genotype's name. Its first character must be in no value's text.
    """

    name: str
    values: tuple[Value, ...]
    lead: str

    @property
    def parts(self) -> dict[Genotype, Value]:
        """The values by their form in a genotype: whole numbers as they are, anything else as text."""
        return {as_part(value): value for value in self.values}

    @property
    def listed(self) -> str:
        """The values for a message."""
        return ", ".join(as_text(value) for value in self.values)


class ChoicesSpace(FiniteSpace):
    """All combinations of the values of some choices, or those of them that `_allows` accepts."""

    _restricted = False
    """Whether `_allows` may reject anything."""
    _length: int | None = None

    @property
    @abstractmethod
    def _choices(self) -> tuple[Choice, ...]:
        """The choices in the order of the genotype."""

    def _allows(self, values: Mapping[str, Value]) -> bool:
        """Whether a combination, as ``{name: value}``, belongs to the space."""
        return True

    @property
    def _why_not(self) -> str:
        """What rejects combinations, for a message."""
        return "the space"

    def __len__(self) -> int:
        """How many genotypes there are. Above a million combinations, those that are rejected count too."""
        if self._length is None:
            size = math.prod(len(choice.values) for choice in self._choices)
            self._length = sum(1 for _ in self) if self._restricted and size <= COUNTABLE else size
        return self._length

    def __iter__(self) -> Iterator[Genotype]:
        """Every genotype in order; the last choice changes fastest."""
        for combination in product(*(choice.values for choice in self._choices)):
            if self._fits(combination):
                yield tuple(as_part(value) for value in combination)

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype; all are equally likely.

        Each choice is drawn uniformly, and again from the start where the combination is rejected.

        Raises:
            ValueError: if 10,000 combinations in a row are rejected.
        """
        for _ in range(_DRAWS):
            combination = tuple(rng.choice(choice.values) for choice in self._choices)
            if self._fits(combination):
                return tuple(as_part(value) for value in combination)
        raise ValueError(
            f"{self._why_not} rejected {_DRAWS:,} combinations in a row, the last one {self._written(combination)!r}: "
            "reject fewer, or leave out the values that are always rejected."
        )

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change one choice: which one is drawn uniformly, and then its value over the others that are accepted.

        Raises:
            ValueError: if no other genotype is one change away, or ``genotype`` is not in the space.
        """
        combination = tuple(self._checked(genotype).values())
        places = [place for place, choice in enumerate(self._choices) if len(choice.values) > 1]
        rng.shuffle(places)
        for place in places:
            values = [value for value in self._choices[place].values if as_part(value) != as_part(combination[place])]
            rng.shuffle(values)
            for value in values:
                child = (*combination[:place], value, *combination[place + 1 :])
                if self._fits(child):
                    return tuple(as_part(part) for part in child)
        raise ValueError(f"No other network of this space is one change away from {self._written(combination)!r}.")

    def places(self) -> tuple[tuple[Genotype, ...], ...]:
        """The values of each choice."""
        return tuple(tuple(choice.parts) for choice in self._choices)

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """The genotype itself: one value of each choice."""
        return tuple(as_part(value) for value in self._checked(genotype).values())

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """The same values as a genotype. Raises ValueError for a combination that is rejected."""
        return self.parts(tuple(parts))

    def parse(self, text: str) -> Genotype:
        """Read a name. Raises ValueError showing the part that cannot be read or is not in the space."""
        rest, genotype = text.strip(), []
        choices = self._choices
        for place, choice in enumerate(choices):
            if not rest.startswith(choice.lead):
                after = f" after {text.strip().removesuffix(rest)!r}" if place else ""
                raise ValueError(f"Expected {choice.lead!r}{after}, got {rest!r} in {text!r}.")
            rest = rest.removeprefix(choice.lead)
            value = rest.partition(choices[place + 1].lead[0])[0] if place + 1 < len(choices) else rest
            texts = {as_text(known): part for part, known in choice.parts.items()}
            if value not in texts:
                raise ValueError(f"{choice.name} is one of {choice.listed}; got {value!r} in {text!r}.")
            rest = rest.removeprefix(value)
            genotype.append(texts[value])
        self._checked(tuple(genotype))
        return tuple(genotype)

    def name(self, genotype: Genotype) -> str:
        """The choices as text, in their order."""
        return self._written(tuple(self._values(genotype).values()))

    def _drawing(self, genotype: Genotype) -> Drawing:
        values = self._checked(genotype)
        chosen = [(c.name, [as_text(value) for value in c.values], as_text(values[c.name])) for c in self._choices]
        return Drawing((choices_table(chosen),))

    def _written(self, combination: Sequence[Value]) -> str:
        return "".join(c.lead + as_text(value) for c, value in zip(self._choices, combination, strict=True))

    def _fits(self, combination: Sequence[Value]) -> bool:
        if not self._restricted:
            return True
        return self._allows({c.name: value for c, value in zip(self._choices, combination, strict=True)})

    def _values(self, genotype: Genotype) -> dict[str, Value]:
        """``{name: value}``; ValueError shows a part that is not among the choices."""
        choices = self._choices
        if not isinstance(genotype, tuple) or len(genotype) != len(choices):
            names = ", ".join(choice.name for choice in choices)
            raise ValueError(f"A genotype of {type(self).__name__} is a tuple ({names}), got {genotype!r}.")
        values = {}
        for choice, part in zip(choices, genotype, strict=True):
            if not isinstance(part, (int, str)) or isinstance(part, bool) or part not in choice.parts:
                written = ", ".join(repr(known) for known in choice.parts)
                raise ValueError(f"{choice.name} of a genotype is one of {written}; got {part!r}.")
            values[choice.name] = choice.parts[part]
        return values

    def _checked(self, genotype: Genotype) -> dict[str, Value]:
        """As `_values`; a combination that is rejected is an error too."""
        values = self._values(genotype)
        if self._restricted and not self._allows(values):
            raise ValueError(f"{self._why_not} rejects {self._written(tuple(values.values()))!r}.")
        return values


def as_text(value: Value) -> str:
    """A value as it stands in a name."""
    return value if isinstance(value, str) else repr(value)


def as_part(value: Value) -> Genotype:
    """A value as it stands in a genotype: a whole number, or text."""
    return value if isinstance(value, int) and not isinstance(value, bool) else as_text(value)


def read_values(argument: str, given: Any) -> tuple[Value, ...]:
    """The values of one choice.

    Args:
        argument: what is chosen, for messages.
        given: a list, tuple, range or one-dimensional array of plain values.

    Raises:
        TypeError: for anything else.
        ValueError: if there are none, a number is not finite, or two of them look the same as text.
    """
    values = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{argument} is a list of values to choose from; got {type(given).__name__}: {given!r}.")
    read: list[Value] = []
    for value in map(_scalar, values):
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise TypeError(
                f"A value of {argument} is a number, text, True, False or None; got {type(value).__name__}: {value!r}. "
                "Write it as text or as a number, and make of it what you need where the network is built."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"A number among the values of {argument} must be finite; got {value}.")
        read.append(value)
    texts = [as_text(value) for value in read]
    twice = [text for text in texts if texts.count(text) > 1]
    if not read or twice:
        problem = f"{twice[0]!r} is there twice" if twice else "there is none"
        raise ValueError(f"{argument} needs different values to choose from, but {problem}: {given!r}.")
    return tuple(read)


def _scalar(value: Any) -> Any:
    """A number or a text of NumPy as Python's own."""
    return plain(value) if getattr(value, "shape", None) == () else value


def read_stages(argument: str, given: Any, stages: int) -> tuple[tuple[Value, ...], ...]:
    """The values of a choice for each stage, of one list for all stages or of one list for each."""
    nested = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
    if not nested or not all(isinstance(part, Sequence) and not isinstance(part, str) for part in given):
        return (read_values(argument, given),) * stages
    if len(given) != stages:
        raise ValueError(f"{argument} has lists for {len(given)} stages, but the networks have {stages}: {given!r}.")
    return tuple(read_values(f"{argument} of stage {stage}", part) for stage, part in enumerate(given, start=1))
