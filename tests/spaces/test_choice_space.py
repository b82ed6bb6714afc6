"""A user's own space of choices: genotypes, names, functions as text, and a search of it."""

from __future__ import annotations

import functools
import itertools
import json
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import Winner
from lightning_wrcor.spaces import ChoiceSpace, freeze, get_space

HERE = __name__


def build(depth: int, width: int, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    parts: list[nn.Module] = []
    for _ in range(depth):
        parts += [nn.Conv2d(in_chans, width, 3, stride=2, padding=1), nn.ReLU()]
        in_chans = width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def small_enough(depth: int, width: int) -> bool:
    return depth * width < 100


def by_pairs(depth: int) -> dict[str, int]:
    return {str(place): place // 2 for place in range(2 * depth)}


def anything(**choices):
    """Any choices, and neither classes nor channels."""
    assert "num_classes" not in choices
    network = nn.Flatten()
    network.choices = choices
    return network


class Maker:
    @staticmethod
    def build(width, in_chans):
        return nn.Conv2d(in_chans, width, 1)


def space(**arguments):
    return ChoiceSpace({"depth": [2, 3], "width": range(16, 65, 8)}, build, **arguments)


MIXED = {"rate": [0.0, 0.5, 1e-05], "norm": ["batch", "", "a=b"], "bias": [True, False, None], "n": (-1, 1, 20)}


def test_the_example_of_the_documentation():
    genotypes = list(space())
    assert genotypes == list(itertools.product([2, 3], range(16, 65, 8)))
    assert len(space()) == 14
    assert space().name((3, 64)) == "depth=3,width=64"
    assert space().parse(" depth=3,width=64\n") == (3, 64)
    network = space().build((3, 16), num_classes=7, in_chans=1)
    assert sum(isinstance(part, nn.ReLU) for part in network) == 3
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    costs = space().costs((2, 16), (1, 8, 8), num_classes=5)
    assert costs.params == (9 * 16 + 16) + (9 * 256 + 16) + (16 * 5 + 5)
    assert costs.macs == 9 * 16 * 16 + 9 * 256 * 4 + 16 * 5
    assert costs.depth == 2
    assert space().input_size == (3, 224, 224)
    assert space().mixed_depth
    assert not space(mixed_depth=False).mixed_depth


def test_every_kind_of_value_comes_back_as_it_was():
    mixed = ChoiceSpace(MIXED, anything)
    assert len(mixed) == 81
    seen = set()
    for genotype in mixed:
        assert freeze(json.loads(json.dumps(genotype))) == genotype
        assert mixed.parse(mixed.name(genotype)) == genotype
        seen.add(mixed.key(genotype))
        values = mixed.build(genotype).choices
        for name, value in values.items():
            assert any(value is known or (value == known and type(value) is type(known)) for known in MIXED[name])
    assert len(seen) == 81
    assert mixed.name(("0.5", "a=b", "None", -1)) == "rate=0.5,norm=a=b,bias=None,n=-1"
    again = get_space(json.loads(json.dumps(mixed.config())))
    assert list(again) == list(mixed)
    assert again.build(("1e-05", "", "True", 20)).choices == {"rate": 1e-05, "norm": "", "bias": True, "n": 20}


def test_true_and_one_are_two_values():
    both = ChoiceSpace({"x": [True, 1, "one"]}, anything)
    assert [both.build(genotype).choices["x"] for genotype in both] == [True, 1, "one"]
    assert [type(both.build(both.parse(f"x={text}")).choices["x"]) for text in ("True", "1", "one")] == [bool, int, str]


def test_arrays_of_numpy_are_lists():
    arrays = ChoiceSpace({"rate": np.linspace(0, 1, 3), "n": np.arange(2), "one": [np.float64(0.25)]}, anything)
    assert next(iter(arrays)) == ("0.0", 0, "0.25")
    assert arrays.config()["init_args"]["choices"] == {"rate": [0.0, 0.5, 1.0], "n": [0, 1], "one": [0.25]}
    assert all(type(part) in (int, str) for genotype in arrays for part in genotype)


@pytest.mark.parametrize("valid", [None, small_enough])
def test_sample_is_uniform_and_seeded(valid):
    drawn = space(valid=valid)
    members = [g for g in itertools.product([2, 3], range(16, 65, 8)) if valid is None or g[0] * g[1] < 100]
    assert list(drawn) == members
    assert len(drawn) == len(members) == (14 if valid is None else 8)
    rng = random.Random(0)
    counts = Counter(drawn.sample(rng) for _ in range(300 * len(members)))
    assert set(counts) == set(members)
    assert sum((count - 300) ** 2 / 300 for count in counts.values()) < 2.5 * len(members)
    assert drawn.sample(random.Random(7)) == drawn.sample(random.Random(7))


@pytest.mark.parametrize("valid", [None, small_enough])
def test_mutate_changes_one_choice_and_reaches_all(valid):
    drawn = space(valid=valid)
    members = list(drawn)
    rng = random.Random(0)
    for genotype in members:
        children = {drawn.mutate(genotype, rng) for _ in range(200)}
        near = {m for m in members if sum(a != b for a, b in zip(m, genotype, strict=True)) == 1}
        assert children == near


def test_mutate_without_another_network_is_an_error():
    lonely = ChoiceSpace({"depth": [2], "width": [8, 16]}, build, valid=lambda width: width == 8)
    with pytest.raises(ValueError, match=r"No other network .* one change away from 'depth=2,width=8'"):
        lonely.mutate((2, 8), random.Random(0))


def test_a_function_that_rejects_everything_is_named():
    none = space(valid=lambda depth: False)
    assert len(none) == 0
    with pytest.raises(ValueError, match=r"valid=<function .*lambda>> rejected 10,000 combinations .* 'depth="):
        none.sample(random.Random(0))
    with pytest.raises(ValueError, match="small_enough rejects 'depth=3,width=64'"):
        space(valid=small_enough).parse("depth=3,width=64")


def test_a_huge_space_has_a_length_and_a_first_genotype():
    choices = {f"place{number}": range(100) for number in range(20)}
    asked = []
    huge = ChoiceSpace(choices, anything, valid=lambda place0: asked.append(place0) or place0 < 50)
    assert type(huge).__len__(huge) == 100**20  # beyond a million nothing is counted one by one
    assert not asked
    assert next(iter(huge)) == (0,) * 20
    genotype = huge.sample(random.Random(0))
    assert genotype[0] < 50
    assert math.dist(genotype, huge.mutate(genotype, random.Random(1))) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth=4,width=16", r"depth is one of 2, 3; got '4' in 'depth=4,width=16'"),
        ("depth=2,width=17", r"width is one of 16, 24, .*; got '17'"),
        ("depth=2,wdith=16", r"Expected ',width=' after 'depth=2', got ',wdith=16'"),
        ("width=16,depth=2", r"Expected 'depth=', got 'width=16,depth=2'"),
        ("depth=2", r"Expected ',width=' after 'depth=2', got '' in 'depth=2'"),
        ("depth=2,width=16,x=1", r"width is one of .*; got '16,x=1'"),
    ],
)
def test_texts_that_cannot_be_read(text, message):
    with pytest.raises(ValueError, match=message):
        space().parse(text)


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ((2,), r"is a tuple \(depth, width\), got \(2,\)"),
        ("depth=2,width=16", r"is a tuple \(depth, width\), got 'depth"),
        ((2, "16"), r"width of a genotype is one of 16, 24, .*; got '16'"),
        ((True, 16), r"depth of a genotype is one of 2, 3; got True"),
        ((2, (16,)), r"width of a genotype is one of .*; got \(16,\)"),
    ],
)
def test_genotypes_of_other_spaces(genotype, message):
    for use in (space().build, space().name, space().key, space().costs):
        with pytest.raises(ValueError, match=message):
            use(genotype)


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({}, ValueError, "choices is empty"),
        ([2, 3], TypeError, "choices is a mapping .* got list"),
        ({"depth": []}, ValueError, "'depth'.* needs different values .* there is none"),
        ({"depth": 2}, TypeError, "'depth'.* is a list of values .* got int: 2"),
        ({"depth": "23"}, TypeError, "'depth'.* is a list of values .* got str"),
        ({"depth": {2, 3}}, TypeError, "'depth'.* is a list of values .* got set"),
        ({"depth": [2, 2]}, ValueError, "'2' is there twice"),
        ({"depth": [2, "2"]}, ValueError, "'2' is there twice"),
        ({"depth": [[2, 3]]}, TypeError, r"A value of .*depth.* got list: \[2, 3\]. Write it as text"),
        ({"depth": [math.inf]}, ValueError, "must be finite; got inf"),
        ({"a b": [1]}, ValueError, "name of a choice .* got 'a b'"),
        ({"norm": ["a,b"]}, ValueError, "no comma.* 'norm' has 'a,b'"),
        ({"norm": [" a"]}, ValueError, "no comma, and no space at its ends.* ' a'"),
        ({"num_classes": [1]}, ValueError, "'num_classes' cannot be a choice"),
    ],
)
def test_choices_that_cannot_be(choices, error, message):
    with pytest.raises(error, match=message):
        ChoiceSpace(choices, anything)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factory": lambda depth: None}, TypeError, r"factory is called as <lambda>\(depth=..., width=...\).*'width'"),
        ({"factory": lambda depth, width, rate: None}, TypeError, "factory is called as .*'rate'"),
        ({"factory": 3}, TypeError, "factory is a function or its import path .* got 3"),
        ({"factory": nn.ReLU()}, TypeError, "factory is a function or its import path"),
        ({"factory": "nowhere.build"}, ValueError, "factory='nowhere.build': cannot import 'nowhere'"),
        ({"factory": "build"}, ValueError, "factory='build': cannot import ''"),
        ({"factory": f"{HERE}.biuld"}, ValueError, "has no 'biuld'. Closest: build"),
        ({"factory": f"{HERE}.MIXED"}, ValueError, "must lead to a function"),
        ({"valid": lambda depht: True}, TypeError, "valid is called as .*'depht'"),
        ({"layer_index": 3}, TypeError, "layer_index is a function"),
        ({"input_size": (3, 32)}, ValueError, r"input_size is \(channels, height, width\).* got \(3, 32\)"),
    ],
)
def test_functions_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        ChoiceSpace(**{"choices": {"depth": [2, 3], "width": [8]}, "factory": build, **arguments})


