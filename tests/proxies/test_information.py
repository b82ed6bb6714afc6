"""VKDNW and the neural tangent kernel against loops over images and weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import NETWORKS, Flat, Plain, Residual, Tokens, batch, use_own_weights, weights_of
from networks import Transformer
from torch import Tensor, nn

from lightning_wrcor.inspection import Costs, LayerCall
from lightning_wrcor.proxies import NTK, VKDNW, score
from lightning_wrcor.proxies._base import Context
from lightning_wrcor.proxies._initialise import DrawnWeights, kaiming_fan_in
from lightning_wrcor.proxies.information import _Probes

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
EVERY = pytest.mark.parametrize("build", NETWORKS)


def given(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    images, labels = batch(n)
    return images.to(dtype), labels


# ---- VKDNW


def layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5).sqrt()


def unchanged(x: Tensor) -> Tensor:
    return x


def fisher_by_hand(build: Any, network: nn.Module, images: Tensor, weights: int) -> np.ndarray:
    """Derivatives by differences of one weight at a time; the matrix image by image."""
    held = weights_of(network)
    norm = layer_norm if build is Tokens else unchanged
    probabilities = build.by_hand(held, images, norm)[2].softmax(1).numpy()
    names = list(held)[:weights]
    jacobian = np.zeros((len(images), 5, len(names)))
    for place, name in enumerate(names):
        logits = []
        for step in (1e-5, -1e-5):
            moved = {key: value.clone() for key, value in held.items()}
            moved[name][(0,) * moved[name].dim()] += step
            logits.append(build.by_hand(moved, images, norm)[2].numpy())
        jacobian[:, :, place] = (logits[0] - logits[1]) / 2e-5
    fisher = np.zeros((len(names), len(names)))
    for derivative, p in zip(jacobian, probabilities, strict=True):
        fisher += derivative.T @ (np.diag(p) - np.outer(p, p)) @ derivative / len(images)
    return fisher


def value_of(fisher: np.ndarray, layers: int) -> float:
    deciles = np.quantile(np.linalg.eigvalsh(fisher).clip(min=0), np.arange(1, 10) / 10)
    shares = deciles[deciles > 0] / deciles.sum()
    return layers - float((shares * np.log(shares)).sum())


@BOTH
@EVERY
def test_vkdnw_by_hand(build: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_weights(monkeypatch)
    network, batch = build(), given(12, dtype)
    layers = len(weights_of(network))
    for limit in (128, 2):
        expected = value_of(fisher_by_hand(build, network, batch[0].double(), limit), layers)
        found = score(copy.deepcopy(network).to(dtype), batch, VKDNW(weights=limit)).value
        assert found == pytest.approx(expected, abs=2e-3 if dtype == torch.float32 else 1e-5)


def test_the_matrix_of_one_linear_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first logit moves, by the first pixel: the mean of x^2 p (1 - p)."""
    use_own_weights(monkeypatch)
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)).double()
    images = given(8, torch.float64)[0]
    found = _fisher(network, images, VKDNW())
    p = (images.flatten(1) @ network[1].weight.T).softmax(1)[:, 0]
    assert found.shape == (1, 1)
    assert float(found) == pytest.approx(float((images[:, 0, 0, 0] ** 2 * p * (1 - p)).mean()), rel=1e-9)
    # One eigenvalue: all its deciles are the same.
    report = score(network, (images, torch.arange(8) % 3), "vkdnw")
    assert report.value == pytest.approx(1 + math.log(9), rel=1e-12)


def _context(network: nn.Module, images: Tensor) -> Context:
    labels = torch.zeros(len(images), dtype=torch.long)
    return Context(network.requires_grad_(False), images, labels, 0, False, Costs(1, 1, 1))


def _fisher(network: nn.Module, images: Tensor, proxy: VKDNW) -> Tensor:
    from lightning_wrcor.inspection import Tracer

    context = _context(network, images)
    probes = _Probes(context, proxy.weights)
    with Tracer(network, lambda call, tensor: tensor, visit_layer=probes):
        logits = network(images)
    return proxy._fisher(logits, probes.steps, context)


