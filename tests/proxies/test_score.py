"""Scoring leaves no trace, switches off what is random, refuses what it cannot see, and says what it did."""

from __future__ import annotations

import copy
import json
import math
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from networks import Branches, Functions, Overwriting, Transformer, images_and_labels
from timm.layers import (
    DropPath,
    FilterResponseNormTlu2d,
    LayerScale2d,
    ScaledStdConv2d,
    drop_path,
)
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth, stochastic_depth

from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies import Context, Needs, Observer, Proxy, WRCor, score
from lightning_wrcor.proxies._prepare import prepare


def plain(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        *middle,
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


# ---- nothing of the user's is touched


def state_of(network: nn.Module) -> dict[str, Any]:
    return {
        "weights": {name: value.clone() for name, value in network.state_dict().items()},
        "modes": [module.training for module in network.modules()],
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in network.named_parameters()},
        "need": [parameter.requires_grad for parameter in network.parameters()],
        "hooks": [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in network.modules()],
        "dropout": [module.p for module in network.modules() if isinstance(module, nn.Dropout)],
        "inplace": [getattr(module, "inplace", None) for module in network.modules()],
    }


def test_the_network_is_left_as_it_was() -> None:
    network = timm.create_model("test_resnet", num_classes=5, drop_rate=0.3, drop_path_rate=0.3)
    images, labels = images_and_labels(4, 32)
    F.cross_entropy(network(images), labels).backward()
    network.layer1.eval()
    network.layer2[0].conv1.weight.requires_grad_(False)
    network.fc.weight.grad = None
    before = state_of(network)
    for seed in (None, 3):
        score(network, (images, labels), ["wrcor", "params"], seed=seed)
    after = state_of(network)
    assert before["weights"].keys() == after["weights"].keys()
    for name, value in before["weights"].items():  # num_batches_tracked and running statistics among them
        assert torch.equal(value, after["weights"][name]), name
    for name, value in before["gradients"].items():
        assert (value is None) == (after["gradients"][name] is None), name
        assert value is None or torch.equal(value, after["gradients"][name]), name
    for what in ("modes", "need", "hooks", "dropout", "inplace"):
        assert before[what] == after[what], what


@pytest.mark.parametrize("seed", [None, 3])
def test_global_random_numbers_are_left_as_they_were(seed: int | None) -> None:
    batch = images_and_labels(4)
    network = plain(nn.Dropout(0.5))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = (random.random(), np.random.rand(), float(torch.rand(())))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    score(network, batch, seed=seed)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected
    with pytest.raises(ValueError, match="labels run from"):  # also when scoring fails
        score(network, (batch[0], batch[1] + 7), seed=seed)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(ValueError, match="labels run from"):
        score(network, (batch[0], batch[1] + 7), seed=seed)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected


def test_gradients_may_be_off_around_it() -> None:
    batch = images_and_labels()
    network = Branches()
    expected = score(network, batch).value
    with torch.no_grad():
        assert score(network, batch).value == expected
        assert not torch.is_grad_enabled()


def test_without_a_seed_the_weights_are_those_of_the_network() -> None:
    batch = images_and_labels()
    network = plain()
    random.seed(5), torch.manual_seed(5)
    first = score(network, batch).value
    assert score(copy.deepcopy(network), batch).value == first
    nn.init.normal_(network[0].weight)
    assert score(network, batch).value != first


def test_a_seed_initialises_the_copy_anew() -> None:
    batch = images_and_labels()
    network = plain()
    first = score(network, batch, seed=3).value
    nn.init.normal_(network[0].weight)
    assert score(network, batch, seed=3).value == first
    assert score(network, batch, seed=4).value != first


def test_a_network_that_cannot_be_initialised_anew() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(192, 5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x.flatten(1)) @ self.weight

    assert math.isfinite(score(Fixed(), images_and_labels()).value)
    with pytest.raises(ValueError, match="Leave seed=None"):
        score(Fixed(), images_and_labels(), seed=1)


# ---- one pass


class Counting(nn.Module):
    """Keeps the sizes of the batches that it saw, copies included."""

    seen: list[int] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.body = plain()

    def forward(self, x: Tensor) -> Tensor:
        Counting.seen.append(len(x))
        return self.body(x)


