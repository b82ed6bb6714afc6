"""Training-free architecture search for PyTorch Lightning.

The names below are loaded when they are first used: importing the package costs nothing but Python.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_wrcor.callback import ZeroShotSearch as ZeroShotSearch
    from lightning_wrcor.checkpoint import load_network as load_network
    from lightning_wrcor.data import DigitsData as DigitsData
    from lightning_wrcor.data import ImageFolderData as ImageFolderData
    from lightning_wrcor.data import TimmData as TimmData
    from lightning_wrcor.module import ZeroShotSearchModule as ZeroShotSearchModule
    from lightning_wrcor.proxies import ScoreReport as ScoreReport
    from lightning_wrcor.proxies import score as score
    from lightning_wrcor.search import Constraints as Constraints
    from lightning_wrcor.search import SearchResult as SearchResult
    from lightning_wrcor.search import zero_shot_search as zero_shot_search

_HOMES = {
    "Constraints": "search",
    "DigitsData": "data",
    "ImageFolderData": "data",
    "ScoreReport": "proxies",
    "SearchResult": "search",
    "TimmData": "data",
    "ZeroShotSearch": "callback",
    "ZeroShotSearchModule": "module",
    "load_network": "checkpoint",
    "score": "proxies",
    "zero_shot_search": "search",
}

__version__ = "0.1.0"
__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604  (names are text)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lightning_wrcor' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    value = getattr(importlib.import_module(f"lightning_wrcor.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
