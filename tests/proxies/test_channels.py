"""MeCo and NEAR against NumPy's correlations and singular values, and on maps made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from weighted_networks import (
    NETWORKS,
    Bare,
    ConvNorm,
    Functional,
    Grouped,
    Hand,
    Tokens,
    batch,
    both_precisions,
    in_double,
    seen_by_hand,
)

from lightning_wrcor import score


def meco_of(hand: Hand) -> float:
    total = 0.0
    for call in hand.layers:
        maps = call.maps(call.out)
        values = []
        for image in maps:
            varies = image.std(1) > 1e-9
            matrix = np.zeros((len(image), len(image)))
            if varies.any() and image.shape[1] > 1:
                matrix[np.ix_(varies, varies)] = np.corrcoef(image[varies])
            values.append(max(np.linalg.eigvalsh(matrix)[0], 0.0))
        total += float(np.mean(values))
    return total


def effective_rank(values: np.ndarray, channels: int) -> float:
    rows = np.moveaxis(values, channels, -1).reshape(-1, values.shape[channels])
    singular = np.linalg.svd(rows, compute_uv=False)
    return math.exp(-sum(s / singular.sum() * math.log(s / singular.sum()) for s in singular if s > 0))


def near_of(hand: Hand) -> float:
    return sum(
        effective_rank(values, place)
        for values, place in zip(hand.before + hand.after, hand.places + hand.places, strict=True)
    )


@pytest.mark.parametrize("build", NETWORKS)
def test_the_definitions(build: type[nn.Module]) -> None:
    network, (images, labels) = build(), batch(7, 10 if build in (Grouped, Bare) else 6)
    if build is Bare:
        network.c = nn.Linear(144, 7)
    hand = seen_by_hand(network, images, labels)
    expected = {"meco": meco_of(hand), "near": near_of(hand)}
    assert expected["meco"] > 0.01
    for built, x, rel in both_precisions(network, images):
        found = score(built, (x, labels), ["meco", "near"]).scores
        assert found["meco"] == pytest.approx(expected["meco"], rel=rel, abs=rel)
        # Singular values that are nearly zero come from the roots of rounding.
        assert found["near"] == pytest.approx(expected["near"], rel=max(rel, 1e-5))


class Maps(nn.Module):
    """A 1 x 1 convolution whose channels are mixtures of the images' own."""

    def __init__(self, mixtures: list[list[float]], bias: bool = False) -> None:
        super().__init__()
        weight = torch.tensor(mixtures)
        self.mix, self.act = nn.Conv2d(weight.shape[1], len(weight), 1, bias=bias), nn.ReLU()
        self.mix.weight.data = weight[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.mix(x)).flatten(1)[:, :4]


def orthogonal_images(n: int = 3, size: int = 4) -> Tensor:
    """Three channels of mean zero and norm 1 that are orthogonal in every image."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(n, 3, size * size, generator=generator, dtype=torch.float64)
    maps = maps - maps.mean(2, keepdim=True)
    return torch.linalg.qr(maps.transpose(1, 2))[0].transpose(1, 2).reshape(n, 3, size, size)


def test_meco_of_mixtures() -> None:
    """Correlation r between two channels: the smallest eigenvalue is 1 - r."""
    images, labels = orthogonal_images(), torch.arange(3)
    for mixtures, smallest in (
        ([[1.0, 0, 0], [0, 2.0, 0], [0, 0, -3.0]], 1.0),
        ([[1.0, 0, 0], [0.6, 0.8, 0]], 0.4),
        ([[1.0, 0, 0], [-0.6, 0.8, 0]], 0.4),
        ([[1.0, 0, 0], [5.0, 0, 0], [0, 0, 1.0]], 0.0),
        ([[1.0, 0, 0], [0, 0, 0]], 0.0),  # a channel that is constant
        ([[0.3, 0.2, 0.1]], 1.0),
    ):
        network = Maps(mixtures).double()
        assert score(network, (images, labels), "meco").value == pytest.approx(smallest, abs=1e-7)


def test_meco_averages_over_the_images() -> None:
    images, labels = orthogonal_images(4), torch.arange(4)
    images[0, 1] = images[0, 0]  # alike in one of four images
    found = score(Maps([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]).double(), (images, labels), "meco").value
    assert found == pytest.approx(0.75, abs=1e-9)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e4])
def test_a_constant_channel_is_constant_whatever_its_value(value: float) -> None:
    """Means of equal numbers round: what is left of a constant channel must not be taken for a map."""
    images = torch.full((3, 3, 5, 7), value)
    for mixtures in ([[0.3, 0.2, 0.1]], torch.randn(4, 3).tolist()):
        assert score(Maps(mixtures), (images, torch.arange(3)), "meco").value == 0.0


def test_more_channels_than_positions_add_nothing() -> None:
    mixtures = torch.randn(16, 3).tolist()
    assert score(Maps(mixtures).double(), (orthogonal_images(), torch.arange(3)), "meco").value == 0.0
    linear = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))  # one position
    assert score(linear, batch(), "meco").value == 0.0


def test_near_of_known_ranks() -> None:
    """Orthogonal channels of norms s: the effective rank is the exponential of the entropy of s / sum(s)."""
    images = orthogonal_images() + 10.0  # above 0: ReLU changes nothing
    images = images - images.mean((2, 3), keepdim=True)
    for scales in ([1.0, 1.0, 1.0], [4.0, 1.0, 1.0], [1.0, 0.0, 0.0]):
        network = Maps(torch.diag(torch.tensor(scales)).tolist()).double()
        shares = np.array(scales) / sum(scales)
        before = math.exp(-sum(p * math.log(p) for p in shares if p > 0))
        after = effective_rank(images.clamp_min(0).numpy() * np.array(scales)[None, :, None, None], 1)
        found = score(network, (images, torch.arange(3)), "near").value
        assert found == pytest.approx(before + after, rel=1e-6)


def test_near_reads_the_channels_of_linear_maps_and_of_convolutions() -> None:
    """Tokens have theirs last, maps first, also where both lengths are equal."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear, self.head = nn.Conv2d(3, 5, 2), nn.Linear(5, 5), nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x))  # (B, 5, 5, 5)
            return self.head(F.relu(self.linear(x.flatten(2).transpose(1, 2)[:, :5])).mean(1))

        def by_hand(self, x: Tensor, hand: Hand) -> Tensor:
            x = hand.act(F.relu, hand.conv("conv", self.conv, x))
            x = hand.linear("linear", self.linear, x.flatten(2).transpose(1, 2)[:, :5])
            return hand.linear("head", self.head, hand.act(F.relu, x, channels=2).mean(1))

    network, (images, labels) = in_double(Both()), batch()
    expected = near_of(seen_by_hand(network, images, labels))
    assert score(network, (images, labels), "near").value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("build", [ConvNorm, Tokens])
