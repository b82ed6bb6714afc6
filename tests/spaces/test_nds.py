"""The sisters of DARTS: the networks that NDS trained, sampling, mutation, keys and texts."""

from __future__ import annotations

import gzip
import json
import random

import pytest
import torch

from lightning_wrcor.inspection import count_costs
from lightning_wrcor.spaces import DARTS, ENAS, PNAS, AmoebaNet, NASNet, freeze, get_space

SISTERS = (ENAS, PNAS, NASNet, AmoebaNet)
TABLES = {ENAS: "ENAS_in", PNAS: "PNAS_in", NASNet: "NASNet_in", AmoebaNet: "Amoeba_in", DARTS: "DARTS_in"}
WIDTHS, DEPTHS = (32, 48, 64, 80, 96), (6, 10, 14, 18, 22)  # of the networks in NDS


def rows_of(data, space):
    with gzip.open(data / "nds_imagenet.json.gz", "rt") as file:
        rows = json.load(file)[TABLES[space]]
    fields = ("normal", "normal_concat", "reduce", "reduce_concat")
    for row in rows:
        net = row["net"]
        yield freeze([*(net["genotype"][field] for field in fields), net["width"], net["depth"]]), row


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


@pytest.mark.data
@pytest.mark.parametrize("cls", SISTERS)
def test_networks_of_nds(data, cls):
    space = cls(width=WIDTHS, depth=DEPTHS)
    rows = list(rows_of(data, cls))
    assert len(rows) == 20
    for genotype, row in rows:
        costs = space.costs(genotype)
        assert (costs.params, costs.macs) == (row["params"], row["macs_torch"])
        assert space.parse(space.name(genotype)) == genotype
        assert space.costs(space.parse(space.key(genotype))) == costs
    genotype, row = min(rows, key=lambda row: row[0][5])  # the shallowest is the quickest to build
    with torch.device("meta"):
        network = space.build(genotype)
    costs = count_costs(network, (3, 224, 224))
    assert (costs.params, costs.macs) == (row["params"], row["macs_torch"])
    assert costs == space.costs(genotype)


@pytest.mark.data
@pytest.mark.parametrize("cls", SISTERS)
def test_operations_are_those_of_nds(data, cls):
    """All that occur, and no others; 20 networks have 800 additions, so that each of 13 is met many times."""
    met = {operation for genotype, _ in rows_of(data, cls) for cell in genotype[:3:2] for operation, _ in cell}
    assert met == set(cls.operations)
    assert len(cls.operations) == len(met)


@pytest.mark.parametrize("cls", SISTERS)
def test_sampling_covers_the_space(cls):
    space = cls("cifar", width=(8, 12), depth=(3, 6))
    genotypes = sample(space, 300, seed=1)
    assert genotypes == sample(space, 300, seed=1)
    assert {genotype[4:] for genotype in genotypes} == {(8, 3), (8, 6), (12, 3), (12, 6)}
    for addition in range(10):
        drawn = {cell[addition] for genotype in genotypes for cell in (genotype[0], genotype[2])}
        assert {operation for operation, _ in drawn} == set(cls.operations)
        assert {node for _, node in drawn} == set(range(addition // 2 + 2))
    for genotype in genotypes:
        for cell, concat in (genotype[:2], genotype[2:4]):
            read = [node for _, node in cell]
            loose = tuple(node for node in range(2, 7) if node not in read)
            assert concat == ((2, 3, 4, 5, 6) if cls is PNAS else loose)


@pytest.mark.parametrize("cls", SISTERS)
def test_small_networks_run_and_every_parameter_gets_a_gradient(cls):
    for form, size in (("cifar", (3, 9, 12)), ("imagenet", (1, 40, 33))):
        space = cls(form, width=4, depth=3)
        for genotype in sample(space, 5):
            network = space.build(genotype, num_classes=3, in_chans=size[0])
            logits = network(torch.randn(2, *size))
            assert logits.shape == (2, 3)
            logits.square().sum().backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
            assert count_costs(network, size) == space.costs(genotype, size, 3)


@pytest.mark.parametrize("cls", SISTERS)
def test_mutation_changes_one_choice_and_keeps_the_concat_true(cls):
    space = cls("cifar", width=(4, 8), depth=3)
    rng = random.Random(0)
    concats = 0
    for genotype in sample(space, 300):
        child = space.mutate(genotype, rng)
        assert space.parse(space.name(child)) == child
        parts = [[part for pair in g[0] + g[2] for part in pair] + [g[4]] for g in (genotype, child)]
        assert sum(a != b for a, b in zip(*parts, strict=True)) == 1
        concats += child[1::2][:2] != genotype[1::2][:2]
    assert (concats > 0) == (cls is not PNAS)


def swapped(genotype):
    """The same network: the two additions of every node swap places."""
    normal, normal_concat, reduce, reduce_concat, width, depth = genotype
    cells = [tuple(cell[n ^ 1] for n in range(len(cell))) for cell in (normal, reduce)]
    return cells[0], normal_concat, cells[1], reduce_concat, width, depth


@pytest.mark.parametrize("cls", SISTERS)
def test_key(cls):
    space = cls("cifar", width=4, depth=3)
    genotypes = sample(space, 100)
    assert len({space.key(genotype) for genotype in genotypes}) == 100
    for genotype in genotypes:
        assert space.key(swapped(genotype)) == space.key(genotype)


def test_renumbered_nodes_are_one_network():
    """Nodes 2 and 3 read the inputs only and swap; node 5 reads both, node 6 reads neither."""
    space = AmoebaNet("cifar", width=4, depth=3)
    a, b = (("sep_conv_3x3", 0), ("avg_pool_3x3", 1)), (("sep_conv_5x5", 1), ("skip_connect", 0))
    rest = (("max_pool_3x3", 0), ("max_pool_3x3", 1))

    def genotype(first, second, one, two):
        cell = (*first, *second, *rest, ("sep_conv_7x7", one), ("skip_connect", two), *rest)
        return (cell, (4, 5, 6), cell, (4, 5, 6), 4, 3)

    assert space.key(genotype(a, b, 2, 3)) == space.key(genotype(b, a, 3, 2)) != space.key(genotype(a, b, 3, 2))


def test_refused():
    space = ENAS("cifar", width=4, depth=3)
    genotype = space.sample(random.Random(0))
    with pytest.raises(ValueError, match="ENAS has no operation 'none'; it has:"):
        space.build(((("none", 0), *genotype[0][1:]), *genotype[1:]))
    with pytest.raises(
        ValueError, match=r"The normal cell concatenates the nodes .* in this space, got \(2, 3, 4, 5, 6, 7\)"
    ):
        space.build((genotype[0], (2, 3, 4, 5, 6, 7), *genotype[2:]))


def test_names_and_arguments():
    for cls in SISTERS:
        space = cls("cifar", width=[8, 16], nodes=3)
        assert type(get_space(cls.kind)) is cls
        assert space.config() == {
            "class_path": f"lightning_wrcor.spaces.{cls.__name__}",
            "init_args": {"form": "cifar", "width": [8, 16], "depth": None, "nodes": 3},
        }
        assert cls().nodes == 5
        assert cls().input_size == (3, 224, 224)
        assert space.layers(space.sample(random.Random(0)))["cells.19"] == 20