def test_a_factory_must_return_a_module():
    with pytest.raises(TypeError, match=r"for x=1 it returned {'x': 1}"):
        ChoiceSpace({"x": [1]}, dict).build((1,))


def test_layer_index():
    assert space().layers((2, 16)) is None
    assert space(layer_index=by_pairs).layers((2, 16)) == {"0": 0, "1": 0, "2": 1, "3": 1}
    assert space(layer_index={"0": 1}).layers((2, 16)) == {"0": 1}


def test_functions_come_back_from_their_paths():
    given = space(valid=small_enough, layer_index=by_pairs, input_size=[1, 16, 16], mixed_depth=False)
    config = json.loads(json.dumps(given.config()))
    assert config["class_path"] == "lightning_wrcor.spaces.ChoiceSpace"
    paths = [config["init_args"][name] for name in ("factory", "valid", "layer_index")]
    assert paths == [f"{HERE}:build", f"{HERE}:small_enough", f"{HERE}:by_pairs"]
    again = get_space(config)
    assert again.config() == given.config()
    assert list(again) == list(given)
    assert again.input_size == (1, 16, 16)
    assert not again.mixed_depth
    assert again.layers((2, 16)) == by_pairs(2)
    assert again.build((2, 16), num_classes=4)[-1].out_features == 4
    of_a_class = ChoiceSpace({"width": [4]}, Maker.build)
    assert of_a_class.config()["init_args"]["factory"] == f"{HERE}:Maker.build"
    assert get_space(of_a_class.config()).build((4,), in_chans=2).weight.shape == (4, 2, 1, 1)


