"""Proxies of activation codes, against loops over codes, codes made by hand, and lines through a network."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from weighted_networks import NETWORKS, Bare, ConvNorm, Tokens, batch, both_precisions, in_double, seen_by_hand

from lightning_wrcor import score
from lightning_wrcor.proxies import SWAP, LinearRegions


def codes_by_hand(network: nn.Module, images: Tensor, labels: Tensor) -> np.ndarray:
    """``(images, places)`` True where a non-linearity's input is above 0."""
    return np.concatenate(
        [before.reshape(len(before), -1) > 0 for before in seen_by_hand(network, images, labels).before], 1
    )


def naswot_of(codes: np.ndarray) -> float:
    kernel = np.array([[sum(a == b) for b in codes] for a in codes], dtype=np.float64)
    return float(np.linalg.slogdet(kernel)[1])


def swap_of(codes: np.ndarray) -> int:
    return len({tuple(column) for column in codes.T.tolist()})


@pytest.mark.parametrize("build", NETWORKS)
def test_the_definitions(build: type[nn.Module]) -> None:
    network, (images, labels) = build(), batch()
    codes = codes_by_hand(network, images, labels)
    expected = {"naswot": naswot_of(codes), "swap": swap_of(codes)}
    for built, x, _ in both_precisions(network, images):
        assert score(built, (x, labels), ["naswot", "swap"]).scores == pytest.approx(expected, rel=1e-10)
        assert score(built, (x, labels), LinearRegions(line=False)).value == len({tuple(c) for c in codes.tolist()})


class Codes(nn.Module):
    """What the non-linearity receives: the value of each place for each image, as given."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.values.to(x) + 0 * x.sum((1, 2, 3))[:, None])[:, :1].expand(-1, 4)


def test_naswot_of_known_codes() -> None:
    """Three images, four places: K = ((4, 3, 0), (3, 4, 1), (0, 1, 4)), whose determinant is 24."""
    codes = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]])
    images, labels = batch(3)
    found = score(Codes(codes * 3.0 - 1.0), (images, labels), "naswot")
    assert found.value == pytest.approx(math.log(4 * (16 - 1) - 3 * 12), rel=1e-12)
    zero = score(Codes(codes.float()), (images, labels), "naswot")  # 0 itself is not above 0
    assert zero.value == found.value
    codes[1, 3] = 1
    report = score(Codes(codes * 3.0 - 1.0), (images, labels), "naswot")
    assert (report.value, report.reason) == (-math.inf, "K is singular: two images have one code")


@pytest.mark.parametrize("n", [5, 63, 64, 65, 70, 130])
def test_swap_of_patterns_made_by_hand(n: int) -> None:
    """Batches of any length: patterns that differ in one image only, wherever that image is."""
    patterns = torch.zeros(n, n + 4)
    patterns[torch.arange(n), torch.arange(n)] = 1  # on for one image only
    patterns[:, n + 1] = 1  # on for all; the three others are off for all
    patterns[:, n + 3] = patterns[:, 0]  # one of the others again
    images, labels = batch(n, 2)
    assert score(Codes(patterns * 2 - 1), (images, labels), "swap").value == n + 2
    order = torch.randperm(n + 4)
    assert score(Codes(patterns[:, order] * 2 - 1), (images, labels), "swap").value == n + 2


@pytest.mark.parametrize("n", [4, 64, 70])
def test_swap_counts_a_pattern_once_over_all_non_linearities(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(0, 2, (n, 40), generator=generator).float() * 2 - 1

    class Twice(Codes):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + F.relu(0 * x.flatten(1)[:, :1] - self.values[:, 20:])[:, :1]

    codes = torch.cat([patterns > 0, -patterns[:, 20:] > 0], 1).numpy()
    assert score(Twice(patterns), batch(n, 2), "swap").value == swap_of(codes)


def test_swap_with_a_preference_for_a_size() -> None:
    network = Bare()
    params = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    plain = score(network, batch(), "swap").value
    report = score(network, batch(), [SWAP(), SWAP(mu=0.001, sigma=1e-6)])
    expected = plain * math.exp(-((params - 0.001) ** 2) / 1e-6)
    assert report.scores == pytest.approx({"swap": plain, "swap_regularised": expected}, rel=1e-12)
    with pytest.raises(ValueError, match=r"takes both mu and sigma > 0; got mu=1\.0, sigma=None"):
        SWAP(mu=1.0)


@pytest.mark.parametrize("build", [ConvNorm, Tokens])
def test_the_order_of_the_images_and_the_labels_do_not_matter(build: type[nn.Module]) -> None:
    network, (images, labels) = in_double(build()), batch(8)
    names = ["naswot", "swap", LinearRegions(line=False)]
    found = score(network, (images, labels), names).scores
    order = torch.randperm(8)
    assert score(network, (images[order], labels), names).scores == pytest.approx(found, rel=1e-10)


def test_the_scale_of_a_layer_without_bias_does_not_matter() -> None:
    network = Bare(bias=False)
    names = ["naswot", "swap", "linear_regions"]
    found = score(network, batch(), names).scores
    for layer, factor in ((network.a, 8.0), (network.b, 0.25), (network.head, -3.0)):
        layer.weight.data *= factor
    assert score(network, batch(), names).scores == found
    network.a.weight.data *= -1.0
    assert score(network, batch(), "naswot").value != found["naswot"]


# ---- linear regions


class Watched(nn.Module):
    """Keeps what it and its copies are given."""

    seen: list[Tensor] = []  # noqa: RUF012 - of the class, so that copies have the same

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen.clear()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:  # costs are counted in evaluation mode
            self.seen.append(x.detach().clone())
        return self.network(x)


@pytest.mark.parametrize("points", [2, 17, 64])
def test_regions_of_one_layer_are_its_places_that_change_sides(points: int) -> None:
    """What one linear layer gives changes linearly along the line, so that each place switches once at most."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 50), nn.ReLU(), nn.Linear(50, 4)).double()
    watched = Watched(network)
    found = score(watched, batch(), LinearRegions(points)).value
    (line,) = watched.seen
    assert line.shape == (points, 3, 6, 6)
    steps = line[1:] - line[:-1]
    assert torch.allclose(steps, ((line[-1] - line[0]) / (points - 1)).expand_as(steps))  # straight, in even steps
    with torch.no_grad():
        ends = network[1](line[[0, -1]].flatten(1)) > 0
    assert found == 1 + int((ends[0] != ends[1]).sum())
    assert found > 10


