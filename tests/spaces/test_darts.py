"""DARTS: the published parameter counts, costs in closed form, keys and texts."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lightning_wrcor.spaces._base import freeze
from lightning_wrcor.spaces._cells import OPERATIONS, FactorisedReduction, build_operation, operation_costs
from lightning_wrcor.spaces.darts import DARTS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WIDTHS, DEPTHS = (32, 48, 64, 80, 96), (6, 10, 14, 18, 22)  # of the networks in NDS
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)


class EveryOperation(DARTS):
    """The sister spaces of NDS in one: all operations; the output concatenates all nodes, or those that none reads."""

    kind = "every_operation"
    operations = OPERATIONS

    def __init__(self, loose_ends):
        self.loose_ends = loose_ends
        super().__init__("imagenet", WIDTHS, DEPTHS, nodes=5)

    def _concat(self, cell):
        nodes = super()._concat(cell)
        return tuple(n for n in nodes if not self.loose_ends or n not in {node for _, node in cell})


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def small(form="cifar", **arguments):
    return DARTS(form, **{"width": 4, "depth": 4, **arguments})


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


def nds_rows(name):
    table = DATA / "nds_imagenet.json.gz"
    if not table.exists():
        pytest.skip(f"needs the networks of NDS, not found at {table}")
    with gzip.open(table, "rt") as file:
        rows = json.load(file)[name]
    fields = ("normal", "normal_concat", "reduce", "reduce_concat")
    for row in rows:
        net = row["net"]
        yield freeze([*(net["genotype"][field] for field in fields), net["width"], net["depth"]]), row


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "space", "count"),
    [
        ("DARTS_in", DARTS(width=WIDTHS, depth=DEPTHS), 60),
        ("ENAS_in", EveryOperation(loose_ends=True), 20),
        ("PNAS_in", EveryOperation(loose_ends=False), 20),
        ("NASNet_in", EveryOperation(loose_ends=True), 20),
        ("Amoeba_in", EveryOperation(loose_ends=True), 20),
    ],
)
def test_networks_of_nds(name, space, count):
    rows = list(nds_rows(name))
    assert len(rows) == count
    for number, (genotype, row) in enumerate(rows):
        costs = space.costs(genotype)
        assert (costs.params, costs.macs) == (row["params"], row["macs_torch"])
        assert space.parse(space.name(genotype)) == genotype
        if number % (12 if name == "DARTS_in" else 20) == 0:
            assert measure(space, genotype, (3, 224, 224), 1000) == astuple(costs)


@pytest.mark.parametrize("form", ["imagenet", "cifar"])
@pytest.mark.parametrize(
    ("size", "num_classes", "nodes"), [((3, 32, 32), 10, 4), ((1, 33, 47), 7, 2), ((4, 71, 50), 3, 5)]
)
def test_costs_are_those_of_the_built_network(form, size, num_classes, nodes):
    space = DARTS(form, width=(4, 7), depth=(1, 2, 3, 5, 8), nodes=nodes)
    for genotype in sample(space, 4):
        assert astuple(space.costs(genotype, size, num_classes)) == measure(space, genotype, size, num_classes)


def test_published_sizes_of_darts_v2():
    """The paper's best cell: 4.7M parameters on ImageNet (its table 3) and 3.3M on CIFAR-10 (its table 1)."""
    imagenet, cifar = DARTS(), DARTS("cifar")
    assert round(imagenet.costs(imagenet.parse(DARTS_V2)).params / 1e6, 1) == 4.7
    assert round(cifar.costs(cifar.parse(DARTS_V2), num_classes=10).params / 1e6, 1) == 3.3


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
def test_operations_halve_every_size_and_keep_their_input(operation, stride):
    module = build_operation(operation, 4, stride)
    for size in ((8, 8), (7, 10), (9, 9), (1, 1)):
        images = torch.randn(2, 4, *size)
        kept = images.clone()
        with FlopCounterMode(display=False) as counter:
            out = module.eval()(images)
        assert torch.equal(images, kept)
        assert out.shape == (2, 4, -(-size[0] // stride), -(-size[1] // stride))
        costs = operation_costs(operation, 4, stride, size)
        assert costs.params == sum(p.numel() for p in module.parameters())
        assert costs.macs * 2 * 2 == counter.get_total_flops()
        assert costs.depth == sum(isinstance(part, nn.ReLU) for part in module.modules())


def test_factorised_reduction_sees_every_other_pixel_shifted():
    module = FactorisedReduction(3, 4).eval()
    images = torch.randn(2, 3, 6, 6)
    even = F.conv2d(images.relu()[:, :, ::2, ::2], module.even.weight)
    odd = F.conv2d(images.relu()[:, :, 1::2, 1::2], module.odd.weight)
    torch.testing.assert_close(module(images), torch.cat([even, odd], 1) / (1 + module.norm.eps) ** 0.5)


def test_wiring_of_cells():
    """Skips only, so that a cell adds and joins its two (projected) inputs: the nodes can be worked out by hand."""
    space = DARTS("cifar", width=2, depth=3, nodes=2)
    skips = (("skip_connect", 0), ("skip_connect", 0), ("skip_connect", 1), ("skip_connect", 2))
    network = space.build((skips, (2, 3), skips, (2, 3), 2, 3), num_classes=3).eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        stem = network.stem[0](images)
        assert stem.shape == (2, 6, 8, 8)
        cell = network.cells[0]
        first, second = cell.first(stem), cell.second(stem)
        normal = torch.cat([2 * first, second + 2 * first], 1)
        torch.testing.assert_close(cell(stem, stem), normal)
        cell = network.cells[1]
        first, second = cell.operations[0](cell.first(stem)), cell.second(normal)
        node = first + cell.operations[1](cell.first(stem))
        reduced = torch.cat([node, cell.operations[2](second) + node], 1)
        torch.testing.assert_close(cell(stem, normal), reduced)
        assert reduced.shape == (2, 8, 4, 4)
        last = network.cells[2](normal, reduced)
        assert last.shape == (2, 16, 2, 2)
        torch.testing.assert_close(network.forward_features(images), last)
        torch.testing.assert_close(network(images), network.classifier(last.mean((2, 3))))


def test_modules_and_layers():
    for form, parts in (("imagenet", 2), ("cifar", 1)):
        space = small(form, depth=6)
        genotype = space.sample(random.Random(0))
        network = space.build(genotype, num_classes=10)
        assert [name for name, _ in network.named_children()] == ["stem", "cells", "classifier"]
        assert len(network.stem) == parts
        assert network.num_classes == 10
        assert not any(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))
        layers = space.layers(genotype)
        assert layers == {"stem": 0, **{f"cells.{n}": n + 1 for n in range(6)}}
        assert set(layers) <= {name for name, _ in network.named_modules()}


def test_every_parameter_gets_a_gradient():
    """Distributed data parallel waits for parameters without one: `none`, and inputs that no addition reads."""
    space = small("imagenet", nodes=2)
    cell = (("none", 0), ("none", 0), ("none", 1), ("none", 2))
    one_input = (("skip_connect", 1), ("sep_conv_3x3", 1), ("none", 2), ("max_pool_3x3", 1))
    concat = (2, 3)
    by_hand = [(cell, concat, cell, concat, 4, 4), (one_input, concat, one_input, concat, 4, 4)]
    for genotype in [*by_hand, *sample(space, 12)]:
        network = space.build(genotype, num_classes=3)
        network(torch.randn(2, 3, 64, 64)).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_sample_is_seeded_and_covers_the_space():
    space = DARTS(width=(16, 24), depth=[3, 6])
    genotypes = sample(space, 200, seed=1)
    assert genotypes == sample(space, 200, seed=1) != sample(space, 200, seed=2)
    assert {genotype[4:] for genotype in genotypes} == {(16, 3), (16, 6), (24, 3), (24, 6)}
    for genotype in genotypes:
        assert freeze(json.loads(json.dumps(genotype))) == genotype
        assert space.parse(space.name(genotype)) == genotype
    for addition in range(8):
        drawn = {cell[addition] for genotype in genotypes for cell in (genotype[0], genotype[2])}
        assert {operation for operation, _ in drawn} == set(DARTS.operations)
        assert {node for _, node in drawn} == set(range(addition // 2 + 2))


def flat(genotype):
    normal, _, reduce, _, width, depth = genotype
    return [part for cell in (normal, reduce) for pair in cell for part in pair] + [width, depth]


@pytest.mark.parametrize("space", [DARTS(), DARTS(width=(6, 9), depth=(6, 9), nodes=1)])
def test_mutate_changes_one_choice(space):
    rng = random.Random(0)
    places = set()
    for genotype in sample(space, 600):
        child = space.mutate(genotype, rng)
        assert space.parse(space.name(child)) == child
        changed = [n for n, (a, b) in enumerate(zip(flat(genotype), flat(child), strict=True)) if a != b]
        assert len(changed) == 1
        places.update(changed)
    choices = 8 * space.nodes
    assert places == set(range(choices if space.width is None else choices + 2))


def shuffled(cell, rng):
    """Another genotype of the same cell: nodes in another possible order, additions swapped, inputs of none redrawn."""
    nodes = len(cell) // 2
    order = rng.choice(
        [
            order
            for order in itertools.permutations(range(2, nodes + 2))
            if all(
                source < 2 or order.index(source) < order.index(node)
                for node in order
                for _, source in cell[2 * node - 4 : 2 * node - 2]
            )
        ]
    )
    out = []
    for position, node in enumerate(order):
        pairs = []
        for operation, source in cell[2 * node - 4 : 2 * node - 2]:
            source = source if source < 2 else order.index(source) + 2
            pairs.append((operation, rng.randrange(position + 2) if operation == "none" else source))
        out += rng.sample(pairs, 2)
    return tuple(out)


def test_key_is_canonical():
    space = DARTS("cifar", width=4, depth=(3, 4))
    rng = random.Random(0)
    different = 0
    for genotype in sample(space, 150):
        normal, concat, reduce, _, width, depth = genotype
        other = (shuffled(normal, rng), concat, shuffled(reduce, rng), concat, width, depth)
        different += other != genotype
        assert space.key(other) == space.key(genotype)
        standing = space.parse(space.key(genotype))
        assert space.key(standing) == space.key(genotype)
        assert space.costs(standing) == space.costs(genotype)
    assert different > 100
    keys = {space.key(genotype) for genotype in sample(space, 2000)}
    assert len(keys) == 2000  # 9e18 genotypes: equal ones are not met by chance


def test_key_remembers_who_reads_whom():
    """Two equal nodes, of which one is read twice or each is read once, are different networks."""
    space = DARTS("cifar", width=4, depth=3, nodes=3)
    twin = (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))
    keys = []
    for reads in ((2, 2), (3, 3), (2, 3), (3, 2)):
        cell = (*twin, *twin, ("dil_conv_3x3", reads[0]), ("dil_conv_3x3", reads[1]))
        keys.append(space.key((cell, (2, 3, 4), cell, (2, 3, 4), 4, 3)))
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_networks_of_one_key_compute_the_same():
    """With weights that depend on their shape only, and do not tell the concatenated nodes apart."""
    space = DARTS("cifar", width=4, depth=3)
    rng = random.Random(1)
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)

    def logits(genotype):
        network = space.build(genotype, num_classes=3).double()
        for name, parameter in network.named_parameters():
            shape = list(parameter.shape)
            joined = parameter.ndim > 1 and ("classifier" in name or ".first." in name or ".second." in name)
            groups = 4 if joined and shape[1] % 16 == 0 else 1  # 12 channels come from the stem, 16 n from cells
            generator = torch.Generator().manual_seed(sum(k * n for k, n in enumerate(shape, start=1)))
            shape[1:2] = [shape[1] // groups] if len(shape) > 1 else []
            values = torch.randn(shape, generator=generator, dtype=torch.float64) / 10 + (parameter.ndim == 1)
            parameter.data.copy_(torch.cat([values] * groups, 1) if groups > 1 else values)
        with torch.no_grad():
            return network(images)

    outputs = []
    for genotype in sample(space, 6):
        normal, concat, reduce, _, width, depth = genotype
        other = (shuffled(normal, rng), concat, shuffled(reduce, rng), concat, width, depth)
        outputs.append(logits(genotype))
        torch.testing.assert_close(logits(other), outputs[-1])
    for one, another in itertools.combinations(outputs, 2):
        assert not torch.allclose(one, another)


def test_community_text():
    space = DARTS()
    genotype = space.parse(DARTS_V2)
    assert genotype[0][7] == ("dil_conv_3x3", 2)
    assert genotype[1] == (2, 3, 4, 5)
    assert genotype[4:] == (48, 14)
    assert space.name(genotype) == DARTS_V2
    assert space.parse(DARTS_V2.replace("range(2, 6)", "[2, 3, 4, 5]")) == genotype
    assert space.parse(DARTS_V2[:-1] + ", width=48, depth=14)") == genotype
    assert space.parse("\n " + DARTS_V2.replace(", ", ",\n  ")) == genotype
    choices = DARTS(width=(32, 48))
    assert choices.name(choices.parse(DARTS_V2[:-1] + ", width=32)")) == DARTS_V2[:-1] + ", width=32)"
    with pytest.raises(ValueError, match="width is a choice of this space: write width="):
        choices.parse(DARTS_V2)


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("Genotype(", "open(", 'got "open(normal='),
        ("Genotype(", "Genotype((", "Not a genotype text"),
        ("Genotype(", "Genotype(1, ", "got '1'"),
        ("Genotype(", "Genotype(**x, ", "got '**x'"),
        ("Genotype(", "Genotype(normale=[], ", "got 'normale=[]'"),
        ("Genotype(", "Genotype(normal=[], ", "normal= only once"),
        ("reduce_concat=range(2, 6)", "", "Expected reduce_concat="),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x4', 2)", "'dil_conv_3x4'; it has: dil_conv_3x3"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "reads nodes 0 to 4, got ('dil_conv_3x3', 5)"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', -2)", "a whole number up to 10,000 in a genotype text, got '-2'"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)", "got 'True'"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2, 2)", "pair in a genotype text, got \"('dil_conv_3x3', 2, 2)\""),
        ("('dil_conv_3x3', 2)", "(print('x'), 2)", "got \"(print('x'), 2)\""),
        ("('dil_conv_3x3', 2)", "*x", "got '*x'"),
        (", ('dil_conv_3x3', 2)", "", "8 (operation, input) pairs"),
        ("normal_concat=range(2, 6)", "normal_concat=range(2, 5)", "(2, 3, 4, 5) in this space, got (2, 3, 4)"),
        ("normal_concat=range(2, 6)", "normal_concat=range(2, 10**9)", "got '10**9'"),
        ("normal_concat=range(2, 6)", "normal_concat=range(2, 6, 1)", "got 'range(2, 6, 1)'"),
        ("reduce_concat=range(2, 6)", "reduce_concat=range(2, 6), width=64", "width 64 is not in this space"),
        ("Genotype(", "Genotype(" + " " * 10_000, "at most 10,000 characters"),
        ("('dil_conv_3x3', 2)", "-" * 9000 + "1", "Not a genotype text"),
    ],
)
def test_malformed_texts_show_the_part(old, new, shown):
    assert old in DARTS_V2
    with pytest.raises(ValueError, match=re.escape(shown)):
        DARTS().parse(DARTS_V2.replace(old, new, 1))


