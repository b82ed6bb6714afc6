"""Proxies of weights and their gradients, against plain autograd and loops, closed forms, and what must not change them."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from weighted_networks import (
    NETWORKS,
    Bare,
    ConvNorm,
    Grouped,
    Hand,
    Shared,
    Standardised,
    Tokens,
    batch,
    both_precisions,
    in_double,
    seen_by_hand,
)

from lightning_wrcor import score

SALIENCIES = ("grad_norm", "snip", "plain", "l2_norm", "fisher", "synflow")


def by_hand(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The six from their definitions, in float64."""
    hand = seen_by_hand(network, images, labels)
    found = dict.fromkeys(SALIENCIES, 0.0)
    for weight in hand.weights.values():
        w, g = weight.detach().numpy().ravel(), np.zeros(weight.numel())
        if weight.grad is not None:
            g = weight.grad.numpy().ravel()
        found["l2_norm"] += math.sqrt(sum(value * value for value in w))
        found["grad_norm"] += math.sqrt(sum(value * value for value in g))
        found["snip"] += sum(abs(a * b) for a, b in zip(w, g, strict=True))
        found["plain"] += sum(a * b for a, b in zip(w, g, strict=True))
    for call in hand.layers:
        if call.out.grad is None:
            continue
        out, gradient = call.maps(call.out), call.maps(call.out.grad)
        for channel in range(out.shape[1]):
            squares = [(a * g).sum() ** 2 for a, g in zip(out[:, channel], gradient[:, channel], strict=True)]
            found["fisher"] += 0.5 * np.mean(squares) * call.weight.numel() / out.shape[1]
    positive = in_double(network)
    for parameter in positive.parameters():
        parameter.data.abs_()
    bare = Hand(bare=True)
    positive.by_hand(torch.ones_like(images[:1], dtype=torch.float64), bare).sum().backward()
    flow = sum((w.detach() * w.grad).abs().sum().item() for w in bare.weights.values() if w.grad is not None)
    found["synflow"] = math.log(flow)
    return found


@pytest.mark.parametrize("build", NETWORKS)
def test_the_definitions(build: type[nn.Module]) -> None:
    network, (images, labels) = build(), batch()
    expected = by_hand(network, images, labels)
    for built, x, rel in both_precisions(network, images):
        found = score(built, (x, labels), SALIENCIES).scores
        assert found == pytest.approx(expected, rel=rel, abs=rel * expected["snip"])


@pytest.mark.parametrize("build", [network for network in NETWORKS if network is not Standardised])
def test_gradients_are_those_of_the_networks_own_parameters(build: type[nn.Module]) -> None:
    network, (images, labels) = build(), batch()
    plain = in_double(network)
    F.cross_entropy(plain(images.double()), labels).backward()  # as a user trains it, nothing marked
    weights = [p for name, p in plain.named_parameters() if p.dim() > 1]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
    expected = {
        "grad_norm": sum(g.norm().item() for g in gradients),
        "snip": sum((g * w).abs().sum().item() for g, w in zip(gradients, weights, strict=True)),
        "l2_norm": sum(w.norm().item() for w in weights),
    }
    assert score(plain, (images, labels), list(expected)).scores == pytest.approx(expected, rel=1e-9)


