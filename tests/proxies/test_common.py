"""What maps have in common, and the fan-in of layers: against NumPy, and on networks where the answer is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_wrcor import score
from lightning_wrcor.spaces import NASBench201

BOTH = ["common_activations", "common_gradients"]


def batch(n: int = 6, size: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, generator=generator), torch.arange(n) % 4


class Kept(nn.Module):
    """Keeps what its non-linearities receive."""

    def __init__(self, padding_mode: str = "zeros", stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, 6, 3, padding=1, padding_mode=padding_mode),
                nn.Conv2d(6, 6, 3, stride, padding=1, padding_mode=padding_mode),
                nn.Conv2d(6, 8, 3, padding=1, padding_mode=padding_mode),
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(conv.out_channels) for conv in self.convs])
        self.head = nn.Linear(8, 4)
        self.received: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.received = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
            self.received.append(x)
            if x.requires_grad:
                x.retain_grad()
            x = F.relu(x)
        return self.head(x.mean((2, 3)))


def common_of(maps: list[np.ndarray]) -> float:
    """Quarter by quarter, pair by pair."""
    found = []
    for response in maps:
        images, channels, height, width = response.shape
        if min(height, width) <= 2:
            continue
        rows = np.zeros((images, channels, 2, 2))
        for i, j in itertools.product(range(2), range(2)):
            quarter = response[
                :, :, i * height // 2 : math.ceil((i + 1) * height / 2), j * width // 2 : math.ceil((j + 1) * width / 2)
            ]
            rows[:, :, i, j] = quarter.mean((2, 3))
        pairs = itertools.combinations(rows.reshape(images, -1), 2)
        found.append(np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs]))
    return max(found)


@pytest.mark.parametrize(("size", "stride"), [(8, 1), (7, 1), (8, 2), (5, 2), (4, 2)])
def test_the_definition(size: int, stride: int) -> None:
    network, (images, labels) = Kept(stride=stride).double(), batch(size=size)
    network.train()(images.double()).sum().backward()
    expected = dict(
        zip(
            BOTH,
            (
                common_of([x.detach().numpy() for x in network.received]),
                common_of([x.grad.numpy() for x in network.received]),
            ),
            strict=True,
        )
    )
    network.received = []
    assert score(network.float(), (images, labels), BOTH).scores == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_zero_padding_is_what_images_of_noise_have_in_common() -> None:
    """Without an edge no place differs from another, and what is left is the mean of 32 * 31 / 2 small correlations."""
    images, labels = batch(32, 16)
    edges = score(Kept("zeros"), (images, labels), "common_activations").value
    none = score(Kept("circular"), (images, labels), "common_activations").value
    assert none < 0.05
    assert edges > none + 0.05


def test_the_more_spatial_convolutions_the_more_in_common() -> None:
    images, labels = batch(32, 16)
    space = NASBench201(width=16, cells=2)
    found = []
    for operation in ("nor_conv_1x1", "nor_conv_3x3"):
        cell = f"|{operation}~0|+|none~0|{operation}~1|+|none~0|none~1|{operation}~2|"
        torch.manual_seed(0)
        found.append(score(space.build(space.parse(cell), 10), (images, labels), "common_activations").value)
    assert found[1] > found[0] + 0.05


class ChannelsLast(nn.Module):
    """The same maps with their channels first or last."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Linear(5, 4)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = F.relu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if self.last else F.relu(x)
        return self.head(x.mean((2, 3)))


def test_where_the_channels_are_makes_no_difference() -> None:
    first, last = (score(ChannelsLast(last), batch(), BOTH).scores for last in (False, True))
    assert first == pytest.approx(last, rel=1e-5)


def test_networks_without_maps_are_refused_in_words() -> None:
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4))
    refused = score(mlp, batch(), ["params", *BOTH]).refused
    assert "common_activations looks at maps larger than 2 x 2" in refused["common_activations"]
    assert "Sequential has none for images of this size" in refused["common_gradients"]
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert "calls no non-linearity that counts" in score(linear, batch(), ["params", *BOTH]).refused[BOTH[0]]


class Broken(Kept):
    """What the second non-linearity receives for the first image is spoilt."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.convs[0](x)))
        x = self.norms[1](self.convs[1](x))
        keep = torch.ones(len(x), 1, 1, 1)
        keep[0] = self.by
        return self.head(F.relu(self.convs[2](F.relu(x * keep))).mean((2, 3)))


def test_a_response_with_a_constant_row_is_left_out_and_nan_is_refused() -> None:
    network = Broken(0.0)
    images, labels = batch()
    first = network.norms[0](network.convs[0](images))
    second = network.norms[1](network.convs[1](F.relu(first)))
    second[0] = 0.0
    third = network.convs[2](F.relu(second))
    assert np.isnan(common_of([second.detach().numpy()]))
    expected = common_of([x.detach().numpy() for x in (first, third)])
    assert score(network, (images, labels), "common_activations").value == pytest.approx(expected, rel=1e-4)
    refused = score(Broken(math.nan), (images, labels), ["params", "common_activations"]).refused
    assert refused == {"common_activations": "The proxy common_activations gave NaN."}


def test_a_network_whose_maps_are_all_constant_is_dead() -> None:
    class Constant(Kept):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.norms[0](self.convs[0](x)) * 0.0 + 1.0).mean((2, 3)).repeat(1, 2)[:, :8])

    report = score(Constant(), batch(), ["params", "common_activations"])
    assert report.scores["common_activations"] == -math.inf


# ---- fan-in


def test_fan_in_counts_the_paths_of_a_chain() -> None:
    chain = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 5, groups=4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 2, 2), nn.Flatten(), nn.Linear(2, 4),
    )  # fmt: skip
    expected = math.log(27 * (2 * 25) * 9 * (8 * 4) * 2)
    size = 10  # 10 -> 6 -> 3 -> 1 -> 2
    chain[7] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert score(chain, batch(size=size), "fan_in").value == pytest.approx(expected, rel=1e-12)


def test_fan_in_of_a_published_network() -> None:
    """ResNet-18 by the table of its paper: 7 x 7 of 3, four stages of two blocks of two 3 x 3, three projections."""
    widths = [64, 128, 256, 512]
    expected = math.log(49 * 3) + 4 * math.log(9 * 64) + math.log(512)
    for before, width in itertools.pairwise(widths):
        expected += math.log(9 * before) + 3 * math.log(9 * width) + math.log(before)
    found = score(timm.create_model("resnet18", num_classes=10), batch(4, 32), "fan_in").value
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_layer_that_is_called_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(192, 192), nn.Linear(192, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.layer(x.flatten(1)))
            return self.head(F.relu(self.layer(x)))

    assert score(Twice(), batch(), "fan_in").value == pytest.approx(3 * math.log(192), rel=1e-12)


class Recomputed(nn.Module):
    """One layer runs again in the backward pass, and one looks at a table and not at the images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head, self.of_table = nn.Linear(192, 16), nn.Linear(16, 4), nn.Linear(5, 4)
        self.table = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(lambda value: F.relu(self.layer(value)), x.flatten(1), use_reentrant=False)
        return self.head(x) + self.of_table(self.table)


def test_fan_in_is_of_the_forward_pass_on_images() -> None:
    expected = pytest.approx(math.log(192) + math.log(16), rel=1e-12)
    assert score(Recomputed(), batch(), ["fan_in", "snip", "wrcor"]).scores["fan_in"] == expected
    assert score(Recomputed(), batch(), "fan_in").value == expected