def test_what_text_cannot_hold_says_so():
    lost = get_space(space(valid=lambda depth: depth > 2).config())
    assert lost.build((3, 16), 10)(torch.zeros(1, 3, 8, 8)).shape == (
        1,
        10,
    )  # a network needs no more than its function
    with pytest.raises(ValueError, match=r"valid was an object, function .*lambda>, which text .* valid=\.\.\.\)"):
        lost.sample(random.Random(0))
    lost = get_space(ChoiceSpace({"width": [4]}, functools.partial(build, depth=2)).config())
    assert lost.parse("width=4") == (4,)
    with pytest.raises(
        ValueError, match=r"factory was an object, object of functools.partial.* pass the function again"
    ):
        lost.build((4,))


def test_a_search_finds_a_network_that_a_checkpoint_can_hold():
    batch = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    searched = ChoiceSpace({"depth": [1, 2], "width": [4, 8]}, f"{HERE}.build", input_size=(3, 16, 16))
    result = zero_shot_search(searched, batch, budget=4, progress=False)
    assert {evaluation.status for evaluation in result.history} == {"ok"}
    winner = Winner.from_dict(json.loads(json.dumps(Winner.of(result, 4, 3, "network").to_dict())))
    assert winner.build()(batch[0]).shape == (8, 4)
    assert winner.build()[0].out_channels == winner.genotype[1]


def test_costs_leave_random_numbers_alone():
    before = torch.get_rng_state()
    space().costs((2, 16), (3, 8, 8))
    assert torch.equal(before, torch.get_rng_state())
