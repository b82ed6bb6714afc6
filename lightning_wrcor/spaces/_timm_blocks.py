"""What the spaces share whose networks timm builds from a description instead of a name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

from torch import nn

from lightning_wrcor.inspection import Costs, count_costs
from lightning_wrcor.spaces._base import Genotype
from lightning_wrcor.spaces._choices import Choice, ChoicesSpace, Value, as_text, read_stages, read_values
from lightning_wrcor.spaces._drawing import Drawing, Table
from lightning_wrcor.spaces._timm import with_act_layer
from lightning_wrcor.spaces._without_weights import without_weights
from lightning_wrcor.spaces.timm_models import _OWN_ARGUMENTS


class TimmBlocks(ChoicesSpace):
    """Models of one class of timm, from choices.

    Args:
        image_size: height and width in pixels of the images.
        kwargs: further arguments of timm's class.
    """

    _data: ClassVar[Mapping[str, Any]]
    """What timm's configuration of the models says beside the size and the classes."""

    def __init__(self, choices: Sequence[Choice], image_size: int, kwargs: Mapping[str, Any] | None) -> None:
        if not isinstance(image_size, int) or image_size < 1:
            raise ValueError(f"image_size is a whole number of pixels; got {image_size!r}.")
        self.image_size = image_size
        self.kwargs = dict(kwargs or {})
        self.input_size = (3, image_size, image_size)
        for argument, reason in _OWN_ARGUMENTS.items():
            if argument in self.kwargs:
                raise ValueError(f"kwargs cannot hold {argument!r}: {reason}.")
        self._create_kwargs = with_act_layer(self.kwargs)
        self._ordered = tuple(choices)

    @property
    def _choices(self) -> tuple[Choice, ...]:
        return self._ordered

    @property
    def _why_not(self) -> str:
        return type(self).__name__

    @abstractmethod
    def _model(self, values: Mapping[str, Value], name: str) -> tuple[type[nn.Module], dict[str, Any]]:
        """Timm's class and the arguments that describe one model."""

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained model of timm, initialised as timm does, from torch's global random numbers.

        Args:
            genotype: one value of each choice.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images.

        Returns:
            A plain model of timm's class, whose ``pretrained_cfg`` has the size and the classes, and no weights.

        Raises:
            ValueError: for a genotype of other choices, and if timm's class does not take the space's ``kwargs``.
        """
        return self._create(self._checked(genotype), num_classes, in_chans)

    def _create(self, values: Mapping[str, Value], num_classes: int, in_chans: int) -> nn.Module:
        from timm.models import build_model_with_cfg

        name = self._written(tuple(values.values()))
        cls, described = self._model(values, name)
        size = (in_chans, self.image_size, self.image_size)
        data = {"architecture": self.kind, "num_classes": num_classes, "input_size": size, **self._data}
        try:
            model: nn.Module = build_model_with_cfg(
                cls,
                self.kind,
                False,  # no weights
                pretrained_cfg=data,
                num_classes=num_classes,
                in_chans=in_chans,
                **{**described, **self._create_kwargs},
            )
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"timm cannot build {name!r} with kwargs={self.kwargs!r}: {type(error).__name__}: {error}"
            ) from error
        return model

    @property
    def mixed_depth(self) -> bool:
        """Whether the number of blocks, or the kind of block, is a choice."""
        names = ("depth", "block")
        return any(choice.name.startswith(names) and len(choice.values) > 1 for choice in self._choices)


class StagedBlocks(TimmBlocks):
    """Such models with a stem and stages of equal blocks, of which only the first may differ.

    Args:
        stem: widths of the stem.
        stages: the choices of each stage; the names of those for its depth begin with "depth".
        head: further choices.
        image_size: height and width in pixels of the images.
        kwargs: further arguments of timm's class.
    """

    def __init__(
        self,
        stem: Choice,
        stages: Sequence[Sequence[Choice]],
        head: Sequence[Choice],
        image_size: int,
        kwargs: Mapping[str, Any] | None,
    ) -> None:
        super().__init__([stem, *chain(*stages), *head], image_size, kwargs)
        self._stage_names = [[choice.name for choice in stage] for stage in stages]
        self._head_names = [choice.name for choice in head]
        # What one piece costs, and the shape of what it gives, by its description and the shape of what it takes.
        self._pieces: dict[tuple[tuple[Any, ...], tuple[int, ...]], tuple[Costs, tuple[int, ...]]] = {}

    @abstractmethod
    def _fixed(self, stage: int) -> dict[str, str]:
        """What is not chosen of the stage at this place (counted from 0), for a drawing."""

    def _drawing(self, genotype: Genotype) -> Drawing:
        values, last = self._checked(genotype), len(self._stage_names)
        fields = [name.removesuffix(str(last)) for name in self._stage_names[-1]]
        head = ("stage", *self._fixed(0), *(field.replace("_", " ") for field in fields))

        def row(place: str, known: Mapping[str, Any]) -> tuple[str, ...]:
            return (place, *(as_text(known.get(field, "")) for field in (*self._fixed(0), *fields)))

        rows = [row("stem", {"width": values["stem"]})]
        for place, names in enumerate(self._stage_names):
            own = {name.removesuffix(str(place + 1)): values[name] for name in names}
            rows.append(row(str(place + 1), {**self._fixed(place), **own}))
        rows += [row(name, {"width": values[name]}) for name in self._head_names]
        return Drawing((Table(tuple(rows), head),))

    @abstractmethod
    def _modules(self, model: nn.Module) -> tuple[nn.Module, Sequence[nn.Sequential], nn.Module]:
        """Stem, stages and the rest of a model."""

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and depth, without the weights.

        Stem, head and each kind of block are counted once, on the meta device, and remembered; random numbers are left
        as they were.

        Args:
            genotype: one value of each choice.
            input_size: ``(channels, height, width)`` of one image; by default 3 channels of ``image_size``.
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two).
        """
        values, size = self._checked(genotype), input_size or self.input_size
        try:
            return self._add_up(values, size, num_classes)
        except KeyError:
            short = {name: 2 if name.startswith("depth") else value for name, value in values.items()}
        without_weights(
            lambda: self._create(short, num_classes, size[0]),
            lambda model: self._count_pieces(model, short, size, num_classes),
        )
        return self._add_up(values, size, num_classes)

    def _described(self, values: Mapping[str, Any], num_classes: int) -> Iterator[tuple[tuple[Any, ...], int]]:
        """Every piece of a model in order, and how often it follows on itself."""
        yield ("stem", values["stem"]), 1
        for stage, names in enumerate(self._stage_names):
            own = tuple(values[name] for name in names if not name.startswith("depth"))
            yield ("first", stage, *own), 1
            yield ("other", stage, *own), sum(values[name] for name in names if name.startswith("depth")) - 1
        yield ("head", num_classes, *(values[name] for name in self._head_names)), 1

    def _add_up(self, values: Mapping[str, Value], shape: tuple[int, ...], num_classes: int) -> Costs:
        """Raises KeyError for a piece that was not counted yet."""
        params = macs = depth = 0
        for description, times in self._described(values, num_classes):
            if times:
                costs, shape = self._pieces[description, shape]
                params, macs = params + times * costs.params, macs + times * costs.macs
                depth += times * costs.depth
        return Costs(params, macs, depth)

    def _count_pieces(
        self, model: nn.Module, values: Mapping[str, Value], shape: tuple[int, ...], num_classes: int
    ) -> None:
        """Count the pieces of a model with two blocks in every stage."""
        stem, stages, head = self._modules(model)
        shapes: list[tuple[int, ...]] = []
        for (description, _), module in zip(
            self._described(values, num_classes), [stem, *chain(*stages), head], strict=True
        ):
            if (description, shape) not in self._pieces:
                hook = module.register_forward_hook(lambda _, images, out: shapes.append(tuple(out.shape[1:])))
                costs = count_costs(module, (shape[0], shape[1], shape[2]))
                hook.remove()
                self._pieces[description, shape] = costs, shapes[-1]
            _, shape = self._pieces[description, shape]


