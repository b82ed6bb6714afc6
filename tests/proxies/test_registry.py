"""Proxies by name."""

from __future__ import annotations

import math

import pytest
from networks import Functions, images_and_labels

from lightning_wrcor.proxies import (
    ACor,
    Context,
    GCor,
    MACs,
    Params,
    Proxy,
    RCor,
    Vote,
    WRCor,
    get_proxy,
    list_proxies,
    register_proxy,
    score,
)
from lightning_wrcor.proxies._registry import _PROXIES


class Constant(Proxy):
    """A user's own, known by its class path."""

    name = "constant"

    def __init__(self, value: float = 2.0) -> None:
        self.value = value

    def measure(self, context: Context) -> float:
        return self.value


def test_names() -> None:
    assert {"acor", "gcor", "rcor", "wrcor", "params", "macs", "flops"} <= set(list_proxies())
    assert list_proxies() == sorted(list_proxies())
    for name, cls in (("acor", ACor), ("GCor", GCor), ("rcor", RCor), ("WRCor", WRCor), ("params", Params)):
        assert type(get_proxy(name)) is cls
    assert type(get_proxy("flops")) is type(get_proxy("macs")) is MACs


def test_every_proxy_has_a_finite_score_of_a_network() -> None:
    names = [name for name in list_proxies() if not isinstance(get_proxy(name), Vote)]
    report = score(Functions(), images_and_labels(), names)
    assert all(math.isfinite(value) for value in report.scores.values())
    # The functions are one layer after the other in one module: there are no blocks to compare.
    assert set(report.refused) == {"az_expressivity", "az_progressivity", "az_trainability", "block_entropy"}
    assert {get_proxy(name).name for name in names} == set(report.scores) | set(report.refused)


def test_other_forms() -> None:
    assert get_proxy("wrcor", gates=True).gates  # type: ignore[attr-defined]
    assert get_proxy({"class_path": "wrcor", "init_args": {"depth_normalised": True}}).depth_normalised  # type: ignore[attr-defined]
    assert isinstance(get_proxy("lightning_wrcor.proxies.WRCor"), WRCor)
    assert isinstance(get_proxy(WRCor), WRCor)
    own = Constant(3.0)
    assert get_proxy(own) is own
    for name in list_proxies():
        proxy = get_proxy(name)
        config = proxy.config()
        assert config["class_path"].startswith("lightning_wrcor.proxies.")
        assert get_proxy(config).config() == config


def test_a_misspelt_name_lists_the_closest_first() -> None:
    with pytest.raises(ValueError, match=r"no proxy named 'wrcorr'. Proxies, closest first: wrcor, .*class path"):
        get_proxy("wrcorr")
    with pytest.raises(ValueError, match=r"closest first: params"):
        score(Functions(), images_and_labels(), "parms")
    with pytest.raises(ValueError, match=r"Cannot import .*'nowhere\.Proxy'"):
        get_proxy("nowhere.Proxy")
    with pytest.raises(TypeError, match=r"subclass of .*Proxy"):
        get_proxy("torch.nn.ReLU")
    with pytest.raises(TypeError, match=r"A proxy is a Proxy, a name .* got int: 3"):
        get_proxy(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"WRCor has no argument .weight."):
        get_proxy("wrcor", weight=3)


def test_own_proxies_by_name() -> None:
    try:
        register_proxy(Constant)
        assert "constant" in list_proxies()
        assert score(Functions(), images_and_labels(), "constant").value == 2.0
    finally:
        del _PROXIES._classes["constant"]
    assert score(Functions(), images_and_labels(), Constant(5.0)).value == 5.0


def test_a_proxy_without_a_name_is_told_so() -> None:
    class Nameless(Proxy):
        def measure(self, context: Context) -> float:
            return 1.0

    with pytest.raises(TypeError, match=r"Nameless has no name to list its scores under: .* name = '\.\.\.'"):
        score(Functions(), images_and_labels(), Nameless())
    with pytest.raises(TypeError, match=r"Nameless has no name"):
        register_proxy(Nameless)
