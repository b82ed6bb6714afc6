from __future__ import annotations

import random

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from lightning_wrcor.spaces import (
    DARTS,
    NASBench101,
    NASBench201,
    NASBenchMacro,
    NATSBenchSize,
    TimmEfficientNet,
    TimmResNet,
    TimmViT,
    get_space,
)
from lightning_wrcor.training import set_drop_path

from toys import same_weights

MOBILE = {
    "widths": [(8, 16)] * 8,
    "depths": [(1, 2)] * 7,
    "head": (16, 24),
    "resolutions": [32],
    "halvings": [1, 3],
}
FAMILIES = (
    "resnet18",
    "resnet50",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "rexnet_100",
    "repvgg_a0",
    "davit_tiny",
    "nf_regnet_b0",
    "nextvit_small",
    "mobilevit_xxs",
    "mixer_s32_224",
)
EFFECTIVE = {"efficientnet_b0": 9, "mobilenetv3_small_050": 7}


def rates(network):
    """Rate of every drop path that drops anything, by its name."""
    return {
        name: part.drop_prob for name, part in network.named_modules() if isinstance(part, DropPath) and part.drop_prob
    }


def without_weights(name, **arguments):
    with torch.device("meta"):
        return timm.create_model(name, **arguments)


@pytest.mark.parametrize("name", FAMILIES)
def test_rates_are_those_that_timm_builds(name):
    network = without_weights(name)  # Swin and NextViT have a rate of 0.1 from the start
    count = set_drop_path(network, 0.3)
    wanted = rates(without_weights(name, drop_path_rate=0.3))
    assert rates(network) == wanted
    # EfficientNet's blocks without a shortcut hold a drop path too, which they never call.
    assert count == EFFECTIVE.get(name, len(wanted)) > 2
    assert set_drop_path(network, 0.0) == 0
    assert not rates(network)


def test_a_rate_may_be_set_again():
    network = without_weights("resnet18", drop_path_rate=0.5)
    set_drop_path(network, 0.1)
    assert list(rates(network).values()) == pytest.approx([0.1 * step / 7 for step in range(1, 8)])


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_b0", "convnext_atto"])
def test_networks_without_a_name_get_the_same_rates_by_their_blocks(name):
    network = without_weights(name)
    network.pretrained_cfg = {}
    set_drop_path(network, 0.3)
    assert rates(network) == pytest.approx(rates(without_weights(name, drop_path_rate=0.3)))


def test_networks_that_cannot_be_built_without_weights(monkeypatch):
    """A few of timm's read a value while they are built; such a one is built in full to see its rates."""
    network = without_weights("test_resnet")
    wanted = rates(without_weights("test_resnet", drop_path_rate=0.3))
    create = timm.create_model

    def reading(*args, **kwargs):
        torch.ones(1).item()
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", reading)
    torch.manual_seed(5)
    number = torch.rand(3)
    torch.manual_seed(5)
    set_drop_path(network, 0.3)
    assert rates(network) == wanted != {}
    assert torch.equal(torch.rand(3), number)  # and its weights are drawn from numbers of their own


def test_another_depth_than_that_of_the_name_is_noticed():
    network = without_weights("vit_tiny_patch16_224", depth=5)
    set_drop_path(network, 0.4)
    wanted = rates(without_weights("vit_tiny_patch16_224", depth=5, drop_path_rate=0.4))
    assert rates(network) == pytest.approx(wanted)
    assert max(wanted.values()) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        (TimmResNet, {"stems": [8], "widths": [[16], [32]], "depths": [2, 3], "bottlenecks": [0.5], "groups": [0]}),
        (TimmEfficientNet, {"stems": [8], "widths": [[8], [16]], "depths": [2, 3], "heads": [16], "strides": [1, 2]}),
        (TimmViT, {"patch_sizes": [8], "embed_dims": [12], "depths": [3, 4], "heads": [2], "image_size": 32}),
    ],
)
def test_networks_built_of_timms_blocks_get_the_rates_of_timms_own_argument(space, kwargs):
    genotype = space(**kwargs).sample(random.Random(0))
    network = space(**kwargs).build(genotype, num_classes=3)
    wanted = rates(space(**kwargs, kwargs={"drop_path_rate": 0.2}).build(genotype, num_classes=3))
    set_drop_path(network, 0.2)
    assert rates(network) == pytest.approx(wanted)
    assert wanted


