"""Passes that proxies share: each value is that of the proxy alone, no pass is run twice, and who refuses does so alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from weighted_networks import NETWORKS, Bare, ConvNorm, Shared, Tokens, batch, in_double

from lightning_wrcor import score
from lightning_wrcor.inspection import LayerCall
from lightning_wrcor.inspection.weights import Run
from lightning_wrcor.proxies import ZiCo
from lightning_wrcor.proxies._base import Needs
from lightning_wrcor.proxies._layers import Layers
from lightning_wrcor.proxies._pass import run_pass
from lightning_wrcor.proxies._weights import WeightSums

FROM_LOSS = (
    "wrcor",
    "naswot",
    "snip",
    "zico",
    "fisher",
    "meco",
    "grad_norm",
    "plain",
    "l2_norm",
    "near",
    "swap",
    "acor",
    "fan_in",
)
FROM_LOGITS = ("jacob_cor", "epe_nas")
OF_THEIR_OWN = ("synflow", "grasp", "linear_regions")
ALL = (*FROM_LOSS, *FROM_LOGITS, *OF_THEIR_OWN)


@pytest.mark.parametrize("build", NETWORKS)
def test_each_proxy_has_the_value_that_it_has_alone(build: type[nn.Module]) -> None:
    network, data = in_double(build()), batch()
    alone = {name: score(network, data, name).value for name in ALL}
    together = score(network, data, ALL)
    assert not together.refused
    for name in ALL:
        # Parts of the batch that run one after the other round differently; NEAR takes roots of rounding.
        assert together.scores[name] == pytest.approx(alone[name], rel=1e-6 if name == "near" else 1e-9), name
    backwards = score(network, data, ALL[::-1]).scores
    assert backwards == pytest.approx(together.scores, rel=1e-6)


class Counting(nn.Module):
    """Counts the batches that run through it and its copies: images, gradients or not, type."""

    passes: list[tuple[int, bool, torch.dtype]] = []  # noqa: RUF012 - of the class, so that copies have the same

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.passes.clear()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:  # costs are counted in evaluation mode
            self.passes.append((len(x), torch.is_grad_enabled(), x.dtype))
        return self.network(x)


@pytest.mark.parametrize(
    ("proxies", "passes"),
    [
        (["wrcor", "naswot", "snip", "zico", "fisher", "meco"], [(7, True)]),
        (FROM_LOSS, [(7, True)]),
        (FROM_LOGITS, [(7, True)]),
        (["jacob_cor", "naswot", "meco", "epe_nas", "near"], [(7, True)]),
        (["naswot", "jacob_cor", "wrcor", "epe_nas", "snip"], [(7, True)] * 2),
        (["acor"], [(7, False)]),
        (["acor", "naswot", "swap", "l2_norm", "meco", "near"], [(7, False)]),
        (["acor", "gcor"], [(7, True)]),
        (["naswot", "jacob_cor", "fan_in", "common_activations", "common_gradients"], [(7, True)]),
        ([ZiCo(), "snip", "params"], [(7, True)]),
        ([ZiCo(separate=True), "snip"], [(7, True), (4, True), (3, True)]),
        (["snip", "grasp"], [(7, True)] * 2),
        (["linear_regions"], [(64, False)]),
        (["params", "macs", "depth"], []),
    ],
)
def test_how_many_passes_they_take(proxies: list[str], passes: list[tuple[int, bool]]) -> None:
    network = Counting(Bare())
    score(network, batch(), proxies)
    assert [(images, gradients) for images, gradients, _ in network.passes] == passes


def test_synflow_takes_one_pass_of_one_image() -> None:
    network = Counting(Bare())
    score(network, batch(), "synflow")
    assert network.passes == [(1, True, torch.float64)]


def test_two_zicos_with_other_parts_do_not_share() -> None:
    class Thirds(ZiCo):
        name = "thirds"

    network, data = in_double(Bare()), batch()
    counting = Counting(network)
    found = score(counting, data, [ZiCo(), "snip", Thirds(3)]).scores
    assert len(counting.passes) == 2
    assert found["zico"] == pytest.approx(score(network, data, ZiCo()).value, rel=1e-9)
    assert found["thirds"] == pytest.approx(score(network, data, ZiCo(3)).value, rel=1e-9)


@pytest.mark.parametrize("build", [ConvNorm, Tokens, Shared])
def test_nothing_is_left_behind(build: type[nn.Module]) -> None:
    """The network, its buffers and modes, the images and the global random numbers are as they were; twice is once."""
    network, (images, labels) = build().eval(), batch()
    state, given = {k: v.clone() for k, v in network.state_dict().items()}, images.clone()
    torch.manual_seed(3)
    found = score(network, (images, labels), ALL).scores
    number = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == number
    torch.manual_seed(4)
    assert score(network, (images, labels), ALL).scores == found
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert torch.equal(images, given)
    assert not network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


# ---- refused, alone


class Attention(nn.Module):
    """torch's own attention; with hand-written linear maps beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attend = nn.Conv2d(3, 8, 2, 2), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(F.relu(x + self.attend(x, x, x, need_weights=False)[0]).mean(1))


