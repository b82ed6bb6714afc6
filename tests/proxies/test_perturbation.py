"""Zen and PNorm against arithmetic written out by hand, and the weights that are drawn for them."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from by_hand import NETWORKS, Plain, Residual, Tokens, batch, noises, use_own_weights, weights_of
from networks import Transformer
from torch import Tensor, nn

from lightning_wrcor.inspection import LayerCall
from lightning_wrcor.proxies import score
from lightning_wrcor.proxies._base import Context
from lightning_wrcor.proxies._initialise import DrawnWeights, kaiming_fan_in, standard

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def networks(*left_out: type) -> Any:
    return pytest.mark.parametrize("build", [kind for kind in NETWORKS if kind not in left_out])


def value(network: nn.Module, proxy: str, dtype: torch.dtype = torch.float64, n: int = 6, **kwargs: Any) -> float:
    images, labels = batch(n)
    return score(copy.deepcopy(network).to(dtype), (images.to(dtype), labels), proxy, **kwargs).value


# ---- the formulas


@BOTH
@networks()
def test_pnorm_by_hand(build: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_weights(monkeypatch)
    network, (x, e) = build(), noises(6, 3, 6, 6)
    before, after = (build.by_hand(weights_of(network), images, lambda x: x)[1] for images in (x, x + 0.01 * e))
    expected = math.log(np.abs(before.numpy() - after.numpy()).mean())
    # In float64 whatever the network's type; its weights and the noise were rounded to that.
    assert value(network, "pnorm", dtype) == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 1e-12)


@BOTH
@networks(Tokens)
def test_zen_by_hand(build: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_weights(monkeypatch)
    network, (x, e) = build(), noises(6, 3, 6, 6)
    scales: list[float] = []

    def norm(x: Tensor) -> Tensor:
        rows = x.transpose(0, 1).flatten(1)  # a row for each channel
        variances = rows.var(1, correction=0)
        scales.append(np.log(np.sqrt(variances.numpy().mean())))
        scaled = (rows - rows.mean(1, keepdim=True)) / (variances + 1e-5).sqrt()[:, None]
        return scaled.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)

    before = build.by_hand(weights_of(network), x, norm)[1]
    total = sum(scales)
    after = build.by_hand(weights_of(network), x + 0.01 * e, norm)[1]
    assert len(scales) == 2 * sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    expected = math.log(float((before - after).abs().mean())) + total
    assert value(network, "zen", dtype) == pytest.approx(expected, abs=1e-4 if dtype == torch.float32 else 1e-9)


def test_one_linear_convolution_in_closed_form() -> None:
    """Features are linear in the image: log of the mean of abs(conv(0.01 e)), with the weights as they are drawn."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).double()
    images, labels = batch()
    drawn = DrawnWeights(_context(network, images.double(), seed=3), "zen", standard)
    _, other = (drawn.noise(6, 3, 6, 6, like=images.double()) for _ in range(2))
    weight = drawn.weight(_call(0), network[0].weight)
    # A sum over the window, one weight after the other.
    moved = sum(
        np.einsum("bchw,oc->bohw", 0.01 * other[:, :, i : i + 4, j : j + 4].numpy(), weight[:, :, i, j].numpy())
        for i in range(3)
        for j in range(3)
    )
    report = score(network, (images.double(), labels), ["pnorm", "zen"], seed=3)
    assert report.scores["pnorm"] == pytest.approx(math.log(np.abs(moved).mean()), rel=1e-9)
    assert report.scores["zen"] == report.scores["pnorm"]


def test_zen_without_normalisation_is_pnorm() -> None:
    network = Residual()
    for dtype, tolerance in ((torch.float64, 0.0), (torch.float32, 1e-4)):
        found = value(network, "zen", dtype)
        assert found == pytest.approx(value(network, "pnorm", dtype), abs=tolerance, rel=0)
    standardised = timm.create_model("test_nfnet", num_classes=5)  # its batch_norm is of weights
    report = score(standardised, batch(4, 32), ["zen", "pnorm"])
    assert report.scores["zen"] == pytest.approx(report.scores["pnorm"], abs=1e-3)


def test_a_head_and_biases_do_not_count() -> None:
    network = Plain()
    found = value(network, "pnorm")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.normal_()
                assert module.bias is not None
                module.bias.normal_()
    assert value(network, "pnorm") == found
    network.head = nn.Linear(6, 30)
    images, labels = batch()
    assert score(network.double(), (images, labels), "pnorm").value == found
    assert score(network, (images * 3 + 1, labels), "pnorm").value == found  # noise, not the images


# ---- the weights that are drawn


def _context(network: nn.Module, images: Tensor, seed: int = 0) -> Context:
    from lightning_wrcor.inspection import Costs

    return Context(network, images, torch.zeros(len(images), dtype=torch.long), seed, False, Costs(1, 1, 1))


