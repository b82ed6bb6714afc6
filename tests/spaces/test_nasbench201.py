"""NAS-Bench-201: published counts, an independent forward pass, and an independent test of which networks are one."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
import re
from collections import defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lightning_wrcor.spaces._base import freeze
from lightning_wrcor.spaces.nasbench201 import EDGES, OPERATIONS, NASBench201, _canonical

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
ONLY_NONE = ("none",) * 6


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def measure(space, genotype, size, num_classes):
    """Parameters, MACs by torch's flop counter and calls of ReLU modules, on the meta device."""
    with torch.device("meta"):
        network = space.build(genotype, num_classes=num_classes, in_chans=size[0])
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


def randomise(network, seed):
    """Give the scales, shifts and statistics of BN values that a mistake would show in."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
    return network.double().eval()


def test_published_counts_hold_for_all_15625():
    space = NASBench201()
    for genotype in space:
        n3, n1 = genotype.count("nor_conv_3x3"), genotype.count("nor_conv_1x1")
        costs = space.costs(genotype, num_classes=10)
        assert costs.params == 73_306 + 243_040 * n3 + 28_000 * n1
        assert costs.macs == 7_783_040 + 35_389_440 * n3 + 3_932_160 * n1
        assert costs.depth == 15 * (n3 + n1) + 2 * 2 + 1


def test_costs_are_those_of_the_built_network():
    for number, genotype in enumerate(sample(NASBench201(), 30)):
        space = NASBench201(cells=1 if number % 6 else 5)  # most are small ones, to save time
        assert astuple(space.costs(genotype, num_classes=10)) == measure(space, genotype, (3, 32, 32), 10)


@pytest.mark.parametrize(("width", "cells", "size", "num_classes"), [(4, 1, (1, 8, 8), 10), (6, 2, (5, 27, 30), 7)])
def test_costs_of_other_widths_sizes_and_classes(width, cells, size, num_classes):
    space = NASBench201(width, cells)
    for genotype in sample(space, 5):
        assert astuple(space.costs(genotype, size, num_classes)) == measure(space, genotype, size, num_classes)


@pytest.mark.data
def test_benchmark_table():
    table = DATA / "nasbench201.csv.gz"
    if not table.exists():
        pytest.skip(f"needs the NAS-Bench-201 table, not found at {table}")
    space = NASBench201()
    with gzip.open(table, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2000
    for row in rows:
        genotype = space.parse(row["arch"])
        assert space.name(genotype) == row["arch"]
        costs = space.costs(genotype, num_classes=10)
        assert round(costs.params / 1e6, 5) == pytest.approx(float(row["params_M"]), abs=1e-9)
        # The benchmark's own counter leaves out 290 multiply-adds of the last layers.
        assert (costs.macs - 290) / 1e6 == pytest.approx(float(row["flops_M"]), abs=1e-5)


def reference(weights, genotype, cells, images):
    """The published network written as functions of the state dict."""

    def norm(x, name):
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def block(x, name, stride=1):
        kernel = weights[f"{name}.1.weight"]
        x = F.conv2d(F.relu(x), kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return norm(x, f"{name}.2")

    def cell(x, name):
        nodes = {0: x}
        for target in (1, 2, 3):
            nodes[target] = 0
            for edge, ((source, end), operation) in enumerate(zip(EDGES, genotype, strict=True)):
                if end != target:
                    continue
                if operation.startswith("nor_conv"):
                    nodes[target] = nodes[target] + block(nodes[source], f"{name}.edges.{edge}")
                elif operation == "avg_pool_3x3":
                    ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
                    nodes[target] = nodes[target] + F.avg_pool2d(nodes[source], 3, 1, 1) / ones
                elif operation == "skip_connect":
                    nodes[target] = nodes[target] + nodes[source]
                nodes[target] = nodes[target] + torch.zeros_like(x)
        return nodes[3]

    x = norm(F.conv2d(images, weights["stem.0.weight"], padding=1), "stem.1")
    place = 0
    for stage in range(3):
        if stage:
            name = f"cells.{place}"
            out = block(block(x, f"{name}.conv_a", stride=2), f"{name}.conv_b")
            x = out + F.conv2d(F.avg_pool2d(x, 2), weights[f"{name}.shortcut.1.weight"])
            place += 1
        for _ in range(cells):
            x = cell(x, f"cells.{place}")
            place += 1
    features = F.relu(norm(x, "last_act.0"))
    return features, F.linear(features.mean((2, 3)), weights["classifier.weight"], weights["classifier.bias"])


def test_forward_is_the_published_network():
    space = NASBench201(width=4, cells=2)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for seed, genotype in enumerate([*sample(space, 12), space.parse(EXAMPLE), ONLY_NONE]):
        network = randomise(space.build(genotype, num_classes=5), seed)
        with torch.no_grad():
            features, logits = reference(network.state_dict(), genotype, 2, images)
            torch.testing.assert_close(network.forward_features(images), features)
            torch.testing.assert_close(network(images), logits)


def test_modules_and_layers():
    space = NASBench201()
    network = space.build(space.parse(EXAMPLE), num_classes=10)
    assert [name for name, _ in network.named_children()] == ["stem", "cells", "last_act", "classifier"]
    assert len(network.cells) == 17
    assert network.num_classes == 10
    assert not any(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))
    layers = space.layers(space.parse(EXAMPLE))
    assert layers == {"stem": 0, **{f"cells.{n}": n for n in range(17)}, "last_act": 17}
    assert set(layers) <= {name for name, _ in network.named_modules()}
    assert NASBench201(cells=1).layers(ONLY_NONE)["last_act"] == 5


def test_every_parameter_gets_a_gradient():
    """Distributed data parallel waits for parameters without one, so cut-off convolutions must get zeros."""
    space = NASBench201(width=2, cells=1)
    cut = ("nor_conv_3x3", "none", "none", "none", "none", "nor_conv_1x1")
    for genotype in [ONLY_NONE, cut, *sample(space, 20)]:
        network = space.build(genotype, num_classes=3)
        network(torch.randn(2, 3, 8, 8)).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_build_is_seeded():
    space = NASBench201(width=4, cells=1)
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(space.build(space.parse(EXAMPLE)).state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_enumeration():
    space = NASBench201()
    genotypes = list(space)
    assert len(space) == len(genotypes) == len(set(genotypes)) == 15_625
    assert genotypes == list(space)
    assert genotypes[0] == ONLY_NONE


def test_text_and_json_round_trips():
    space = NASBench201()
    assert space.name(space.parse(EXAMPLE)) == EXAMPLE
    assert space.parse(EXAMPLE)[2] == "avg_pool_3x3"  # the edge 1-2
    for genotype in space:
        assert space.parse(space.name(genotype)) == genotype
    for genotype in sample(space, 20):
        assert freeze(json.loads(json.dumps(genotype))) == genotype


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "got 1 in ''"),
        ("|none~0|+|none~0|none~1|", "got 2 in"),
        (EXAMPLE.replace("avg_pool_3x3~1", "avg_pol_3x3~1"), "'avg_pol_3x3'; it has: avg_pool_3x3, "),
        (EXAMPLE.replace("avg_pool_3x3~1", "avg_pool_3x3~2"), "'~1', got 'avg_pool_3x3~2'"),
        (EXAMPLE.replace("avg_pool_3x3~1", "avg_pool_3x3"), "'~1', got 'avg_pool_3x3'"),
        (EXAMPLE.replace("|avg_pool_3x3~1", ""), "Node 2 of an arch string has 2 edges, got 1"),
        (EXAMPLE[:-1], "between '|' signs"),
        ("++", "between '|' signs, got ''"),
    ],
)
def test_malformed_texts_show_the_part(text, shown):
    with pytest.raises(ValueError, match=re.escape(shown)):
        NASBench201().parse(text)


@pytest.mark.parametrize("genotype", ["none", ("none",) * 5, ("none",) * 5 + (1,), ("none",) * 5 + ("conv",)])
def test_genotypes_of_other_spaces_are_refused(genotype):
    space = NASBench201()
    for method in (space.build, space.name, space.key, space.costs):
        with pytest.raises(ValueError, match="NASBench201"):
            method(genotype)


def test_arguments():
    assert NASBench201(8, 1).config()["init_args"] == {"width": 8, "cells": 1}
    assert repr(NASBench201()) == "NASBench201(width=16, cells=5)"
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        NASBench201(cells=0)


def test_sample_and_mutate():
    space = NASBench201()
    assert sample(space, 50, seed=3) == sample(space, 50, seed=3) != sample(space, 50, seed=4)
    assert {operation for genotype in sample(space, 50) for operation in genotype} == set(OPERATIONS)
    rng = random.Random(0)
    edges = set()
    for genotype in sample(space, 200):
        child = space.mutate(genotype, rng)
        (changed,) = [edge for edge in range(6) if child[edge] != genotype[edge]]
        edges.add(changed)
        assert child[changed] in OPERATIONS
    assert edges == set(range(6))


def mix(values, salt):
    """A pseudo-random function of 64-bit numbers (splitmix64)."""
    values = values * np.uint64(0x9E3779B97F4A7C15) + salt
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def fingerprint(genotype, salts):
    """A number that two cells share when, and (but for chance) only when, they are one cell up to names.

    Every convolution is a random function with a label, sums are sums of integers, and the result is added up over
    all labellings: what stays is the output, and what each convolution computes, without the labels.
    """
    convs = [edge for edge, operation in enumerate(genotype) if "conv" in operation]
    labellings = np.array(list(itertools.permutations(range(len(convs)))), dtype=int)
    zeros = np.zeros(len(labellings), dtype=np.uint64)
    nodes, computed = [zeros + salts["x"], zeros, zeros, zeros], zeros
    for edge, ((source, target), operation) in enumerate(zip(EDGES, genotype, strict=True)):
        value = nodes[source]
        if operation == "none":
            continue
        if operation == "avg_pool_3x3":
            value = np.where(value == 0, zeros, mix(value, salts["pool"]))
        elif operation != "skip_connect":
            value = mix(value, salts[operation][labellings[:, convs.index(edge)]])
            computed = computed + mix(value, salts["computed"])
        nodes[target] = nodes[target] + value
    return len(convs), int(mix(mix(nodes[3], salts["out"]) + computed, salts["end"]).sum(dtype=np.uint64))


def test_key_joins_exactly_the_genotypes_of_one_network():
    rng = np.random.default_rng(0)
    salts = {name: rng.integers(1 << 63, dtype=np.uint64) for name in ("x", "pool", "computed", "out", "end")}
    salts |= {name: rng.integers(1 << 63, size=6, dtype=np.uint64) for name in ("nor_conv_1x1", "nor_conv_3x3")}
    space = NASBench201()
    prints_of_key, keys_of_print, convs_of_key = defaultdict(set), defaultdict(set), defaultdict(set)
    with np.errstate(over="ignore"):
        for genotype in space:
            key, mark = space.key(genotype), fingerprint(genotype, salts)
            prints_of_key[key].add(mark)
            keys_of_print[mark].add(key)
            convs_of_key[key].add((genotype.count("nor_conv_3x3"), genotype.count("nor_conv_1x1")))
    assert {len(marks) for marks in prints_of_key.values()} == {1}
    assert {len(keys) for keys in keys_of_print.values()} == {1}
    assert {len(counts) for counts in convs_of_key.values()} == {1}  # so parameters, MACs and ReLU calls agree too
    assert len(prints_of_key) == 6594


def test_networks_of_one_key_compute_the_same():
    space = NASBench201(width=2, cells=1)
    groups = defaultdict(list)
    for genotype in space:
        groups[space.key(genotype)].append(genotype)
    with_convs = [group for key, group in groups.items() if len(group) > 1 and "conv" in key]
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for seed, group in enumerate(random.Random(0).sample(with_convs, 25)):
        one, other = group[0], group[-1]
        first = randomise(space.build(one, num_classes=3), seed)
        second = space.build(other, num_classes=3).double().eval()
        state = {name: value for name, value in first.state_dict().items() if ".edges." not in name}
        # The canonical order says which convolution of the one cell is which of the other.
        pairs = list(zip(_canonical(one)[1], _canonical(other)[1], strict=True))
        for name, value in first.state_dict().items():
            for edge, other_edge in pairs:
                if f".edges.{edge}." in name:
                    state[name.replace(f".edges.{edge}.", f".edges.{other_edge}.")] = value
        second.load_state_dict(state)
        with torch.no_grad():
            torch.testing.assert_close(first(images), second(images))


def test_key_remembers_sharing():
    """One convolution used twice and two equal convolutions are different networks."""
    space = NASBench201()
    conv = "nor_conv_3x3"
    shared = (conv, "none", "skip_connect", "none", conv, conv)
    twice = (conv, conv, "none", "none", conv, conv)
    assert space.costs(shared).params < space.costs(twice).params
    assert space.key(shared) != space.key(twice)
    swapped = ("none", conv, "none", "none", "none", conv)
    assert space.key(swapped) == space.key((conv, "none", "none", "none", conv, "none"))
