"""How evenly gradients are spread: against NumPy, and on networks where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_wrcor import score
from lightning_wrcor.spaces import NASBench201

BOTH = ["gradient_density", "gradient_reach"]


def batch(n: int = 6, size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 4


class Pooled(nn.Module):
    """Convolution, non-linearity, pooling; twice."""

    def __init__(
        self, act: type[nn.Module] = nn.ReLU, pool: type[nn.Module] = nn.MaxPool2d, scale: float = 1.0
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.act, self.pool, self.head = act(), pool(2), nn.Linear(5, 4)
        self.scale = scale
        self.received: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.received = []
        for conv in (self.first, self.second):
            x = conv(x)
            self.received.append(x)
            if x.requires_grad:
                x.retain_grad()
            x = self.pool(self.act(x))
        logits: Tensor = self.head(x.mean((2, 3))) * self.scale
        return logits


def gradients(network: Pooled, images: Tensor) -> list[np.ndarray]:
    network.train()(images).sum().backward()
    found = [one.grad.double().numpy() for one in network.received if one.grad is not None]
    network.received = []
    return found


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_the_definition(act: type[nn.Module], pool: type[nn.Module]) -> None:
    network, (images, labels) = Pooled(act, pool), batch()
    grads = gradients(network, images)
    assert len(grads) == 2
    expected = {
        "gradient_density": min(np.abs(g).mean() ** 2 / (g**2).mean() for g in grads),
        "gradient_reach": np.mean([np.count_nonzero(g) / g.size for g in grads]),
    }
    assert score(network, (images, labels), BOTH).scores == pytest.approx(expected, rel=1e-5)


def test_known_shares() -> None:
    images, labels = batch()
    assert score(Pooled(nn.GELU, nn.AvgPool2d), (images, labels), "gradient_reach").value == 1.0
    # Behind a max pooling over 2 x 2 one place in four has a gradient, also where others come before it.
    assert score(Pooled(nn.GELU, nn.MaxPool2d), (images, labels), "gradient_reach").value == 0.25


def test_density_of_known_distributions() -> None:
    class Head(nn.Module):
        """The gradient at the non-linearity is the weight itself, for every image."""

        def __init__(self, weight: Tensor) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(192, len(weight)), nn.Linear(len(weight), 1, bias=False)
            self.head.weight = nn.Parameter(weight[None])

        def forward(self, x: Tensor) -> Tensor:
            # A non-linearity whose slope is 1 for all that it receives here.
            logits: Tensor = self.head(F.relu(self.layer(x.flatten(1)).sigmoid() + 1.0))
            return logits

    images, labels = batch()[0], torch.zeros(6, dtype=torch.long)
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    found = score(Head(normal), (images, labels), BOTH).scores
    assert found["gradient_density"] == pytest.approx(2 / math.pi, rel=0.02)
    signs = normal.sign()
    assert score(Head(signs), (images, labels), "gradient_density").value == pytest.approx(1.0, rel=1e-6)
    signs[: len(signs) // 4 * 3] = 0.0
    found = score(Head(signs), (images, labels), BOTH).scores
    assert found == pytest.approx({"gradient_density": 0.25, "gradient_reach": 0.25}, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_makes_no_difference(scale: float) -> None:
    expected = score(Pooled(), batch(), BOTH).scores
    assert score(Pooled(scale=scale), batch(), BOTH).scores == pytest.approx(expected, rel=1e-4)


def test_what_leads_nowhere_has_no_density() -> None:
    """A convolution whose output is multiplied by zero behind it gets a gradient that is zero everywhere."""
    space = NASBench201(width=8, cells=1)
    found = []
    for last in ("none", "skip_connect"):
        cell = f"|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_1x1~1|{last}~2|"
        torch.manual_seed(0)
        found.append(score(space.build(space.parse(cell), 10), batch(8, 16), BOTH).scores)
    assert found[0]["gradient_density"] == 0.0 < found[1]["gradient_density"]
    assert 0.0 < found[0]["gradient_reach"] < found[1]["gradient_reach"]


def test_no_gradient_at_all_is_dead() -> None:
    scores = score(Pooled(scale=0.0), batch(), ["params", *BOTH]).scores
    assert scores["gradient_density"] == scores["gradient_reach"] == -math.inf


def test_nan_and_networks_without_non_linearities_are_refused() -> None:
    refused = score(Pooled(scale=math.nan), batch(), ["params", *BOTH]).refused
    assert refused == {name: f"The proxy {name} gave NaN." for name in BOTH}
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    refused = score(linear, batch(), ["params", *BOTH]).refused
    assert all("calls no non-linearity that counts" in refused[name] for name in BOTH)
