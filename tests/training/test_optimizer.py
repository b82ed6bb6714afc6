from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from lightning_wrcor.training import (
    check_optimizer,
    learning_rate_factor,
    make_optimizer,
    scaled_learning_rate,
)


def settings_of(optimizer: torch.optim.Optimizer, network: nn.Module, name: str) -> dict[str, float]:
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    return {names[id(p)]: group[name] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_norms_and_biases_have_no_decay(name: str) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    decays = settings_of(make_optimizer(network, name, 0.1, 0.3), network, "weight_decay")
    assert set(decays) == {key for key, _ in network.named_parameters()}
    for key, parameter in network.named_parameters():
        assert decays[key] == (0.3 if parameter.ndim > 1 else 0.0), key


def test_what_the_network_itself_excludes_has_no_decay() -> None:
    network = timm.create_model("test_vit", num_classes=3)
    decays = settings_of(make_optimizer(network, "adamw", 0.1, 0.3), network, "weight_decay")
    assert {"pos_embed", "cls_token"} & set(decays)
    assert all(value == 0 for key, value in decays.items() if key in network.no_weight_decay())


def test_layer_decay_shrinks_from_the_head_down() -> None:
    network = timm.create_model("test_vit", num_classes=3)
    rates = settings_of(make_optimizer(network, "adamw", 0.8, 0.1, layer_decay=0.5), network, "lr")
    blocks = len(network.blocks)
    # BEiT's rule: the head has the whole rate, each layer before it half of the next one's.
    assert rates["head.weight"] == 0.8
    for place in range(blocks):
        expected = 0.8 * 0.5 ** (blocks - place)
        assert rates[f"blocks.{place}.attn.qkv.weight"] == pytest.approx(expected)
    assert rates["patch_embed.proj.weight"] == pytest.approx(0.8 * 0.5 ** (blocks + 1))
    # The schedule multiplies each group's own rate.
    optimizer = make_optimizer(network, "sgd", 0.8, 0.1, layer_decay=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    assert schedule.get_last_lr() == pytest.approx([group["initial_lr"] / 4 for group in optimizer.param_groups])
    assert len(set(schedule.get_last_lr())) == blocks + 2


def test_frozen_parameters_are_left_out() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    network[0].requires_grad_(False)
    rates = settings_of(make_optimizer(network, "sgd", 0.1), network, "lr")
    assert set(rates) == {"1.weight", "1.bias"}


def test_mistakes() -> None:
    network = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"no optimiser named .adamww.\. Closest: adamw"):
        check_optimizer("adamww")
    check_optimizer("lookahead_adamw")
    with pytest.raises(ValueError, match=r"timm's optimiser 'sgd' does not take these arguments: .*bettas"):
        make_optimizer(network, "sgd", 0.1, arguments={"bettas": 3})
    with pytest.raises(ValueError, match=r"layer_decay is a factor above 0 and at most 1; got 1\.5"):
        make_optimizer(network, "sgd", 0.1, layer_decay=1.5)


def test_learning_rates_for_other_batches() -> None:
    """Goyal et al. (2017) train batches of 8,192 with 32 times the rate 0.1 of 256; You et al. take roots."""
    assert scaled_learning_rate(0.1, 8192, 256) == pytest.approx(3.2)
    assert scaled_learning_rate(0.1, 1024, 256, "sqrt") == pytest.approx(0.2)
    assert scaled_learning_rate(0.1, 64, None) == 0.1


def test_factors_at_chosen_steps() -> None:
    def factor(step: int, **more: object) -> float:
        return learning_rate_factor(step, 110, 10, **more)  # type: ignore[arg-type]

    assert [factor(step, warmup_lr=0.1) for step in (0, 5, 10)] == pytest.approx([0.1, 0.55, 1.0])
    assert [factor(step) for step in (10, 35, 60, 85, 110)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]
    )
    assert factor(60, min_lr=0.2) == pytest.approx(0.6)
    assert factor(110, min_lr=0.2) == pytest.approx(0.2)
    assert [factor(step, schedule="linear", min_lr=0.5) for step in (10, 60, 110)] == pytest.approx([1, 0.75, 0.5])
    assert factor(99, schedule="constant") == 1
    assert factor(500) == 0, "a training that goes on longer stays at the end"


def test_the_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.1)
    for step in range(20):
        assert theirs.get_last_lr()[0] == pytest.approx(learning_rate_factor(step, 20, min_lr=0.1))
        optimizer.step()
        theirs.step()