def test_snip_of_one_linear_layer() -> None:
    """The gradient of the cross-entropy with respect to W is the mean of (p - one hot) x^T."""
    images, labels = batch(5, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    x, w = images.double().flatten(1).numpy(), network[1].weight.detach().numpy()
    logits = x @ w.T + network[1].bias.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = p - np.eye(4)[labels.numpy()]
    gradient = error.T @ x / 5
    expected = {
        "snip": np.abs(gradient * w).sum(),
        "plain": (gradient * w).sum(),
        "grad_norm": np.linalg.norm(gradient),
        "fisher": 0.5 * 12 * ((logits * error / 5) ** 2).mean(0).sum(),
    }
    assert score(network, (images, labels), list(expected)).scores == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_synflow_of_a_chain_is_its_output_once_for_each_layer(depth: int) -> None:
    widths = [3, *range(4, 3 + depth), 4]
    layers = [nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise(widths)]
    network = nn.Sequential()
    for layer in layers:
        network.extend([layer, nn.BatchNorm2d(layer.out_channels, affine=False), nn.ReLU()])
    network.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    flow = np.ones(3)
    for layer in layers:
        flow = np.abs(layer.weight.detach().double().numpy()[:, :, 0, 0]) @ flow
    found = score(network, batch(), "synflow").value
    assert found == pytest.approx(math.log(depth * flow.sum()), rel=1e-12)
    layers[0].weight.data.mul_(-8.0)
    assert score(network, batch(), "synflow").value == pytest.approx(found + math.log(8), rel=1e-12)


def test_synflow_needs_no_data_and_leaves_the_range_of_float32_alone() -> None:
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(40)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for layer in network[:40]:
        layer.weight.data.fill_(1000.0)
    expected = math.log(40 * 3) + 40 * math.log(3000)  # e^325: float32 ends at e^88
    images, labels = batch()
    assert score(network, (images, labels), "synflow").value == pytest.approx(expected, rel=1e-12)
    assert score(network, (1e3 * images + 7, labels.flip(0)), "synflow").value == pytest.approx(expected, rel=1e-12)
    for layer in network[:40]:
        layer.weight.data.fill_(1e10)
    with pytest.raises(ValueError, match="synflow of Sequential leaves the range of float64"):
        score(network, (images, labels), "synflow")


@pytest.mark.parametrize("build", [ConvNorm, Tokens, Shared])
def test_the_order_of_the_images_does_not_matter(build: type[nn.Module]) -> None:
    network, (images, labels) = in_double(build()), batch(8)
    order = torch.randperm(8)
    found = score(network, (images, labels), SALIENCIES).scores
    assert score(network, (images[order], labels[order]), SALIENCIES).scores == pytest.approx(found, rel=1e-9)


def test_moving_a_factor_from_one_layer_to_the_next_changes_no_product() -> None:
    """Products of weight (or output) and gradient do not feel c and 1/c around a ReLU; norms do."""
    network = Bare(bias=False).double()
    other = copy.deepcopy(network)
    other.a.weight.data *= 5.0
    other.b.weight.data /= 5.0
    found, moved = (score(n, batch(), SALIENCIES).scores for n in (network, other))
    for name in ("snip", "plain", "synflow", "fisher"):
        assert moved[name] == pytest.approx(found[name], rel=1e-9)
    for name in ("grad_norm", "l2_norm"):
        assert abs(moved[name] / found[name] - 1) > 0.05


def test_behind_batch_normalisation_the_plain_sum_is_zero_and_the_scale_does_not_matter() -> None:
    network = ConvNorm().double()
    for norm in (network.norm_a, network.norm_b):
        norm.eps = 1e-14
    own = nn.Sequential(network.a, network.norm_a, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert score(own, batch(), "plain").value == pytest.approx(0.0, abs=1e-10)
    found = score(network, batch(), ("snip", "fisher", "grad_norm")).scores
    network.a.weight.data *= 3.0
    scaled = score(network, batch(), ("snip", "fisher", "grad_norm")).scores
    assert scaled["snip"] == pytest.approx(found["snip"], rel=1e-8)
    assert scaled["fisher"] == pytest.approx(found["fisher"], rel=1e-8)
    assert scaled["grad_norm"] != pytest.approx(found["grad_norm"], rel=1e-2)


def test_fisher_of_an_overwritten_output_is_that_before_it_was_overwritten() -> None:
    network = Bare()

    class OutOfPlace(Bare):
        def forward(self, x: Tensor) -> Tensor:
            x = self.b(self.a(x).clamp_min(0)).clamp_min(0)
            return self.head(self.c(x.flatten(1)).clamp_min(0))

    other = OutOfPlace()
    other.load_state_dict(network.state_dict())
    assert score(network, batch(), "fisher").value == score(other, batch(), "fisher").value


@pytest.mark.parametrize("build", [ConvNorm, Grouped, Tokens])
def test_labels_as_probabilities(build: type[nn.Module]) -> None:
    network, (images, labels) = in_double(build()), batch()
    hard = score(network, (images, labels), SALIENCIES).scores
    certain = F.one_hot(labels, 4).float()
    assert score(network, (images, certain), SALIENCIES).scores == pytest.approx(hard, rel=1e-12)
    soft = torch.softmax(torch.randn(7, 4), 1)
    expected = by_hand(network, images, soft)
    assert score(network, (images, soft), SALIENCIES).scores == pytest.approx(expected, rel=1e-9)
