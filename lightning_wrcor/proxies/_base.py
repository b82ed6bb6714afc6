"""The contract of a proxy: a number, higher is better, from an untrained network and one batch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from lightning_wrcor._config import Configurable
from lightning_wrcor.inspection import Call, Costs, LayerCall


@dataclass(frozen=True)
class Needs:
    """What a proxy needs of the pass that it watches, as data, so that proxies with the same needs share one pass.

    Attributes:
        gradients: the gradient with respect to each response (a backward pass).
        labels: true labels; without them the proxy does not look at them.
        gates: bounded functions (sigmoid, tanh, softmax) count as non-linearities too.
        weights: the gradient with respect to each weight of convolutions and linear maps, 0 for none, else the number of
            parts of the batch for which it is given apart (1: the whole batch in one).
        outputs: what convolutions and linear maps give.
        output_gradients: the gradient with respect to that, in a pass that has gradients of weights.
        images: the gradient with respect to the images.
        activated: what non-linearities give.
        target: what is differentiated: the cross-entropy (``"loss"``), or the sum of all logits (``"logits"``).
    """

    gradients: bool = False
    labels: bool = False
    gates: bool = False
    weights: int = 0
    outputs: bool = False
    output_gradients: bool = False
    images: bool = False
    activated: bool = False
    target: Literal["loss", "logits"] = "loss"

    @property
    def backward(self) -> bool:
        """Whether a backward pass is needed."""
        return self.gradients or self.weights > 0 or self.images

    def shares(self, other: Needs) -> bool:
        """Whether one pass can serve both: the same non-linearities, and the same is differentiated if anything is."""
        parts = {needs.weights for needs in (self, other)} - {0, 1}
        same = self.target == other.target or not (self.backward and other.backward)
        return self.gates == other.gates and same and len(parts) < 2

    def merge(self, other: Needs) -> Needs:
        """What one pass must offer to serve both."""
        return Needs(
            gradients=self.gradients or other.gradients,
            labels=self.labels or other.labels,
            gates=self.gates or other.gates,
            weights=max(self.weights, other.weights),
            outputs=self.outputs or other.outputs,
            output_gradients=self.output_gradients or other.output_gradients,
            images=self.images or other.images,
            activated=self.activated or other.activated,
            target=self.target if self.backward else other.target,
        )


class Observer:
    """Watches one pass; keeps only what its sum needs. A subclass overrides what it watches.

    All tensors are detached; they must not be changed nor kept (a weight may be kept). Windows or patches that the
    network folds into the batch are a dimension of their own.

    Args:
        batch_size: number of images B in the pass.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """One response: what a non-linearity receives, or the gradient with respect to that.

        Args:
            call: the call of the non-linearity.
            part: which of them.
            response: ``(B, ...)``.
        """

    def see_activated(self, call: Call, tensor: Tensor) -> None:
        """What a non-linearity gives, ``(B, ...)``."""

    def see_layer(self, call: LayerCall, part: Literal["output", "gradient"], tensor: Tensor) -> None:
        """What a convolution or linear map gives, or the gradient with respect to that.

        Args:
            call: the call of the layer.
            part: which of them.
            tensor: ``(B, ...)``; the channels are dimension -1 after a linear map, and before the positions after a
                convolution.
        """

    def see_weight(self, call: LayerCall, gradients: Sequence[Tensor]) -> None:
        """The gradient with respect to the weight of a convolution or linear map, from all calls that share it.

        Args:
            call: the first call with this weight.
            gradients: one for each part of the batch, which sum to the whole gradient; a single one where the batch could
                not be parted.
        """

    def see_images(self, gradient: Tensor) -> None:
        """The gradient with respect to the images, ``(B, C, H, W)``."""


ObserverT = TypeVar("ObserverT", bound=Observer)


