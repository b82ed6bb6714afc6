"""Products of responses, in parts and in one, by each kernel, against NumPy's correlations in float64."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import timm
import torch
from networks import Transformer, images_and_labels
from torch import Tensor, nn

from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies import _correlation, codes, score
from lightning_wrcor.proxies._correlation import CONSTANT, IN_CACHE, CorrelationSums, correlations, multiply
from lightning_wrcor.spaces import NASBench201

ROWS = 7
PART = 2**12
"""Bytes of a part in these tests, so that a response has many."""
COLUMNS = PART // (4 * ROWS)
SIZES = (2, COLUMNS - 1, COLUMNS, COLUMNS + 1, 2 * COLUMNS, 5 * COLUMNS + 1, 64 * COLUMNS - 1)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request: pytest.FixtureRequest) -> None:  # the number is put back after every test
    torch.set_num_threads(request.param)


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_correlation, "IN_CACHE", PART)
    monkeypatch.setattr(codes, "IN_CACHE", PART)
    monkeypatch.setattr(_correlation, "_WORTH_ONEDNN", 0)


def random(columns: int, mean: float = 0.0, rows: int = ROWS) -> Tensor:
    generator = torch.Generator().manual_seed(columns)
    base = torch.randn(1, columns, generator=generator)  # so that correlations are not near zero
    return base + torch.randn(rows, columns, generator=generator) + mean


def difference(rows: Tensor) -> float:
    """The largest one between correlations that are found and NumPy's."""
    found, spread = correlations([multiply(rows)])
    assert found.shape == (1, len(rows), len(rows))
    assert float(spread) > CONSTANT
    return float(np.abs(found[0].double().numpy() - np.abs(np.corrcoef(rows.double().numpy()))).max())