def test_several_proxies_share_one_pass() -> None:
    batch = images_and_labels()
    Counting.seen.clear()
    report = score(Counting(), batch, ["rcor", "wrcor", "acor", WRCor(depth_normalised=True), "params", "macs"])
    assert Counting.seen == [1, 12]  # one image to count MACs, one pass of the batch
    assert report.proxy == "rcor"
    assert report.value == report.scores["rcor"]
    assert set(report.scores) >= {"rcor", "wrcor", "acor", "params", "macs"}
    for name in ("rcor", "acor"):
        torch.manual_seed(0)
        network = Counting()
        torch.manual_seed(0)
        alone = score(network, batch, name).value
        both = score(network, batch, ["wrcor", name])
        assert both.scores[name] == alone
        assert both.value == score(network, batch).value
    Counting.seen.clear()
    score(Counting(), batch, "params")
    assert Counting.seen == [1]


def test_own_proxies_are_used_like_ours() -> None:
    class Half(Proxy):
        name = "half"

        def measure(self, context: Context) -> float:
            assert not context.network[0].weight.requires_grad  # type: ignore[index, union-attr]
            return context.costs.params / 2

    report = score(plain(), images_and_labels(), ["wrcor", Half()])
    assert report.scores["half"] == report.params / 2

    class Broken(Half):
        def measure(self, context: Context) -> float:
            return math.nan

    with pytest.raises(ValueError, match="half gave NaN"):
        score(plain(), images_and_labels(), Broken())


class Nosy(Observer):
    """Computes with everything that could be mistaken for a part of the network."""

    kept: list[tuple[str, torch.dtype, torch.dtype, bool, bool]] = []  # noqa: RUF012

    def see(self, call: Call, part: str, response: Tensor) -> None:  # type: ignore[override]
        rows = torch.relu(response.float().flatten(1))
        product = rows @ rows.T
        dropped = F.dropout(torch.sigmoid(F.silu(rows, inplace=True)), 0.5)
        Nosy.kept.append((part, response.dtype, product.dtype, torch.is_grad_enabled(), bool(dropped.all())))


class Watching(Proxy):
    name = "watching"
    needs = Needs(gradients=True, labels=True)
    observers = (Nosy,)

    def measure(self, context: Context) -> float:
        return 0.0


def test_what_observers_compute_is_no_part_of_the_network() -> None:
    network = plain()
    for autocast, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        Nosy.kept.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            report = score(network, images_and_labels(), [Watching(), "wrcor"])
        assert report.coverage_text == "1 of 1 non-linearities captured: 1 ReLU"
        # The network runs as the caller has it; correlations are exact.
        assert Nosy.kept == [(part, dtype, torch.float32, False, False) for part in ("activation", "gradient")]
        assert report.scores["wrcor"] == score(network, images_and_labels()).value or autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_of_other_types(dtype: torch.dtype) -> None:
    network = plain()
    expected = score(network, images_and_labels()).value
    value = score(copy.deepcopy(network).to(dtype), images_and_labels()).value
    assert value == pytest.approx(expected, abs=0.5 if dtype is torch.bfloat16 else 1e-4)


# ---- what is random is off


