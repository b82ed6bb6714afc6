"""Proxies of the images' gradients, against NumPy's correlations and in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from weighted_networks import NETWORKS, ConvNorm, Hand, Shared, batch, both_precisions, in_double

from lightning_wrcor import score

K = 1e-5


def rows_of(network: nn.Module, images: Tensor) -> np.ndarray:
    """Gradients of the sum of all logits, in float64, one row for each image."""
    images = images.double().requires_grad_()
    in_double(network).by_hand(images, Hand()).sum().backward()
    return images.grad.flatten(1).numpy()


def jacob_cor_of(rows: np.ndarray) -> float:
    values = np.linalg.eigvals(np.corrcoef(rows)).real
    return -sum(math.log(value + K) + 1 / (value + K) for value in np.maximum(values, 0.0))


def epe_nas_of(rows: np.ndarray, labels: Tensor, classes: int = 4) -> float:
    sums, counts = {}, {}
    for label in set(labels.tolist()):
        places = [i for i, other in enumerate(labels.tolist()) if other == label]
        sums[label] = counts[label] = 0
        for i in places:
            for j in places:
                correlation = np.corrcoef(rows[i], rows[j])[0, 1]
                sums[label] += math.log(abs(correlation) + K)
        counts[label] = len(places)
    if classes <= 100:
        return sum(abs(value) for value in sums.values())
    means = [sums[label] / counts[label] for label in sums]
    return sum(abs(a - b) for a in means for b in means) / len(means)


@pytest.mark.parametrize("build", NETWORKS)
def test_the_definitions(build: type[nn.Module]) -> None:
    network, (images, labels) = build(), batch()
    rows = rows_of(network, images)
    expected = {"jacob_cor": jacob_cor_of(rows), "epe_nas": epe_nas_of(rows, labels)}
    for built, x, rel in both_precisions(network, images):
        # The reciprocal of a small eigenvalue feels rounding most.
        assert score(built, (x, labels), list(expected)).scores == pytest.approx(expected, rel=50 * rel)


def test_gradients_by_differences() -> None:
    """The rows rest on no backward pass: how the sum of all logits changes with each value of each image."""
    network, (images, labels) = in_double(ConvNorm()), batch(4, 4)
    images = images.double()
    rows = np.zeros((4, 48))
    with torch.no_grad():
        for i in range(4):
            for place in range(48):
                step = torch.zeros(4, 48, dtype=torch.float64)
                step[i, place] = 1e-6
                step = step.view_as(images)
                rows[i, place] = float((network(images + step) - network(images - step)).sum()) / 2e-6
    found = score(network, (images, labels), ["jacob_cor", "epe_nas"]).scores
    assert found["jacob_cor"] == pytest.approx(jacob_cor_of(rows), rel=1e-5)
    assert found["epe_nas"] == pytest.approx(epe_nas_of(rows, labels), rel=1e-4)


class Directions(nn.Module):
    """The gradient with respect to image i is row i of what is given."""

    def __init__(self, rows: Tensor, classes: int = 4) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu((self.rows * x.flatten(1)).sum(1, keepdim=True) + 1e4).expand(-1, self.classes)


def cosines(n: int) -> Tensor:
    """Rows of length 12, of mean zero and orthogonal: cosines."""
    return (math.pi / 12 * (torch.arange(12).double() + 0.5)[None] * torch.arange(1, n + 1)[:, None]).cos()


def test_gradients_without_any_correlation() -> None:
    """Every eigenvalue is 1: the largest score, -(log(1 + k) + 1 / (1 + k)) for each image."""
    images, labels = batch(8, 2)
    report = score(Directions(cosines(8)), (images.double(), labels), ["jacob_cor", "epe_nas"])
    assert report.scores["jacob_cor"] == pytest.approx(-8 * (math.log1p(K) + 1 / (1 + K)), rel=1e-9)
    counts = torch.bincount(labels).tolist()
    alike, different = math.log1p(K), math.log(K)
    expected = sum(abs(n * alike + n * (n - 1) * different) for n in counts)
    assert report.scores["epe_nas"] == pytest.approx(expected, rel=1e-6)


def test_gradients_that_are_all_alike() -> None:
    """One eigenvalue is B, the others 0; signs count for jacob_cor and not for epe_nas."""
    images, labels = batch(6, 2)
    row = cosines(1).expand(6, -1) * torch.arange(1.0, 7.0)[:, None] + 3
    for rows in (row, row * torch.tensor([1, -1, 1, -1, 1, -1])[:, None]):
        report = score(Directions(rows), (images.double(), labels), ["jacob_cor", "epe_nas"])
        expected = -(math.log(6 + K) + 1 / (6 + K)) - 5 * (math.log(K) + 1 / K)
        assert report.scores["jacob_cor"] == pytest.approx(expected, rel=1e-6)
        counts = torch.bincount(labels).tolist()
        assert report.scores["epe_nas"] == pytest.approx(sum(n * n for n in counts) * math.log1p(K), rel=1e-6)


def test_epe_nas_beyond_a_hundred_classes_compares_the_classes() -> None:
    images, labels = batch(8, 2)
    rows = torch.randn(8, 12).double()
    for classes in (100, 101):
        expected = epe_nas_of(rows.numpy(), labels, classes)
        found = score(Directions(rows, classes), (images.double(), labels), "epe_nas").value
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("build", [ConvNorm, Shared])
def test_the_size_of_the_logits_their_bias_and_the_order_of_the_images_do_not_matter(build: type[nn.Module]) -> None:
    network, (images, labels) = in_double(build()), batch(8)
    names = ["jacob_cor", "epe_nas"]
    found = score(network, (images, labels), names).scores
    order = torch.randperm(8)
    assert score(network, (images[order], labels[order]), names).scores == pytest.approx(found, rel=1e-8)
    network.head.weight.data.mul_(-30.0)
    network.head.bias.data.add_(2.0)
    assert score(network, (images, labels), names).scores == pytest.approx(found, rel=1e-8)


def test_jacob_cor_looks_at_no_labels() -> None:
    network, (images, labels) = ConvNorm(), batch()
    found = score(network, (images, labels), "jacob_cor").value
    assert score(network, (images, labels.flip(0)), "jacob_cor").value == found
    assert score(network, (images, torch.ones(7, 4) / 4), "jacob_cor").value == found


class Partly(nn.Module):
    """The logits do not depend on the last image; or on none."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.body, self.head, self.images = nn.Linear(108, 6), nn.Linear(6, 4), images

    def forward(self, x: Tensor) -> Tensor:
        keep = (torch.arange(len(x)) < self.images).to(x)[:, None]
        return self.head(torch.relu(self.body(x.flatten(1) * keep)))