def test_regions_are_switches_from_point_to_point() -> None:
    watched = Watched(Bare().double())
    found = score(watched, batch(), LinearRegions(33)).value
    (line,) = watched.seen
    codes = codes_by_hand(watched.network, line, torch.zeros(33, dtype=torch.long))
    assert found == 1 + sum(int((a != b).sum()) for a, b in pairwise(codes))
    assert abs(float(line[0].mean())) < 0.5
    assert 0.7 < float(line[0].std()) < 1.3  # noise of the size of images


def test_the_line_is_the_candidates_own() -> None:
    network = Bare()
    found = score(network, batch(seed=1), "linear_regions").value
    torch.manual_seed(5)
    assert score(network, batch(seed=2), ["naswot", "linear_regions"]).scores["linear_regions"] == found
    watched = Watched(network)
    for seed in (0, 1, 1):
        score(watched, batch(), "linear_regions", seed=seed)
    first, second, again = watched.seen
    assert torch.equal(second, again)
    assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match=r"A line has at least 2 points; got points=1\."):
        LinearRegions(1)


# ---- what has no codes


def test_networks_without_codes() -> None:
    names = ["params", "naswot", "swap", "linear_regions", LinearRegions(line=False)]
    gates = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 4))
    for network, why in ((nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), "."), (gates, " (gates: 1 Tanh;")):
        report = score(network, batch(), names)
        assert set(report.refused) == {"naswot", "swap", "linear_regions"}
        assert all(f"calls no non-linearity that counts{why}" in sentence for sentence in report.refused.values())


class Ignoring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Parameter(torch.randn(1, 6)), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.table)).expand(len(x), -1)


def test_a_non_linearity_that_belongs_to_no_image() -> None:
    for proxy in ("naswot", "swap", LinearRegions(line=False)):
        report = score(Ignoring(), batch(), proxy)
        assert (report.value, report.reason) == (-math.inf, "dead: no non-linearity depends on the images")
    assert score(Ignoring(), batch(), "linear_regions").value == 1.0


@pytest.mark.parametrize("place", [(0,), (3, 2)])
def test_values_that_are_no_numbers_have_no_code(place: tuple[int, ...]) -> None:
    values = torch.randn(7, 5)
    values[place] = math.nan
    report = score(Codes(values), batch(), ["params", "naswot", "swap", LinearRegions(line=False)])
    assert report.refused == {
        name: f"Codes has values that are no numbers (NaN), so it has no {name}."
        for name in ("naswot", "swap", "linear_regions")
    }
    network = Bare()
    network.b.weight.data[0] = math.nan
    with pytest.raises(ValueError, match=r"Bare has values that are no numbers \(NaN\), so it has no linear_regions"):
        score(network, batch(), "linear_regions")
    values[place] = math.inf  # infinite is above 0
    assert math.isfinite(score(Codes(values), batch(), "swap").value)
