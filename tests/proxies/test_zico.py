"""ZiCo against gradients of parts of the batch that are taken by masking, and against real passes of each part."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from weighted_networks import NETWORKS, Bare, ConvNorm, Tokens, batch, both_precisions, gradients_of, in_double
from weighted_networks import seen_by_hand as seen

from lightning_wrcor import score
from lightning_wrcor.proxies import ZiCo


def zico_of(gradients: list[np.ndarray]) -> float:
    """The equation, one weight at a time."""
    total = 0.0
    for parts in gradients:
        ratios = 0.0
        for values in parts.reshape(len(parts), -1).T:
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
            if deviation > 1e-18:
                ratios += sum(abs(values)) / len(values) / deviation
        if ratios > 0:
            total += math.log(ratios)
    return total


def split(n: int, parts: int) -> list[list[int]]:
    """Places of the images, in order, as evenly as can be (a part in the middle is the larger one of 7 = 2 + 3 + 2)."""
    return [[i for i in range(n) if round(p * n / parts) <= i < round((p + 1) * n / parts)] for p in range(parts)]


def masked(network: nn.Module, images: Tensor, labels: Tensor, parts: int) -> float:
    """From one pass of the whole batch, each part's contributions at each layer averaged over its images."""
    places = split(len(images), parts)
    sizes = np.array([len(part) for part in places])
    found = gradients_of(seen(network, images, labels), places)
    return zico_of([g / sizes.reshape(-1, *[1] * (g.ndim - 1)) for g in found.values()])


def alone(network: nn.Module, images: Tensor, labels: Tensor, places: list[list[int]]) -> float:
    """From a forward and a backward pass of each part by itself."""
    rows: dict[str, list[np.ndarray]] = {}
    for part in places:
        hand = seen(network, images[part], labels[part])
        for key, weight in hand.weights.items():
            if weight.grad is not None:
                rows.setdefault(key, []).append(weight.grad.numpy())
    return zico_of([np.stack(row) for row in rows.values()])


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize(("n", "parts"), [(8, 2), (7, 2), (7, 3), (5, 5)])
def test_halves_of_one_pass(build: type[nn.Module], n: int, parts: int) -> None:
    network, (images, labels) = build(), batch(n)
    expected = masked(network, images, labels, parts)
    for built, x, rel in both_precisions(network, images):
        # One weight whose parts nearly agree carries much of the sum, and float32 knows their difference badly.
        assert score(built, (x, labels), ZiCo(parts)).value == pytest.approx(expected, rel=10 * rel)


@pytest.mark.parametrize("build", [network for network in NETWORKS if "Norm" not in network.__name__][:4])
@pytest.mark.parametrize("n", [6, 7])
def test_without_batch_normalisation_they_are_the_gradients_of_each_parts_own_loss(
    build: type[nn.Module], n: int
) -> None:
    network, (images, labels) = in_double(build()), batch(n)
    expected = alone(network, images, labels, split(n, 2))
    assert score(network, (images, labels), "zico").value == pytest.approx(expected, rel=1e-8)
    assert score(network, (images, labels), ZiCo(separate=True)).value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize(("n", "parts"), [(8, 2), (7, 2), (7, 3)])
def test_parts_that_go_through_the_network_alone(build: type[nn.Module], n: int, parts: int) -> None:
    network, (images, labels) = in_double(build()), batch(n)
    places = [part.tolist() for part in torch.arange(n).tensor_split(parts)]
    expected = alone(network, images, labels, places)
    found = score(network, (images, labels), ZiCo(parts, separate=True)).value
    assert found == pytest.approx(expected, rel=1e-8)
    if build is ConvNorm:  # whose statistics are those of each part now
        assert found != pytest.approx(masked(network, images, labels, parts), rel=1e-3)


def test_one_linear_layer_in_closed_form() -> None:
    """With the same two images in both halves and other labels, the error terms alone differ."""
    images, _ = batch(2, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)).double()
    x = images.double().flatten(1)
    p = torch.softmax(x @ network[1].weight.detach().T, 1)
    first = torch.einsum("nk,nd->kd", p - F.one_hot(torch.tensor([0, 1]), 3), x)
    second = torch.einsum("nk,nd->kd", p - F.one_hot(torch.tensor([0, 0]), 3), x)
    differ = (first - second).abs() > 1e-12
    assert not bool(differ[2].any())  # no label of class 2: those gradients do not vary, and add nothing
    ratio = ((first.abs() + second.abs()) / (first - second).abs())[differ].sum()
    found = score(network, (torch.cat([images, images]), torch.tensor([0, 1, 0, 0])), "zico").value
    assert found == pytest.approx(math.log(float(ratio)), rel=1e-6)