def whole(argument: str, given: Any, multiple: int = 1, smallest: int = 1) -> tuple[int, ...]:
    """Read the values of a choice that must be whole numbers."""
    numbers = []
    for value in read_values(argument, given):
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest or value % multiple:
            what = f"multiples of {multiple}" if multiple > 1 else "whole numbers"
            raise ValueError(f"{argument} are {what} of at least {max(smallest, multiple)}; got {value!r}.")
        numbers.append(value)
    return tuple(numbers)


def whole_stages(
    argument: str, given: Any, stages: int, multiple: int = 1, smallest: int = 1
) -> tuple[tuple[int, ...], ...]:
    """As `whole`, for each stage: of one list for all stages, or of one list for each."""
    return tuple(whole(argument, part, multiple, smallest) for part in read_stages(argument, given, stages))


def ratios(argument: str, given: Any, zero: bool = False) -> tuple[float, ...]:
    """Read the values of a choice that must be positive numbers (or 0, with ``zero``)."""
    numbers = []
    for value in read_values(argument, given):
        if isinstance(value, (bool, str)) or value is None or value < 0 or (value == 0 and not zero):
            least = "0 or more" if zero else "more than 0"
            raise ValueError(f"{argument} are numbers of {least}; got {value!r}.")
        numbers.append(value)
    return tuple(numbers)


def count_stages(**given: Any) -> int:
    """The number of stages of an argument that has one list for each."""
    for argument, value in given.items():
        if not isinstance(value, Sequence) or not value or not all(isinstance(part, Sequence) for part in value):
            raise ValueError(f"{argument} has a list for each stage, such as [[64, 96], [128, 192]]; got {value!r}.")
    (value,) = given.values()
    return len(value)
