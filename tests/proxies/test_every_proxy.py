"""Every proxy on small networks of several kinds: what they give, what they refuse, and that none disturbs another."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
import timm
import torch
from by_hand import NETWORKS, Plain, Squeeze, batch
from torch import nn

from lightning_wrcor.proxies import Vote, get_proxy, list_proxies, score

NAMES = sorted({get_proxy(name).name for name in list_proxies() if not isinstance(get_proxy(name), Vote)})


@pytest.mark.parametrize(
    ("name", "kwargs", "refused"),
    [
        ("test_resnet", {}, {}),
        (
            "test_vit",
            {"img_size": 32},
            {
                "common_activations": "maps larger than 2 x 2 that non-linearities receive, and VisionTransformer has none",
                "common_gradients": "maps larger than 2 x 2",
                "zen": "VisionTransformer normalises by layer_norm",
            },
        ),
        ("mobilenetv3_small_050", {}, {"grasp": "differentiates twice, which this network does not allow"}),
    ],
)
def test_families(name: str, kwargs: dict[str, Any], refused: dict[str, str]) -> None:
    network = timm.create_model(name, num_classes=3, **kwargs)
    report = score(network, _batch(), NAMES)
    assert set(report.refused) == set(refused)
    for proxy, part in refused.items():
        assert part in report.refused[proxy]
        assert report.refused[proxy].count(". ") == 0
    assert all(map(math.isfinite, report.scores.values()))
    assert set(report.scores) | set(refused) == set(NAMES)


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = batch(6, 32)
    return images, labels % 3


@pytest.mark.parametrize("build", NETWORKS)
def test_neither_the_order_nor_what_else_is_scored_changes_a_value(build: Any) -> None:
    """Running statistics, which passes in training mode change, and whatever else they leave, have no say."""
    network = build()
    names = [name for name in NAMES if name != "params"]
    together = score(network, batch(), ["params", *names])
    reports = []
    for seed in range(3):
        random.Random(seed).shuffle(names)
        reports.append(score(network, batch(), ["params", *names]))
        assert reports[-1].refused == together.refused
    reports += [score(network, batch(), ["params", name]) for name in together.scores]
    for report in reports:
        for name, value in report.scores.items():
            # A pass that is shared may take the batch in parts, which rounds differently.
            rounding = 1e-3 if get_proxy(name).observers else 0.0
            assert value == pytest.approx(together.scores[name], rel=rounding, abs=0), name


def test_running_statistics_do_not_count() -> None:
    network = Squeeze()
    expected = score(network, batch(), NAMES).scores
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.1, 9)
            module.momentum = 1.0
    assert score(network, batch(), NAMES).scores == expected


def test_the_network_and_global_random_numbers_stay_as_they_were() -> None:
    network = Plain().eval()
    held = copy.deepcopy(network.state_dict())
    state, attributes = torch.get_rng_state(), {name: set(vars(module)) for name, module in network.named_modules()}
    score(network, batch(), NAMES)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, held[name]) for name, value in network.state_dict().items())
    for name, module in network.named_modules():
        assert set(vars(module)) == attributes[name]
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_smallest_batch() -> None:
    report = score(Plain(), (batch(2)[0], torch.tensor([1, 1])), NAMES)
    assert all(value == -math.inf or math.isfinite(value) for value in report.scores.values())
    assert all(sentence.count(". ") == 0 for sentence in report.refused.values())