@pytest.mark.usefixtures("_threads", "_small_parts")
@pytest.mark.parametrize("mean", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("columns", SIZES)
def test_sizes_around_the_end_of_a_part(columns: int, mean: float) -> None:
    rows = random(columns, mean)
    assert difference(rows) < 2e-6
    assert difference(rows.double()) < 1e-12


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("mean", [0.0, 20.0])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_parts_of_their_real_size(more: int, mean: float) -> None:
    assert difference(random(IN_CACHE // (4 * 64) + more, mean, 64)) < 2e-6


def test_more_rows_than_fit_into_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_correlation, "IN_CACHE", 4)
    assert difference(random(50, 3.0)) < 2e-6


@pytest.mark.usefixtures("_small_parts")
def test_both_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    if not _correlation._prefers_onednn():
        pytest.skip("this processor has one kernel")
    for mean in (0.0, 20.0):
        for columns in SIZES:
            rows = random(columns, mean)
            with monkeypatch.context() as patch:
                patch.setattr(_correlation, "_prefers_onednn", lambda: False)
                other = multiply(rows)
            one = multiply(rows)
            assert torch.allclose(one.gram, other.gram, rtol=1e-4, atol=1e-4 * float(one.gram.max()))


@pytest.mark.usefixtures("_threads", "_small_parts")
@pytest.mark.parametrize("mean", [0.0, 20.0])
def test_rows_with_gaps_between_them_and_inside(mean: float) -> None:
    wide = random(3 * COLUMNS, mean)
    layouts = [
        wide[:, 5 : COLUMNS + 20],
        wide[:, ::2],
        wide.T.contiguous().T,
        wide[:, ::3].T.contiguous().T[:, 4:],
        wide.flip(0)[::2],
        torch.cat([wide, wide]).view(2, ROWS, -1)[1],
        wide[:, :1].expand(-1, COLUMNS) + wide[:, :COLUMNS],
    ]
    for rows in layouts:
        before = rows.clone()
        assert difference(rows) < 2e-6
        assert torch.equal(rows, before)
    repeated = wide[:, :40, None].expand(-1, -1, 9).permute(0, 2, 1).flatten(1)
    assert difference(repeated) == pytest.approx(difference(wide[:, :40]), abs=2e-6)


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("size", [1e-37, 1e-30, 1e-19, 1e-12, 1e-6, 1e6, 1e12, 1e19, 1e30])
@pytest.mark.parametrize("columns", [20, 3 * COLUMNS])
def test_small_and_large_numbers(size: float, columns: int) -> None:
    for mean in (0.0, 0.5, 20.0):
        rows = random(columns, mean)
        assert difference(rows * size) < 2e-6
        some = torch.ones(ROWS, 1)
        some[1::2] = size
        assert difference(rows * some) < 2e-6
    assert difference(random(columns).double() * size**3) < 1e-12


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("size", [2.0**-30, 1.0, 2.0**30])
@pytest.mark.parametrize("columns", [COLUMNS, 10_000])
def test_rows_that_are_zero_but_in_a_few_places(columns: int, size: float) -> None:
    """What is looked at to tell the size of a row may be zero, and its mean too, exactly."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.zeros(ROWS, columns + 1)
    rows[:, 1], rows[:, 3] = size, -size
    for row in rows:
        places = 5 + 2 * torch.randperm(columns // 2 - 5, generator=generator)[:4]
        row[places] = torch.tensor([1.0, 2.0, -1.0, -2.0]) * size
    assert float(rows[:, :-1].mean(1).abs().max()) == 0
    assert difference(rows[:, :-1]) < 2e-6
    assert difference(rows[:, :-1].contiguous()) < 2e-6


@pytest.mark.usefixtures("_threads", "_small_parts")
@pytest.mark.parametrize("value", [0.0, 1.0, -3.3, 0.1, 1e-30, 12345.678])
@pytest.mark.parametrize("columns", [30, COLUMNS, 5 * COLUMNS + 1])
def test_constant_rows(value: float, columns: int) -> None:
    rows = random(columns)
    rows[2] = value
    for given in (rows, rows + 100, rows.double()):
        if given is rows or value != 1e-30:
            assert float(correlations([multiply(given)])[1]) <= CONSTANT


@pytest.mark.usefixtures("_threads", "_small_parts")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 7, COLUMNS, -1])
def test_what_is_not_finite(value: float, place: int) -> None:
    for columns in (COLUMNS + 1, 5 * COLUMNS + 1):
        rows = random(columns)
        rows[3, place] = value
        assert math.isnan(float(correlations([multiply(rows)])[1]))


@pytest.mark.usefixtures("_small_parts")
def test_several_responses_at_once_are_each_what_it_is_alone() -> None:
    several = [random(30), random(COLUMNS + 1, 20.0), random(3, 0.5).double(), random(3 * COLUMNS) * 1e-20]
    several[1][4] = 2.0
    several.append(random(50))
    several[-1][0, 0] = math.nan
    products = [multiply(rows) for rows in several]
    kept = [one.gram.clone() for one in products]
    for _ in range(2):  # a product stands for several responses, so nothing may be done to it
        matrices, spreads = correlations(products)
        for one, matrix, spread in zip(products, matrices, spreads, strict=True):
            alone, its_own = correlations([one])
            assert torch.allclose(matrix, alone[0].double(), atol=1e-6, equal_nan=True)
            assert float(spread) == pytest.approx(float(its_own), rel=1e-5, nan_ok=True)
    assert all(torch.equal(one.gram, gram) or gram.isnan().any() for one, gram in zip(products, kept, strict=True))
    assert [float(spread) > CONSTANT for spread in spreads] == [True, False, True, True, False]


# ---- codes


@pytest.mark.usefixtures("_threads", "_small_parts")
@pytest.mark.parametrize("columns", SIZES)
def test_agreements_are_counted_exactly(columns: int) -> None:
    seen = codes._Agreements(ROWS)
    call = Call(0, "ReLU", "", ())
    several = [random(columns), random(columns, 1.0).view(ROWS, -1, 1, 1).contiguous(memory_format=torch.channels_last)]
    several += [random(2 * columns)[:, ::2], random(columns).double() * 1e-200]
    expected = np.zeros((ROWS, ROWS), dtype=np.int64)
    for response in several:
        response[0] = 0.0  # nothing is on
        seen.see(call, "activation", response)
        on = response.reshape(ROWS, -1).numpy() > 0
        expected += (on[:, None] == on[None]).sum(2)
    assert seen.kernel is not None
    assert np.array_equal(seen.kernel.numpy(), expected)


# ---- whole scores


CELLS = NASBench201(width=8, cells=1)
CELL = CELLS.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|")


@pytest.mark.parametrize(
    ("build", "n", "size"),
    [
        (lambda: CELLS.build(CELL, num_classes=5), 16, 16),
        (lambda: timm.create_model("test_efficientnet", num_classes=5), 8, 32),
        (lambda: timm.create_model("test_vit", num_classes=5, img_size=32), 8, 32),
        (lambda: timm.create_model("test_convnext", num_classes=5), 6, 32),
        (Transformer, 16, 8),
    ],
    ids=["cell", "efficientnet", "vit", "convnext", "transformer"],
)
def test_scores_are_those_of_the_same_responses_in_float64(
    build: type[nn.Module], n: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Tensor]] = []
    see = CorrelationSums.see

    def spy(self: CorrelationSums, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        seen.append((part, response.detach().double().clone()))
        see(self, call, part, response)

    monkeypatch.setattr(CorrelationSums, "see", spy)
    report = score(build(), images_and_labels(n, size), ["rcor", "acor", "gcor"])
    assert report.responses_used is not None
    for name, parts in (("rcor", {"activation", "gradient"}), ("acor", {"activation"}), ("gcor", {"gradient"})):
        matrices = [np.abs(np.corrcoef(response.flatten(1).numpy())) for part, response in seen if part in parts]
        expected = float(np.linalg.slogdet(sum(matrices))[1])
        assert abs(report.scores[name] - expected) <= 1e-4 * max(abs(expected), n), name
