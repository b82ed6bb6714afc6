"""A search result from a file, whichever of the two that a search writes."""

from __future__ import annotations

import os

from lightning_wrcor.search import SearchResult
from lightning_wrcor.search._stored import FORMAT


def read_result(path: str | os.PathLike[str], proxy: str | None = None) -> SearchResult:
    """Read a journal, also while a search writes it, or what `SearchResult.to_json` wrote.

    Args:
        path: the file.
        proxy: what ranks, where that is not what ranked in the search.

    Raises:
        OSError: where the file cannot be read.
        ValueError: for another file, and a proxy without stored values.
    """
    if is_journal(path):
        return SearchResult.from_journal(path, proxy)
    result = SearchResult.from_json(path)
    return result if proxy is None else result.rerank(proxy)


def is_journal(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a journal does.

    Raises:
        OSError: where it cannot be read.
    """
    with open(path, "rb") as file:
        return f'"{FORMAT}"'.encode() in file.read(256)
