"""The models of timm as a search space: the genotype is the model's name."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from lightning_wrcor.inspection import Costs, count_costs
from lightning_wrcor.spaces._base import FiniteSpace, Genotype, ImageSizeError
from lightning_wrcor.spaces._timm import (
    closest,
    configuration,
    create_untrained,
    family,
    matching,
    with_act_layer,
)
from lightning_wrcor.spaces._without_weights import without_weights

_LOG = logging.getLogger(__name__)

_MANY = 50
"""Models to build before something can be said of the space, from which on a person should know why it takes long."""

_OWN_ARGUMENTS = {
    "num_classes": "it comes with each call of build",
    "in_chans": "it comes with each call of build",
    "img_size": "set image_size of the space instead, which knows the models that take it",
    "pretrained": "a search compares untrained networks and never downloads weights",
    "pretrained_cfg": "a search compares untrained networks and never downloads weights",
    "pretrained_cfg_overlay": "a search compares untrained networks and never downloads weights",
    "checkpoint_path": "a search compares untrained networks",
    "cache_dir": "nothing is downloaded",
    "features_only": "the networks of a space return logits",
}


class TimmModels(FiniteSpace):
    """Models of timm by name or wildcard, untrained.

    A genotype is a model's name, such as ``"resnet18"``. Names carry no tag of pretrained weights (``".a1_in1k"``),
    because weights are never loaded and nothing is downloaded. The space is sorted by name.

    Names and patterns are checked at once. The filters ``image_size``, ``max_params`` and ``max_macs`` need the models
    to be built, on the meta device (without weights), which takes up to some seconds each: for every name that is drawn,
    and for all that ``include``, ``exclude`` and ``max_input_size`` leave when the space is counted or enumerated; what
    is found is kept. `left_out` says which names a filter removed, and why. A few models of timm are encoders
    without a classifier: `build` refuses them, and so does every filter that builds.

    How a fixed input size is known: timm's default configuration of the model says ``fixed_input_size``. With
    ``image_size``, such a model is built with ``img_size=(image_size, image_size)`` and run once on the meta device;
    if either fails, it is left out, or, where ``include`` has its exact name, an error says what failed. Models
    without a fixed size are taken as they are. A search leaves out models that cannot run on images of its size, which
    most models with a fixed size cannot: give ``image_size`` to search them too.

    Args:
        include: a name, a pattern with ``*``, ``?`` and ``[...]`` as in `timm.list_models`, or a list of them.
        exclude: names and patterns that are left out again.
        image_size: height and width in pixels of the images that the networks will get. By default each model keeps
            its own size, and models with a fixed size run on no other.
        max_params: the most parameters that a model may have, counted with 1,000 classes and 3 channels.
        max_macs: the most multiply-adds for one image (3 channels, of ``image_size`` or else of the model's own size,
            1,000 classes) that a model may take.
        max_input_size: the largest height or width in pixels that timm's configuration may give as the model's own.
        has_weights: only models that timm has pretrained weights for. They are scored untrained all the same; a training
            can begin with the weights (``pretrained=True`` of `lightning_wrcor.ZeroShotSearchModule`).
        kwargs: further arguments of `timm.create_model` for all models, such as ``{"drop_path_rate": 0.1}``.
            ``act_layer`` may be a name that timm knows, such as ``"silu"``. Not all models take all arguments: one
            that refuses them fails in `build` with a message that says so, and does not pass a filter that builds.

    Raises:
        ValueError: for a name or a pattern that no model matches, an unknown ``act_layer``, an argument that the space
            sets itself, and, when the space is first enumerated, if the filters leave nothing.
    """

    kind = "timm"

    def __init__(
        self,
        include: str | Sequence[str] = "*",
        exclude: str | Sequence[str] = (),
        *,
        image_size: int | None = None,
        max_params: int | None = None,
        max_macs: int | None = None,
        max_input_size: int | None = None,
        has_weights: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.include = include
        self.exclude = exclude
        self.image_size = image_size
        self.max_params = max_params
        self.max_macs = max_macs
        self.max_input_size = max_input_size
        self.has_weights = has_weights
        self.kwargs = dict(kwargs or {})
        limits = {"image_size": image_size, "max_params": max_params, "max_macs": max_macs}
        for limit, value in {**limits, "max_input_size": max_input_size}.items():
            if value is not None and value < 1:
                raise ValueError(f"{limit} must be at least 1, or None for no limit; got {value}.")
        for argument, reason in _OWN_ARGUMENTS.items():
            if argument in self.kwargs:
                raise ValueError(f"kwargs cannot hold {argument!r}: {reason}.")
        if image_size is not None:
            self.input_size = (3, image_size, image_size)
        self._create_kwargs = with_act_layer(self.kwargs)
        included = matching(include, "include")
        if has_weights:
            from timm import list_models

            included &= {name.partition(".")[0] for name in list_models(pretrained=True)}
            if not included:
                raise ValueError(f"timm has pretrained weights for none of the models that include={include!r} names.")
        self._listed = sorted(included - matching(exclude, "exclude"))
        self._excluded = len(included) - len(self._listed)
        self._left: list[str] | None = None
        self._verdicts: dict[str, tuple[str, str] | None] = {}
        self._costs: dict[tuple[str, tuple[int, int, int], int], Costs] = {}

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def most(self) -> int:
        """How many names ``include`` and ``exclude`` leave; the other filters may remove some of them."""
        return len(self._listed)

    def shuffled(self, rng: random.Random) -> Iterator[str]:
        """Every name once, in an order drawn from ``rng``; a filter looks at a name when its turn comes."""
        self._check_exact_names()
        return self._passing(rng.sample(self._listed, len(self._listed)))

    def sample(self, rng: random.Random) -> str:
        """Draw one name, all with the same probability."""
        for name in self.shuffled(rng):
            return str(name)
        raise ValueError(self._why_empty())

    def mutate(self, genotype: Genotype, rng: random.Random) -> str:
        """Draw another name from the same family, or from all where the family has no other in the space.

        A family is a module of timm, such as ``timm.models.resnet``. All names it may draw have the same probability.

        Raises:
            ValueError: if the space has one name only, or does not hold ``genotype``.
        """
        name = self.parse(str(genotype))
        own = family(name)
        others = [other for other in self._listed if other != name]
        relatives = [other for other in others if family(other) == own]
        for choices in (relatives, others):
            for other in self._passing(rng.sample(choices, len(choices))):
                return other
        raise ValueError(f"{self!r} holds only {name!r}: there is no other model to mutate it into.")

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained model, initialised as timm does, from torch's global random numbers.

        Args:
            genotype: a name that ``include`` and ``exclude`` leave.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images.

        Raises:
            ValueError: for a name that is not in the space, a model that does not take the arguments of the space, and
                an encoder without a classifier.
        """
        name = self._listed_name(str(genotype))
        kwargs = dict(self._create_kwargs)
        if self._resized(name):
            kwargs["img_size"] = (self.image_size, self.image_size)
        return create_untrained(name, num_classes, in_chans, **kwargs)

    def parse(self, text: str) -> str:
        """Read a name. Raises ValueError for one that is not in the space, with the closest or the filter's reason."""
        name = self._listed_name(text)
        verdict = self._verdict(name)
        if verdict:
            raise ValueError(f"{name!r} is not in the space: {verdict[1]}")
        return name

    def name(self, genotype: Genotype) -> str:
        """The model's name."""
        return str(genotype)

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and depth, counted on the meta device and kept.

        A model that the meta device cannot run is built with weights on the default device instead; random numbers are
        as they were afterwards either way.

        Args:
            genotype: a name in the space.
            input_size: ``(channels, height, width)`` of one image; by default 3 channels of ``image_size``, or, where
                the space has none, the model's own size in timm's configuration.
            num_classes: width of the logits.

        Raises:
            ImageSizeError: (a ValueError) if the model runs on images of its own size, but not of this one.
            ValueError: if the model cannot be built, or run.
        """
        name = self._listed_name(str(genotype))
        size = self._size(name, input_size)
        if (name, size, num_classes) not in self._costs:

            def count(network: nn.Module) -> Costs:
                return self._count(network, name, size, num_classes)

            without_weights(lambda: self.build(name, num_classes, size[0]), count)
        return self._costs[name, size, num_classes]

    @property
    def mixed_depth(self) -> bool:
        """True: models of timm differ in depth."""
        return True

    @property
    def left_out(self) -> dict[str, str]:
        """The names that a filter removed, with the reason; what ``exclude`` removed is not listed."""
        verdicts = ((name, self._verdict(name)) for name in self._listed)
        return {name: verdict[1] for name, verdict in verdicts if verdict}

    def _names(self) -> list[str]:
        if self._left is None:
            self._check_exact_names()
            unknown = sum(name not in self._verdicts and self._must_build(name) for name in self._listed)
            if unknown > _MANY:
                _LOG.warning(
                    "%d models of timm are built without weights, to see which of them pass the filters; this takes "
                    "minutes. A narrower include=... is faster, and so are constraints of the search in place of filters.",
                    unknown,
                )
            left = list(self._passing(self._listed))
            if not left:
                raise ValueError(self._why_empty())
            self._left = left
        return self._left

    def _check_exact_names(self) -> None:
        exact = {self.include} if isinstance(self.include, str) else set(self.include)
        for name in sorted(exact.intersection(self._listed)):
            verdict = self._verdict(name)
            if verdict and verdict[0] in ("image_size", "build"):
                raise ValueError(f"include names {name!r}, but {verdict[1]}")

    def _passing(self, names: Iterable[str]) -> Iterator[str]:
        """Those of the names that pass the filters."""
        # Not a generator: a strategy that holds it is copied and pickled with its search.
        return filter(self._passes, iter(list(names)))

    def _passes(self, name: str) -> bool:
        return self._verdict(name) is None

    def _why_empty(self) -> str:
        removed = Counter(verdict[0] for verdict in self._verdicts.values() if verdict)
        parts = [f"include={self.include!r} matched {len(self._listed) + self._excluded}"]
        parts += [f"exclude={self.exclude!r} removed {self._excluded}"] if self._excluded else []
        for limit in ("max_input_size", "image_size", "max_params", "max_macs"):
            if removed[limit]:
                parts.append(f"{limit}={getattr(self, limit)} removed {removed[limit]}")
        if removed["build"]:
            parts.append(f"{removed['build']} could not be built (see left_out)")
        return f"No model of timm is left in the space: {', '.join(parts)}. Widen one of them."

    def _listed_name(self, text: str) -> str:
        if text not in self._listed:
            raise ValueError(f"There is no model {text!r} in the space. {closest(text, self._listed)}")
        return text

    def _must_build(self, name: str) -> bool:
        """Whether the filters need the model itself."""
        return self.max_params is not None or self.max_macs is not None or self._resized(name)

    def _resized(self, name: str) -> bool:
        """Whether the model has a fixed input size that is not the space's ``image_size``."""
        cfg = configuration(name)
        size = (self.image_size, self.image_size)
        return self.image_size is not None and cfg.fixed_input_size and cfg.input_size[1:] != size

    def _size(self, name: str, input_size: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
        if input_size is not None:
            return input_size
        if self.image_size is not None:
            return self.input_size
        _, height, width = configuration(name).input_size
        return (3, height, width)

    def _count(self, network: nn.Module, name: str, size: tuple[int, int, int], num_classes: int) -> Costs:
        try:
            costs = count_costs(network, size)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            problem = (
                f"{name!r} cannot run on an image of {size} (channels, height, width): {type(error).__name__}: {error}"
            )
            if not self._runs_on_its_own_size(network, name, size):
                raise ValueError(problem) from error
            if configuration(name).fixed_input_size:
                problem += (
                    f" It has a fixed input size: TimmModels(image_size={size[1]}) builds it for another, if it can be."
                )
            raise ImageSizeError(problem) from error
        self._costs[name, size, num_classes] = costs
        return costs

    def _runs_on_its_own_size(self, network: nn.Module, name: str, size: tuple[int, int, int]) -> bool:
        """Whether a network that does not run on images of ``size`` runs on those that it is for."""
        own = (size[0], *self._size(name)[1:])
        if own == size:
            return False
        try:
            count_costs(network, own)
        except (AssertionError, RuntimeError, TypeError, ValueError):
            return False
        return True

    def _verdict(self, name: str) -> tuple[str, str] | None:
        """The filter that removes the model and the reason, or None."""
        if name not in self._verdicts:
            self._verdicts[name] = self._examine(name)
        return self._verdicts[name]

    def _examine(self, name: str) -> tuple[str, str] | None:
        largest = max(configuration(name).input_size[1:])
        if self.max_input_size is not None and largest > self.max_input_size:
            return (
                "max_input_size",
                f"its input size of {largest} pixels is above max_input_size={self.max_input_size}.",
            )
        resized, size = self._resized(name), self._size(name)
        if not self._must_build(name):
            return None

        def weigh(network: nn.Module) -> tuple[str, str] | None:
            params = sum(parameter.numel() for parameter in network.parameters())
            if self.max_params is not None and params > self.max_params:
                return "max_params", f"its {params:,} parameters are above max_params={self.max_params:,}."
            if not resized and self.max_macs is None:
                return None
            macs = self._count(network, name, size, 1000).macs
            if self.max_macs is not None and macs > self.max_macs:
                return "max_macs", f"its {macs:,} multiply-adds are above max_macs={self.max_macs:,}."
            return None

        try:
            return without_weights(lambda: self.build(name), weigh)
        except ValueError as error:
            return (
                ("image_size", f"it does not take image_size={self.image_size}: {error}")
                if resized
                else ("build", str(error))
            )
