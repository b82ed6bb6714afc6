"""Timm as a search space: members that timm has by name, costs, timm's own tools, texts and choices."""

from __future__ import annotations

import json
import random

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_wrcor import zero_shot_search
from lightning_wrcor.inspection import count_costs
from lightning_wrcor.spaces import TimmEfficientNet, TimmResNet, TimmViT, freeze, get_space

B0 = (
    "stem32 ds_r1_k3_s1_c16_se0.25 ir_r2_k3_s2_e6_c24_se0.25 ir_r2_k5_s2_e6_c40_se0.25 ir_r3_k3_s2_e6_c80_se0.25 "
    "ir_r3_k5_s1_e6_c112_se0.25 ir_r4_k5_s2_e6_c192_se0.25 ir_r1_k3_s1_e6_c320_se0.25 head1280"
)
R18 = "stem64 basic_d2_w64_r1.0_g0 basic_d2_w128_r1.0_g0 basic_d2_w256_r1.0_g0 basic_d2_w512_r1.0_g0"
R50 = "stem64 bottle_d3_w256_r0.25_g0 bottle_d4_w512_r0.25_g0 bottle_d6_w1024_r0.25_g0 bottle_d3_w2048_r0.25_g0"
X50 = "stem64 bottle_d3_w256_r0.5_g4 bottle_d4_w512_r0.5_g8 bottle_d6_w1024_r0.5_g16 bottle_d3_w2048_r0.5_g32"
VIT = "vit_p16_w192_d12_h3_m4.0"


def resnets(**arguments):
    small = {"widths": [(16, 32), (32, 64)], "depths": (1, 2, 3), "groups": (0, 8), "stems": (8, 16), "image_size": 32}
    return TimmResNet(**{**small, **arguments})


def efficientnets(**arguments):
    small = {
        "stems": (8, 16),
        "widths": [(8, 16), (16, 24), (24, 32)],
        "depths": [(1, 2), (1, 2), (2, 3)],
        "kernels": (3, 5),
        "expansions": (2, 4),
        "se_ratios": (0, 0.25),
        "heads": (32, 48),
        "strides": (1, 2, 2),
        "image_size": 32,
    }
    return TimmEfficientNet(**{**small, **arguments})


def vits(**arguments):
    small = {"patch_sizes": (4, 8), "embed_dims": (24, 32), "depths": (1, 3), "heads": (2, 3), "mlp_ratios": (2, 1.5)}
    return TimmViT(**{**small, "image_size": 16, **arguments})


CLASSES = {
    "resnet": timm.models.ByobNet,
    "efficientnet": timm.models.EfficientNet,
    "vit": timm.models.VisionTransformer,
}
SMALL = {"resnet": resnets, "efficientnet": efficientnets, "vit": vits}
every_space = pytest.mark.parametrize("which", SMALL)


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("space", "text", "model", "params"),
    [
        (TimmResNet(), R18, "resnet18", 11_689_512),
        (TimmResNet(), R50, "resnet50", 25_557_032),
        (TimmResNet(groups=[(4,), (8,), (16,), (32,)]), X50, "resnext50_32x4d", 25_028_904),
        (TimmEfficientNet(), B0, "efficientnet_b0", 5_288_548),
        (TimmViT(), VIT, "vit_tiny_patch16_224", 5_717_416),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value and len(value) < 24 else None,
)
def test_members_that_timm_has_by_name(space, text, model, params):
    genotype = space.parse(text)
    assert space.name(genotype) == text
    with torch.device("meta"):
        theirs = timm.create_model(model).eval()
        images = torch.zeros(1, 3, 224, 224)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        theirs(images)
    costs = space.costs(genotype)
    assert (costs.params, costs.macs) == (params, counter.get_total_flops() // 2)
    assert sum(p.numel() for p in theirs.parameters()) == params


@pytest.mark.parametrize(
    ("space", "text", "model", "size"),
    [
        (TimmEfficientNet(), B0, "efficientnet_b0", 64),
        (TimmViT(image_size=32), VIT, "vit_tiny_patch16_224", 32),
    ],
)
def test_members_compute_what_timms_do(space, text, model, size):
    ours = space.build(space.parse(text), num_classes=7).eval()
    theirs = timm.create_model(model, num_classes=7, **({"img_size": size} if "vit" in model else {})).eval()
    theirs.load_state_dict(ours.state_dict())  # the names of the weights are timm's as well
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("which", "kwargs"),
    [
        ("resnet", None),
        ("resnet", {"attn_layer": "se", "act_layer": "silu", "drop_path_rate": 0.1}),
        ("resnet", {"num_features": 24, "output_stride": 8}),
        ("efficientnet", None),
        ("efficientnet", {"act_layer": "relu", "drop_rate": 0.2}),
        ("vit", None),
        ("vit", {"class_token": False, "global_pool": "avg", "qk_norm": True, "init_values": 1e-5}),
    ],
)
def test_costs_are_those_of_the_built_network(which, kwargs):
    space = SMALL[which](kwargs=kwargs)
    other = (1, 16, 16) if which == "vit" else (1, 33, 47)
    for size, num_classes, count in ((space.input_size, 1000, 1), (other, 5, 2)):
        for genotype in sample(space, count, seed=len(kwargs or ())):
            network = space.build(genotype, num_classes, size[0])
            assert space.costs(genotype, size, num_classes) == count_costs(network, size)


