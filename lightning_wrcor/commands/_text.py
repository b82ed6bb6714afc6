"""What the commands print: aligned columns, and what docstrings and signatures say."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from lightning_wrcor._config import Registry

WIDEST = 120
"""Columns of a terminal beyond which lines are no longer easy to read."""


def refuse(error: Exception) -> int:
    """Say what is wrong with what was asked for; the exit status."""
    print(f"error: {in_words(error)}", file=sys.stderr)
    return 2


def in_words(error: BaseException) -> str:
    """An error's message; that of a file without the number that Python puts before it (``[Errno 2]``)."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.strerror}: {os.fsdecode(error.filename)!r}"
    return str(error)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Lines with aligned columns.

    Args:
        head: the first line.
        rows: the others.
        left: columns that are aligned on the left; numbers are on the right.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in the width of the terminal."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    lines = textwrap.wrap(
        text,
        max(40, width),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def documentation(cls: type) -> str:
    """The docstring of a class, without the marks around code."""
    return (inspect.getdoc(cls) or "").replace("``", "")


def first_sentence(cls: type) -> str:
    """The summary line of a docstring."""
    return " ".join(documentation(cls).partition("\n\n")[0].split())


def source(cls: type) -> str:
    """The paragraph that names the source, or "" where there is none, or the first sentence names it."""
    found = re.search(r"^Source: (.+?)(?:\n\n|\Z)", documentation(cls), re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def parameters(cls: type) -> list[str]:
    """``name = default`` of each argument of the constructor; a name alone where there is no default."""
    return [
        name if parameter.default is inspect.Parameter.empty else f"{name} = {parameter.default!r}"
        for name, parameter in inspect.signature(cls).parameters.items()
    ]


def required(cls: type) -> list[str]:
    """Arguments without a default."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in kinds
    ]


def class_of(registry: Registry[Any], name: str) -> type[Any]:
    """The class of a name or class path, which may need arguments.

    Raises:
        ValueError: for a name that is not known, with the closest.
    """
    return registry._imported(name) if "." in name else registry._registered(name)


def names_of(registry: Registry[Any]) -> dict[type[Any], list[str]]:
    """Every registered class, with all names that it has."""
    found: dict[type[Any], list[str]] = {}
    for name in registry.names():
        found.setdefault(registry._registered(name), []).append(name)
    return found
