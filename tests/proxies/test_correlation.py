"""The four correlation proxies against the independent reference, and the parts of a score."""

from __future__ import annotations

import copy
import math
import random

import pytest
import timm
import torch
import torchvision
from networks import Branches, Functions, Overwriting, Transformer, images_and_labels
from torch import Tensor, nn

from lightning_wrcor.proxies import ScoreReport, WRCor, score
from lightning_wrcor.proxies._correlation import CONSTANT, as_rows, correlations, multiply
from lightning_wrcor.proxies._samples import puts_sequences_first, samples_first
from lightning_wrcor.spaces import NASBench201

from reference import by_hand, by_hooks, close, largest_difference

ALL = ("wrcor", "rcor", "gcor", "acor")
CELLS = NASBench201(width=8, cells=1)


def matches(report: ScoreReport, expected: dict[str, float]) -> None:
    for name in ALL:
        assert close(report.scores[name], expected[name], report.batch_size), (name, report.scores[name], expected)


def sums_up(report: ScoreReport) -> None:
    """What holds of every finite score of a correlation proxy."""
    assert report.size_term is not None
    assert report.shape_term is not None
    assert report.shares is not None
    assert report.size_term + report.shape_term == pytest.approx(report.value, rel=1e-12)
    shares = [share for layer in report.shares for part, share in layer.items() if part != "layer"]
    assert sum(shares) == pytest.approx(report.batch_size, rel=1e-6)


# ---- against the reference


def relu_layers(network: nn.Module) -> dict[str, int]:
    layers = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.ReLU):
            head, _, rest = name.partition(".")
            layers[name] = {"stem": 0, "last_act": 5}.get(head, int(rest.split(".")[0]) if head == "cells" else 0)
    return layers


@pytest.mark.parametrize(
    "text",
    [
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
        "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|avg_pool_3x3~0|none~1|none~2|",  # dead ends
    ],
)
def test_nasbench_cells(text: str) -> None:
    batch = images_and_labels(16, 16)
    network = CELLS.build(CELLS.parse(text), num_classes=5)
    report = score(network, batch, ALL, layers=CELLS.layers(CELLS.parse(text)))
    matches(report, by_hooks(network, relu_layers(network), *batch))
    sums_up(report)


def test_a_random_nasbench_cell_at_a_small_batch_and_a_large_one() -> None:
    genotype = ("nor_conv_1x1", *CELLS.sample(random.Random(0))[1:3], "nor_conv_3x3", "none", "skip_connect")
    for n in (2, 33):
        batch = images_and_labels(n, 8)
        network = CELLS.build(genotype, num_classes=5)
        report = score(network, batch, ALL, layers=CELLS.layers(genotype))
        matches(report, by_hooks(network, relu_layers(network), *batch))


@pytest.mark.parametrize(
    ("name", "kinds", "kwargs", "layer"),
    [
        ("test_resnet", nn.ReLU, {"zero_init_last": False}, lambda n: int(n[5]) if n.startswith("layer") else 0),
        ("test_efficientnet", nn.SiLU, {}, lambda n: int(n[7]) + 1 if n.startswith("blocks") else 5 * (n != "bn1.act")),
        ("test_vit", nn.GELU, {}, lambda n: int(n[7]) + 1),
        (
            "mobilenetv3_small_050",  # in-place ReLU and Hardswish; its last activation comes after the last block
            (nn.ReLU, nn.Hardswish),
            {},
            lambda n: int(n[7]) + 1 if n.startswith("blocks") else 7 * (n == "act2"),
        ),
    ],
)
def test_networks_of_timm(name: str, kinds: type[nn.Module], kwargs: dict[str, bool], layer: object) -> None:
    batch = images_and_labels(6, 160 if name == "test_vit" else 32)
    network = timm.create_model(name, num_classes=5, **kwargs)
    layers = {n: layer(n) for n, m in network.named_modules() if isinstance(m, kinds)}  # type: ignore[operator]
    report = score(network, batch, ALL)
    assert report.depth == len(layers)
    matches(report, by_hooks(network, layers, *batch))
    sums_up(report)