def test_what_was_counted_is_not_taken_for_something_else():
    """Blocks that are equal but for the stride of their stage, and heads that are equal but for the classes."""
    plain = {"stems": [8], "widths": [[8]] * 3, "depths": [1], "kernels": [3], "expansions": [2], "se_ratios": [0]}
    space = efficientnets(**plain, heads=[8], strides=(1, 1, 2))
    (genotype,) = space
    for num_classes in (2, 7):
        network = space.build(genotype, num_classes)
        assert space.costs(genotype, num_classes=num_classes) == count_costs(network, space.input_size)


@every_space
def test_costs_leave_random_numbers_alone(which):
    space = SMALL[which]()
    before = torch.get_rng_state(), random.getstate()
    space.costs(space.sample(random.Random(0)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


@every_space
def test_what_is_built_is_timms_and_its_tools_work(which):
    space = SMALL[which]()
    genotype = space.sample(random.Random(1))
    model = space.build(genotype, num_classes=5, in_chans=1)
    assert type(model) is CLASSES[which]
    size = (1, space.image_size, space.image_size)
    assert model.num_classes == model.pretrained_cfg["num_classes"] == 5
    assert model.pretrained_cfg["input_size"] == resolve_model_data_config(model)["input_size"] == size
    assert model.default_cfg is model.pretrained_cfg
    assert not any(model.pretrained_cfg.get(source) for source in ("url", "hf_hub_id", "file"))
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)
    assert model.get_classifier() is model.get_submodule(model.pretrained_cfg["classifier"])
    images = torch.randn(2, *size)
    model(images).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    features = model.forward_features(images)
    assert model.forward_head(features).shape == (2, 5)
    assert model.feature_info[-1]["num_chs"] in features.shape or which == "efficientnet"
    with torch.no_grad():
        logits = model(images)
        exported = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images), logits)
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)


@every_space
def test_builds_depend_on_the_seed_alone(which):
    space = SMALL[which]()
    genotype = space.sample(random.Random(2))
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in space.build(genotype, 4).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@every_space
def test_samples_names_and_mutations(which):
    space = SMALL[which]()
    genotypes = sample(space, 300)
    assert genotypes == sample(space, 300) != sample(space, 300, seed=1)
    rng = random.Random(0)
    places = set()
    for genotype in genotypes:
        assert freeze(json.loads(json.dumps(genotype))) == genotype
        assert space.parse(space.name(genotype)) == genotype
        child = space.mutate(genotype, rng)
        assert space.parse(space.name(child)) == child
        changed = [n for n, (a, b) in enumerate(zip(genotype, child, strict=True)) if a != b]
        assert len(changed) == 1
        places.update(changed)
    assert places == set(range(len(genotypes[0])))
    assert len({space.key(genotype) for genotype in genotypes}) == len(set(genotypes))
    again = get_space(json.loads(json.dumps(space.config())))
    assert again.config() == space.config()
    assert sample(again, 5) == genotypes[:5]
    assert get_space(f"timm_{which}").kind == f"timm_{which}"
    assert space.mixed_depth


def test_different_genotypes_are_different_networks():
    """A group that is all channels would be no group, and rounded channels would be equal."""
    space = resnets(
        widths=[(16, 24), (8,)],
        depths=[(1, 2), (1,)],
        stems=(8,),
        bottlenecks=[(0.5, 0.6, 1), (1,)],
        groups=[(0, 8, 16), (0,)],
    )
    genotypes = list(space)
    assert len(genotypes) == len(space)
    assert {genotype[3:6] for genotype in genotypes} == {(16, "0.5", 0), (16, 1, 0), (16, 1, 8), (24, 1, 0), (24, 1, 8)}
    shapes = set()
    for genotype in genotypes:
        with torch.device("meta"):
            network = space.build(genotype, 2)
        shapes.add(tuple((name, tuple(p.shape)) for name, p in network.named_parameters()))
    assert len(shapes) == len(genotypes)
    assert [vits().name(genotype) for genotype in vits()][:2] == ["vit_p4_w24_d1_h2_m2", "vit_p4_w24_d1_h2_m1.5"]
    assert len(vits()) == 2 * 2 * 2 * 3  # heads 2 and 3 for width 24, 2 for width 32


