"""What a proxy of one's own says wrongly of its observers."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from lightning_wrcor import score
from lightning_wrcor.inspection import Call, LayerCall
from lightning_wrcor.proxies import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._observed import never_called

IMAGES = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 2))


class Zeros(Observer):
    """Shares of zeros after each non-linearity."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.shares: list[float] = []

    def see_activated(self, call: Call, tensor: Tensor) -> None:
        self.shares.append(float((tensor == 0).double().mean()))


class Sparse(Proxy):
    name = "sparse"
    observers: Any = (Zeros,)

    def measure(self, context: Context) -> float:
        shares = context.observer(Zeros).shares
        return sum(shares) / len(shares) if shares else -math.inf


class Heard(Sparse):
    needs = Needs(activated=True)


class Reasoned(Sparse):
    def measure(self, context: Context) -> Measurement:
        return Measurement(-math.inf, "nothing was zero")


class Undeclared(Sparse):
    observers = ()


@pytest.mark.parametrize(
    ("given", "shown"), [((Zeros(4),), "Zeros"), (Zeros, "Zeros"), (Zeros(4), "Zeros"), ((nn.ReLU,), "MyObserver")]
)
def test_observers_are_classes(given: Any, shown: str) -> None:
    proxy = Sparse()
    proxy.observers = given
    with pytest.raises(
        TypeError, match=rf"^The observers of the proxy sparse are .* observers = \({shown},\): every net"
    ):
        score(network(), IMAGES, proxy)
    proxy.observers = [Zeros]
    score(network(), IMAGES, proxy)


def test_an_observer_that_is_not_declared_is_named() -> None:
    with pytest.raises(LookupError) as error:
        score(network(), IMAGES, Undeclared())
    said = "No observer Zeros watched the pass (none did): the proxy must name it, observers = (Zeros,)."
    assert str(error.value) == said


def test_a_dead_score_says_which_method_was_never_called() -> None:
    said = "the proxy gave -inf (Zeros.see_activated is called only with needs = Needs(activated=True))"
    assert score(network(), IMAGES, Sparse()).reason == said
    assert score(network(), IMAGES, Reasoned()).reason == "nothing was zero"
    module = network()
    hidden = torch.relu(module[1](IMAGES[0].flatten(1)))  # type: ignore[index]
    report = score(module, IMAGES, Heard())
    assert report.reason is None
    assert report.value == pytest.approx(float((hidden == 0).double().mean()))


class All(Observer):
    """Overrides every method, and notes which were called."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.called: set[str] = set()

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        self.called.add("see")

    def see_activated(self, call: Call, tensor: Tensor) -> None:
        self.called.add("see_activated")

    def see_layer(self, call: LayerCall, part: Literal["output", "gradient"], tensor: Tensor) -> None:
        self.called.add("see_layer")

    def see_weight(self, call: LayerCall, gradients: Any) -> None:
        self.called.add("see_weight")

    def see_images(self, gradient: Tensor) -> None:
        self.called.add("see_images")


class Watches(Proxy):
    name = "watches"
    observers = (All,)

    def __init__(self, needs: Any) -> None:
        self.needs = needs
        self.called: set[str] = set()

    def measure(self, context: Context) -> float:
        self.called = context.observer(All).called
        return 0.0


@pytest.mark.parametrize(
    "needs",
    [
        Needs(),
        Needs(activated=True),
        Needs(outputs=True),
        Needs(labels=True, weights=1),
        Needs(labels=True, weights=2, output_gradients=True),
        Needs(labels=True, images=True),
        Needs(output_gradients=True),
    ],
)
def test_what_is_said_to_be_never_called_is_not(needs: Needs) -> None:
    proxy = Watches(needs)
    score(network(), IMAGES, proxy)
    said = never_called(proxy)
    for method in ("see_activated", "see_layer", "see_weight", "see_images"):
        assert (f"All.{method} " in said) == (method not in proxy.called), method
