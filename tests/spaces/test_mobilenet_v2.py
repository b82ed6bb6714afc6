"""MobileNetV2: the published networks, costs in closed form, blocks beside timm's, texts and mutations."""

from __future__ import annotations

import functools
import itertools
import json
import math
import random
from unittest import mock

import pytest
import timm
import torch
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lightning_wrcor import score
from lightning_wrcor.inspection import Tracer, assign_layers, count_costs
from lightning_wrcor.spaces import MobileNetV2, freeze, get_space

# Of each network: resolution, parameters, MACs (1,000 classes), and non-linearities.
PUBLISHED = {
    "ea_600m": (224, 10_807_432, 587_680_672, 106),
    "rl_600m": (192, 7_582_312, 262_517_184, 98),
    "random_600m": (256, 10_100_696, 459_553_088, 102),
}
# Ranges r1 to r8 of the widths, and the depths of stages 1 to 7, as in the paper.
RANGES = ((16, 48), (16, 48), (16, 48), (32, 64), (48, 96), (80, 256), (80, 256), (128, 512))
DEPTHS = ((1, 2), (2, 3), (2, 3), (2, 4), (2, 6), (2, 6), (1, 2))
TINY = {
    "widths": [(8, 16)] * 8,
    "depths": [(1, 2)] * 7,
    "head": (16, 24),
    "resolutions": [16, 31],
    "halvings": [1, 3],
}


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def measure(space, genotype, size, num_classes):
    """Parameters, MACs by torch's flop counter and calls of ReLU modules, on the meta device."""
    with torch.device("meta"):
        network = space.build(genotype, num_classes=num_classes, in_chans=size[0]).eval()
        images = torch.zeros(1, *size)
    calls = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *_: calls.append(1))
    # BN has no MACs, and running it on the meta device takes longer than all the rest.
    skip_norms = mock.patch.object(nn.BatchNorm2d, "forward", lambda _, x: x)
    with skip_norms, torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = network(images)
    assert logits.shape == (1, num_classes)
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2, len(calls)


def astuple(costs):
    return costs.params, costs.macs, costs.depth


def flat(genotype):
    resolution, stem, stages, head = genotype
    return [resolution, stem, *itertools.chain(*stages), head]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_met_exactly(name):
    space = MobileNetV2()
    genotype = space.parse(name)
    resolution, *figures = PUBLISHED[name]
    assert genotype[0] == resolution
    assert [*astuple(space.costs(genotype))] == figures
    assert [*measure(space, genotype, (3, 64, 80), 1000)] == figures  # the network resizes its images
    assert space.name(genotype) == space.published[name]
    assert space.parse(space.name(genotype)) == genotype
    assert space.parse(name.upper().replace("_", " ")) == genotype
    data = MobileNetV2(resize=False, resolutions=resolution)
    assert [*astuple(data.costs(genotype, (3, resolution, resolution)))] == figures


@pytest.mark.parametrize("se", [True, False])
@pytest.mark.parametrize("resize", [True, False])
@pytest.mark.parametrize(("size", "num_classes"), [((3, 32, 32), 10), ((1, 33, 47), 7)])
def test_costs_are_those_of_the_built_network(se, resize, size, num_classes):
    arguments = {**TINY, **({} if resize else {"resolutions": 31})}
    space = MobileNetV2(se=se, resize=resize, **arguments)
    for genotype in sample(space, 2):
        assert astuple(space.costs(genotype, size, num_classes)) == measure(space, genotype, size, num_classes)


def test_costs_are_what_the_package_counts():
    space = MobileNetV2(**TINY)
    genotype = space.sample(random.Random(3))
    assert space.costs(genotype, num_classes=1000) == count_costs(space.build(genotype), space.input_size)


