"""GraSP against differences of gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from weighted_networks import NETWORKS, Bare, ConvNorm, Hand, Tokens, batch, both_precisions, in_double

from lightning_wrcor import score


def gradients(network: nn.Module, images: Tensor, labels: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    used = {key: weight.detach().clone().requires_grad_() for key, weight in weights.items()}
    F.cross_entropy(network.by_hand(images.double(), Hand(used)), labels).backward()
    return {key: weight.grad for key, weight in used.items() if weight.grad is not None}


def by_differences(network: nn.Module, images: Tensor, labels: Tensor, step: float = 1e-4) -> float:
    """H g is how the gradient changes along g: no second derivative is taken."""
    network = in_double(network)
    labels = labels.double() if labels.is_floating_point() else labels
    first = Hand()
    network.by_hand(images.double(), first)
    g = gradients(network, images, labels, first.weights)
    size = sum((part * part).sum() for part in g.values()) ** 0.5
    step = step / float(size)
    ahead, behind = (
        gradients(
            network, images, labels, {k: w.detach() + sign * step * g.get(k, 0.0) for k, w in first.weights.items()}
        )
        for sign in (1.0, -1.0)
    )
    return -sum(float((first.weights[k].detach() * (ahead[k] - behind[k]) / (2 * step)).sum()) for k in g)


@pytest.mark.parametrize("build", NETWORKS)
def test_the_definition(build: type[nn.Module]) -> None:
    network, (images, labels) = build(), batch()
    for weight in network.parameters():  # away from the kinks of ReLU that a step may cross
        weight.data.mul_(1.5)
    expected = by_differences(network, images, labels)
    for built, x, rel in both_precisions(network, images):
        rel = max(10 * rel, 1e-5)  # of the differences
        assert score(built, (x, labels), "grasp").value == pytest.approx(expected, rel=rel, abs=1e-6)


def test_one_linear_layer_in_closed_form() -> None:
    """H g of softmax regression: for each image (diag p - p p^T) (g x) x^T."""
    images, labels = batch(5, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    x, w = images.double().flatten(1), network[1].weight.detach()
    p = torch.softmax(x @ w.T + network[1].bias.detach(), 1)
    g = (p - F.one_hot(labels, 4)).T @ x / 5
    product = torch.zeros_like(w)
    for image, shares in zip(x, p, strict=True):
        product += (torch.diag(shares) - torch.outer(shares, shares)) @ (g @ image)[:, None] * image / 5
    assert score(network, (images, labels), "grasp").value == pytest.approx(-float((w * product).sum()), rel=1e-9)


@pytest.mark.parametrize("build", [ConvNorm, Tokens])
def test_order_labels_as_probabilities_and_company(build: type[nn.Module]) -> None:
    network, (images, labels) = in_double(build()), batch(8)
    found = score(network, (images, labels), "grasp").value
    order = torch.randperm(8)
    assert score(network, (images[order], labels[order]), "grasp").value == pytest.approx(found, rel=1e-9)
    assert score(network, (images, F.one_hot(labels, 4).float()), "grasp").value == pytest.approx(found, rel=1e-9)
    several = score(network, (images, labels), ["snip", "grasp", "jacob_cor", "synflow", "linear_regions"])
    assert several.scores["grasp"] == found


def test_labels_that_do_not_fit_are_refused_in_words() -> None:
    images, labels = batch()
    with pytest.raises(ValueError, match="The labels run from 3 to 5, but the network has 4 logits"):
        score(Bare(), (images, labels + 3), "grasp")
    with pytest.raises(ValueError, match="Label probabilities of shape"):
        score(Bare(), (images, torch.ones(7, 3) / 3), "grasp")


class Once(torch.autograd.Function):
    """A function whose author gave no second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Square(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(108, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(Once.apply(self.a(x.flatten(1))))


def test_functions_without_a_second_derivative_are_named() -> None:
    with pytest.raises(ValueError, match="grasp differentiates twice, which this network does not allow"):
        score(Square(), batch(), "grasp")
    report = score(Square(), batch(), ["snip", "grasp"])
    assert list(report.scores) == ["snip"]
    assert list(report.refused) == ["grasp"]
