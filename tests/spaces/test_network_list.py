"""Lists of networks: what each kind of entry builds, its name, its costs and its text."""

from __future__ import annotations

import functools
import json
import random

import pytest
import torch
from torch import nn

from lightning_wrcor.spaces.network_list import NetworkList

PATH = f"{__name__}:small"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(num_classes: int = 10, in_chans: int = 3, width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, width, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))


def pooled(num_classes: int, *, in_chans: int = 3, width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_chans, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    )


def reads_a_value(num_classes: int = 10) -> nn.Module:
    """A network whose width comes from random weights, which the meta device does not have."""
    width = 4 + int(torch.rand(1).item() > 2)
    return pooled(num_classes, width=width)


def test_each_kind_of_entry_builds():
    module = pooled(5, in_chans=2)
    entries = {
        "timm": "test_resnet",
        "module": module,
        "function": pooled,
        "partial": functools.partial(pooled, width=8),
        "lambda": lambda in_chans: nn.Conv2d(in_chans, 9, 1),
        "class": nn.Identity,
        "path": f"{__name__}:pooled",
    }
    space = NetworkList(entries)
    assert list(space) == list(entries)
    assert len(space) == 7
    images = torch.zeros(2, 1, 32, 32)
    for name in ("timm", "function", "partial", "path"):
        assert space.build(name, num_classes=7, in_chans=1)(images).shape == (2, 7)
    assert space.build("partial", 7)[0].out_channels == 8
    assert space.build("lambda", 7, 1).weight.shape == (9, 1, 1, 1)
    assert isinstance(space.build("class"), nn.Identity)
    assert space.build("module", 7)(torch.zeros(2, 2, 8, 8)).shape == (2, 5)  # a module keeps its own classes