class NoLayers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).mean((2, 3))


class NoCurves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


WEIGHTED = ("fan_in", "snip", "grad_norm", "plain", "l2_norm", "fisher", "zico", "meco", "synflow", "grasp")
OF_CURVES = ("naswot", "swap", "linear_regions", "near")


@pytest.mark.parametrize(
    ("build", "refused", "why"),
    [
        (
            Attention,
            WEIGHTED,
            "{} needs every weight, but 'attend' is torch's own multi-head attention, which hides its.",
        ),
        (NoLayers, WEIGHTED, "NoLayers calls no convolution and no linear map, so it has no {}."),
        (NoCurves, OF_CURVES, "NoCurves calls no non-linearity that counts."),
    ],
)
def test_what_some_refuse_others_give(build: Callable[[], nn.Module], refused: tuple[str, ...], why: str) -> None:
    network, (images, labels) = build(), batch()
    data = (images, labels % 3)
    report = score(network, data, ("params", *(name for name in ALL if "cor" not in name), "jacob_cor"))
    assert report.refused == {name: why.format(name) for name in report.refused}
    assert set(report.refused) == set(refused)
    for name in refused:
        with pytest.raises(ValueError, match=f"^{re.escape(why.format(name))}$"):
            score(network, data, name)
    for name, value in report.scores.items():
        assert value == pytest.approx(score(network, data, name).value, rel=1e-4, abs=1e-4), name