def test_other_genotypes_are_refused():
    space = small()
    genotype = space.sample(random.Random(0))
    for wrong in ("x", genotype[:5], (1, *genotype[1:]), ((*genotype[0][:7], "none"), *genotype[1:])):
        for method in (space.build, space.name, space.key, space.costs, space.layers):
            with pytest.raises(ValueError, match=r"A genotype of DARTS|The normal cell|the normal cell"):
                method(wrong)
    with pytest.raises(ValueError, match="depth 5 is not in this space, which has: 4"):
        space.build((*genotype[:5], 5))


def test_arguments():
    space = DARTS("cifar", width=[16, 24])
    assert space.config() == {
        "class_path": "lightning_wrcor.spaces.DARTS",
        "init_args": {"form": "cifar", "width": [16, 24], "depth": None, "nodes": 4},
    }
    assert space.input_size == (3, 32, 32)
    assert not space.mixed_depth
    assert DARTS(depth=(8, 14)).mixed_depth
    assert sample(space, 1)[0][5] == 20
    for arguments, message in (
        ({"form": "mnist"}, "form must be 'imagenet' or 'cifar', got 'mnist'"),
        ({"width": []}, "width is a number of at least 2"),
        ({"width": 1}, "width is a number of at least 2"),
        ({"width": "48"}, "width is a number of at least 2"),
        ({"depth": (3, 3)}, "depth is a number of at least 1 or a list of different ones"),
        ({"nodes": 0}, "nodes must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            DARTS(**arguments)


def test_auxiliary_classifier_is_that_of_darts():
    """Parameters as in the paper's code, and the logits as functions of the state dict."""
    for form, size, norms in (("imagenet", 224, 2), ("cifar", 32, 4)):
        space = DARTS(form, width=4, depth=4, nodes=1)
        genotype = space.sample(random.Random(0))
        torch.manual_seed(0)
        network = space.build(genotype, num_classes=5, auxiliary=True)
        torch.manual_seed(0)
        plain = space.build(genotype, num_classes=5)
        state = network.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())
        added = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in plain.parameters())
        c_in = 4 * 4  # doubled twice, one node
        assert added == c_in * 128 + 2 * 128 + 4 * 128 * 768 + (2 * 768 if norms == 4 else 0) + 769 * 5
        images = torch.randn(2, 3, size, size)
        logits, auxiliary = network(images)
        torch.testing.assert_close(logits, plain(images))
        assert auxiliary.shape == (2, 5)
        (logits.sum() + auxiliary.sum()).backward()
        assert all(p.grad is not None for p in network.parameters())

        reduced = {}
        network.cells[2].register_forward_hook(lambda module, given, out, found=reduced: found.update(out=out))
        network.eval()
        assert network(images).shape == (2, 5)
        weights, x = dict(network.auxiliary.state_dict()), reduced["out"]
        assert x.shape == (2, c_in, *((7, 7) if form == "imagenet" else (8, 8)))

        def norm(x, name, weights=weights):
            mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
            return F.batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"])

        x = F.conv2d(F.avg_pool2d(x.relu(), 5, 2 if form == "imagenet" else 3), weights["features.2.weight"])
        x = F.conv2d(norm(x, "features.3").relu(), weights["features.5.weight"])
        x = (x if form == "imagenet" else norm(x, "features.6")).relu()
        assert x.shape == (2, 768, 1, 1)
        x = F.linear(x.flatten(1), weights["classifier.weight"], weights["classifier.bias"])
        torch.testing.assert_close(network.auxiliary(reduced["out"]), x)


