"""A user's own space in a few lines: lists to choose from, and a function that builds the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from lightning_wrcor._config import plain
from lightning_wrcor.inspection import Costs, count_costs
from lightning_wrcor.spaces._base import Genotype
from lightning_wrcor.spaces._choices import Choice, ChoicesSpace, Value, as_text, read_values
from lightning_wrcor.spaces._functions import accepted, check_call, describe_function, import_function, is_description
from lightning_wrcor.spaces._without_weights import without_weights

_OWN = ("num_classes", "in_chans")


class ChoiceSpace(ChoicesSpace):
    """The networks that a function builds from one value of each list.

    ::

        def build(depth, width, num_classes, in_chans=3):
            return nn.Sequential(...)

        space = ChoiceSpace({"depth": [2, 3], "width": range(16, 65, 8)}, build)

    A genotype is a tuple with one value of each choice, in the order of ``choices``: whole numbers as they are, and any
    other value as text (``0.5`` as ``"0.5"``, ``True`` as ``"True"``). Its name is written ``depth=2,width=16``.

    A function may be given as its import path, ``"my_package.my_module.build"``. `config` holds that path, also where
    the function itself was given and can be imported; for any other function it holds a text that says what it was. A
    space that is built from such a text again knows its networks' names, but only the function itself can build them.

    Args:
        choices: names and what there is to choose from: a list, tuple or range of numbers, text, True, False and None.
        factory: the function that builds the network. It gets all choices as keywords, and ``num_classes`` and
            ``in_chans`` where its signature has parameters of that name (``**kwargs`` do not count).
        valid: a function that gets those of the choices that its signature has, and says whether the combination
            belongs to the space. Combinations that it rejects are drawn again.
        layer_index: the layer index of the modules, as ``{module name: index}`` counted from the input, or a function
            that gets those of the choices that its signature has and returns that. By default the rule for any network
            applies (`Space.layers`).
        input_size: ``(channels, height, width)`` of the images that the networks are meant for.
        mixed_depth: whether the networks may differ in their number of layers. Scores are then normalised by depth,
            which does not change the order of networks of equal depth: False is for a space whose networks are all
            equally deep, and only makes their scores those of the paper's own formula.

    Raises:
        TypeError: for choices that are not lists of plain values, and functions that cannot be called this way.
        ValueError: for a list without values or with a value twice, a name or text that cannot stand in
            ``depth=2,width=16``, and an import path that leads nowhere.
    """

    kind = "choices"

    def __init__(
        self,
        choices: Mapping[str, Sequence[Any]],
        factory: Callable[..., nn.Module] | str,
        *,
        valid: Callable[..., bool] | str | None = None,
        layer_index: Callable[..., Mapping[str, int]] | Mapping[str, int] | str | None = None,
        input_size: Sequence[int] = (3, 224, 224),
        mixed_depth: bool = True,
    ) -> None:
        self.choices = _read_choices(choices)
        self.factory = factory
        self.valid = valid
        self.layer_index = layer_index
        self.input_size = _read_size(input_size)
        self._mixed_depth = bool(mixed_depth)
        self._restricted = valid is not None
        self._ordered = tuple(
            Choice(name, values, f"{',' if place else ''}{name}=")
            for place, (name, values) in enumerate(self.choices.items())
        )
        self._factory = _function("factory", factory)
        self._valid = None if valid is None else _function("valid", valid)
        mapping = layer_index is None or isinstance(layer_index, Mapping)
        self._layer_index = None if mapping else _function("layer_index", layer_index)
        if self._factory is not None:
            own = accepted(self._factory, dict.fromkeys(_OWN))
            check_call("factory", self._factory, [*self.choices, *own])
        for argument, function in (("valid", self._valid), ("layer_index", self._layer_index)):
            if function is not None:
                check_call(argument, function, accepted(function, self.choices, catch_all=True))

    @property
    def _choices(self) -> tuple[Choice, ...]:
        return self._ordered

    @property
    def _why_not(self) -> str:
        return f"valid={describe_function(self._valid)}" if self._valid else "valid"

    def _allows(self, values: Mapping[str, Value]) -> bool:
        if self._valid is None:
            raise _lost("valid", self.valid)
        return bool(self._valid(**accepted(self._valid, values, catch_all=True)))

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the network with the space's function.

        Args:
            genotype: one value of each choice.
            num_classes: width of the logits, ``(batch, num_classes)``, where the function takes it.
            in_chans: channels of the images, likewise.

        Raises:
            ValueError: for a genotype of other choices, and if only the description of the function is left.
            TypeError: if the function returns something else than a module.
        """
        values = self._values(genotype)
        if self._factory is None:
            raise _lost("factory", self.factory)
        own = accepted(self._factory, {"num_classes": num_classes, "in_chans": in_chans})
        network = self._factory(**values, **own)
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"factory must return a torch.nn.Module; for {self.name(genotype)} it returned {network!r}."
            )
        return network

    def layers(self, genotype: Genotype) -> Mapping[str, int] | None:
        """Layer index of the modules, where ``layer_index`` gives it."""
        if self.layer_index is None or isinstance(self.layer_index, Mapping):
            return self.layer_index
        if self._layer_index is None:
            raise _lost("layer_index", self.layer_index)
        layers: Mapping[str, int] = self._layer_index(
            **accepted(self._layer_index, self._values(genotype), catch_all=True)
        )
        return layers

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and depth, counted on the meta device, with random numbers left as they were.

        A network that the meta device cannot run is built and run on the default device instead.

        Args:
            genotype: one value of each choice.
            input_size: ``(channels, height, width)`` of one image; by default the space's own.
            num_classes: width of the logits, where the function takes it.
        """
        size = input_size or self.input_size
        return without_weights(
            lambda: self.build(genotype, num_classes, size[0]), lambda network: count_costs(network, size)
        )

    @property
    def mixed_depth(self) -> bool:
        """Whether the networks may differ in their number of layers, as the constructor was told."""
        return self._mixed_depth

    def config(self) -> dict[str, Any]:
        """The space as plain values; functions become their import paths, or a text that says what they were."""
        config = super().config()
        for argument in ("factory", "valid", "layer_index"):
            given = getattr(self, argument)
            config["init_args"][argument] = describe_function(given) if callable(given) else plain(given)
        return config


def _read_choices(choices: Any) -> dict[str, tuple[Value, ...]]:
    if not isinstance(choices, Mapping):
        raise TypeError(
            f"choices is a mapping from names to lists of values; got {type(choices).__name__}: {choices!r}."
        )
    if not choices:
        raise ValueError("choices is empty: give at least one list to choose from.")
    read = {}
    for name, given in choices.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"The name of a choice is that of an argument of the function; got {name!r}.")
        if name in _OWN:
            raise ValueError(f"{name!r} cannot be a choice: it comes with each call of build.")
        read[name] = read_values(f"choices[{name!r}]", given)
        for text in map(as_text, read[name]):
            if "," in text or text != text.strip():
                raise ValueError(
                    f"Text among the choices has no comma, and no space at its ends, so that the network's name can be "
                    f"read back; {name!r} has {text!r}."
                )
    return read


def _read_size(input_size: Any) -> tuple[int, int, int]:
    size = tuple(input_size) if isinstance(input_size, Sequence) and not isinstance(input_size, str) else ()
    if len(size) != 3 or not all(isinstance(length, int) and length >= 1 for length in size):
        raise ValueError(f"input_size is (channels, height, width), three whole numbers; got {input_size!r}.")
    return size


def _function(argument: str, given: Any) -> Callable[..., Any] | None:
    """The function itself; None for the text that is left of one that could not be stored."""
    if isinstance(given, str):
        return None if is_description(given) else import_function(f"{argument}={given!r}", given)
    if isinstance(given, nn.Module) or not callable(given):
        raise TypeError(f"{argument} is a function or its import path 'package.module:function'; got {given!r}.")
    return given  # type: ignore[no-any-return]


def _lost(argument: str, description: Any) -> ValueError:
    return ValueError(
        f"{argument} was an object, {description[1:-1]}, which text cannot hold: pass the function again, as "
        f"ChoiceSpace(..., {argument}=...)."
    )