def test_order_labels_and_company_do_not_matter(build: type[nn.Module]) -> None:
    network, (images, labels) = in_double(build()), batch(8)
    found = score(network, (images, labels), ["meco", "near"]).scores
    order = torch.randperm(8)
    assert score(network, (images[order], labels), ["meco", "near"]).scores == pytest.approx(found, rel=1e-7)
    together = score(network, (images, labels), ["zico", "near", "fisher", "meco", "wrcor"]).scores
    assert together["meco"] == pytest.approx(found["meco"], rel=1e-9)
    assert together["near"] == pytest.approx(found["near"], rel=1e-6)


def test_the_scale_of_the_channels_does_not_matter() -> None:
    network, (images, labels) = Functional().double(), batch()
    found = score(network, (images, labels), "meco").value
    network.line.data.mul_(torch.tensor([1.0, 3.0, 0.2, 7.0, 9.0]).double()[:, None, None])
    network.shift.data.add_(3.0)
    assert score(network, (images, labels), "meco").value == pytest.approx(found, rel=1e-9)
    bare = Bare(bias=False).double()
    near = score(bare, (images, labels), "near").value
    bare.a.weight.data.mul_(8.0)  # all channels alike
    assert score(bare, (images, labels), "near").value == pytest.approx(near, rel=1e-9)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_what_checkpointing_runs_again_counts_once(use_reentrant: bool) -> None:
    class Checkpointed(ConvNorm):
        use = True

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.norm_a(self.a(x)))
            x = checkpoint(self.b, x, use_reentrant=use_reentrant) if self.use else self.b(x)
            return self.head(torch.relu(self.norm_b(x)).mean((2, 3)))

    network, proxies = Checkpointed().double(), ["meco", "near", "snip", "fisher", "zico"]
    found = score(network, batch(), proxies).scores
    network.use = False
    assert found == pytest.approx(score(network, batch(), proxies).scores, rel=1e-9)


def test_values_that_are_no_numbers() -> None:
    network = ConvNorm()
    network.a.weight.data[0, 0, 0, 0] = math.nan
    report = score(network, batch(), ["params", "meco", "near"])
    assert report.refused == {"meco": "The proxy meco gave NaN.", "near": "The proxy near gave NaN."}


def test_networks_without_channels() -> None:
    assert "calls no convolution and no linear map" in score(nn.Flatten(), batch(), ["depth", "meco"]).refused["meco"]
    linear = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    assert "calls no non-linearity that counts" in score(linear, batch(), ["depth", "near"]).refused["near"]
    dead = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    report = score(dead, (torch.zeros(4, 3, 6, 6), torch.arange(4)), ["meco", "near"])
    assert report.scores == {"meco": 0.0, "near": 0.0}