# ---- the networks of this package: what is dropped, by hand

CELL = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|"
PLACES = {
    # Of three cells and two reduction blocks each counts one.
    "201": (NASBench201(4, 1), CELL, ["cells.1", "cells.2", "cells.3", "cells.4"], 5),
    "201 plain": (NASBench201(4, 1), CELL.replace("skip_connect", "nor_conv_1x1"), ["cells.3"], 2),
    "101": (NASBench101(8, 1), "111;I-c3-O", ["cells.2", "cells.4"], 3),
    "size": (NATSBenchSize([2, 3]), None, ["cells.1", "cells.2", "cells.3", "cells.4"], 5),
    # Places 1, 3, 4, 6 and 7 follow the first of their stage; 3 and 7 are identities here.
    "macro": (NASBenchMacro(4, 16), "11102210", ["blocks.4", "blocks.6"], 3),
    "darts": (DARTS("cifar", 4, 4, 2), None, ["cells.1", "cells.2", "cells.3"], 4),
}


@pytest.mark.parametrize("case", PLACES)
def test_rates_rise_from_block_to_block(case):
    space, text, dropping, blocks = PLACES[case]
    genotype = space.parse(text) if text else space.sample(random.Random(1))
    network = space.build(genotype, num_classes=3)
    assert set_drop_path(network, 0.4) == len(dropping)
    found = rates(network)
    assert list(found) == [f"{name}.drop_path" for name in dropping]
    steps = [0.4 * step / (blocks - 1) for step in range(1, blocks)]
    assert list(found.values()) == pytest.approx(steps)


def test_a_mobilenet_has_a_place_in_every_block():
    space = get_space("mobilenet_v2", **MOBILE)
    network = space.build(space.sample(random.Random(3)), num_classes=3)
    blocks = [
        name
        for stage, group in enumerate(network.stages)
        for name in [f"stages.{stage}.{i}" for i in range(len(group))]
    ]
    assert set_drop_path(network, 0.4) == len(blocks) - 1
    assert rates(network) == pytest.approx(
        {f"{name}.drop_path": 0.4 * place / (len(blocks) - 1) for place, name in enumerate(blocks) if place}
    )


OWN = {
    **{case: (space, text) for case, (space, text, _, _) in PLACES.items()},
    "mobilenet": (get_space("mobilenet_v2", **MOBILE), None),
    "enas": (get_space("enas", form="cifar", width=4, depth=3, nodes=3), None),
}


def own(case, seed=1):
    space, text = OWN[case]
    torch.manual_seed(0)
    return space.build(space.parse(text) if text else space.sample(random.Random(seed)), num_classes=3)