class Random(nn.Module):
    """Everything that drops, as modules and as functions."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(drop))
        self.path, self.depth = DropPath(drop), StochasticDepth(drop, "row")
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(), nn.AlphaDropout(drop))
        self.attention = nn.MultiheadAttention(6, 2, dropout=drop, batch_first=True)
        self.memory = nn.LSTM(6, 6, num_layers=2, dropout=drop, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.path(self.body(x)) + self.depth(self.body(x))
        x = F.dropout(x, self.drop, self.training) + torch.dropout(x, self.drop, self.training)
        x = x + drop_path(F.gelu(x), self.drop, self.training)
        x = x + stochastic_depth(x, self.drop, "batch", self.training)
        x = F.dropout2d(x, p=self.drop, training=self.training)
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x)[0] + self.attention(x, x, x, need_weights=False)[0]
        x = x + F.scaled_dot_product_attention(x, x, x, None, self.drop if self.training else 0.0)
        x = x + F.scaled_dot_product_attention(x, x, x, dropout_p=self.drop if self.training else 0.0, scale=0.1)
        x = self.memory(F.feature_alpha_dropout(x, self.drop, self.training))[0]
        return self.head(torch.relu(x).mean(1))


def test_dropout_is_off() -> None:
    batch = images_and_labels()
    torch.manual_seed(0)
    network = Random(0.4)
    without = Random(0.0)
    without.load_state_dict(network.state_dict())
    value = score(network, batch).value
    assert score(network, batch).value == value
    assert score(without, batch).value == pytest.approx(value, rel=1e-6)
    network.train()
    assert not torch.equal(network(batch[0]), network(batch[0]))  # it is random elsewhere


# ---- gates and coverage


class Functional(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.blank = nn.Identity()  # so that it is no leaf

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.blank(x))


class SwishByHand(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(192, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        self.swish = SwishByHand()

    def forward(self, x: Tensor) -> Tensor:
        x = self.swish(self.a(x.flatten(1)))
        return self.head(x * torch.sigmoid(self.b(x)) + x.tanh())


def test_gates_are_reported_and_counted_on_request() -> None:
    batch = images_and_labels()
    report = score(Gated(), batch)
    assert report.coverage == 1.0
    assert report.coverage_text == (
        "1 of 1 non-linearities captured: 1 SwishByHand; gates not counted: 1 Sigmoid, 1 Tanh"
    )
    report = score(Gated(), batch, WRCor(gates=True))
    assert report.coverage_text == "3 of 3 non-linearities captured: 1 SwishByHand, 1 Sigmoid, 1 Tanh"
    assert report.responses_used == {"activations": 3, "gradients": 3}
    both = score(Gated(), batch, ["wrcor", {"class_path": "rcor", "init_args": {"gates": True}}])
    assert math.isfinite(both.scores["rcor"])


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * (ctx.saved_tensors[0] > 0)


class UsesHidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(192, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x.flatten(1)))
        for _ in range(3):
            x = x + Hidden.apply(x - x.mean())
        return self.head(x)


def test_custom_functions_that_no_module_accounts_for_are_told() -> None:
    report = score(UsesHidden(), images_and_labels())
    assert report.coverage == 0.25
    assert report.coverage_text.startswith("1 of 4")
    assert "not seen: HiddenBackward" in report.notes
    assert any(note.startswith("low coverage: only 25%") for note in report.notes)


def test_non_linearities_inside_other_functions_are_told() -> None:
    """Torch's recurrent layers call their ReLUs where no function call can be intercepted."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory, self.head = nn.RNN(24, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.memory(torch.relu(x).reshape(len(x), 8, 24))[0][:, -1])

    report = score(Recurrent(), images_and_labels())
    assert report.coverage == pytest.approx(1 / 9)
    assert "not seen: ReluBackward0" in report.notes


@torch.jit.script
def scripted_swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def test_scripted_functions_are_told() -> None:
    network = plain(Functional(lambda x: scripted_swish(x)))
    for _ in range(3):  # it is compiled after some calls
        network(images_and_labels()[0])
    report = score(network, images_and_labels())
    assert report.coverage == 0.5
    assert "not seen: a scripted function" in report.notes


def test_custom_functions_inside_an_activation_module_are_seen() -> None:
    class Activation(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Hidden.apply(x)

    report = score(plain(Activation()), images_and_labels())
    assert report.coverage_text == "2 of 2 non-linearities captured: 1 ReLU, 1 Activation"
    assert report.notes == []


# ---- checkpointing


class Checkpointed(nn.Module):
    def __init__(self, use: str) -> None:
        super().__init__()
        self.use = use
        block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(inplace=True), SwishByHand())
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.GELU()), block]
        )
        self.blocks[0].append(Functional(partial(F.dropout, p=0.5)))
        self.first_leaf = nn.Sequential(SwishByHand(), nn.Conv2d(6, 6, 1))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.blocks, self.first_leaf):
            x = block(x) if self.use == "no" else checkpoint(block, x, use_reentrant=self.use == "reentrant")
        return self.head(x.mean((2, 3)))


def test_checkpointing_changes_nothing_or_is_refused() -> None:
    batch = images_and_labels()
    network = Checkpointed("no")
    expected = score(network, batch)
    network.use = "non-reentrant"
    report = score(network, batch)
    assert report.value == pytest.approx(expected.value, rel=1e-9)
    assert report.coverage_text == expected.coverage_text
    network.use = "reentrant"
    with pytest.raises(ValueError, match=r"'blocks.0.2' ran without autograd .* use_reentrant=False"):
        score(network, batch)
    assert score(network, batch, "acor").value == pytest.approx(score(network, batch, ["acor"]).value)  # no gradients


