"""NAS-Bench-101: published parameters and numbers of cells, an independent forward pass, keys, texts."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
import re
from collections import Counter, defaultdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_wrcor.inspection import count_costs
from lightning_wrcor.spaces import NASBench101, freeze
from lightning_wrcor.spaces.nasbench101 import OPERATIONS

C3, C1, MP = OPERATIONS
EXAMPLE = "100011100011000100101;I-c1-mp-mp-c1-mp-O"


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def matrix(genotype):
    """The adjacency matrix as a list of rows, from the text of its upper triangle."""
    bits, operations = genotype
    size, digits = len(operations) + 2, iter(bits)
    return [[int(next(digits)) if column > row else 0 for column in range(size)] for row in range(size)]


def genotype_of(rows, operations=(C3, C1, MP, C1)):
    return "".join(str(value) for row, values in enumerate(rows) for value in values[row + 1 :]), tuple(operations)


def paths(rows):
    """Every path from the first to the last vertex, by following edges."""
    last = len(rows) - 1
    found, open_ends = [], [[0]]
    while open_ends:
        path = open_ends.pop()
        if path[-1] == last:
            found.append(path)
        else:
            open_ends += [[*path, target] for target in range(last + 1) if rows[path[-1]][target]]
    return found


def used_edges(rows):
    return {edge for path in paths(rows) for edge in itertools.pairwise(path)}


def reordered(genotype, order):
    """The same cell with its vertices in another topological order."""
    rows, operations = matrix(genotype), genotype[1]
    out = [[rows[a][b] for b in order] for a in order]
    return genotype_of(out, [operations[vertex - 1] for vertex in order[1:-1]])


def topological_orders(genotype):
    rows = matrix(genotype)
    last = len(rows) - 1
    for inner in itertools.permutations(range(1, last)):
        order = (0, *inner, last)
        if all(not rows[b][a] for a, b in itertools.combinations(order, 2)):
            yield order


def rows_of(data):
    with gzip.open(data / "nasbench101.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.data
def test_parameters_of_the_benchmark(data):
    space = NASBench101()
    rows = rows_of(data)
    assert len(rows) == 900
    met, met_in_another_order = 0, 0
    for row in rows:
        text = f"{row['adj']};{row['ops']}"
        genotype = space.parse(text)
        assert space.name(genotype) == text
        assert len(genotype[1]) == int(row["n_vertices"]) - 2
        if not row["params"]:
            continue
        if space.costs(genotype, num_classes=10).params == int(row["params"]):
            met += 1
            continue
        # The benchmark counted another graph with this hash: one whose output's three sources stand in another order.
        assert sum(values[-1] for values in matrix(genotype)[1:]) == 3
        others = [reordered(genotype, order) for order in topological_orders(genotype)]
        params = {space.costs(other, num_classes=10).params: other for other in others}
        assert int(row["params"]) in params
        assert space.key(params[int(row["params"])]) != space.key(genotype)
        met_in_another_order += 1
    assert (met, met_in_another_order) == (318, 18)


@pytest.mark.data
def test_cells_of_the_benchmark_are_different_networks(data):
    """The rows are samples without replacement from its cells, each identified by an isomorphism-invariant hash."""
    space = NASBench101()
    keys = defaultdict(set)
    for row in rows_of(data):
        keys[space.key(space.parse(f"{row['adj']};{row['ops']}"))].add(row["hash"])
    assert all(len(hashes) == 1 for hashes in keys.values())


@pytest.mark.parametrize(("vertices", "cells"), [(2, 1), (3, 6), (4, 84), (5, 2441)])
def test_number_of_cells(vertices, cells):
    """Of the benchmark's 423,624 cells these have at most five vertices (2,532 together).

    At a width that two and three divide no channels are left over, so keys join exactly the isomorphic cells.
    """
    space = NASBench101(width=60)
    length = vertices * (vertices - 1) // 2
    keys = set()
    for number in range(2**length):
        bits = f"{number:0{length}b}"
        rows = matrix((bits, (C3,) * (vertices - 2)))
        used = used_edges(rows)
        if used and len({v for edge in used for v in edge}) == vertices and len(used) == bits.count("1") <= 9:
            for operations in itertools.product(OPERATIONS, repeat=vertices - 2):
                keys.add(space.key((bits, operations)))
    assert len(keys) == cells


def reference(weights, genotype, width, cells, images):
    """The published network written as functions of the state dict and of the whole, unpruned matrix."""
    rows, operations = matrix(genotype), genotype[1]
    used = used_edges(rows)
    last = len(rows) - 1
    kept = sorted({vertex for edge in used for vertex in edge})
    joined = [vertex for vertex in kept[1:-1] if (vertex, last) in used]

    def block(x, name):
        kernel = weights[f"{name}.0.weight"]
        x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        mean, var = weights[f"{name}.1.running_mean"], weights[f"{name}.1.running_var"]
        return F.relu(F.batch_norm(x, mean, var, weights[f"{name}.1.weight"], weights[f"{name}.1.bias"], eps=1e-5))

    def cell(x, name, c_out):
        base, left_over = divmod(c_out, len(joined)) if joined else (0, 0)
        width_of = {vertex: base + (rank < left_over) for rank, vertex in enumerate(joined)}
        for vertex in reversed(kept[1:-1]):
            if vertex not in width_of:
                width_of[vertex] = max(width_of[t] for s, t in used if s == vertex)
        values = {}
        for number, vertex in enumerate(kept[1:-1], start=1):
            value = 0
            for source in kept:
                if (source, vertex) in used:
                    read = block(x, f"{name}.convs.project_{number}") if source == 0 else values[source]
                    value = value + read[:, : width_of[vertex]]
            operation = operations[vertex - 1]
            values[vertex] = (
                F.max_pool2d(F.pad(value, (1, 1, 1, 1), value=-1e9), 3, 1)
                if operation == MP
                else block(value, f"{name}.convs.vertex_{number}")
            )
            assert values[vertex].shape[1] == width_of[vertex]
        out = torch.cat([values[vertex] for vertex in joined], 1) if joined else 0
        if (0, last) in used:
            out = out + block(x, f"{name}.convs.project_{len(kept) - 1}")
        return out

    x, place = block(images, "stem"), 0
    for stack in range(3):
        if stack:
            x = F.max_pool2d(x, 2)
            place += 1
        for _ in range(cells):
            x = cell(x, f"cells.{place}", width * 2**stack)
            assert x.shape[1] == width * 2**stack
            place += 1
    return x, F.linear(x.mean((2, 3)), weights["classifier.weight"], weights["classifier.bias"])


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
    space = NASBench101(width=7, cells=2)  # 7, 14, 28: three, four and five sources of the output share unevenly
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    by_hand = [("1", ()), ("111", (C3,)), ("101", (MP,)), space.parse(EXAMPLE)]
    four = genotype_of([[0, 1, 1, 1, 1, 0], *([0] * 5 + [1] for _ in range(4)), [0] * 6], (C3, C1, MP, C3))
    cut = genotype_of(
        [[0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1], [0] * 5 + [1], [0] * 5 + [1], [0] * 6]
    )
    for seed, genotype in enumerate([*sample(space, 25), *by_hand, four, cut]):
        network = randomise(space.build(genotype, num_classes=5), seed)
        with torch.no_grad():
            features, logits = reference(network.state_dict(), genotype, 7, 2, images)
            torch.testing.assert_close(network.forward_features(images), features)
            torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize(("width", "cells", "size", "classes"), [(16, 3, (3, 32, 32), 10), (7, 1, (1, 13, 22), 3)])
def test_costs_are_those_of_the_built_network(width, cells, size, classes):
    space = NASBench101(width, cells)
    for genotype in [("1", ()), *sample(space, 8)]:
        with torch.device("meta"):
            network = space.build(genotype, classes, size[0])
        assert count_costs(network, size) == space.costs(genotype, size, classes)


def test_modules_and_layers():
    space = NASBench101(width=8)
    genotype = space.parse(EXAMPLE)
    network = space.build(genotype, num_classes=10)
    assert [name for name, _ in network.named_children()] == ["stem", "cells", "classifier"]
    assert len(network.cells) == 11
    assert isinstance(network.cells[3], nn.MaxPool2d)
    assert isinstance(network.cells[7], nn.MaxPool2d)
    assert space.layers(genotype) == {"stem": 0, **{f"cells.{n}": n + 1 for n in range(11)}}
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.003, 1e-5)}


def test_what_is_not_on_a_path_is_left_out():
    space = NASBench101(width=8, cells=1)
    chain = space.parse("110101;I-c3-mp-O")
    rows = [[0] * 7 for _ in range(7)]
    # 2 and 5 lead nowhere, and 4 reads nothing.
    for source, target in [(0, 1), (0, 3), (1, 3), (3, 6), (0, 2), (4, 6), (4, 5)]:
        rows[source][target] = 1
    padded = genotype_of(rows, (C3, C1, MP, C3, C3))
    assert space.key(padded) == space.key(chain)
    assert space.costs(padded) == space.costs(chain)
    assert space.name(padded) != space.name(chain)
    assert space.parse(space.name(padded)) == padded
    states = []
    for genotype in (padded, chain):
        torch.manual_seed(0)
        states.append(space.build(genotype, num_classes=2).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_key_does_not_depend_on_the_order_of_vertices_unless_the_network_does():
    space = NASBench101(width=128, cells=1)
    keys_differ = 0
    for genotype in sample(space, 150):
        costs_of = defaultdict(set)
        for order in topological_orders(genotype):
            other = reordered(genotype, order)
            costs_of[space.key(other)].add(space.costs(other))
        assert all(len(costs) == 1 for costs in costs_of.values())
        keys_differ += len(costs_of) > 1
        rows = matrix(genotype)
        joined = {a for a, b in used_edges(rows) if b == len(rows) - 1 and a}
        if len(joined) in (0, 1, 2, 4):  # divide 128, 256 and 512
            assert len(costs_of) == 1
    assert keys_differ > 5


def test_key_remembers_which_vertex_has_more_channels():
    """A 3x3 and a 1x1 convolution and a pooling share 128 channels: 43, 43, 42."""
    space = NASBench101()
    rows = [[0, 1, 1, 1, 0], *([0, 0, 0, 0, 1] for _ in range(3)), [0] * 5]
    keys, params = set(), set()
    for operations in itertools.permutations(OPERATIONS):
        genotype = genotype_of(rows, operations)
        keys.add(space.key(genotype))
        params.add(space.costs(genotype).params)
    # Every order but none of equal meaning: at 128 and 512 two channels are left over, at 256 one.
    assert len(keys) == 6
    assert 1 < len(params) <= 6
    assert len({NASBench101(width=60).key(genotype_of(rows, ops)) for ops in itertools.permutations(OPERATIONS)}) == 1
    twins = [genotype_of(rows, operations) for operations in ((C3, C3, MP), (C3, MP, C3))]
    assert space.key(twins[0]) != space.key(twins[1])


def isomorphic(one, other):
    """By trying every bijection of the interior vertices, operations and edges at once."""
    (a, ops_a), (b, ops_b) = (matrix(one), one[1]), (matrix(other), other[1])
    if len(a) != len(b) or Counter(ops_a) != Counter(ops_b):
        return False
    last = len(a) - 1
    for inner in itertools.permutations(range(1, last)):
        image = (0, *inner, last)
        if all(ops_a[v - 1] == ops_b[image[v] - 1] for v in range(1, last)) and all(
            a[s][t] == b[image[s]][image[t]] for s in range(last + 1) for t in range(last + 1)
        ):
            return True
    return False


def test_keys_join_exactly_the_isomorphic_cells():
    space = NASBench101(width=60)
    rng = random.Random(1)
    cells = set()
    while len(cells) < 250:  # all vertices used, so that nothing is pruned; few operations, so that some are isomorphic
        bits = "".join(rng.choice("01") for _ in range(10))
        genotype = (bits, tuple(rng.choice((C3, MP)) for _ in range(3)))
        used = used_edges(matrix(genotype))
        if len(used) == bits.count("1") <= 9 and len({v for edge in used for v in edge}) == 5:
            cells.add(genotype)
    keys = {genotype: space.key(genotype) for genotype in cells}
    pairs = list(itertools.combinations(sorted(cells), 2))
    assert all(isomorphic(one, other) == (keys[one] == keys[other]) for one, other in pairs)
    assert sum(keys[one] == keys[other] for one, other in pairs) > 20


def test_sample():
    space = NASBench101()
    genotypes = sample(space, 2000, seed=1)
    assert genotypes[:50] == sample(space, 50, seed=1) != sample(space, 50, seed=2)
    assert {operation for genotype in genotypes for operation in genotype[1]} == set(OPERATIONS)
    for bits, operations in genotypes:
        assert len(bits) == 21
        assert len(operations) == 5
        assert 1 <= len(used_edges(matrix((bits, operations)))) <= 9
    assert len({space.key(genotype) for genotype in genotypes}) > 700  # small cells have many genotypes, and come often
    # More than nine edges are a member when pruning leaves nine.
    assert any(bits.count("1") > 9 for bits, _ in genotypes)


def test_mutate_changes_one_operation_and_one_edge():
    space = NASBench101()
    rng = random.Random(0)
    edges, vertices = set(), set()
    for genotype in sample(space, 500):
        child = space.mutate(genotype, rng)
        assert space.parse(space.name(child)) == child
        (edge,) = [n for n, (a, b) in enumerate(zip(genotype[0], child[0], strict=True)) if a != b]
        (vertex,) = [n for n, (a, b) in enumerate(zip(genotype[1], child[1], strict=True)) if a != b]
        edges.add(edge)
        vertices.add(vertex)
    assert edges == set(range(21))
    assert vertices == set(range(5))


def test_mutate_lets_small_cells_grow():
    space = NASBench101()
    rng = random.Random(3)
    sizes = set()
    for _ in range(20):
        genotype = ("1", ())
        for _ in range(60):
            genotype = space.mutate(genotype, rng)
            sizes.add(len({v for edge in used_edges(matrix(genotype)) for v in edge}))
    assert sizes == {2, 3, 4, 5, 6, 7}


def test_a_cell_of_nine_edges_mutates():
    space = NASBench101()
    rng = random.Random(0)
    full = [genotype for genotype in sample(space, 300) if len(used_edges(matrix(genotype))) == 9]
    assert len(full) > 20
    for genotype in full:
        space.name(space.mutate(genotype, rng))


def test_texts():
    space = NASBench101()
    genotype = space.parse(EXAMPLE)
    assert genotype == ("100011100011000100101", (C1, MP, MP, C1, MP))
    assert space.name(genotype) == EXAMPLE
    for text in ("100011100011000100101 I,c1,mp,mp,c1,mp,O", "100011100011000100101, I-c1-mp-mp-c1-mp-O\n"):
        assert space.parse(text) == genotype
    assert space.parse("1;I-O") == ("1", ())
    assert space.name(("1", ())) == "1;I-O"
    for genotype in sample(space, 100):
        assert space.parse(space.name(genotype)) == freeze(json.loads(json.dumps(genotype))) == genotype


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "got '' in ''"),
        ("111", "got '111' in '111'"),
        ("1121;I-c3-O", "got '1121' in '1121;I-c3-O'"),
        ("111;c3", "between 'I' and 'O', as in 'I-c3-O', got 'c3'"),
        ("111;I", "got 'I'"),
        ("111;I-c3", "got 'I-c3'"),
        ("111;I-c5-O", "No operation 'c5' in 'I-c5-O'; there are: c3, c1, mp"),
        (
            "1111;I-c3-O",
            "matrix of 3 vertices is a text of 3 times 0 or 1 (the upper triangle, row by row), got '1111'",
        ),
        ("100;I-c3-O", "no path from input to output in the matrix '100'"),
        ("1" * 21 + ";I-c3-c3-c3-c3-c3-O", "at most 9 edges on its paths from input to output, the matrix '11111"),
        ("1" * 28 + ";I-c3-c3-c3-c3-c3-c3-O", "a tuple of at most 5 operations"),
        ("1" * 999, "..."),
    ],
)
def test_malformed_texts_show_the_part(text, shown):
    with pytest.raises(ValueError, match=re.escape(shown)):
        NASBench101().parse(text)


@pytest.mark.parametrize("genotype", ["111", ("111",), ("111", "c3"), ("111", ("c3",)), (7, (C3,)), ("11x", (C3,))])
def test_genotypes_of_other_spaces_are_refused(genotype):
    space = NASBench101()
    for method in (space.build, space.name, space.key, space.costs):
        with pytest.raises(ValueError, match=r"NASBench101|text of 3 times"):
            method(genotype)


def test_arguments():
    assert NASBench101(8, 1).config()["init_args"] == {"width": 8, "cells": 1}
    with pytest.raises(ValueError, match="width must be at least 5, got 4"):
        NASBench101(width=4)
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        NASBench101(cells=0)