@pytest.mark.parametrize("build", [Functions, Branches, Overwriting, Transformer, lambda: Transformer(True)])
def test_hand_written_networks(build: type[Functions]) -> None:
    batch = images_and_labels(16 if build is Transformer else 12)  # 16 images of 16 patches
    network = build().train()
    report = score(network, batch, ALL)
    matches(report, by_hand(network.by_hand, *batch))
    sums_up(report)


def test_overwritten_tensors_score_as_those_that_are_not() -> None:
    batch = images_and_labels()
    network = Overwriting()
    other = Overwriting(in_place=False)
    other.load_state_dict(network.state_dict())
    assert score(network, batch).value == pytest.approx(score(other, batch).value, rel=1e-6)
    before = batch[0].clone()
    score(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(192, 5)), batch)
    assert torch.equal(batch[0], before)  # a network that overwrites its input does not overwrite the batch


def test_channels_last_gives_the_same() -> None:
    images, labels = images_and_labels(8, 16)
    network = torchvision.models.resnet18(num_classes=5)
    plain = score(network, (images, labels)).value
    last = score(
        network.to(memory_format=torch.channels_last), (images.to(memory_format=torch.channels_last), labels)
    ).value
    assert last == pytest.approx(plain, rel=1e-5)


def test_float64_networks() -> None:
    images, labels = images_and_labels()
    network = Branches()
    single = score(network, (images, labels)).value
    double = score(copy.deepcopy(network).double(), (images.double(), labels)).value
    assert double == pytest.approx(single, rel=1e-5)
    # The images take the network's type, so that either will do.
    assert score(copy.deepcopy(network).double(), (images, labels)).value == pytest.approx(double, rel=1e-9)
    expected = by_hand(copy.deepcopy(network).double().train().by_hand, images.double(), labels)["wrcor"]
    assert double == pytest.approx(expected, rel=1e-8)


class Shifted(nn.Module):
    """Responses whose mean is many deviations away from zero, and gradients of any size."""

    def __init__(self, mean: float = 0.0, gradient: float = 1.0) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(192, 64), nn.Linear(64, 12)
        self.mean, self.gradient = mean, gradient

    def forward(self, x: Tensor) -> Tensor:
        return self.by_hand(x, lambda _, y: y)

    def by_hand(self, x: Tensor, at: object) -> Tensor:
        x = self.body(x.flatten(1))
        x = torch.relu(at(0, x / x.std() + self.mean))  # type: ignore[operator]
        return self.head(x - self.mean) * self.gradient


@pytest.mark.parametrize("mean", [100.0, 1000.0, -1000.0])
def test_large_means(mean: float) -> None:
    batch = images_and_labels(classes=12)
    network = Shifted(mean)
    if mean < 0:  # ReLU lets nothing pass: no gradients, but the activations correlate
        assert close(score(network, batch, "acor").value, by_hand(network.by_hand, *batch)["acor"], 12)
        assert score(network, batch, "gcor").value == -math.inf
    else:
        matches(score(network, batch, ALL), by_hand(network.by_hand, *batch))


@pytest.mark.parametrize("size", [1e-10, 1e-25, 1e-35])
def test_very_small_gradients(size: float) -> None:
    batch = images_and_labels(classes=12)
    network = Shifted(gradient=size)
    usual = Shifted(gradient=1e-10)
    usual.load_state_dict(network.state_dict())
    report = score(network, batch, "gcor")
    assert report.responses_used["gradients"] == 1
    assert report.value == pytest.approx(by_hand(usual.by_hand, *batch)["gcor"], rel=1e-4)


# ---- correlation matrices


def abs_correlation(rows: Tensor) -> tuple[Tensor, Tensor]:
    matrices, spreads = correlations([multiply(rows)])
    return matrices[0], spreads[0]


@pytest.mark.parametrize("columns", [3, 300, 20_000])
@pytest.mark.parametrize("factor", [1.0, 1e-37, 1e-25, 1e30])
@pytest.mark.parametrize("mean", [0.0, 100.0, 1000.0])
def test_correlation_of_rows(columns: int, factor: float, mean: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randn(9, columns, generator=generator) + mean) * factor
    found, spread = abs_correlation(rows)
    assert largest_difference(found, rows.numpy()) < 1e-6
    assert spread > CONSTANT
    assert torch.equal(found.diagonal(), torch.ones(9))


