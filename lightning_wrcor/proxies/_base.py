"""The contract of a proxy: a number, higher is better, from an untrained network and one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from lightning_wrcor._config import Configurable
from lightning_wrcor.inspection import Call, Costs


@dataclass(frozen=True)
class Needs:
    """What a proxy needs of the pass that it watches, as data, so that proxies with the same needs share one pass.

    Attributes:
        gradients: the gradient of the loss with respect to each response (a backward pass).
        labels: true labels; without them the proxy does not look at them.
        gates: bounded functions (sigmoid, tanh, softmax) count as non-linearities too.
    """

    gradients: bool = False
    labels: bool = False
    gates: bool = False

    def merge(self, other: Needs) -> Needs:
        """What one pass must offer to serve both."""
        return Needs(self.gradients or other.gradients, self.labels or other.labels, self.gates or other.gates)


class Observer(ABC):
    """Watches the responses of one pass as they come; keeps only what its sum needs.

    Args:
        batch_size: number of images B in the pass.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    @abstractmethod
    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """One response: what a non-linearity receives, or the loss's gradient with respect to that.

        Args:
            call: the call of the non-linearity.
            part: which of the two.
            response: ``(B, ...)``, detached; it must not be changed nor kept. (Windows or patches that the network folds
                into the batch are a dimension of their own.)
        """


ObserverT = TypeVar("ObserverT", bound=Observer)


@dataclass
class PassRecord:
    """What is known after a pass.

    Attributes:
        calls: the non-linearities that counted, in call order.
        layers: layer index of each of them.
        gates_seen: how often each kind of gate was called and not counted.
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
    """What a proxy may look at.

    Attributes:
        network: the copy made for scoring: training mode, dropout and drop-path off, nothing initialised to zero.
        images: ``(B, C, H, W)``.
        labels: ``(B,)`` whole numbers, or ``(B, classes)`` probabilities.
        seed: the seed of this candidate; a proxy that draws random numbers draws them from it.
        mixed_depth: the candidates differ in their number of layers by nature.
        costs: parameters, MACs and depth.
        record: the pass, for a proxy that has observers.
        observers: the observers after the pass, by class.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    seed: int
    mixed_depth: bool
    costs: Costs
    record: PassRecord = field(default_factory=PassRecord)
    observers: dict[type[Observer], Observer] = field(default_factory=dict)

    def observer(self, kind: type[ObserverT]) -> ObserverT:
        """The observer of this class, after the pass."""
        found = self.observers[kind]
        assert isinstance(found, kind)
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
