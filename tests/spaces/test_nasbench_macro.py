"""NAS-Bench-Macro: the benchmark's parameters and FLOPs, an independent forward pass, identities that commute."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
import re
from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_wrcor.inspection import count_costs
from lightning_wrcor.spaces import NASBenchMacro, freeze


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


@pytest.mark.data
def test_parameters_and_flops_of_the_benchmark(data):
    space = NASBenchMacro()
    with gzip.open(data / "nasbench_macro.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    for row in rows:
        genotype = space.parse(row["arch"])
        assert space.name(genotype) == row["arch"]
        costs = space.costs(genotype, num_classes=10)
        assert (costs.params, costs.macs) == (int(row["params"]), int(row["flops"]))


def reference(weights, choices, images):
    """The published network written as functions of the state dict."""

    def conv(x, name, number, stride=1, groups=1):
        kernel = weights[f"{name}.{number}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        norm = f"{name}.{number + 1}"
        mean, var = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return F.batch_norm(x, mean, var, weights[f"{norm}.weight"], weights[f"{norm}.bias"])

    x = F.relu(conv(images, "stem", 0))
    for place, choice in enumerate(choices):
        first = place in (0, 2, 5)
        if choice == 0:
            x = conv(x, f"blocks.{place}", 0, stride=2) if first else x
            continue
        name, (kernel, expansion) = f"blocks.{place}.convs", {1: (3, 3), 2: (5, 6)}[choice]
        inner = F.relu(conv(x, name, 0))
        assert inner.shape[1] == expansion * x.shape[1]
        assert weights[f"{name}.3.weight"].shape == (inner.shape[1], 1, kernel, kernel)
        out = conv(F.relu(conv(inner, name, 3, stride=2 if first else 1, groups=inner.shape[1])), name, 6)
        assert out.shape[1] == x.shape[1] * (2 if first else 1)
        x = out if first else out + x
    features = F.relu(conv(x, "head", 0))
    return features, F.linear(features.mean((2, 3)), weights["classifier.weight"], weights["classifier.bias"])


def randomise(network, seed):
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
    return network.double().eval()


def test_forward_is_the_published_network():
    space = NASBenchMacro(width=4, head=12)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for seed, genotype in enumerate([(0,) * 8, (1,) * 8, (2,) * 8, *sample(space, 12)]):
        network = randomise(space.build(genotype, num_classes=5), seed)
        with torch.no_grad():
            features, logits = reference(network.state_dict(), genotype, images)
            torch.testing.assert_close(network.forward_features(images), features)
            torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize(("width", "head", "size", "classes"), [(32, 1280, (3, 32, 32), 10), (3, 7, (1, 13, 22), 3)])
def test_costs_are_those_of_the_built_network(width, head, size, classes):
    space = NASBenchMacro(width, head)
    for genotype in [(0,) * 8, *sample(space, 10)]:
        with torch.device("meta"):
            network = space.build(genotype, classes, size[0])
        assert count_costs(network, size) == space.costs(genotype, size, classes)


def commuted(genotype):
    """All genotypes of one network, by the rule itself: an identity changes places with a neighbour in its stage."""
    found, open_ends = {genotype}, [genotype]
    while open_ends:
        current = open_ends.pop()
        for left, right in ((3, 4), (6, 7)):  # (0, 1), (2, 3), (5, 6): the first place of a stage changes the shape
            if 0 in (current[left], current[right]):
                other = list(current)
                other[left], other[right] = other[right], other[left]
                if tuple(other) not in found:
                    found.add(tuple(other))
                    open_ends.append(tuple(other))
    return found


def test_key_joins_exactly_the_genotypes_of_one_network():
    space = NASBenchMacro()
    groups = defaultdict(set)
    for genotype in space:
        groups[space.key(genotype)].add(genotype)
    assert len(groups) == 3969  # the benchmark's number of different networks
    for key, group in groups.items():
        assert group == commuted(space.parse(key))
        assert len({space.costs(genotype) for genotype in group}) == 1


def test_networks_of_one_key_compute_the_same():
    space = NASBenchMacro(width=4, head=12)
    one, other = (1, 0, 2, 0, 1, 0, 2, 0), (1, 0, 2, 1, 0, 0, 0, 2)
    assert space.key(one) == space.key(other) == "10210020"
    first = randomise(space.build(one, num_classes=3), 0)
    state = {
        name.replace("blocks.4.", "blocks.3.").replace("blocks.6.", "blocks.7."): value
        for name, value in first.state_dict().items()
    }
    second = space.build(other, num_classes=3).double().eval()
    second.load_state_dict(state)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(first(images), second(images))


def test_modules_and_layers():
    space = NASBenchMacro(width=4, head=8)
    network = space.build((0,) * 8, num_classes=10)
    assert [name for name, _ in network.named_children()] == ["stem", "blocks", "head", "classifier"]
    layers = space.layers((0,) * 8)
    assert layers == {"stem": 0, **{f"blocks.{n}": n + 1 for n in range(8)}, "head": 9}
    assert set(layers) <= {name for name, _ in network.named_modules()}
    assert not space.mixed_depth


def test_enumeration_texts_and_json():
    space = NASBenchMacro()
    genotypes = list(space)
    assert len(space) == len(genotypes) == len(set(genotypes)) == 6561
    assert [space.name(genotype) for genotype in genotypes] == ["".join(d) for d in itertools.product("012", repeat=8)]
    for genotype in genotypes:
        assert space.parse(space.name(genotype)) == genotype
    assert space.parse(" 00000221\n") == freeze(json.loads("[0, 0, 0, 0, 0, 2, 2, 1]"))


def test_sample_and_mutate():
    space = NASBenchMacro()
    assert sample(space, 50, seed=3) == sample(space, 50, seed=3) != sample(space, 50, seed=4)
    rng = random.Random(0)
    places = set()
    for genotype in sample(space, 200):
        child = space.mutate(genotype, rng)
        (place,) = [n for n in range(8) if child[n] != genotype[n]]
        assert child[place] in (0, 1, 2)
        places.add(place)
    assert places == set(range(8))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("221", "8 digits (leading zeros count), got 3: '221'"),
        ("", "got 0: ''"),
        ("000002213", "the digits 0, 1 and 2, got '3'"),
        ("0000 0221", "got ' '"),
        ("0" * 999, "got 999"),
    ],
)
def test_malformed_texts_show_the_part(text, shown):
    with pytest.raises(ValueError, match=re.escape(shown)):
        NASBenchMacro().parse(text)


@pytest.mark.parametrize("genotype", ["00000221", (0,) * 7, (0,) * 7 + (3,), (0,) * 7 + ("1",), (0,) * 7 + (True,)])
def test_other_genotypes_are_refused(genotype):
    space = NASBenchMacro()
    for method in (space.build, space.name, space.key, space.costs):
        with pytest.raises(ValueError, match="NASBenchMacro"):
            method(genotype)


def test_arguments():
    assert NASBenchMacro(8, 16).config()["init_args"] == {"width": 8, "head": 16}
    with pytest.raises(ValueError, match="head must be at least 1, got 0"):
        NASBenchMacro(head=0)