class Deaf(nn.Module):
    """The logits do not depend on the images, though layers and non-linearities do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.logits = nn.Conv2d(3, 4, 3), nn.Parameter(torch.randn(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        F.relu(self.conv(x))
        return self.logits.expand(len(x), -1).clone()


def test_a_dead_network_is_dead_for_each_proxy_that_looks_at_gradients() -> None:
    reasons = {
        **dict.fromkeys(
            ("snip", "grad_norm", "plain", "fisher", "zico", "grasp"), "dead: no gradient reaches a weight"
        ),
        "synflow": "dead: nothing flows from the image to the logits",
        **dict.fromkeys(FROM_LOGITS, "dead: the logits do not depend on every image"),
    }
    for name, reason in reasons.items():
        report = score(Deaf(), batch(), name)
        assert (report.value, report.reason) == (-math.inf, reason), name
    others = score(Deaf(), batch(), ["naswot", "swap", "linear_regions", "l2_norm", "meco", "near"])
    assert all(math.isfinite(value) for value in others.scores.values())
    together = score(Deaf(), batch(), ("params", *ALL)).scores
    assert {name: together[name] for name in reasons} == dict.fromkeys(reasons, -math.inf)


@pytest.mark.parametrize("name", ["snip", "grad_norm", "plain", "l2_norm", "fisher", "zico", "grasp"])
def test_a_weight_that_is_no_number_gives_no_score(name: str) -> None:
    network = ConvNorm()
    network.b.weight.data[0, 0, 0, 0] = math.nan
    report = score(network, batch(), ["params", name, "near"])
    assert report.refused == {refused: f"The proxy {refused} gave NaN." for refused in (name, "near")}


@pytest.mark.parametrize("labels", [torch.zeros(7, dtype=torch.long), torch.full((7, 4), 0.25)])
def test_labels_of_one_class_and_as_probabilities(labels: Tensor) -> None:
    report = score(ConvNorm(), (batch()[0], labels), [name for name in ALL if name != "epe_nas"])
    assert all(math.isfinite(value) for value in report.scores.values())
    assert not report.refused


def test_a_batch_of_two() -> None:
    report = score(Bare(), batch(2), [name for name in ALL if name != "epe_nas"])
    assert sum(math.isfinite(value) for value in report.scores.values()) == len(ALL) - 1


class Windows(nn.Module):
    """Works on four windows of each image, which lie one after the other along the batch; or on whole images."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Linear(5, 4)
        self.fold = True

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        if self.fold:
            x = x.unflatten(3, (2, 3)).unflatten(2, (2, 3)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        x = self.b(F.relu(self.a(x))).relu_()
        if self.fold:
            x = x.unflatten(0, (n, 2, 2)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return self.head(x.mean((2, 3)))


def test_windows_in_the_batch_belong_to_their_images() -> None:
    network, data = Windows().double(), batch()
    found = score(network, data, FROM_LOSS).scores
    network.fold = False
    assert found == pytest.approx(score(network, data, FROM_LOSS).scores, rel=1e-6)


# ---- the pass itself


class OwnedSums(WeightSums):
    """The sums, and whose weight each is."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.owners: list[int] = []

    def see_weight(self, call: LayerCall, gradients: Sequence[Tensor]) -> None:
        super().see_weight(call, gradients)
        self.owners.append(call.owner)


def test_the_gradients_of_the_parts_sum_to_that_of_the_batch() -> None:
    network, (images, labels) = in_double(Shared()).requires_grad_(False), batch()
    whole, parted = OwnedSums(7), OwnedSums(7)
    run_pass(network, images.double(), labels, Needs(weights=1), [whole])
    record = run_pass(network, images.double(), labels, Needs(weights=3), [parted])
    assert record.parts == [2, 3, 2]
    assert torch.allclose(whole.gather(), parted.gather(), rtol=1e-10)
    assert whole.owners == parted.owners
    assert len(record.weighted) == 7  # calls; the convolution b and the matrix twice
    assert len({call.owner for call in record.weighted}) == 5
    assert len(whole.owners) == 4  # unused is not reached


@pytest.mark.parametrize("parts", [1, 2])
def test_layers_keep_no_gradient_and_show_each_weight_once(parts: int) -> None:
    network, (images, labels) = Shared().requires_grad_(False), batch()
    layers: list[Layers] = []

    class Keeping(Layers):
        def __call__(self, call: LayerCall, run: Run, images: Tensor, weight: Tensor) -> Tensor:
            layers.append(self)
            return super().__call__(call, run, images, weight)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_wrcor.proxies._pass.Layers", Keeping)
        run_pass(network, images, labels, Needs(weights=parts), [WeightSums(7)])
    assert len(layers[0].leaves) == 5 * parts
    assert all(leaf.grad is None for leaf in layers[0].leaves)
    assert all(parameter.grad is None for parameter in network.parameters())


class Keeping(nn.Module):
    """Keeps what it computed, as networks that hand out features do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.kept: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.kept = torch.relu(self.conv(images))
        return self.head(self.kept.mean((2, 3)))


def test_a_network_that_keeps_tensors_can_be_copied_after_a_pass() -> None:
    report = score(Keeping(), (torch.randn(4, 3, 6, 6), torch.arange(4) % 3), ["snip", "synflow", "pnorm"])
    assert set(report.scores) == {"snip", "synflow", "pnorm"}


class Checkpointed(nn.Module):
    """A reentrant checkpoint around the first layer: no gradient reaches its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = checkpoint(lambda given: torch.relu(self.conv(given)), images, use_reentrant=True)
        return self.head(torch.relu(hidden).mean((2, 3)))


def test_what_one_proxy_cannot_have_does_not_cost_the_others_theirs() -> None:
    batch = torch.randn(4, 3, 6, 6), torch.arange(4) % 3
    report = score(Checkpointed(), batch, ["naswot", "wrcor", "snip"])
    assert set(report.scores) == {"naswot"}
    assert set(report.refused) == {"wrcor", "snip"}
    assert all("reentrant checkpoint" in why for why in report.refused.values())
    assert math.isfinite(report.value)