@dataclass
class PassRecord:
    """What is known after a pass.

    Attributes:
        calls: the non-linearities that counted, in call order.
        layers: layer index of each of them.
        gates_seen: how often each kind of gate was called and not counted.
        weighted: calls of convolutions and linear maps, in call order (only where weights or their outputs are watched).
        hiding: modules whose weights cannot be told apart (torch's own multi-head attention).
        parts: sizes of the parts of the batch for which weights have gradients.
        independent: indices of calls whose input does not depend on the images (tables of relative positions): they
            have no responses.
        without_samples: ``(call, part)`` of responses in which no dimension holds the samples: no observer saw them.
        unreached: indices of calls whose output never reaches the loss, so that they have no gradient.
        unseen: what ran without being seen: custom and scripted functions, non-linearities inside other functions.
        loss: cross-entropy of the batch.
        classes: logits that the network gave.
        output: what the network returned: ``"Tensor"``, or what the logits were taken from.
    """

    calls: list[Call] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    gates_seen: Mapping[str, int] = field(default_factory=dict)
    weighted: list[LayerCall] = field(default_factory=list)
    hiding: list[str] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    independent: list[int] = field(default_factory=list)
    without_samples: list[tuple[int, str]] = field(default_factory=list)
    unreached: list[int] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    loss: float = float("nan")
    classes: int = 0
    output: str = "Tensor"

    @property
    def coverage(self) -> float:
        """Share of the non-linearities that were captured, 0 to 1 (0 where there is none)."""
        total = len(self.calls) + len(self.unseen)
        return len(self.calls) / total if total else 0.0


@dataclass
class Context:
    """What a proxy may look at. A proxy that changes the network works on a copy of it.

    Attributes:
        network: the copy made for scoring: training mode, dropout and drop-path off, nothing initialised to zero.
        images: ``(B, C, H, W)``.
        labels: ``(B,)`` whole numbers, or ``(B, classes)`` probabilities.
        seed: the seed of this candidate; a proxy that draws random numbers draws them from it.
        mixed_depth: the candidates differ in their number of layers by nature.
        costs: parameters, MACs and depth.
        layers: layer map of the search space, or None for the rule for any network.
        record: the pass, for a proxy that has observers.
        observers: the observers after the pass, by class.
        shared: what proxies of one kind compute once for all of them, by name.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    seed: int
    mixed_depth: bool
    costs: Costs
    layers: Mapping[str, int] | None = None
    record: PassRecord = field(default_factory=PassRecord)
    observers: dict[type[Observer], Observer] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> nn.Module:
        """A copy of the network that may be changed."""
        # Tensors that a network keeps of an earlier pass cannot be copied with their graph.
        kept = [value for module in self.network.modules() for value in vars(module).values()]
        graphs = {
            id(value): value.detach() for value in kept if isinstance(value, Tensor) and value.grad_fn is not None
        }
        return copy.deepcopy(self.network, graphs)

    def observer(self, kind: type[ObserverT]) -> ObserverT:
        """The observer of this class, after the pass.

        Raises:
            LookupError: if none of this class watched it.
        """
        found = self.observers.get(kind)
        if not isinstance(found, kind):
            watched = ", ".join(one.__name__ for one in self.observers) or "none"
            raise LookupError(
                f"No observer {kind.__name__} watched the pass ({watched} did): the proxy must name it, "
                f"observers = ({kind.__name__},)."
            )
        return found


@dataclass
class Measurement:
    """A value and what it rests on.

    Attributes:
        value: higher is better; -inf for a dead network.
        reason: why the network is dead, or None.
        details: parts of the value, plain values by name; they become fields of the score report where it has them.
    """

    value: float
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Proxy(Configurable, ABC):
    """Scores an untrained network on one batch. Higher is better.

    A subclass names what must watch the pass in ``observers`` and computes its value from them in `measure`; a proxy
    without observers costs no pass. Constructor arguments are stored in attributes of the same name.
    """

    name: ClassVar[str]
    """The name under which scores are listed."""
    needs: Needs = Needs()
    observers: tuple[type[Observer], ...] = ()

    @abstractmethod
    def measure(self, context: Context) -> float | Measurement:
        """The value of the network in ``context``; -inf for a dead network, with the reason in a `Measurement`."""