def test_rows_of_very_different_size_and_columns_that_are_mostly_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(9, 20_000, generator=generator) * torch.logspace(-25, 10, 9)[:, None]
    assert largest_difference(abs_correlation(rows)[0], rows.numpy()) < 1e-6
    rows[:, :: 20_000 // 256] = 0.0
    assert largest_difference(abs_correlation(rows)[0], rows.numpy()) < 1e-6


def test_constant_and_broken_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 1000, generator=generator)
    for value in (0.0, 0.1, 1e-30, 12345.678):
        rows[2] = value
        assert abs_correlation(rows)[1] <= CONSTANT
    for columns in (100, 1_000_000):
        assert abs_correlation(torch.full((2, columns), 0.1))[1] <= CONSTANT
    rows[2] = 1000 * (1 + 1e-5 * torch.randn(1000, generator=generator))  # nearly constant is not constant
    assert abs_correlation(rows)[1] > CONSTANT
    for value in (float("nan"), float("inf")):
        rows[3, 7] = value
        assert math.isnan(abs_correlation(rows)[1])


def test_samples_are_found_in_any_place() -> None:
    x = torch.randn(6, 3, 4, 5)
    rows = x.reshape(6, -1)
    for other in (x, x.to(memory_format=torch.channels_last), x.permute(1, 0, 2, 3), x.reshape(18, 4, 5)):
        found = samples_first(other, 6)
        assert found is not None
        assert torch.equal(as_rows(found).sort(1).values, rows.sort(1).values)
    for shape in ((4, 5), (), (0, 5), (4, 6, 6)):
        assert samples_first(torch.randn(shape), 6) is None
    assert as_rows(x.to(memory_format=torch.channels_last)).is_contiguous()


@pytest.mark.parametrize("length", [6, 12, 5])
def test_samples_are_found_where_the_sequence_comes_first(length: int) -> None:
    x = torch.randn(length, 6, 4)
    found = samples_first(x, 6, sequence_first=True)
    assert found is not None
    assert torch.equal(found, x.transpose(0, 1))
    assert puts_sequences_first(Transformer())
    assert not puts_sequences_first(Transformer(batch_first=True))


# ---- the parts of a score


def test_depth_normalisation_subtracts_a_constant_of_the_depth() -> None:
    batch = images_and_labels(8, 16)
    genotype = ("nor_conv_3x3",) * 6
    network = CELLS.build(genotype, num_classes=5)
    layers = CELLS.layers(genotype)
    raw = score(network, batch, WRCor(depth_normalised=False), layers=layers)
    normalised = score(network, batch, WRCor(depth_normalised=True), layers=layers)
    levels = max(layers.values()) + 1
    assert raw.value - normalised.value == pytest.approx(
        8 * math.log(sum(2**level for level in range(levels))), rel=1e-9
    )
    assert raw.shape_term == pytest.approx(normalised.shape_term, rel=1e-9)
    assert (raw.depth_normalised, normalised.depth_normalised) == (False, True)
    assert raw.shares == normalised.shares


def test_the_size_term_counts_weighted_responses() -> None:
    batch = images_and_labels(8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))
    report = score(network, batch, layers={"2": 0, "4": 3})
    assert report.size_term == pytest.approx(8 * math.log(2 * 1 + 2 * 8))
    assert score(network, batch, "rcor").size_term == pytest.approx(8 * math.log(4))
    assert score(network, batch, "acor").size_term == pytest.approx(8 * math.log(2))


def test_shares_are_derivatives_of_the_score() -> None:
    batch = images_and_labels(8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))
    shares = score(network, batch, layers={"2": 0, "4": 1}).shares
    assert shares is not None
    assert [set(share) for share in shares] == [{"layer", "activation", "gradient"}] * 2

    def weighted(power: float) -> float:
        class Powers(WRCor):
            def _log2_weight(self, layer: int) -> float:
                return layer * power

        return score(network, batch, Powers(), layers={"2": 0, "4": 1}).value

    step = 1e-4 / math.log(2)
    slope = (weighted(1 + step) - weighted(1 - step)) / 2e-4
    assert shares[1]["activation"] + shares[1]["gradient"] == pytest.approx(slope, rel=1e-4)