def _call(owner: int) -> LayerCall:
    return LayerCall(0, "Conv", "", torch.zeros(1), owner, True)


def test_drawn_weights() -> None:
    context, like = _context(nn.ReLU(), torch.zeros(2, 3, 4, 4)), torch.zeros(50, 40, 3, 3)
    first = DrawnWeights(context, "a", standard)
    weight = first.weight(_call(1), like)
    assert (weight.dtype, weight.shape) == (torch.float32, (50, 40, 3, 3))
    assert abs(float(weight.mean())) < 4 / 18000**0.5
    assert abs(float(weight.std()) - 1) < 4 / 36000**0.5
    assert first.weight(_call(1), like) is weight  # every call that shares a parameter
    assert not torch.equal(first.weight(_call(2), like), weight)
    again, other = DrawnWeights(context, "a", standard), DrawnWeights(context, "b", standard)
    assert torch.equal(again.weight(_call(9), like), weight)  # the order counts, not who owns it
    assert not torch.equal(other.weight(_call(1), like), weight)
    assert not torch.equal(DrawnWeights(_context(nn.ReLU(), like, 1), "a", standard).weight(_call(1), like), weight)
    scaled = DrawnWeights(context, "a", kaiming_fan_in).weight(_call(1), like)
    torch.testing.assert_close(scaled, weight * (2 / 360) ** 0.5)
    assert torch.equal(again.noise(2, 3, like=like.double()).float(), first_noise(context, like))


def first_noise(context: Context, like: Tensor) -> Tensor:
    """The numbers after one weight."""
    drawn = DrawnWeights(context, "a", standard)
    drawn.weight(_call(0), like)
    return drawn.noise(2, 3, like=like)


# ---- what cannot be scored


class _Normalised(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), norm, nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))


@pytest.mark.parametrize(
    ("norm", "name"),
    [
        (nn.GroupNorm(2, 4), "group_norm"),
        (nn.InstanceNorm2d(4), "instance_norm"),
        (nn.LayerNorm([4, 4]), "layer_norm"),
        (nn.RMSNorm([4, 4]), "rms_norm"),
    ],
)
def test_zen_refuses_other_normalisations(norm: nn.Module, name: str) -> None:
    network = _Normalised(norm)
    with pytest.raises(
        ValueError, match=rf"^zen puts back .* _Normalised normalises by {name}; pnorm leaves .* out\.$"
    ):
        score(network, batch(), "zen")
    expected = value(_Normalised(nn.Identity()), "pnorm")
    assert value(network, "pnorm") == expected


def test_dead_and_degenerate_networks() -> None:
    dead = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    dead[1] = nn.Threshold(1e30, 0.0)
    report = score(dead, batch(), ["pnorm", "zen"])
    assert report.scores == {"pnorm": -math.inf, "zen": -math.inf}
    assert report.reason == "dead: the features do not move with the image"
    constant = _Normalised(nn.BatchNorm2d(4))
    constant.conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Threshold(1e30, 0.0))  # type: ignore[assignment]
    assert score(constant, batch(), "zen").value == -math.inf
    assert math.isfinite(value(Plain(), "zen", n=2))
    with pytest.raises(ValueError, match=r"^Sequential calls no convolution and no linear map, so it has no pnorm\.$"):
        score(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), batch(), "pnorm")


def test_features_beyond_the_range() -> None:
    def deep(layers: int) -> nn.Module:
        convs = [nn.Conv2d(3 if not layer else 16, 16, 3, padding=1) for layer in range(layers)]
        return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))

    report = score(deep(60), batch(), ["pnorm", "zen"])  # each layer multiplies by 12: 1e64
    assert report.scores["pnorm"] > 60 * math.log(8)
    assert report.refused["zen"] == "The features of Sequential leave the range of torch.float32 for zen."
    with pytest.raises(ValueError, match=r"^The features of Sequential leave the range of torch.float64 for pnorm\.$"):
        score(deep(320), batch(2), "pnorm")


def test_hidden_weights_are_refused() -> None:
    """Attention's own weights cannot be drawn, so that the value would depend on them."""
    with pytest.raises(
        ValueError, match=r"^pnorm needs every weight, but 'blocks.0.self_attn' is torch's own multi-head"
    ):
        score(Transformer(), batch(), "pnorm")


def test_a_branch_that_carries_nothing_has_no_scale() -> None:
    class Branched(nn.Module):
        def __init__(self, empty: bool) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)
            self.branch = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
            self.empty = empty

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.conv(images)))
            if self.empty:
                x = x + self.branch(x * 0)
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    found = [score(Branched(empty), batch(), "zen", seed=3).value for empty in (False, True)]
    assert math.isfinite(found[0])
    assert found[1] == pytest.approx(found[0], rel=1e-6)