def test_a_module_is_copied_with_its_weights_and_left_alone():
    module = pooled(5).eval()
    module[0].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    space = NetworkList([module])
    built = space.build("Sequential")
    assert built is not module
    assert not built.training
    for (key, value), copied in zip(module.state_dict().items(), built.state_dict().values(), strict=True):
        assert torch.equal(value, copied)
        assert value.data_ptr() != copied.data_ptr(), key
    assert space.costs("Sequential", (3, 16, 16)).params == sum(p.numel() for p in module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    assert next(module.parameters()).device.type == "cpu"


def test_a_module_is_counted_without_running_it():
    ran_on = []

    class Watcher(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)

        def forward(self, x):
            ran_on.append(x.device.type)
            return self.conv(x)

    costs = NetworkList([Watcher()]).costs("Watcher", (3, 10, 10))
    assert (costs.params, costs.macs) == (4 * 3 * 9, 8 * 8 * 4 * 3 * 9)
    assert set(ran_on) == {"meta"}


def test_names_are_unique_and_text_keeps_its_own():
    def test_resnet():
        return nn.Identity()

    entries = [nn.Linear(2, 2), pooled, nn.Linear(3, 3), test_resnet, "test_resnet", nn.Linear(4, 4), pooled, PATH]
    names = ["Linear", "pooled", "Linear-2", "test_resnet-2", "test_resnet", "Linear-3", "pooled-2", PATH]
    space = NetworkList(entries)
    assert list(space) == names
    assert space.build("Linear-3").in_features == 4
    assert [space.parse(space.name(name)) for name in space] == names


@pytest.mark.parametrize(
    ("networks", "error", "message"),
    [
        ([], ValueError, "empty"),
        ({}, ValueError, "empty"),
        ("resnet18", TypeError, "must be a list or a mapping"),
        (["test_resnet", "test_vit", "test_resnet"], ValueError, "more than once: test_resnet"),
        ({"one": "test_resnet", "two": "test_resnet"}, ValueError, "more than once: test_resnet"),
        (["test_resnte"], ValueError, "no model 'test_resnte'.* test_resnet"),
        (["resnet18.a1_in1k"], ValueError, "write 'resnet18'"),
        (["test_*"], ValueError, "TimmModels takes patterns"),
        ({"mine": "no_such_package:small"}, ValueError, "Entry 'mine': cannot import 'no_such_package'"),
        ({"mine": f"{__name__}:smal"}, ValueError, "Entry 'mine': .* has no 'smal'. Closest: small"),
        ({"mine": f"{__name__}:PATH"}, ValueError, "must lead to a function or class"),
        ({"mine": 3}, TypeError, "Entry 'mine' must be"),
        ({3: "test_resnet"}, TypeError, "names of the networks must be text"),
    ],
)
def test_mistakes_are_named(networks, error, message):
    with pytest.raises(error, match=message):
        NetworkList(networks)


def test_an_unknown_name_is_an_error_with_the_closest_first():
    space = NetworkList(["test_vit", "test_resnet"])
    for use in (space.parse, space.build, space.costs, lambda name: space.mutate(name, random.Random(0))):
        with pytest.raises(ValueError, match=r"'test_resnte' in the list. Closest: test_resnet, test_vit"):
            use("test_resnte")


def test_a_factory_must_return_a_module():
    with pytest.raises(TypeError, match="entry 'dict' must return"):
        NetworkList({"dict": dict}).build("dict")


def test_a_module_that_cannot_be_copied_is_named():
    module = nn.Module()
    module.weight = nn.Parameter(torch.ones(2)) * 2  # not a leaf: torch refuses to copy it
    with pytest.raises(ValueError, match=r"Entry 'odd' cannot be copied: .* Give a factory"):
        NetworkList({"odd": module}).build("odd")


def test_sample_and_mutate():
    space = NetworkList({"a": pooled, "b": small, "c": nn.Identity})
    rng = random.Random(0)
    assert {space.sample(rng) for _ in range(50)} == {"a", "b", "c"}
    assert {space.mutate("a", rng) for _ in range(50)} == {"b", "c"}
    assert [space.sample(random.Random(5)) for _ in range(3)] == [space.sample(random.Random(5)) for _ in range(3)]
    with pytest.raises(ValueError, match="no other network"):
        NetworkList([pooled]).mutate("pooled", rng)


def test_costs_of_factories_and_timm_names():
    space = NetworkList(["resnet18", pooled])
    assert space.costs("resnet18").params == 11_689_512
    assert space.costs("resnet18", num_classes=10).params == 11_689_512 - 990 * 513
    costs = space.costs("pooled", (1, 10, 10), num_classes=6)
    assert costs.params == (9 + 1) * 4 + (4 + 1) * 6
    assert costs.macs == 8 * 8 * 4 * 9 + 4 * 6
    assert costs.depth == 1
    assert space.mixed_depth


def test_costs_of_a_factory_that_needs_values_change_no_random_numbers():
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state(), random.getstate()
    costs = NetworkList([reads_a_value]).costs("reads_a_value", (3, 8, 8), num_classes=2)
    assert costs.params == 28 * 4 + 5 * 2
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_costs_leave_a_module_trainable_that_a_factory_shares():
    module = pooled(3)
    NetworkList({"shared": lambda: module}).costs("shared", (3, 8, 8))
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert module.training


def test_config_of_text_is_the_list_itself():
    space = NetworkList(["test_resnet", PATH])
    assert space.config()["init_args"] == {"networks": ["test_resnet", PATH]}
    named = NetworkList({"mine": "test_resnet"})
    assert named.config()["init_args"] == {"networks": {"mine": "test_resnet"}}


def test_config_of_objects_says_what_they_were():
    space = NetworkList([nn.Linear(2, 2), pooled, lambda: nn.Identity(), "test_resnet", functools.partial(pooled, 3)])
    config = json.loads(json.dumps(space.config()))
    again = NetworkList(**config["init_args"])
    assert list(again) == list(space) == ["Linear", "pooled", "lambda", "test_resnet", "pooled-2"]
    assert again.config() == space.config()
    assert isinstance(again.build("pooled"), nn.Sequential)  # a function that can be imported is built again
    for name, what in (
        ("Linear", r"object of torch\.nn\S*Linear"),
        ("lambda", "function .*lambda"),
        ("pooled-2", "partial"),
    ):
        with pytest.raises(ValueError, match=f"Entry '{name}' was an object, .*{what}.* pass the object again"):
            again.build(name)