def test_hundreds_of_layers_do_not_overflow() -> None:
    batch = images_and_labels(4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))
    low = score(network, batch, layers={"2": 0, "4": 1})
    high = score(network, batch, layers={"2": 1500, "4": 1501})
    assert high.value == pytest.approx(low.value + 4 * 1500 * math.log(2))
    normalised = score(network, batch, WRCor(depth_normalised=True), layers={"2": 1500, "4": 1501})
    assert math.isfinite(normalised.value)


def test_the_sign_of_the_determinant_and_the_smallest_eigenvalue() -> None:
    """Absolute values of a correlation matrix need not be positive semi-definite: rows at 0, 45, 90 and 135 degrees."""
    angles = torch.arange(4) * math.pi / 4
    plane = torch.tensor([[1, -1, 0], [1, 1, -2]]) / torch.tensor([[2.0], [6.0]]).sqrt()
    rows = torch.stack([angles.cos(), angles.sin()], 1) @ plane

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(rows.to(x) + 0 * x.sum())

    report = score(Fixed(), images_and_labels(4, classes=3), "acor")
    assert report.sign == -1
    assert report.smallest_eigenvalue == pytest.approx(1 - math.sqrt(2), rel=1e-5)
    assert report.value == pytest.approx(0.0, abs=1e-5)  # eigenvalues 1 - sqrt(2), 1, 1, 1 + sqrt(2)


# ---- dead networks and responses that are left out


def test_a_cell_without_a_path_is_dead() -> None:
    genotype = CELLS.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    report = score(CELLS.build(genotype, num_classes=5), images_and_labels(8, 16), ALL, layers=CELLS.layers(genotype))
    assert report.value == -math.inf
    assert report.reason is not None
    assert report.reason.startswith("dead: ")
    assert report.to_dict()["value"] is None
    assert report.size_term is None
    assert sum(report.responses_skipped.values()) > 0


class Cut(nn.Module):
    """The output does not depend on the images."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.zeros(len(x), 8)) + 0 * torch.relu(self.body(x.flatten(1))).sum()


def test_a_network_whose_output_ignores_its_input_is_dead() -> None:
    report = score(Cut(), images_and_labels())
    assert report.value == -math.inf
    assert report.reason == "dead: no gradient reaches a response"
    assert report.responses_skipped == {"a row is constant": 1}
    assert math.isfinite(score(Cut(), images_and_labels(), "acor").value)


def test_samples_that_are_all_alike_are_told() -> None:
    images = torch.randn(1, 3, 8, 8).expand(6, -1, -1, -1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 5))
    report = score(network, (images, torch.arange(6) % 2), "acor")
    assert report.value == -math.inf
    assert report.reason == "K is singular: samples cannot be told apart by any response"


class DeadEnd(nn.Module):
    """A branch that the loss does not depend on, and a response that is constant."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.side, self.head = nn.Linear(192, 8), nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        self.unused = torch.relu(self.side(x))
        positions = torch.relu(torch.ones(len(x), 8))  # does not depend on the images: no response at all
        ones = torch.relu(positions + 0 * x[:, :8])
        return self.head(torch.relu(self.body(x)) * ones)


def test_responses_left_out_are_counted() -> None:
    report = score(DeadEnd(), images_and_labels(), ALL)
    assert report.responses_used == {"activations": 2, "gradients": 2}
    assert report.responses_skipped == {
        "a row is constant": 1,
        "does not reach the loss": 1,
        "does not depend on the images": 2,
    }
    assert report.coverage == 1.0
    sums_up(report)


class Unmarked(nn.Module):
    """A response in which no dimension is the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(x.flatten(1)))
        pooled = torch.nn.functional.silu(x.mean(0, keepdim=True))
        return self.head(x + pooled)


def test_responses_without_samples_are_left_out() -> None:
    report = score(Unmarked(), images_and_labels())
    assert report.responses_skipped == {"samples cannot be told apart": 2}
    assert report.responses_used == {"activations": 1, "gradients": 1}