@pytest.mark.parametrize("build", [Bare, Tokens])
def test_the_order_within_a_part_does_not_matter_but_that_of_the_whole_does(build: type[nn.Module]) -> None:
    network, (images, labels) = in_double(build()), batch(8)
    found = score(network, (images, labels), "zico").value
    inside = torch.tensor([3, 1, 0, 2, 7, 6, 4, 5])
    assert score(network, (images[inside], labels[inside]), "zico").value == pytest.approx(found, rel=1e-8)
    swapped = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
    assert score(network, (images[swapped], labels[swapped]), "zico").value == pytest.approx(found, rel=1e-8)
    across = torch.tensor([4, 1, 2, 3, 0, 5, 6, 7])
    assert score(network, (images[across], labels[across]), "zico").value != pytest.approx(found, rel=1e-4)


def test_the_size_of_the_gradients_does_not_matter() -> None:
    network, (images, labels) = Bare(bias=False).double(), batch(8)
    found = score(network, (images, labels), "zico").value
    network.a.weight.data *= 4.0
    network.b.weight.data /= 4.0  # the gradients of a are a quarter now, those of b four times as large
    assert score(network, (images, labels), "zico").value == pytest.approx(found, rel=1e-8)


def test_labels_as_probabilities() -> None:
    network, (images, labels) = in_double(ConvNorm()), batch()
    soft = torch.softmax(torch.randn(7, 4), 1)
    assert score(network, (images, soft), "zico").value == pytest.approx(masked(network, images, soft, 2), rel=1e-8)
    hard = score(network, (images, labels), ZiCo(separate=True)).value
    certain = F.one_hot(labels, 4).double()
    assert score(network, (images, certain), ZiCo(separate=True)).value == pytest.approx(hard, rel=1e-9)


def test_what_it_refuses() -> None:
    network = Bare()
    with pytest.raises(ValueError, match=r"zico in 5 parts needs a batch of at least 5 images; got 4\."):
        score(network, batch(4), ZiCo(5))
    with pytest.raises(ValueError, match=r"zico in 2 parts needs a batch of at least 4 images; got 3\."):
        score(network, batch(3), ZiCo(separate=True))
    with pytest.raises(ValueError, match=r"at least 2 parts of the batch; got parts=1\."):
        ZiCo(1)


class Table(nn.Module):
    """A linear map of a table that belongs to no image."""

    def __init__(self, reaches: bool = True) -> None:
        super().__init__()
        self.table, self.positions = nn.Parameter(torch.randn(9, 2)), nn.Linear(2, 4)
        self.patches, self.head = nn.Conv2d(3, 4, 2, 2), nn.Linear(4, 4)
        self.reaches = reaches

    def forward(self, x: Tensor) -> Tensor:
        table = self.positions(self.table)
        x = self.patches(x).flatten(2).transpose(1, 2) + (table if self.reaches else 0 * table)
        return self.head(torch.relu(x).mean(1))


def test_a_layer_that_belongs_to_no_image_is_named() -> None:
    """Its gradient is that of the whole batch."""
    with pytest.raises(ValueError, match=r"those of 'positions' cannot be told apart; with separate=True each part"):
        score(Table(), batch(), "zico")
    network = Table().double()
    rows: dict[str, list[np.ndarray]] = {}
    images, labels = batch(8)
    for part in (slice(0, 4), slice(4, 8)):
        network.zero_grad()
        F.cross_entropy(network(images[part].double()), labels[part]).backward()
        for name in ("positions", "patches", "head"):
            rows.setdefault(name, []).append(network.get_submodule(name).weight.grad.numpy().copy())
    expected = zico_of([np.stack(row) for row in rows.values()])
    assert score(network, (images, labels), ZiCo(separate=True)).value == pytest.approx(expected, rel=1e-8)
    assert math.isfinite(score(Table(reaches=False), batch(), "zico").value)  # one without a gradient does not matter