@pytest.mark.parametrize("case", OWN)
def test_weights_names_and_outputs_stay(case):
    plain, network = own(case), own(case)
    images = torch.randn(4, 3, 16, 16)
    set_drop_path(network, 0.9)
    assert list(network.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in network.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert same_weights(network, plain)
    network.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(network.eval()(images), plain.eval()(images))  # nothing is dropped in evaluation mode
        torch.manual_seed(0)
        assert not torch.equal(network.train()(images), plain.train()(images))
        before = plain.state_dict()
        network.load_state_dict(before)
        set_drop_path(network, 0.0)
        assert torch.equal(network(images), plain(images))


def test_a_network_in_evaluation_mode_stays_there():
    network = own("201").eval()
    set_drop_path(network, 0.9)
    assert not any(part.training for part in network.modules())


@pytest.mark.parametrize("case", ["201", "101", "size", "macro", "darts", "mobilenet"])
def test_whole_samples_lose_the_branch_and_the_mean_stays(case):
    """Of the last block alone: what it gives is linear in what is dropped, so the mean over many draws is what it gives."""
    network = own(case).eval()
    set_drop_path(network, 0.5)
    block = [
        part for part in network.modules() if getattr(part, "drop_path", None) is not None and part is not network
    ][-1]
    inside = []
    block.register_forward_hook(lambda part, given, out: inside.append(given))
    with torch.no_grad():
        network(torch.randn(1, 3, 16, 16))
        given = [part.repeat(3000, 1, 1, 1) for part in inside[0]]
        if case == "mobilenet":
            block.act = nn.Identity()
        whole = block(*given)
        block.drop_path.train()
        drawn = block(*given)
    assert 1 < len(torch.unique((drawn / drawn.std() * 100).round().flatten(1), dim=0)) <= 16
    assert (drawn.mean(0) - whole.mean(0)).abs().max() < 0.1 * drawn.std(0).max()


def test_a_dropped_residual_block_is_its_shortcut():
    network = own("macro").train()
    block = network.blocks[4]
    block.drop_path = DropPath(0.999999).train()
    x = torch.randn(5, 16, 8, 8)
    torch.testing.assert_close(block(x), x)
    reduction = own("201 plain").cells[1]
    reduction.drop_path = DropPath(0.999999)
    x = torch.randn(5, 4, 8, 8)
    torch.testing.assert_close(reduction(x), reduction.shortcut(x))
    cell = own("size").cells[0]
    cell.drop_path = DropPath(0.999999)
    x = torch.randn(5, cell.conv_01[1].in_channels, 8, 8)
    torch.testing.assert_close(cell(x), cell.skip_03(x))
    cell = own("101").cells[0]
    cell.drop_path = DropPath(0.999999)
    x = torch.randn(5, 8, 8, 8)
    torch.testing.assert_close(cell(x), cell.convs["project_2"](x))
    block = own("mobilenet").stages[0][0]
    block.drop_path = DropPath(0.999999)
    x = torch.randn(5, block.expand[0].in_channels, 8, 8)
    torch.testing.assert_close(block(x), block.shortcut(x).relu())


def test_a_nasbench201_node_keeps_its_skip_connection_and_nodes_without_one_keep_everything():
    cell = own("201").cells[0]
    cell.drop_path = DropPath(0.999999)
    x = torch.randn(5, 4, 8, 8)
    cell.eval().drop_path.train()
    # Node 1 is a convolution that nothing accompanies; node 2 skips from node 0, node 3 from node 2.
    torch.testing.assert_close(cell(x), x)
    alone = own("201 plain").cells[0]
    assert not hasattr(alone, "drop_path")


def test_the_uniform_rate_of_a_cell_network_is_that_of_all_cells():
    network = own("darts")
    network.drop_path = 0.25
    assert network.drop_path == 0.25
    assert [cell.drop_path.drop_prob for cell in network.cells] == [0.25] * 4
    set_drop_path(network, 0.5)
    assert network.drop_path == 0.5
    network.drop_path = 0.0
    assert network.drop_path == 0.0
    assert not rates(network)


# ---- what cannot be done


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        set_drop_path(own("201"), rate)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: without_weights("ghostnet_050"), "ghostnet_050"),
        (lambda: without_weights("densenet121"), "densenet121"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), r"torch\.nn\.modules\.container\.Sequential"),
        (
            lambda: NASBench101(8, 1).build(NASBench101(8, 1).parse("1101;I-c3-c3-O".replace("1101", "100101"))),
            "nasbench101",
        ),
    ],
)
def test_a_network_without_residual_branches_is_named(build, name):
    network = build()
    with pytest.raises(ValueError, match=rf"{name}.*no residual branch that could be dropped: drop_path=0\.1"):
        set_drop_path(network, 0.1)
    assert not rates(network)
    assert set_drop_path(network, 0.0) == 0
