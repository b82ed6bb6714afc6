"""Proxies by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_wrcor._config import Registry
from lightning_wrcor.proxies._base import Proxy
from lightning_wrcor.proxies.az_nas import AZExpressivity, AZProgressivity, AZTrainability, BlockEntropy
from lightning_wrcor.proxies.channels import NEAR, MeCo
from lightning_wrcor.proxies.codes import NASWOT, SWAP, LinearRegions
from lightning_wrcor.proxies.common import CommonActivations, CommonGradients
from lightning_wrcor.proxies.correlation import ACor, GCor, RCor, WRCor
from lightning_wrcor.proxies.counting import Depth, FanIn, MACs, Params
from lightning_wrcor.proxies.density import GradientDensity, GradientReach
from lightning_wrcor.proxies.grasp import GraSP
from lightning_wrcor.proxies.information import NTK, VKDNW
from lightning_wrcor.proxies.jacobian import EPENAS, JacobCor
from lightning_wrcor.proxies.perturbation import PNorm, Zen
from lightning_wrcor.proxies.saliency import SNIP, Fisher, GradNorm, L2Norm, Plain, SynFlow
from lightning_wrcor.proxies.votes import AZNAS, SJW, SPW, TENAS, Consensus, VKDNWAggregate
from lightning_wrcor.proxies.zico import ZiCo

_PROXIES: Registry[Proxy] = Registry(Proxy, "proxy", "proxies")
_BUILT_IN: tuple[tuple[type[Proxy], tuple[str, ...]], ...] = (
    (ACor, ("acor",)),
    (GCor, ("gcor",)),
    (RCor, ("rcor",)),
    (WRCor, ("wrcor",)),
    (Params, ("params",)),
    (MACs, ("macs", "flops")),
    (Depth, ("depth",)),
    (FanIn, ("fan_in",)),
    (GradNorm, ("grad_norm",)),
    (SNIP, ("snip",)),
    (Plain, ("plain",)),
    (L2Norm, ("l2_norm",)),
    (Fisher, ("fisher",)),
    (GraSP, ("grasp",)),
    (SynFlow, ("synflow",)),
    (JacobCor, ("jacob_cor", "jacov", "jacob_cov")),
    (EPENAS, ("epe_nas",)),
    (NASWOT, ("naswot", "nwot")),
    (SWAP, ("swap",)),
    (LinearRegions, ("linear_regions",)),
    (NTK, ("ntk",)),
    (Zen, ("zen",)),
    (PNorm, ("pnorm",)),
    (ZiCo, ("zico",)),
    (MeCo, ("meco",)),
    (NEAR, ("near",)),
    (CommonActivations, ("common_activations",)),
    (CommonGradients, ("common_gradients",)),
    (GradientDensity, ("gradient_density",)),
    (GradientReach, ("gradient_reach",)),
    (BlockEntropy, ("block_entropy",)),
    (AZExpressivity, ("az_expressivity",)),
    (AZProgressivity, ("az_progressivity",)),
    (AZTrainability, ("az_trainability",)),
    (VKDNW, ("vkdnw",)),
    (Consensus, ("consensus",)),
    (SJW, ("sjw",)),
    (SPW, ("spw",)),
    (AZNAS, ("az_nas",)),
    (VKDNWAggregate, ("vkdnw_aggregate",)),
    (TENAS, ("tenas",)),
)
for _cls, _names in _BUILT_IN:
    _PROXIES.add(*_names)(_cls)


def get_proxy(spec: str | Proxy | Mapping[str, Any] | type[Proxy], **init_args: Any) -> Proxy:
    """Build a proxy.

    Args:
        spec: a name (`list_proxies` gives them), a class path, ``{"class_path": ..., "init_args": {...}}``, a class, or a
            proxy, which is returned as it is.
        init_args: arguments of its constructor.

    Raises:
        ValueError: for an unknown name; the message lists all names, closest first.
        TypeError: for a class that is no complete proxy, also one without a name.
    """
    proxy = _PROXIES.get(spec, **init_args)
    _require_name(type(proxy), proxy)
    return proxy


def list_proxies() -> list[str]:
    """Names of all proxies, sorted."""
    return _PROXIES.names()


def register_proxy(cls: type[Proxy]) -> type[Proxy]:
    """Class decorator: make a proxy known by its ``name``."""
    _require_name(cls, cls)
    _PROXIES.add(cls.name)(cls)
    return cls


def _require_name(cls: type[Proxy], holder: Proxy | type[Proxy]) -> None:
    if not isinstance(getattr(holder, "name", None), str):
        raise TypeError(f"{cls.__qualname__} has no name to list its scores under: give its class one, name = '...'.")