def test_auxiliary_classifier_needs_images_of_some_size():
    space = small("cifar", nodes=1)
    network = space.build(space.sample(random.Random(0)), num_classes=3, auxiliary=True)
    assert [out.shape for out in network(torch.randn(2, 3, 48, 36))] == [(2, 3), (2, 3)]
    with pytest.raises(ValueError, match="at least 8 x 8 pixels after the second reduction, got 4 x 8"):
        network(torch.randn(2, 3, 16, 32))
    assert network.eval()(torch.randn(2, 3, 16, 32)).shape == (2, 3)


def test_drop_path_drops_operations_of_whole_samples_but_no_identities():
    space = small("cifar", nodes=1, depth=1)  # one reduction cell
    pairs = (("sep_conv_3x3", 0), ("avg_pool_3x3", 1))
    network = space.build((pairs, (2,), pairs, (2,), 4, 1), num_classes=3, drop_path=0.75)
    images = torch.randn(400, 3, 4, 4)
    cell = network.cells[0]
    with torch.no_grad():
        stem = network.stem[0](images)
        left, right = cell.operations[0](cell.first(stem)), cell.operations[1](cell.second(stem))
        out = network.forward_features(images)
        counts = dict.fromkeys(itertools.product((0, 4), repeat=2), 0)
        for sample_out, one, other in zip(out, left, right, strict=True):
            (choice,) = [c for c in counts if torch.allclose(sample_out, c[0] * one + c[1] * other, atol=1e-4)]
            counts[choice] += 1
        expected = {(0, 0): 225, (0, 4): 75, (4, 0): 75, (4, 4): 25}  # of 400, with probability 3/4
        assert all(abs(counts[choice] - number) < 50 for choice, number in expected.items())
        network.drop_path = 0.0
        torch.testing.assert_close(network.forward_features(images), left + right)
        network.eval().drop_path = 0.75
        torch.testing.assert_close(network(images), network(images))

    skips = (("skip_connect", 0), ("skip_connect", 1))
    normal = small("cifar", nodes=1, depth=4).build((skips, (2,), skips, (2,), 4, 4), num_classes=3, drop_path=0.9)
    cell, stem = normal.cells[0], torch.randn(9, 12, 4, 4)
    with torch.no_grad():
        out = cell(stem, stem)
        normal.drop_path = 0.0
        torch.testing.assert_close(out, cell(stem, stem))
    with pytest.raises(ValueError, match=r"drop_path is a probability, at least 0 and less than 1; got 1\.0"):
        small(nodes=1).build((*space.sample(random.Random(0))[:5], 4), drop_path=1.0)
