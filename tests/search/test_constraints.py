"""Bounds on what a candidate may cost."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from search_toys import BATCH, Noise, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor.inspection import Costs
from lightning_wrcor.search import Constraints

COSTS = Costs(params=100, macs=2000, depth=7)


@pytest.mark.parametrize(("cost", "value"), [("params", 100), ("macs", 2000), ("depth", 7)])
def test_each_bound_allows_its_end(cost: str, value: int) -> None:
    for name, step in ((f"max_{cost}", 1), (f"min_{cost}", -1)):
        assert Constraints.read({name: value}).violated(COSTS) is None
        assert Constraints.read({name: value + step}).violated(COSTS) is None
        assert Constraints.read({name: value - step}).violated(COSTS) == name


def test_bands_and_the_first_that_is_broken() -> None:
    band = Constraints(min_params=50, max_params=150, min_depth=7, max_depth=7)
    assert band.violated(COSTS) is None
    assert band.violated(Costs(49, 0, 7)) == "min_params"
    assert band.violated(Costs(151, 0, 9)) == "max_params"
    assert band.violated(Costs(100, 0, 6)) == "min_depth"
    assert Constraints().violated(COSTS) is None
    assert Constraints(max_params=0).violated(COSTS) == "max_params"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_params": 5, "min_params": 6}, "No network can meet min_params=6 and max_params=5 together"),
        ({"max_macs": 1e6, "min_macs": 2e6}, "min_macs=2,000,000.0 and max_macs=1,000,000.0"),
        ({"max_depth": -1}, "max_depth=-1 is negative"),
        ({"max_macs": float("nan")}, "max_macs=nan is not finite; None is no bound"),
        ({"max_macs": float("inf")}, "max_macs=inf is not finite"),
        ({"max_params": "5e6"}, "max_params is a number or None; got '5e6' .YAML reads 5e6 as text"),
        ({"max_params": True}, "max_params is a number or None; got True"),
        ({"max_param": 5}, "no constraint named 'max_param'. Did you mean max_params.? Constraints: max_params, "),
        ({"depth_max": 5}, "Constraints: max_depth, "),
        ({3: 5}, "no constraint named 3"),
    ],
)
def test_bounds_that_cannot_be(given: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Constraints.read(given)


def test_what_is_read() -> None:
    bounds = {"max_params": 5e6, "min_depth": 3}
    expected = Constraints(max_params=5e6, min_depth=3)
    assert Constraints.read(expected) is expected
    assert Constraints.read(None) == Constraints.read({}) == Constraints.read({"max_params": None}) == Constraints()
    for mapping in (bounds, MappingProxyType(bounds), OmegaConf.create(bounds)):
        assert Constraints.read(mapping) == expected
    assert expected.to_dict() == bounds
    assert json.loads(json.dumps(Constraints(max_params=np.int64(5)).to_dict())) == {"max_params": 5}  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Constraints\(\.\.\.\), a mapping of its arguments or None; got \['max_"):
        Constraints.read(["max_params"])  # type: ignore[arg-type]


def test_a_search_within_a_band() -> None:
    bounds = Constraints(min_params=7 * 4 + 3, max_params=7 * 6 + 3)
    proxy = Noise()
    for constraints in (bounds, bounds.to_dict()):
        result = zero_shot_search(Widths(), BATCH, proxy, "exhaustive", constraints=constraints, progress=False)
        assert [row.genotype[1] for row in result.history] == [4, 5, 6]
        assert result.funnel.rejected == {"min_params": 3, "max_params": 6}
        assert result.constraints == bounds.to_dict()
    assert set(proxy.seen) == {4, 5, 6}, "what is rejected is never scored"
