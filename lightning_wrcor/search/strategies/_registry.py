"""Strategies by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_wrcor._config import Registry
from lightning_wrcor.search.strategies._base import Strategy
from lightning_wrcor.search.strategies.evolution import RegularisedEvolution
from lightning_wrcor.search.strategies.local_search import LocalSearch
from lightning_wrcor.search.strategies.nsga2 import NSGA2
from lightning_wrcor.search.strategies.reinforce import Reinforce
from lightning_wrcor.search.strategies.simple import ExhaustiveSearch, RandomSearch

_STRATEGIES: Registry[Strategy] = Registry(Strategy, "strategy", "strategies")
for _cls in (RandomSearch, ExhaustiveSearch, RegularisedEvolution, Reinforce, LocalSearch, NSGA2):
    _STRATEGIES.add(_cls.kind)(_cls)


def get_strategy(spec: str | Strategy | Mapping[str, Any] | type[Strategy], **init_args: Any) -> Strategy:
    """Build a strategy from its name (`list_strategies`), a class path, a mapping of both kinds, or return the object.

    Raises:
        ValueError: for an unknown name; the message lists all names, closest first.
    """
    return _STRATEGIES.get(spec, **init_args)


def list_strategies() -> list[str]:
    """Names of all strategies, sorted."""
    return _STRATEGIES.names()