def test_depth_is_known_to_be_mixed_or_not():
    assert not TimmViT(depths=[12]).mixed_depth
    assert not resnets(depths=[2], blocks=["basic"]).mixed_depth
    assert resnets(depths=[2]).mixed_depth  # the blocks have two and three layers
    assert efficientnets().mixed_depth


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        (TimmResNet(), R18.replace("basic_d2_w128", "basci_d2_w128"), "block2 is one of basic, bottle; got 'basci'"),
        (TimmResNet(), R18.replace("w512", "w500"), "width4 is one of 512, 1024, 2048; got '500'"),
        (TimmResNet(), R18.replace("_g0 basic", "_gr0 basic", 1), "group1 is one of 0, 16, 32; got 'r0'"),
        (TimmResNet(), R18 + " basic_d2_w64_r1.0_g0", "group4 is one of 0, 16, 32; got '0 basic"),
        (
            TimmResNet(),
            R18.replace("w64_r1.0_g0", "w64_r0.25_g32"),
            r"multiples of 8, .* rejects 'stem64 basic_d2_w64_r0",
        ),
        (TimmEfficientNet(), B0.replace("ir_r2_k3_s2", "ir_r2_k3_s1"), "Expected '_s2_e' after .*_k3', got '_s1_e6"),
        (TimmEfficientNet(), B0.replace("k3_s1_c16", "k4_s1_c16"), "kernel1 is one of 3, 5, 7; got '4'"),
        (TimmEfficientNet(), B0.replace(" head1280", ""), "Expected ' head' after .*, got ''"),
        (TimmViT(), "vit_p16_w192_d12_h5_m4.0", "heads is one of 3, 4; got '5'"),
        (TimmViT(), "vit_p16_w192_d12_h3", "Expected '_m' after 'vit_p16_w192_d12_h3', got ''"),
        (
            TimmViT(heads=(3, 5)),
            "vit_p16_w192_d12_h5_m4.0",
            "heads divide the width.* rejects 'vit_p16_w192_d12_h5_m4.0'",
        ),
        (TimmViT(), "resnet18", "Expected 'vit_p', got 'resnet18'"),
    ],
)
def test_texts_that_cannot_be_read(space, text, message):
    with pytest.raises(ValueError, match=message):
        space.parse(text)


def test_rejected_combinations_cannot_be_built():
    with pytest.raises(ValueError, match="heads divide the width"):
        TimmViT(heads=(3, 5)).build((16, 192, 12, 5, "4.0"))
    with pytest.raises(ValueError, match=r"a tuple .patch_size, embed_dim, depth, heads, mlp_ratio."):
        TimmViT().costs((16, 192))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (TimmResNet, {"widths": (64, 128)}, r"widths has a list for each stage, such as .*; got \(64, 128\)"),
        (TimmResNet, {"widths": [(64,)]}, "at least two stages; got 1"),
        (TimmResNet, {"depths": [(1, 2), (3,)]}, "depths has lists for 2 stages, but the networks have 4"),
        (
            TimmResNet,
            {"widths": [(60,), (64,)], "depths": (1,)},
            "widths are multiples of 8 of at least 8; got 60",
        ),
        (TimmResNet, {"blocks": ("basic", "dark")}, "blocks are 'basic' and 'bottle'; got 'dark'"),
        (TimmResNet, {"bottlenecks": (0, 1)}, "bottlenecks are numbers of more than 0; got 0"),
        (TimmResNet, {"groups": (-1,)}, "groups are whole numbers .*; got -1"),
        (TimmEfficientNet, {"kernels": (3, 4)}, "kernels are odd numbers; got 4"),
        (TimmEfficientNet, {"strides": (1, 2)}, "strides has 1 or 2 for each of 7 stages"),
        (TimmEfficientNet, {"expansions": (1.5,)}, "expansions are whole numbers .*; got 1.5"),
        (TimmEfficientNet, {"kwargs": {"num_classes": 3}}, "kwargs cannot hold 'num_classes': it comes with each call"),
        (TimmEfficientNet, {"kwargs": {"act_layer": "sliu"}}, "timm has no activation 'sliu'. There are: silu"),
        (TimmViT, {"patch_sizes": (16, 20)}, "patch_sizes divide image_size=224; got 20"),
        (TimmViT, {"image_size": 0}, "image_size is a whole number of pixels; got 0"),
        (TimmViT, {"depths": []}, "depths needs different values .* there is none"),
    ],
)
def test_arguments_that_cannot_be(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@every_space
def test_arguments_that_timm_does_not_take_are_named(which):
    space = SMALL[which](kwargs={"drop_patch": 0.1})
    genotype = space.sample(random.Random(0))
    with pytest.raises(ValueError, match=r"timm cannot build .* with kwargs=.'drop_patch': 0.1.: TypeError"):
        space.build(genotype)


@every_space
def test_a_search_scores_them(which):
    space = SMALL[which]()
    batch = torch.randn(8, *space.input_size), torch.arange(8) % 4
    result = zero_shot_search(space, batch, budget=2, seed=1, progress=False)
    assert {evaluation.status for evaluation in result.history} == {"ok"}
    assert result.best.params == space.costs(result.best.genotype, space.input_size, 4).params