def test_samples_are_in_the_papers_ranges_and_reach_their_ends():
    space = MobileNetV2()
    genotypes = sample(space, 1500)
    assert genotypes == sample(space, 1500) != sample(space, 1500, seed=1)
    for resolution, stem, stages, head in genotypes:
        widths = [stem, *(stage[2] for stage in stages)]
        bottlenecks = [stage[4] for stage in stages]
        assert all(width % 8 == 0 for width in [*widths, *bottlenecks, head])
        assert all(low <= width <= high for width, (low, high) in zip(widths, RANGES, strict=True))
        assert all(low <= width <= high for width, (low, high) in zip(bottlenecks, RANGES[:7], strict=True))
        assert all(low <= stage[5] <= high for stage, (low, high) in zip(stages, DEPTHS, strict=True))
        assert 128 <= head <= 1536
        assert resolution in (192, 224, 256, 288, 320)
        assert sum(stage[3] == 2 for stage in stages) == 4
        assert all(stage[0] in (1, 2, 4, 6) and stage[1] in (3, 5, 7) and stage[3] in (1, 2) for stage in stages)
    seen = [set(values) for values in zip(*map(flat, genotypes), strict=True)]
    sizes = [5, 5] + [
        size for (a, b), (c, d), (low, high) in zip(RANGES, RANGES[1:], DEPTHS, strict=False)
        for size in (4, 3, (d - c) // 8 + 1, 2, (b - a) // 8 + 1, high - low + 1)
    ]  # fmt: skip
    assert [len(values) for values in seen[:-1]] == sizes
    assert len({tuple(stage[3] for stage in stages) for _, _, stages, _ in genotypes}) == math.comb(7, 4)


def test_genotypes_are_plain_and_names_come_back():
    space = MobileNetV2(**TINY)
    for genotype in sample(space, 50):
        assert freeze(json.loads(json.dumps(genotype))) == genotype
        assert type(genotype[2]) is tuple
        assert type(genotype[2][0]) is tuple
        assert space.parse(f"  {space.name(genotype)} ") == genotype
        assert space.key(genotype) == space.name(genotype)
    again = get_space(json.loads(json.dumps(space.config())))
    assert again.config() == space.config()
    assert sample(again, 3) == sample(space, 3)
    assert isinstance(get_space("mobilenet_v2"), MobileNetV2)


def test_mutate_changes_one_choice():
    space = MobileNetV2()
    rng = random.Random(0)
    places = set()
    for genotype in sample(space, 400):
        child = space.mutate(genotype, rng)
        assert space.parse(space.name(child)) == child  # widths that come in are those that went out
        changed = [n for n, (a, b) in enumerate(zip(flat(genotype), flat(child), strict=True)) if a != b]
        assert len(changed) == 1
        places.update(changed)
    strides = {2 + 6 * stage + 3 for stage in range(7)}
    assert places == set(range(2 + 6 * 7 + 1)) - strides
    fixed = MobileNetV2([2], [3], [(8, 8)] * 8, [(1, 1)] * 7, (8, 8), 16)
    with pytest.raises(ValueError, match="no choice but the strides"):
        fixed.mutate(fixed.sample(rng), rng)
    assert not fixed.mixed_depth
    assert space.mixed_depth


def test_modules_and_layers():
    space = MobileNetV2(**TINY)
    genotype = space.sample(random.Random(0))
    network = space.build(genotype, num_classes=5, in_chans=1)
    assert [name for name, _ in network.named_children()] == ["stem", "stages", "head", "classifier"]
    assert [len(stage) for stage in network.stages] == [stage[5] for stage in genotype[2]]
    assert (network.num_classes, network.resolution) == (5, genotype[0])
    assert not any(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))
    assert {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}
    biased = {
        name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and module.bias is not None
    }
    assert biased == {f"stages.{stage}.0.shortcut.0" for stage in range(7)}
    layers = space.layers(genotype)
    assert layers == {"stem": 0, **{f"stages.{n}": n + 1 for n in range(7)}, "head": 8}
    network(torch.randn(2, 1, 20, 20)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_package_counts_106_non_linearities_in_the_papers_network():
    space = MobileNetV2()
    with torch.device("meta"):
        network = space.build(space.parse("ea_600m"))
    with mock.patch.object(nn.BatchNorm2d, "forward", lambda _, x: x):
        assert count_costs(network, (3, 224, 224)).depth == 106


def test_every_layer_has_a_response():
    space = MobileNetV2(**TINY)
    genotype = space.sample(random.Random(1))
    network = space.build(genotype, num_classes=4)
    batch = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    report = score(network, batch, layers=space.layers(genotype), seed=0)
    assert math.isfinite(report.value)
    with torch.no_grad(), Tracer(network, lambda call, tensor: tensor) as tracer:
        network(batch[0])
    layers = assign_layers(network, tracer.calls, space.layers(genotype))
    depths = [4 * stage[5] for stage in genotype[2]]
    assert [layers.count(layer) for layer in range(9)] == [1, *depths, 1]


def test_images_are_resized_to_the_genotypes_resolution():
    arguments = {**TINY, "resolutions": 31}
    resizing, taking = MobileNetV2(**arguments), MobileNetV2(resize=False, **arguments)
    genotype = taking.sample(random.Random(0))
    network = resizing.build(genotype, 3).eval()
    as_it_comes = taking.build(genotype, 3).eval()
    as_it_comes.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 20, 24)
    by_hand = F.interpolate(images, (31, 31), mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(network(images), as_it_comes(by_hand))
        assert not torch.allclose(network(images), as_it_comes(images))
        torch.testing.assert_close(network(by_hand), as_it_comes(by_hand))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_compute_what_timms_do(kernel, stride):
    """Without squeeze-and-excitation: timm's inverted residual, then the shortcut and ReLU."""
    space = MobileNetV2(
        widths=[(16, 24)] * 8, depths=[(2, 2)] * 7, head=(16, 16), resolutions=32, se=False, halvings=(6, 7)
    )
    other = (2, 3, 16, 2, 16, 2)
    genotype = (32, 24, ((4, kernel, 24, 2, 16, 2), (4, kernel, 16, stride, 24, 2), *[other] * 5), 16)
    network = space.build(genotype).eval()
    for block, c_in, first in ((network.stages[1][0], 24, True), (network.stages[1][1], 16, False)):
        theirs = InvertedResidual(
            c_in,
            16,
            dw_kernel_size=kernel,
            stride=stride if first else 1,
            exp_ratio=96 / c_in,
            act_layer=nn.ReLU,
            norm_layer=functools.partial(nn.BatchNorm2d, eps=1e-3),
            noskip=True,
        ).eval()
        ours = [*block.expand, *block.depthwise, *block.project]
        ours = [part for part in ours if not isinstance(part, nn.ReLU)]
        names = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        for part, name in zip(ours, names, strict=True):
            if "bn" in name:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
            theirs.get_submodule(name).load_state_dict(part.state_dict())
        images = torch.randn(2, c_in, 9, 9)
        shortcut = F.conv2d(images, block.shortcut[0].weight, block.shortcut[0].bias, stride) if first else images
        with torch.no_grad():
            shortcut = shortcut / (1 + 1e-3) ** 0.5 if first else shortcut
            torch.testing.assert_close(block(images), (theirs(images) + shortcut).relu())


def test_squeeze_and_excitation_by_hand():
    space = MobileNetV2(**TINY)
    block = space.build(space.sample(random.Random(0))).stages[0][0].eval()
    channels = block.depthwise[0].out_channels
    images = torch.randn(2, channels, 5, 5)
    squeeze, _, relu, excite, *_ = block.se.gate[1:]
    assert squeeze.weight.shape == (channels // 4, channels, 1, 1)
    assert isinstance(relu, nn.ReLU)
    mean = images.mean((2, 3)) @ squeeze.weight[:, :, 0, 0].T / (1 + 1e-3) ** 0.5
    gate = torch.sigmoid(mean.relu() @ excite.weight[:, :, 0, 0].T / (1 + 1e-3) ** 0.5)
    torch.testing.assert_close(block.se(images), images * gate[:, :, None, None])


def test_where_mobilenetv2_is_the_same_network():
    """MobileNetV2 1.0 with its widths, depths and strides, against timm's.

    Equal in shape: the stem, every block but the first of a stage, the last convolution and the classifier. The first
    block of a stage differs: here it widens to the same channels as the others of its stage and projects its shortcut;
    in MobileNetV2 it widens its own input, which it adds to nothing (and the first of all does not widen).
    """
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    space = MobileNetV2(
        widths=[(8, 320)] * 8, depths=[(1, 4)] * 7, head=(1280, 1280), resolutions=224, se=False, halvings=4
    )
    stages = tuple((t, 3, c, s, c, n) for t, c, n, s in plan)
    with torch.device("meta"):
        ours = space.build((224, 32, stages, 1280))
        theirs = timm.create_model("mobilenetv2_100")

    def shapes(module):
        return [tuple(p.shape) for p in module.parameters()]

    assert shapes(ours.stem) == shapes(theirs.conv_stem) + shapes(theirs.bn1)
    assert shapes(ours.head) == shapes(theirs.conv_head) + shapes(theirs.bn2)
    assert shapes(ours.classifier) == shapes(theirs.classifier)
    for stage, their_stage in zip(ours.stages, theirs.blocks, strict=True):
        assert len(stage) == len(their_stage)
        for block, their_block in zip(stage[1:], their_stage[1:], strict=True):
            assert shapes(block) == shapes(their_block)


EA = MobileNetV2.published["ea_600m"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (EA, "ea_700m", r"or goes by its name \(ea_600m, rl_600m, random_600m\); got 'ea_700m'"),
        ("; head 1264", "", "A network is written 'stem <width>; <seven stages>"),
        ("stem 48", "stem 48x", "Expected 'stem <number>', got 'stem 48x'"),
        ("stem 48", "stem 56", "Stage 1 follows 56 channels, but says that 48 come in: 'E2K7.48,32,2,40,2.'"),
        ("E2K7(32,32,2,48,3)", "E2K7(32,32,2,48)", "Stage 2 is written E<expansion>.*; got 'E2K7.32,32,2,48.'"),
        ("E2K7(32,32,2,48,3) ", "", "has 7 stages, got 6"),
        ("(64,88,2,40,4)", "(56,88,2,40,4)", "Stage 4 follows 64 channels, but says that 56 come in"),
        ("E6K7(64", "E3K7(64", "expansion of stage 4 is one of 1, 2, 4, 6 in this space; got 3"),
        ("E6K7(64", "E6K9(64", "kernel of stage 4 is one of 3, 5, 7 in this space; got 9"),
        ("56,6)", "56,7)", "depth of stage 5 is one of 2, 3, 4, 5, 6 in this space; got 7"),
        ("2,48,3)", "2,52,3)", "bottleneck of stage 2 is one of 16, 24, 32, 40, 48 in this space; got 52"),
        ("240,1,136,2)", "240,3,136,2)", "stride of stage 7 is one of 1, 2 in this space; got 3"),
        ("88,104,1,56", "88,104,2,56", "In this space 4 of the seven stages have stride 2; got 5"),
        ("152,240,1,136,2); head", "152,520,1,136,2); head", "width of stage 7 is one of 128, .*; got 520"),
        ("head 1264", "head 1263", "width of the head is one of .*; got 1263"),
        ("resolution 224", "resolution 200", "resolution is one of 192, 224, 256, 288, 320 in this space; got 200"),
        ("resolution 224", "224", "Expected 'resolution <number>', got '224'"),
    ],
)
def test_texts_that_cannot_be_read(old, new, message):
    assert old in EA
    with pytest.raises(ValueError, match=message):
        MobileNetV2().parse(EA.replace(old, new, 1))


def test_genotypes_of_other_spaces():
    space = MobileNetV2()
    good = space.parse("ea_600m")
    cases = [
        (("a",), "is .resolution, stem, stages, head., got"),
        ((224, 48, good[2][:6], 1264), "has 7 stages, got 6"),
        ((224, True, *good[2:]), "width of the stem is one of .*; got True"),
        ((224, 48, (good[2][0][:5], *good[2][1:]), 1264), "Stage 1 is .expansion, kernel, .*, got"),
    ]
    for genotype, message in cases:
        for use in (space.build, space.costs, space.name, space.key):
            with pytest.raises(ValueError, match=message):
                use(genotype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expansions": []}, "expansions holds different whole numbers"),
        ({"kernels": [3, 4]}, "kernels must be odd.* got 4"),
        ({"widths": [(16, 48)] * 7}, "widths is a list of 8 ranges"),
        ({"widths": [(16, 50)] * 8}, r"widths\[0\] is a range of multiples of 8; got \(16, 50\)"),
        ({"depths": [(2, 1)] * 7}, r"range of depths is .smallest, largest., .* got \(2, 1\)"),
        ({"head": (128,)}, "range of head is"),
        ({"resolutions": [224, 224]}, "resolutions holds different whole numbers"),
        ({"halvings": 8}, "of which there are 7; got 8"),
        ({"resize": False}, r"the space can have one only; got 5: 192, .* Write resolutions=224, or resize=True"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        MobileNetV2(**arguments)