def test_drawn_labels_give_the_same_matrix_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error falls as one over the root of the draws."""
    use_own_weights(monkeypatch)
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.Tanh(), nn.Linear(4, 12)).double()
    network[3].weight.data += 1  # all logits move together, which no prediction shows
    images = given(6, torch.float64)[0]
    exact = _fisher(network, images, VKDNW(draws=12))
    sampled = [torch.stack([_fisher(network, images, _Seeded(seed, draws)) for seed in range(100)]) for draws in (1, 9)]
    for matrices in sampled:  # four standard errors of the mean
        assert bool(((matrices.mean(0) - exact).abs() <= 4 * matrices.std(0) / 100**0.5 + 1e-12).all())
    few, many = (float(((matrices - exact) ** 2).mean()) for matrices in sampled)
    assert 4 < few / many < 20  # nine times the draws: a ninth of the mean square


class _Seeded(VKDNW):
    """Other draws."""

    def __init__(self, seed: int, draws: int) -> None:
        super().__init__(draws=draws)
        self.seed = seed

    def _fisher(self, logits: Tensor, steps: list[Tensor], context: Context) -> Tensor:
        context.seed = self.seed
        return super()._fisher(logits, steps, context)


def test_vkdnw_does_not_depend_on_the_network_s_own_weights_nor_on_labels() -> None:
    network, (images, labels) = Plain().double(), given(6, torch.float64)
    found = score(network, (images, labels), "vkdnw").value
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.mul_(3)
                module.bias.add_(1)  # type: ignore[union-attr]
    assert score(network, (images, labels.flip(0)), "vkdnw").value == found
    # With Kaiming's weights, as many as there are.
    drawn = DrawnWeights(_context(network, images), "vkdnw", kaiming_fan_in)
    for name, weight in weights_of(network).items():
        call = LayerCall(0, "Conv", "", weight, hash(name), True)
        network.get_submodule(name).weight = nn.Parameter(drawn.weight(call, weight))  # type: ignore[assignment]
    assert value_of(fisher_by_hand(Plain, network, images, 128), 4) == pytest.approx(found, abs=1e-5)


class _Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def test_vkdnw_of_dead_and_odd_networks() -> None:
    dead = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5), nn.Threshold(1e30, 0.0))
    zero = (-math.inf, "the Fisher information is zero: no prediction moves with a weight")
    report = score(dead, batch(), "vkdnw")
    assert (report.value, report.reason) == zero
    assert math.isfinite(score(Residual(), batch(2), "vkdnw").value)
    certain = nn.Sequential(nn.Flatten(), *(nn.Linear(108, 108) for _ in range(20)), nn.Linear(108, 5))
    one_class = nn.Sequential(nn.Flatten(), nn.Linear(108, 1))
    report = score(one_class, (batch()[0], torch.zeros(6, dtype=torch.long)), "vkdnw")
    assert (report.value, report.reason) == zero
    report = score(certain, batch(), "vkdnw")  # logits grow by the root of two a layer
    assert (report.value, report.reason) == zero
    unused = nn.Sequential(nn.Flatten(), nn.Linear(108, 5), _Constant())
    assert score(unused, batch(), "vkdnw").reason == "dead: the logits depend on no weight"
    with pytest.raises(ValueError, match=r"^Sequential calls no convolution and no linear map, so it has no vkdnw\.$"):
        score(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (batch()[0], torch.zeros(6).long()), "vkdnw")
    with pytest.raises(ValueError, match=r"^vkdnw needs every weight, but 'blocks.0.self_attn' is torch's own"):
        score(Transformer(), batch(), "vkdnw")
    with pytest.raises(ValueError, match=r"^vkdnw needs weights >= 1 and draws >= 1; got 0 and 16\.$"):
        VKDNW(weights=0)


# ---- the neural tangent kernel


def test_batch_normalisation_before_the_classifier_makes_a_singular_kernel() -> None:
    """What the linear map receives has mean zero over the images, so that their gradients sum to zero."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 5))
    assert score(network, batch(), "ntk").value == -math.inf
    assert math.isfinite(score(network[:3].append(network[4]), batch(), "ntk").value)


@BOTH
@EVERY
def test_ntk_by_hand(build: Any, dtype: torch.dtype) -> None:
    """Autograd on the parameters themselves, one image after the other, with the whole batch in each pass."""
    network, batch = build(), given(7, dtype)
    for samples in (16, 4):
        images, plain = batch[0][:samples].double(), copy.deepcopy(network).double().train()
        weights = [m.weight for m in plain.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        rows = []
        for place in range(len(images)):
            gradients = torch.autograd.grad(plain(images.clone())[place].sum(), weights)
            rows.append(np.concatenate([gradient.numpy().ravel() for gradient in gradients]))
        eigenvalues = np.linalg.eigvalsh(np.array([[row @ other for other in rows] for row in rows]))
        found = score(copy.deepcopy(network).to(dtype), batch, NTK(samples=samples)).value
        expected = -eigenvalues[-1] / eigenvalues[0]
        assert found == pytest.approx(expected, rel=1e-7 if dtype == torch.float64 else 2e-3)


def test_ntk_of_one_linear_map() -> None:
    """The sum of the logits has the gradient x in each row: the kernel is classes times the images' Gram matrix."""
    images, labels = given(4, torch.float64)
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 5)).double()
    eigenvalues = np.linalg.eigvalsh((images.flatten(1) @ images.flatten(1).T).numpy())
    assert score(network, (images, labels), "ntk").value == pytest.approx(-eigenvalues[-1] / eigenvalues[0], rel=1e-9)


def test_singular_kernels() -> None:
    images, labels = given(6, torch.float64)
    images[3] = images[1]
    for dtype in (torch.float32, torch.float64):
        report = score(Residual().to(dtype), (images, labels), "ntk")
        assert (report.value, report.reason) == (
            -math.inf,
            "the kernel is singular: the images' gradients are linearly dependent",
        )
    assert math.isfinite(score(Flat(), batch(2), "ntk").value)
    dead = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5), nn.Threshold(1e30, 0.0))
    assert score(dead, batch(), "ntk").value == -math.inf
    with pytest.raises(ValueError, match=r"^A kernel needs at least 2 images; got samples=1\.$"):
        NTK(samples=1)
    with pytest.raises(ValueError, match=r"^ntk needs every weight, but 'blocks.0.self_attn' is torch's own"):
        score(Transformer(), batch(), "ntk")
