"""Objects to plain values and back, and the registry that reads what a user gives."""

from __future__ import annotations

import functools
import json
import sys
import types
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from search_toys import Widths
from torch import nn

from lightning_wrcor._config import Configurable, Registry, class_path, closest, plain
from lightning_wrcor.proxies import WRCor, get_proxy
from lightning_wrcor.spaces import NASBench201


class Tool(Configurable, ABC):
    @abstractmethod
    def use(self) -> str: ...


class Hammer(Tool):
    def __init__(self, weight: float = 1.0, heads: tuple[str, ...] = ("flat",), inner: Any = None) -> None:
        self.weight = weight
        self.heads = heads
        self.inner = inner

    def use(self) -> str:
        return "bang"


class Saw(Tool):
    def use(self) -> str:
        return "zzz"


class Open(Hammer):
    def __init__(self, colour: str = "red", **more: Any) -> None:
        super().__init__()
        self.colour = colour
        self.more = more


TOOLS: Registry[Tool] = Registry(Tool, "tool", "tools")
TOOLS.add("hammer", "claw-hammer")(Hammer)
TOOLS.add("saw")(Saw)
sys.modules.setdefault("tools_of_the_test", types.ModuleType("tools_of_the_test")).__dict__.update(
    Hammer=Hammer, Saw=Saw, Tool=Tool, number=3
)


# ---- plain values


def test_plain_values() -> None:
    given = {
        "none": None,
        "yes": True,
        1: (1, 2.5, "text"),
        "numpy": [np.float32(0.5), np.int64(3), np.float64(0.25), np.str_("abc"), np.bool_(True)],
        "path": Path("a/b"),
        "omega": OmegaConf.create({"list": [1, 2]}),
        "tool": Hammer(2.0),
        "class": nn.ReLU,
        "function": functools.reduce,
        "module": nn.Linear(1, 1),
    }
    result = plain(given)
    assert result == {
        "none": None,
        "yes": True,
        "1": [1, 2.5, "text"],
        "numpy": [0.5, 3, 0.25, "abc", True],
        "path": "a/b",
        "omega": {"list": [1, 2]},
        "tool": Hammer(2.0).config(),
        "class": "torch.nn.modules.activation.ReLU",
        "function": "_functools.reduce",
        "module": "torch.nn.modules.linear.Linear",
    }
    assert [type(value) for value in result["numpy"]] == [float, int, float, str, bool]
    assert result["yes"] is True


def test_plain_values_load_with_weights_only(tmp_path: Path) -> None:
    config = Hammer(np.float64(0.5), heads=("flat", np.str_("round")), inner=WRCor()).config()  # type: ignore[arg-type]
    torch.save(config, tmp_path / "config.pt")
    assert torch.load(tmp_path / "config.pt", weights_only=True) == config
    assert json.loads(json.dumps(config)) == config


def test_config_and_back() -> None:
    hammer = Hammer(3.0, ("flat", "round"))
    config = hammer.config()
    assert config["init_args"] == {"weight": 3.0, "heads": ["flat", "round"], "inner": None}
    assert repr(hammer) == "Hammer(weight=3.0, heads=['flat', 'round'], inner=None)"
    assert TOOLS.get({**config, "class_path": "Hammer"}).config() == config
    assert Saw().config()["init_args"] == {}
    more = Open("blue", size=3)
    assert more.config()["init_args"] == {"colour": "blue", "size": 3}
    assert Open(**more.config()["init_args"]).config() == more.config()


def test_arguments_that_are_not_kept() -> None:
    class Forgetful(Configurable):
        def __init__(self, size: int) -> None:
            self.length = size

    class Many(Configurable):
        def __init__(self, *sizes: int) -> None:
            self.sizes = sizes

    for broken, name in ((Forgetful(3), "size"), (Many(1, 2), "sizes")):
        with pytest.raises(
            TypeError, match=f"must keep its constructor argument '{name}' in an attribute of that name"
        ):
            broken.config()


def test_the_shortest_public_path() -> None:
    assert class_path(NASBench201) == "lightning_wrcor.spaces.NASBench201"
    assert class_path(Widths) == "search_toys.Widths"
    assert class_path(nn.ReLU) == "torch.nn.ReLU"

    class Local:
        pass

    Local.__module__ = "no_such_package.sub.module"
    Local.__qualname__ = "Local"
    assert class_path(Local) == "no_such_package.sub.module.Local"


