"""Spaces by name, by class path and as they are."""

from __future__ import annotations

import json
import random

import pytest
import torch
from torch import nn

from lightning_wrcor import spaces
from lightning_wrcor.spaces import (
    DARTS,
    FiniteSpace,
    NASBench201,
    NetworkList,
    Space,
    TimmModels,
    _registry,
    get_space,
    list_spaces,
    register_space,
)


class Widths(FiniteSpace):
    """A space of a user: linear networks of some widths."""

    kind = "my-widths"

    def __init__(self, widths: list[int]) -> None:
        self.widths = widths

    def __len__(self):
        return len(self.widths)

    def __iter__(self):
        return iter(self.widths)

    def sample(self, rng):
        return rng.choice(self.widths)

    def mutate(self, genotype, rng):
        return rng.choice([width for width in self.widths if width != genotype])

    def build(self, genotype, num_classes=1000, in_chans=3):
        return nn.Sequential(nn.Conv2d(in_chans, genotype, 1), nn.Flatten(), nn.LazyLinear(num_classes))

    def parse(self, text):
        return int(text)

    def name(self, genotype):
        return str(genotype)


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(_registry._SPACES, "_classes", dict(_registry._SPACES._classes))


def test_the_names_there_are():
    names = list_spaces()
    assert names == sorted(names)
    assert {"darts", "list", "nasbench101", "nasbench201", "timm"} <= set(names)


@pytest.mark.parametrize(
    ("name", "cls"), [("nasbench201", NASBench201), ("NAS-Bench-201", NASBench201), ("DARTS", DARTS), ("da_rts", DARTS)]
)
def test_names_whatever_their_spelling(name, cls):
    assert type(get_space(name)) is cls


def test_names_take_arguments():
    space = get_space("timm", include="test_*", image_size=64)
    assert isinstance(space, TimmModels)
    assert space.image_size == 64
    assert list(get_space("list", networks=["test_vit"])) == ["test_vit"]


def test_spaces_classes_and_lists():
    space = NASBench201()
    assert get_space(space) is space
    assert isinstance(get_space(NASBench201, width=8), NASBench201)
    assert list(get_space(["test_vit", nn.Identity()])) == ["test_vit", "Identity"]
    assert isinstance(get_space(("test_vit",)), NetworkList)
    with pytest.raises(TypeError, match="takes no more arguments; got width"):
        get_space(space, width=8)


@pytest.mark.parametrize(
    "space",
    [
        NASBench201(width=8),
        DARTS(),
        TimmModels("test_*", exclude=["test_vit*"], image_size=64, kwargs={"drop_path_rate": 0.1}),
        NetworkList({"mine": "test_resnet", "other": "test_vit"}),
        Widths([2, 3]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_a_space_comes_back_from_its_config(space):
    again = get_space(json.loads(json.dumps(space.config())))
    assert type(again) is type(space)
    assert again.config() == space.config()
    assert repr(again) == repr(space)
    genotype = space.sample(random.Random(0))
    assert again.sample(random.Random(0)) == genotype
    assert again.parse(again.name(genotype)) == genotype


def test_config_loads_with_weights_only(tmp_path):
    space = TimmModels(("test_*",), kwargs={"act_layer": nn.SiLU})
    torch.save(space.config(), tmp_path / "space.pt")
    assert torch.load(tmp_path / "space.pt", weights_only=True) == space.config()


def test_a_class_path_may_be_the_bare_name_of_a_registered_class():
    assert isinstance(get_space({"class_path": "NASBench201"}), NASBench201)
    assert get_space({"class_path": "NASBench201", "init_args": {"width": 8, "cells": 1}}, cells=2).cells == 2


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (
            "nasbench21",
            ValueError,
            "no search space 'nasbench21'. Did you mean nasbench201\\? There are: nasbench201, ",
        ),
        ("dart", ValueError, "There are: darts, .*timm"),
        ({"class_path": "lightning_wrcor.spaces.DARTs"}, ValueError, "has no 'DARTs'. Its spaces: DARTS, "),
        (
            {"class_path": "lightning_wrcor.spaces.Spacee"},
            ValueError,
            r"Its spaces: (?!.*\b(_\w+|Space|FiniteSpace)\b)",
        ),
        ({"class_path": "lightning_wrcor.spces.DARTS"}, ValueError, "Cannot import 'lightning_wrcor.spces'"),
        ({"class_path": "DART"}, ValueError, "no search space 'DART'. Did you mean DARTS\\? There are: DARTS, "),
        ({"class_path": "torch.nn.Linear"}, TypeError, "must lead to a subclass of .*Space"),
        ({"class_path": "math.sqroot"}, ValueError, "has no 'sqroot'. It has no search space"),
        ({"class_path": "lightning_wrcor.spaces.Space"}, TypeError, "not a complete space: it does not define build"),
        ({"class_path": 3}, TypeError, "class_path must be text"),
        ({"class_path": "DARTS", "init_args": [3]}, TypeError, "init_args must be a mapping"),
        ({"class_path": "DARTS", "init_args": {"widht": 3}}, ValueError, "DARTS has no argument 'widht'.*: width, "),
        ({"mine": "test_vit"}, ValueError, "keys class_path and init_args; got mine.*NetworkList"),
        ({"class_path": "DARTS", "args": {}}, ValueError, "keys class_path and init_args; got class_path, args"),
        (3, TypeError, "A search space is .*nasbench201.*; got int: 3"),
    ],
)
def test_mistakes_are_named(spec, error, message):
    with pytest.raises(error, match=message):
        get_space(spec)


@pytest.mark.usefixtures("registry")
def test_register_a_space():
    assert register_space(Widths) is Widths
    assert "my-widths" in list_spaces()
    assert len(get_space("My_Widths", widths=[1, 2])) == 2
    register_space(Widths)  # again, as in a notebook


@pytest.mark.usefixtures("registry")
def test_what_cannot_be_registered():
    class Taken(Widths):
        kind = "NAS-Bench-201"

    class Nameless(Widths):
        kind = ""

    with pytest.raises(ValueError, match=r"Taken: the name 'NAS-Bench-201' is taken by .*NASBench201"):
        register_space(Taken)
    with pytest.raises(TypeError, match="Nameless needs a class attribute `kind`"):
        register_space(Nameless)
    with pytest.raises(TypeError, match="Only subclasses of Space"):
        register_space(nn.Linear)


def test_the_public_names():
    for name in ("Space", "FiniteSpace", "Genotype", "freeze", "NASBench201", "DARTS", "TimmModels", "NetworkList"):
        assert hasattr(spaces, name)
    assert issubclass(TimmModels, Space)
