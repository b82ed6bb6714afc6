"""What every registered search space must keep: `lightning_wrcor.spaces.Space` and what stands on it."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping
from itertools import islice

import pytest
import torch

from lightning_wrcor._reach import unreached_parameters
from lightning_wrcor.inspection import count_costs
from lightning_wrcor.spaces import FiniteSpace, freeze, get_space, list_spaces

# Arguments that make a space's networks small, or that it cannot do without; a new space needs an entry.
CELLS = {"form": "cifar", "width": (4, 6), "depth": (2, 3), "nodes": 3}
ARGUMENTS = {
    "nasbench101": {"width": 8, "cells": 1},
    "nasbench201": {"width": 4, "cells": 1},
    "nasbench_macro": {"width": 4, "head": 16},
    "natsbench_size": {"widths": [2, 3, 4, 6]},
    "darts": CELLS,
    "enas": CELLS,
    "pnas": CELLS,
    "nasnet": CELLS,
    "amoebanet": CELLS,
    "timm": {"include": ["test_resnet", "test_efficientnet", "test_byobnet"], "image_size": 64},
    "list": {"networks": ["test_resnet", "test_efficientnet"]},
    "union": {
        "spaces": {
            "cells": {"class_path": "NASBench201", "init_args": {"width": 4, "cells": 1}},
            "list": {"class_path": "NetworkList", "init_args": {"networks": ["test_resnet", "test_efficientnet"]}},
        }
    },
    "choices": {
        "choices": {
            "depth": [1, 2],
            "embed_dim": [12, 24],
            "num_heads": [2, 3],
            "patch_size": [8, 16],
            "img_size": [32],
        },
        "factory": "timm.models.vision_transformer.VisionTransformer",
        "input_size": (3, 32, 32),
    },
    "timm_resnet": {
        "stems": [8],
        "widths": [[16, 32], [32]],
        "depths": [1, 2],
        "bottlenecks": [0.5, 1.0],
        "groups": [0, 8],
    },
    "timm_efficientnet": {
        "stems": [8],
        "widths": [[8, 16], [16, 24]],
        "depths": [1, 2],
        "heads": [16, 24],
        "strides": [1, 2],
    },
    "timm_vit": {"patch_sizes": [8, 16], "embed_dims": [12, 24], "depths": [1, 2], "heads": [2, 3], "image_size": 32},
    "mobilenet_v2": {
        "widths": [(8, 16)] * 8,
        "depths": [(1, 2)] * 7,
        "head": (16, 24),
        "resolutions": [24, 32],
        "halvings": [1, 3],
    },
}
# The sizes of the images, where the space's own are larger than they need be.
STACKED = ("darts", "enas", "pnas", "nasnet", "amoebanet")
SIZES = {
    **dict.fromkeys(("list", "timm_resnet", "timm_efficientnet", "mobilenet_v2"), (3, 32, 32)),
    **dict.fromkeys(("nasbench101", "nasbench201", "natsbench_size", "nasbench_macro", "union"), (3, 16, 16)),
    **dict.fromkeys(STACKED, (3, 12, 12)),
}

# Two texts of one network, where a space has such.
TWINS = {
    "nasbench101": ("110101;I-c3-mp-O", "1100100010;I-c3-mp-c1-O"),
    "nasbench201": (
        "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|nor_conv_3x3~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
    ),
    "nasbench_macro": ("22010001", "22001010"),
}


@pytest.fixture(params=list_spaces())
def space(request):
    assert request.param in ARGUMENTS, "a new space: add arguments that make its networks small"
    return get_space(request.param, **ARGUMENTS[request.param])


def image_size(space):
    return SIZES.get(space.kind, space.input_size)


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def in_the_space(space, genotype):
    """A genotype is in a space when its text leads back to it."""
    text = space.name(genotype)
    return space.parse(text) == genotype and text.strip() == text != "" and "\n" not in text


def test_genotypes_are_plain_data_with_a_text(space):
    for genotype in sample(space, 100):
        assert hash(genotype) == hash(freeze(json.loads(json.dumps(genotype))))
        assert freeze(json.loads(json.dumps(genotype))) == genotype
        assert in_the_space(space, genotype)
        key = space.key(genotype)
        assert isinstance(key, str)
        assert key == space.key(space.parse(space.name(genotype)))


def test_samples_depend_on_the_seed_alone(space):
    random.seed(0)
    torch.manual_seed(0)
    genotypes = sample(space, 30, seed=1)
    assert genotypes == sample(space, 30, seed=1) != sample(space, 30, seed=2)
    assert random.random() == random.Random(0).random()
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_ten_thousand_samples(space):
    genotypes = dict.fromkeys(sample(space, 10_000, seed=5))
    assert len(genotypes) > 1
    for genotype in islice(genotypes, 200):
        assert in_the_space(space, genotype)
        space.key(genotype)


def test_mutation_stays_in_the_space_and_changes_something(space):
    rng = random.Random(0)
    for genotype in sample(space, 8):
        for _ in range(20):
            child = space.mutate(genotype, rng)
            assert child != genotype
            assert in_the_space(space, child)
            assert json.loads(json.dumps(child)) == json.loads(json.dumps(space.parse(space.name(child))))
            genotype = child
    genotype = sample(space, 1)[0]
    assert space.mutate(genotype, random.Random(7)) == space.mutate(genotype, random.Random(7))


def test_networks_learn_with_every_parameter_that_is_reached(space):
    size = image_size(space)
    for genotype in sample(space, 2):
        network = space.build(genotype, num_classes=3, in_chans=size[0])
        assert network.training
        logits = network(torch.randn(2, *size))
        assert logits.shape == (2, 3)
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        without = [name for name, gradient in gradients.items() if gradient is None]
        assert not without or without == unreached_parameters(network, size)
        assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)


def test_the_same_random_numbers_give_the_same_network(space):
    genotype = sample(space, 1)[0]
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(space.build(genotype, num_classes=2).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_costs_are_those_of_the_network(space):
    colour = image_size(space)
    grey = (1, *colour[1:])
    for genotype, size, classes in zip(sample(space, 2, seed=8), (colour, grey), (10, 7), strict=True):
        network = space.build(genotype, num_classes=classes, in_chans=size[0])
        assert space.costs(genotype, size, classes) == count_costs(network, size)
    assert space.costs(genotype) == space.costs(genotype, space.input_size, 1000)


def test_layers_are_modules_of_the_network_in_order(space):
    genotype = sample(space, 1)[0]
    layers = space.layers(genotype)
    if layers is None:
        return
    assert isinstance(layers, Mapping)
    names = [name for name, _ in space.build(genotype, num_classes=2).named_modules()]
    assert set(layers) <= set(names)
    indices = [layers[name] for name in names if name in layers]
    assert indices == sorted(indices)
    assert indices[0] >= 0


def test_one_key_means_one_network(space):
    groups = defaultdict(list)
    for genotype in sample(space, 300, seed=2):
        groups[space.key(genotype)].append(genotype)
    for group in groups.values():
        if len(set(group)) > 1:
            assert len({space.costs(genotype, image_size(space), 10) for genotype in group}) == 1
            assert len({json.dumps(space.layers(genotype)) for genotype in group}) == 1
    if space.kind in TWINS:
        one, other = map(space.parse, TWINS[space.kind])
        assert one != other
        assert space.key(one) == space.key(other)


def test_two_additions_of_a_node_may_swap():
    for kind in STACKED:
        space = get_space(kind, **CELLS)
        for genotype in sample(space, 50):
            normal, normal_concat, reduce, reduce_concat, *numbers = genotype
            swapped = [tuple(cell[addition ^ 1] for addition in range(len(cell))) for cell in (normal, reduce)]
            twin = (swapped[0], normal_concat, swapped[1], reduce_concat, *numbers)
            assert space.key(twin) == space.key(genotype)


def test_a_space_comes_back_from_its_config(space):
    again = get_space(json.loads(json.dumps(space.config())))
    assert type(again) is type(space)
    assert repr(again) == repr(space)
    assert sample(again, 5) == sample(space, 5)
    assert again.input_size == space.input_size


def test_finite_spaces_are_enumerated(space):
    if not isinstance(space, FiniteSpace):
        return
    genotypes = set()
    for number, genotype in enumerate(space):
        genotypes.add(genotype)
        assert number % 500 or in_the_space(space, genotype)
    assert len(genotypes) == len(space) == number + 1
    assert set(sample(space, 200)) <= genotypes


def test_any_text_is_read_or_refused_with_its_offending_part(space):
    """Texts of the space with a few characters changed: ValueError with one sentence, or a genotype of the space."""
    rng = random.Random(0)
    messages = []
    for genotype in sample(space, 30):
        for _ in range(3):
            text = list(space.name(genotype))
            for _ in range(rng.randrange(1, 4)):
                place = rng.randrange(len(text) + 1)
                text[place : place + rng.randrange(2)] = rng.choice(["", *"017-+,;|(x é"])
            try:
                read = space.parse("".join(text))
            except ValueError as error:
                messages.append(str(error))
            else:
                assert in_the_space(space, read)
    assert len(messages) > 20
    assert all(20 < len(message) < 5_000 and "\n" not in message for message in messages)


def test_what_is_not_a_genotype_is_refused(space):
    for wrong in ((), ("a", "b"), ((),), 3, (1, 2, 3), "a text that is no name"):
        for method in (space.build, space.costs):
            with pytest.raises(ValueError, match=r"."):
                method(wrong)