def test_closest_names_come_first() -> None:
    names = ["params", "wrcor", "rcor", "macs"]
    assert closest("WRCR", names)[:2] == ["wrcor", "rcor"]
    assert closest("param", names)[0] == "params"
    assert sorted(closest("", names)) == sorted(names)
    assert closest(3, names)
    assert closest("x", []) == []


# ---- the registry


def test_what_a_user_may_give() -> None:
    hammer = Hammer()
    assert TOOLS.get(hammer) is hammer
    for name in ("hammer", "Hammer", "claw-hammer", "ClawHammer", "claw_hammer"):
        assert isinstance(TOOLS.get(name), Hammer)
    assert TOOLS.get("hammer", weight=4.0).config()["init_args"]["weight"] == 4.0
    assert isinstance(TOOLS.get(Saw), Saw)
    assert isinstance(TOOLS.get("tools_of_the_test.Saw"), Saw)
    spec = {"class_path": "tools_of_the_test.Hammer", "init_args": {"weight": 2.0, "inner": "x"}}
    assert TOOLS.get(spec, weight=5.0).config()["init_args"] == {"weight": 5.0, "heads": ["flat"], "inner": "x"}
    assert isinstance(TOOLS.get(OmegaConf.create(spec)), Hammer)
    for path in ("Saw", "saw"):
        assert isinstance(TOOLS.get({"class_path": path, "init_args": None}), Saw)
    assert TOOLS.names() == ["claw-hammer", "hammer", "saw"]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (
            "hamer",
            ValueError,
            "no tool named 'hamer'. Tools, closest first: hammer, claw-hammer, saw. Your own goes by",
        ),
        ({"class_path": "Hamer"}, ValueError, "no tool named 'Hamer'. Tools, closest first: Hammer, Saw"),
        ("tools_of_the_test.Hamer", ValueError, "'tools_of_the_test' has no 'Hamer'. Its tools: Hammer, "),
        (
            "no_such_module.Hammer",
            ValueError,
            "Cannot import 'no_such_module' of class_path 'no_such_module.Hammer': No",
        ),
        (".Hammer", ValueError, "Cannot import '' of class_path '.Hammer'"),
        ("math.sqroot", ValueError, "'math' has no 'sqroot'. It has no tool"),
        ("tools_of_the_test.number", TypeError, "must lead to a subclass of .*Tool; got 3"),
        ("torch.nn.ReLU", TypeError, "must lead to a subclass of .*Tool"),
        ("tools_of_the_test.Tool", TypeError, "Tool is not a complete tool: it does not define use"),
        (
            {"class_path": "Hammer", "init_args": {"wieght": 3}},
            ValueError,
            "Hammer has no argument 'wieght'.*: weight, ",
        ),
        ({"class_path": "Saw", "init_args": {"x": 3}}, ValueError, "no argument 'x'. Its arguments: none"),
        ({"class_path": "Hammer", "args": {}}, ValueError, "keys class_path and init_args; got class_path, args"),
        ({"path": "Hammer"}, ValueError, "keys class_path and init_args; got path"),
        ({"class_path": "Hammer", "init_args": [3]}, TypeError, "init_args must be a mapping"),
        ({"class_path": 3}, TypeError, "class_path must be text"),
        (3, TypeError, r"A tool is a Tool, a name \(claw-hammer, hammer, saw\), or a mapping .*; got int: 3"),
        (nn.ReLU, TypeError, "A tool is a Tool"),
    ],
)
def test_mistakes_are_named(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TOOLS.get(spec)


def test_arguments_beside_an_object_are_refused() -> None:
    with pytest.raises(TypeError, match=r"A tool that exists takes no more arguments; got weight with Hammer\("):
        TOOLS.get(Hammer(), weight=3)
    with pytest.raises(TypeError, match="takes no more arguments; got gates"):
        get_proxy(WRCor(), gates=True)


def test_names_that_are_taken() -> None:
    registry: Registry[Tool] = Registry(Tool, "tool", "tools")
    assert registry.add("my-saw")(Saw) is Saw
    again = type("Saw", (Saw,), {"__module__": Saw.__module__, "__qualname__": "Saw"})
    registry.add("my-saw")(again)
    assert type(registry.get("mysaw")) is again, "a class defined again takes the place of its older self"
    with pytest.raises(ValueError, match=r"Hammer: the name 'My_Saw' is taken by .*\.Saw"):
        registry.add("My_Saw")(Hammer)
    with pytest.raises(TypeError, match=r"Only subclasses of Tool can be registered; got <class .*ReLU"):
        registry.add("relu")(nn.ReLU)
    assert registry.names() == ["my-saw"]