@pytest.mark.parametrize("images", [0, 6])
def test_logits_that_do_not_depend_on_an_image(images: int) -> None:
    report = score(Partly(images), batch(), ["jacob_cor", "epe_nas"])
    assert report.scores == {"jacob_cor": -math.inf, "epe_nas": -math.inf}
    assert report.reason == "dead: the logits do not depend on every image"


def test_a_gradient_that_is_constant_over_an_image_has_no_correlation() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    network[2].weight.data.fill_(0.3)
    assert score(network, batch(), "jacob_cor").reason == "dead: the logits do not depend on every image"


def test_what_they_refuse() -> None:
    network, (images, labels) = ConvNorm(), batch()
    with pytest.raises(ValueError, match="no class has two images in this batch"):
        score(network, (images[:4], torch.arange(4)), "epe_nas")
    report = score(network, (images, torch.ones(7, 4) / 4), ["jacob_cor", "epe_nas"])
    assert "labels that are whole numbers" in report.refused["epe_nas"]
    assert math.isfinite(score(network, (images, torch.zeros(7, dtype=torch.long)), "epe_nas").value)  # one class
    network.head.weight.data[0, 0] = math.nan
    report = score(network, (images, labels), ["params", "jacob_cor", "epe_nas"])
    assert report.refused["jacob_cor"] == (
        "The gradient with respect to the images is not finite, so there is no jacob_cor."
    )
    assert "there is no epe_nas" in report.refused["epe_nas"]
