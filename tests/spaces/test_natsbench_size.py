"""NATS-Bench's size space: an independent forward pass, the count of NAS-Bench-201 where both meet, texts."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_wrcor.inspection import count_costs
from lightning_wrcor.spaces import NASBench201, NATSBenchSize, freeze

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


@pytest.mark.data
def test_names_of_the_benchmark(data):
    space = NATSBenchSize()
    with gzip.open(data / "natsbench_size.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    for row in rows:
        assert space.name(space.parse(row["channels"])) == row["channels"]


def test_costs_where_it_meets_nasbench201():
    """Widths of 1 : 2 : 2 : 4 : 4 are NAS-Bench-201's, whose parameters and MACs are published."""
    topology = NASBench201(width=16, cells=1)
    assert NATSBenchSize().costs((16, 32, 32, 64, 64), num_classes=10) == topology.costs(topology.parse(CELL), None, 10)


def test_forward_where_it_meets_nasbench201():
    topology, size = NASBench201(width=8, cells=1), NATSBenchSize()
    outputs = []
    images = torch.randn(2, 3, 12, 12)
    for space, genotype in ((topology, topology.parse(CELL)), (size, (8, 16, 16, 32, 32))):
        torch.manual_seed(0)  # both build the same modules in the same order
        outputs.append(space.build(genotype, num_classes=3)(images))
    torch.testing.assert_close(outputs[0], outputs[1])


def reference(weights, widths, images):
    """The published network written as functions of the state dict."""

    def norm(x, name):
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def block(x, name, stride=1):
        kernel = weights[f"{name}.1.weight"]
        assert kernel.shape[2:] == (3, 3)
        return norm(F.conv2d(F.relu(x), kernel, stride=stride, padding=1), f"{name}.2")

    x = norm(F.conv2d(images, weights["stem.0.weight"], padding=1), "stem.1")
    for place, width in enumerate(widths):
        name = f"cells.{place}"
        if place in (1, 3):
            out = block(block(x, f"{name}.conv_a", stride=2), f"{name}.conv_b")
            x = out + F.conv2d(F.avg_pool2d(x, 2), weights[f"{name}.shortcut.1.weight"])
        else:
            skip = x
            if x.shape[1] != width:
                skip = norm(F.conv2d(x, weights[f"{name}.skip_03.0.weight"]), f"{name}.skip_03.1")
            first = block(x, f"{name}.conv_01")
            second = block(x, f"{name}.conv_02") + block(first, f"{name}.conv_12")
            x = skip + block(first, f"{name}.conv_13") + block(second, f"{name}.conv_23")
        assert x.shape[1] == width
    features = F.relu(norm(x, "last_act.0"))
    return features, F.linear(features.mean((2, 3)), weights["classifier.weight"], weights["classifier.bias"])


def test_forward_is_the_published_network():
    space = NATSBenchSize((2, 3, 5))
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for seed, genotype in enumerate([(5, 3, 3, 2, 2), *sample(space, 10)]):
        network = space.build(genotype, num_classes=5).double().eval()
        generator = torch.Generator().manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight.data, module.running_var):
                    tensor.uniform_(0.5, 1.5, generator=generator)
                for tensor in (module.bias.data, module.running_mean):
                    tensor.normal_(generator=generator)
        with torch.no_grad():
            features, logits = reference(network.state_dict(), genotype, images)
            torch.testing.assert_close(network.forward_features(images), features)
            torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize(("size", "classes"), [((3, 32, 32), 10), ((1, 13, 22), 3)])
def test_costs_are_those_of_the_built_network(size, classes):
    space = NATSBenchSize()
    for genotype in [(8,) * 5, (64,) * 5, *sample(space, 10)]:
        with torch.device("meta"):
            network = space.build(genotype, classes, size[0])
        assert count_costs(network, size) == space.costs(genotype, size, classes)


def test_modules_and_layers():
    space = NATSBenchSize()
    genotype = (8, 16, 24, 32, 40)
    network = space.build(genotype, num_classes=10)
    assert [name for name, _ in network.named_children()] == ["stem", "cells", "last_act", "classifier"]
    layers = space.layers(genotype)
    assert layers == {"stem": 0, **{f"cells.{n}": n for n in range(5)}, "last_act": 5}
    assert set(layers) <= {name for name, _ in network.named_modules()}


def test_enumeration_and_texts():
    space = NATSBenchSize()
    genotypes = list(space)
    assert len(space) == len(genotypes) == len(set(genotypes)) == 32_768
    assert genotypes[0] == (8,) * 5
    for genotype in genotypes[::37]:
        assert space.parse(space.name(genotype)) == genotype
    assert space.parse(" 16:16:16:16:64\n") == freeze(json.loads("[16, 16, 16, 16, 64]"))
    assert space.name((16, 16, 16, 16, 64)) == "16:16:16:16:64"


def test_sample_and_mutate():
    space = NATSBenchSize()
    assert sample(space, 50, seed=3) == sample(space, 50, seed=3) != sample(space, 50, seed=4)
    rng = random.Random(0)
    places = set()
    for genotype in sample(space, 200):
        child = space.mutate(genotype, rng)
        (place,) = [n for n in range(5) if child[n] != genotype[n]]
        assert child[place] in space.widths
        places.add(place)
    assert places == set(range(5))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "Expected five widths such as '16:16:32:32:64', got '' in ''"),
        ("16:16:16:x:64", "got 'x' in '16:16:16:x:64'"),
        ("16:16:16:-8:64", "got '-8'"),
        ("16:16:16:64", "tuple of 5 widths, got (16, 16, 16, 64)"),
        ("16:16:16:16:63", "width 63 is not in this NATSBenchSize, which has: 8, 16, 24"),
        ("9" * 5000, "got '999"),
    ],
)
def test_malformed_texts_show_the_part(text, shown):
    with pytest.raises(ValueError, match=re.escape(shown)):
        NATSBenchSize().parse(text)


@pytest.mark.parametrize("genotype", ["16:16:16:16:16", (16,) * 4, (16,) * 4 + (17,), (16,) * 4 + ("16",)])
def test_other_genotypes_are_refused(genotype):
    space = NATSBenchSize()
    for method in (space.build, space.name, space.key, space.costs):
        with pytest.raises(ValueError, match="NATSBenchSize"):
            method(genotype)


def test_arguments():
    assert NATSBenchSize([4, 8]).config()["init_args"] == {"widths": [4, 8]}
    assert len(NATSBenchSize([4, 8])) == 32
    for widths in ([8], [8, 8], [0, 8], ["8", 16]):
        with pytest.raises(ValueError, match="widths is a list of at least two different whole numbers"):
            NATSBenchSize(widths)
