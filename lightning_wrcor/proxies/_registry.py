"""Proxies by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_wrcor._config import Registry
from lightning_wrcor.proxies._base import Proxy
from lightning_wrcor.proxies.correlation import ACor, GCor, RCor, WRCor
from lightning_wrcor.proxies.counting import MACs, Params

_PROXIES: Registry[Proxy] = Registry(Proxy, "proxy", "proxies")
for _cls, *_aliases in ((ACor,), (GCor,), (RCor,), (WRCor,), (Params,), (MACs, "flops")):
    _PROXIES.add(_cls.name, *_aliases)(_cls)


def get_proxy(spec: str | Proxy | Mapping[str, Any] | type[Proxy], **init_args: Any) -> Proxy:
    """Build a proxy.

    Args:
        spec: a name (`list_proxies` gives them), a class path, ``{"class_path": ..., "init_args": {...}}``, a class, or a
            proxy, which is returned as it is.
        init_args: arguments of its constructor.

    Raises:
        ValueError: for an unknown name; the message lists all names, closest first.
    """
    return _PROXIES.get(spec, **init_args)


def list_proxies() -> list[str]:
    """Names of all proxies, sorted."""
    return _PROXIES.names()


def register_proxy(cls: type[Proxy]) -> type[Proxy]:
    """Class decorator: make a proxy known by its ``name``."""
    _PROXIES.add(cls.name)(cls)
    return cls