def test_a_checkpoint_at_the_very_first_non_linearity() -> None:
    class First(nn.Module):
        def __init__(self, use: bool) -> None:
            super().__init__()
            self.use = use
            self.act, self.head = SwishByHand(), nn.Linear(192, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.head(checkpoint(self.act, x, use_reentrant=False) if self.use else self.act(x))

    network = First(True)
    value = score(network, images_and_labels(), "rcor").value
    network.use = False
    assert score(network, images_and_labels(), "rcor").value == pytest.approx(value, rel=1e-9)


# ---- what is initialised to zero


def test_scales_that_are_zero_are_set_to_one() -> None:
    network = timm.create_model("test_resnet", num_classes=5)
    zero = [name for name, p in network.named_parameters() if "bias" not in name and not p.any()]
    assert len(zero) == 4
    report = score(network, images_and_labels(4, 32))
    assert report.notes == ["4 scales initialised to zero set to one"]
    assert report.responses_used == {"activations": 12, "gradients": 12}
    assert report.responses_skipped == {}
    assert not any(dict(network.named_parameters())[name].any() for name in zero)
    with torch.no_grad():
        for name in zero:
            dict(network.named_parameters())[name].fill_(1)
    assert score(network, images_and_labels(4, 32)).value == pytest.approx(report.value, rel=1e-9)


def test_a_classifier_that_is_zero_is_drawn() -> None:
    network = plain()
    nn.init.zeros_(network[-1].weight)
    report = score(network, images_and_labels())
    assert report.notes == ["1 weight initialised to zero drawn at random"]
    assert math.isfinite(report.value)
    assert score(network, images_and_labels()).value == report.value


class Scales(nn.Module):
    """Zeros of every kind: only those that let nothing through are changed."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)  # a last norm
        self.response_norm = GlobalResponseNorm(6)  # adds to its input
        self.threshold = FilterResponseNormTlu2d(6)  # max(x, threshold)
        self.scaled = ScaledStdConv2d(6, 6, 1)  # has a gain of shape (6, 1, 1, 1)
        self.layer_scale = LayerScale2d(6, init_values=0.0)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(6))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.pos_embed = nn.Parameter(torch.zeros(1, 9, 6))
        self.table = nn.Embedding(3, 6)
        self.linear = nn.Linear(6, 5)
        for zero in (self.norm.weight, self.scaled.gain, self.table.weight, self.linear.weight, self.linear.bias):
            nn.init.zeros_(zero)


def test_zeros_that_let_their_input_through_are_kept() -> None:
    network = Scales()
    assert prepare(network) == [
        "4 scales initialised to zero set to one",
        "1 weight initialised to zero drawn at random",
    ]
    zero = {name for name, parameter in network.named_parameters() if not parameter.any()}
    assert zero == {
        *("beta", "cls_token", "pos_embed", "table.weight", "norm.bias", "response_norm.weight", "response_norm.bias"),
        *("threshold.tau", "threshold.bias", "linear.bias"),
    }
    for scale in (network.norm.weight, network.scaled.gain, network.layer_scale.gamma, network.gamma):
        assert bool((scale == 1).all())
    assert network.norm.num_batches_tracked == 0  # nothing was run for it
    assert not any(parameter.requires_grad for parameter in network.parameters())


# ---- refused


def test_scripted_and_compiled_parts_are_refused_by_name() -> None:
    batch = images_and_labels()
    scripted = plain(torch.jit.script(nn.Sequential(nn.ReLU())))
    with pytest.raises(ValueError, match="'3' is scripted"):
        score(scripted, batch)
    with pytest.raises(ValueError, match="The network is scripted"):
        score(torch.jit.script(plain()), batch)
    with pytest.raises(ValueError, match="'3' is compiled"):
        score(plain(torch.compile(nn.Sequential(nn.ReLU()))), batch)
    with pytest.raises(ValueError, match="The network is compiled"):
        score(torch.compile(plain()), batch)


def test_networks_that_cannot_be_copied() -> None:
    network = plain()
    network.kept = network[0].weight * 2  # a result of a computation
    with pytest.raises(ValueError, match="Sequential cannot be copied"):
        score(network, images_and_labels())
    with pytest.raises(ValueError, match=r"Sequential cannot be copied \(ScriptFunction cannot be pickled\)"):
        score(plain(Functional(scripted_swish)), images_and_labels())


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.randn(1, 3, 8, 8), torch.zeros(1, dtype=torch.long), "A batch of one"),
        (torch.randint(0, 255, (4, 3, 8, 8)), torch.arange(4), r"floating point .* got torch.int64"),
        (torch.randn(4, 192), torch.arange(4), r"\(batch, channels, height, width\)"),
        (torch.randn(4, 3, 8, 8), torch.arange(4) + 2, "labels run from 2 to 5, but the network has 5 logits"),
        (torch.randn(4, 3, 8, 8), torch.arange(4) - 1, "labels run from -1 to 2"),
        (torch.randn(4, 3, 8, 8), torch.arange(3), r"whole numbers of shape \(4,\)"),
        (torch.randn(4, 3, 8, 8), torch.zeros(4, 1, dtype=torch.long), r"whole numbers of shape \(4,\)"),
        (torch.randn(4, 3, 8, 8), torch.rand(4), r"whole numbers of shape \(4,\)"),
        (torch.randn(4, 3, 8, 8), torch.rand(4, 7), r"\(4, 7\) do not fit 5 logits"),
        (torch.full((4, 3, 8, 8), torch.nan), torch.arange(4), "images hold values that are not finite"),
    ],
)
def test_batches_that_cannot_be_scored(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(plain(), (images, labels))


def test_a_batch_is_a_pair() -> None:
    for batch in (
        torch.randn(4, 3, 8, 8),
        (torch.randn(4, 3, 8, 8),),
        {"image": 0},
        (torch.randn(4, 3, 8, 8), [0] * 4),
    ):
        with pytest.raises(ValueError, match="pair of tensors"):
            score(plain(), batch)  # type: ignore[arg-type]


def test_labels_of_other_types() -> None:
    images, labels = images_and_labels(8)
    network = plain()
    expected = score(network, (images, labels)).value
    assert score(network, (images, labels.to(torch.uint8))).value == expected
    hot = F.one_hot(labels, 5)
    assert score(network, (images, hot.double())).value == pytest.approx(expected, rel=1e-9)
    mixed = 0.9 * hot + 0.02
    assert math.isfinite(score(network, (images, mixed)).value)


def test_networks_that_cannot_be_scored() -> None:
    batch = images_and_labels()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(ValueError, match=r"Sequential calls no non-linearity that counts\.$"):
        score(linear, batch)
    with pytest.raises(ValueError, match=r"gates: 1 Sigmoid; the option gates=True"):
        score(nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Sigmoid(), nn.Linear(8, 5)), batch)
    with pytest.raises(ValueError, match=r"returns logits .* shape \(12, 6, 6, 6\)"):
        score(plain()[:3], batch)

    class Text(nn.Module):
        def forward(self, x: Tensor) -> str:
            return str(torch.relu(x))

    with pytest.raises(ValueError, match="this one gave str"):
        score(Text(), batch)
    broken = plain()
    nn.init.constant_(broken[0].weight, math.nan)
    with pytest.raises(ValueError, match=r"2 of the responses are not finite; first the activation at ReLU in '2'"):
        score(broken, batch)
    broken = plain()
    nn.init.constant_(broken[-1].weight, math.inf)
    with pytest.raises(ValueError, match="first the gradient at ReLU"):
        score(broken, batch)


def test_outputs_that_hold_logits() -> None:
    batch = images_and_labels()
    network = plain()
    expected = score(network, batch).value

    class Wrapped(nn.Module):
        def __init__(self, wrap: Any) -> None:
            super().__init__()
            self.network, self.wrap = network, wrap

        def forward(self, x: Tensor) -> Any:
            return self.wrap(self.network(x))

    for wrap in (lambda y: (y, None), lambda y: {"aux": y * 0, "logits": y}, lambda y: {"out": y}, lambda y: [y]):
        assert score(Wrapped(wrap), batch).value == expected


# ---- the report


def test_a_report_in_words_and_as_plain_values() -> None:
    report = score(Functions(), images_and_labels(), ["wrcor", "params"])
    text = str(report)
    assert text.startswith(f"wrcor {report.value:.4f}\n")
    assert "3 ReLU" not in text
    assert "7 of 7 non-linearities captured: 4 ReLU, 1 SiLU, 1 LeakyReLU, 1 GELU" in text
    assert f"{report.params:,} parameters" in text
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["value"] == report.value
    assert values["depth"] == 7
    dead = score(plain(), (torch.zeros(4, 3, 8, 8), torch.arange(4)), "acor")
    assert json.loads(json.dumps(dead.to_dict(), allow_nan=False))["value"] is None
    assert f"({dead.reason})" in str(dead)


@pytest.mark.parametrize("build", [Functions, Branches, Overwriting, Transformer])
def test_as_many_gradients_as_activations(build: type[nn.Module]) -> None:
    report = score(build(), images_and_labels())
    assert report.responses_used["activations"] == report.responses_used["gradients"] == report.depth
    assert report.coverage == 1.0
    assert report.notes == []
