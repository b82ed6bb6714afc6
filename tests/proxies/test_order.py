"""Scores do not depend on the order of channels in memory, also where networks do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
import timm
import torch
import torch.nn.functional as F
from networks import Branches, Functions, Overwriting, images_and_labels
from torch import Tensor, nn

from lightning_wrcor.proxies import ScoreReport, _score, score
from lightning_wrcor.proxies._order import MemoryOrder
from lightning_wrcor.spaces import NASBench201

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="there is one order of memory here")

NAMES = ("wrcor", "acor", "gcor", "naswot", "snip", "zico", "fisher", "jacob_cor", "meco")


def score_in(
    network: nn.Module, batch: tuple[Tensor, Tensor], names: Any, *, usual: bool, relies: bool = False
) -> ScoreReport:
    """A report from passes in the usual order or not; ``relies``: whether the other one must have been given up."""
    orders: list[MemoryOrder] = []

    class Order(MemoryOrder):
        def __init__(self, images: Tensor) -> None:
            super().__init__(images)
            assert self.channels_last
            self.channels_last = not usual
            orders.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_score, "MemoryOrder", Order)
        report = score(network, batch, names)
    assert orders[0].channels_last != (usual or relies)
    return report


def score_in_both(
    network: nn.Module, batch: tuple[Tensor, Tensor], names: Any = NAMES, relies: bool = False
) -> tuple[ScoreReport, ScoreReport]:
    """Reports from passes in channels-last order, and in the usual one."""
    last = score_in(network, batch, names, usual=False, relies=relies)
    return last, score_in(network, batch, names, usual=True)


class Shuffled(nn.Module):
    """Grouped convolutions and channels that change places through views, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.a = nn.Sequential(nn.Conv2d(8, 8, 1, groups=4), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.a(x)
        n, channels, height, width = y.shape
        y = y.view(n, 4, channels // 4, height, width).transpose(1, 2).contiguous().view(n, channels, height, width)
        return self.head(F.relu(x + self.b(y)).mean((2, 3)))


CELLS = NASBench201(width=8, cells=1)
CELL = CELLS.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|")


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (lambda: CELLS.build(CELL, num_classes=5), 16),
        (Shuffled, 12),
        (Functions, 8),
        (Branches, 8),
        ("test_resnet", 32),
        ("test_efficientnet", 32),
        ("test_convnext", 32),
        ("test_vit", 160),
        ("mobilenetv3_small_050", 32),
    ],
)
def test_scores_are_the_same_in_both_orders(build: str | Callable[[], nn.Module], size: int) -> None:
    network = timm.create_model(build, num_classes=5) if isinstance(build, str) else build()
    batch = images_and_labels(8, size)
    last, usual = score_in_both(network, batch)
    assert last.refused == usual.refused
    assert (last.macs, last.depth, last.coverage_text) == (usual.macs, usual.depth, usual.coverage_text)
    for name, expected in usual.scores.items():
        # ZiCo divides by deviations that are nearly zero: in either order it is so far from what float64 gives.
        close = 2e-2 if name == "zico" else 1e-4
        assert abs(last.scores[name] - expected) <= close * max(abs(expected), 8), name


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (5, 1, 8, 8), (4, 3, 1, 1), (3, 1, 1, 9)])
def test_images_of_every_shape(shape: tuple[int, ...]) -> None:
    network = nn.Sequential(
        nn.Conv2d(shape[1], 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
    )
    batch = torch.randn(shape), torch.arange(shape[0]) % 3
    network(batch[0])
    last, usual = score_in_both(network, batch, ["rcor", "snip"])
    assert last.scores == pytest.approx(usual.scores, rel=1e-4, abs=1e-4)


# ---- networks that rely on the usual order


class Relying(nn.Module):
    """A convolution, something that relies on the usual order, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.conv, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(self.body(F.relu(self.stem(x)) - 0.3))).mean((2, 3)))

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Viewing(Relying):
    def body(self, x: Tensor) -> Tensor:
        return F.gelu(x.view(len(x), -1)).view(x.shape)


class Complex(Relying):
    """A last dimension without gaps."""

    def body(self, x: Tensor) -> Tensor:
        return torch.view_as_real(torch.view_as_complex(x.unflatten(3, (-1, 2)))).flatten(3) + F.gelu(x)


class Asserting(Relying):
    def body(self, x: Tensor) -> Tensor:
        assert x.is_contiguous()
        return F.gelu(x)


class Flattened(Relying):
    """A view in the usual order, a copy in the other."""

    def body(self, x: Tensor) -> Tensor:
        y = F.silu(x.flatten(1), inplace=True)
        return x + y.cos().reshape(x.shape)


class FlattenedByKeyword(Relying):
    def body(self, x: Tensor) -> Tensor:
        F.silu(input=x.flatten(1), inplace=True)
        return x


class FlattenedInPart(Relying):
    def body(self, x: Tensor) -> Tensor:
        y = torch.reshape(x, (len(x), 2, -1))  # three channels in one row
        y[:, 1:].neg_()
        return x


class FlattenedAndGivenToFill(Relying):
    def body(self, x: Tensor) -> Tensor:
        y = x.flatten(1)
        with torch.no_grad():
            torch.linspace(-2, 2, y.numel(), out=y.view(-1))
        return x


class FlattenedAndAdded(Relying):
    def body(self, x: Tensor) -> Tensor:
        y = x.contiguous().ravel()
        y += 5 * torch.linspace(0, 1, len(y)).view_as(y)
        return x


class BehindTheFlattened(Relying):
    """What is written into the tensor shall be in its view."""

    def body(self, x: Tensor) -> Tensor:
        y = x.flatten(1)
        x.neg_()
        return F.gelu(y.view(x.shape))


class ChannelsLastCopied(Relying):
    """A copy in the usual order, a view in the other."""

    def body(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1).contiguous()
        y *= torch.linspace(-2, 2, 6)
        return x + y.permute(0, 3, 1, 2).cos()


class ChannelsLastReshaped(Relying):
    def body(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1).reshape(len(x), -1)
        y.mul_(torch.linspace(-2, 2, y.shape[1]))
        return x + y.view(len(x), *x.shape[2:], 6).permute(0, 3, 1, 2).cos()


class BehindTheCopy(Relying):
    """What is written into the tensor shall not be in the copy."""

    def body(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1).contiguous()
        x[:, :3] = 2.0
        return x + y.permute(0, 3, 1, 2).cos()


class PermutedResult(Relying):
    """A result with the strides of what was permuted: contiguous in the other order only."""

    def body(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).exp()
        y = x.contiguous()
        y *= torch.linspace(-2, 2, 6)
        return (x + y.cos()).permute(0, 3, 1, 2)


class Strided(Relying):
    def body(self, x: Tensor) -> Tensor:
        return x.as_strided((len(x), 6, 4, 4), (x[0].numel(), x[0, 0].numel(), 2 * x.shape[3], 2))


RELYING = Relying.__subclasses__()


@pytest.mark.parametrize("build", RELYING)
@pytest.mark.parametrize("names", [["naswot"], ["wrcor", "naswot", "snip", "jacob_cor"]], ids="+".join)
def test_networks_that_rely_on_the_usual_order_have_the_score_that_they_have_in_it(
    build: type[Relying], names: list[str]
) -> None:
    network, batch = build(), images_and_labels(8)
    last, usual = score_in_both(network, batch, names, relies=True)
    assert last.scores == usual.scores
    assert last.responses_used == usual.responses_used
    assert last.coverage_text == usual.coverage_text
    # In float64 there is no other order than the usual one.
    double = score(copy.deepcopy(network).double(), batch, names).scores
    assert last.scores == pytest.approx(double, rel=1e-3)


def test_a_tensor_overwritten_through_its_view_and_one_that_is_not() -> None:
    network, batch = Overwriting(), images_and_labels()
    other = Overwriting(in_place=False)
    other.load_state_dict(network.state_dict())
    names = ["wrcor", "naswot", "snip"]
    expected = score_in(other, batch, names, usual=True).scores
    assert score_in(network, batch, names, usual=False, relies=True).scores == pytest.approx(expected, rel=1e-4)


def test_images_that_the_user_laid_out_channels_last() -> None:
    network, (images, labels) = Viewing(), images_and_labels(8)
    expected = score(network, (images, labels), NAMES).scores
    laid_out = images.contiguous(memory_format=torch.channels_last)
    assert score(network, (laid_out, labels), NAMES).scores == expected
    assert laid_out.is_contiguous(memory_format=torch.channels_last)


def test_what_fails_in_both_orders_says_why() -> None:
    class Failing(Relying):
        def body(self, x: Tensor) -> Tensor:
            if len(x) == 8:  # not where costs are counted
                runs.append(x.is_contiguous())
                raise KeyError(f"run {len(runs)}")
            return x

    runs: list[bool] = []
    with pytest.raises(KeyError, match="run 2") as raised:
        score(Failing(), images_and_labels(8))
    assert runs == [False, True]
    assert raised.value.__context__ is None


def test_nothing_of_a_pass_that_was_given_up_is_kept_while_the_next_one_runs() -> None:
    kept: list[Any] = []

    class Kept(Relying):
        def body(self, x: Tensor) -> Tensor:
            if len(x) == 8:  # not where costs are counted
                alive.append([one() is not None for one in kept])
                kept.append(ref(x))
            return x.view(len(x), -1).cos().view(x.shape)

    alive: list[list[bool]] = []
    score(Kept(), images_and_labels(8))
    assert alive == [[], [False]]


# ---- the network is not touched


class Volumes(Relying):
    """A convolution over three dimensions, whose weight has five, and parameters of four that are no convolution's."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = nn.Conv3d(1, 1, 3, padding=1)
        self.places = nn.Parameter(torch.randn(8, 8, 6, 2))
        self.same = nn.Parameter(torch.randn(1).expand(1, 6, 8, 8), requires_grad=False)
        self.other = nn.Conv2d(6, 6, 3, padding=1)
        self.other.weight = self.conv.weight
        self.register_buffer("sums", torch.zeros(1, 6, 8, 8))
        self.held = [self.sums]

    def body(self, x: Tensor) -> Tensor:
        x = self.volume(x[:, None])[:, 0] + self.other(x)
        self.held[0].add_(1.0)
        return x * torch.view_as_complex(self.places).abs().permute(2, 0, 1) * self.same * self.sums.view(1, 6, 8, 8)

    def to(self, device: torch.device) -> nn.Module:  # type: ignore[override]
        """One that takes a device only."""
        return super().to(device)


def test_parameters_of_every_kind_and_the_users_network_as_it_was() -> None:
    network, batch = Volumes(), images_and_labels(8)
    network.conv.weight.data = network.conv.weight.data.contiguous(memory_format=torch.channels_last)
    network.stem[0].weight.data = network.stem[0].weight.data.transpose(2, 3)

    def facts() -> dict[str, tuple[Any, ...]]:
        held = {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers())}
        return {
            name: (id(one), one.data_ptr(), one.stride(), one._version, one.requires_grad, one.detach().clone())
            for name, one in held.items()
        }

    before, given = facts(), (batch[0].clone(), batch[0].stride(), batch[0]._version)
    last, usual = score_in_both(network, batch, ["wrcor", "snip"])
    assert last.scores == pytest.approx(usual.scores, rel=1e-4)
    after = facts()
    assert after.keys() == before.keys()
    for name in before:
        assert after[name][:-1] == before[name][:-1], name
        assert torch.equal(after[name][-1], before[name][-1]), name
    assert network.other.weight is network.conv.weight
    assert torch.equal(batch[0], given[0])
    assert (batch[0].stride(), batch[0]._version) == given[1:]


def test_a_prepared_network_keeps_its_layout() -> None:
    network = Functions()
    before = {name: (id(one), one.data_ptr(), one.stride()) for name, one in network.named_parameters()}
    _score.score_prepared(network, images_and_labels(8), [_score.get_proxy("wrcor")], seed=0)
    assert {name: (id(one), one.data_ptr(), one.stride()) for name, one in network.named_parameters()} == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_stay_in_the_usual_order(dtype: torch.dtype) -> None:
    images = torch.randn(4, 3, 8, 8, dtype=dtype)
    order = MemoryOrder(images)
    assert not order.channels_last
    assert order.images is images
    assert not order.fall_back()
