"""``python -m lightning_wrcor proxies [NAME]``: what proxies there are, and what each of them needs."""

from __future__ import annotations

import argparse

from lightning_wrcor._config import class_path
from lightning_wrcor.commands._passes import What, what_it_needs
from lightning_wrcor.commands._text import (
    class_of,
    columns,
    documentation,
    first_sentence,
    names_of,
    parameters,
    refuse,
    required,
    source,
    wrapped,
)
from lightning_wrcor.proxies import Proxy, Vote
from lightning_wrcor.proxies._registry import _PROXIES


def run(arguments: argparse.Namespace) -> int:
    """List all proxies, or show one; the exit status."""
    if arguments.name is None:
        print(_listed())
        return 0
    try:
        print(_shown(class_of(_PROXIES, arguments.name)))
    except (ValueError, TypeError) as error:
        return refuse(error)
    return 0


def _listed() -> str:
    titled = {cls: _titled(cls, names) for cls, names in names_of(_PROXIES).items()}
    found = dict(sorted(titled.items(), key=lambda item: item[1]))
    votes = [cls for cls in found if issubclass(cls, Vote)]
    groups = {
        "proxies": [cls for cls in found if cls not in votes],
        "votes, which rank several networks among one another": votes,
    }
    said = []
    for title, classes in groups.items():
        needs = [_needs(cls) for cls in classes]
        rows = [[found[cls], need.passes, need.labels] for cls, need in zip(classes, needs, strict=True)]
        head, *lines = columns(["name", "what it needs", "labels"], rows, left=(0, 1, 2))
        said += [f"{len(classes)} {title}", "", head]
        for cls, line in zip(classes, lines, strict=True):
            said += [line, wrapped(first_sentence(cls), "    ")]
            said += [wrapped(f"Source: {text}", "    ") for text in [source(cls)] if text]
        said.append("")
    said.append(
        wrapped(
            "Proxies that need the same pass share it; those with passes of their own do not. `proxies NAME` says all "
            "about one."
        )
    )
    return "\n".join(said)


def _titled(cls: type[Proxy], names: list[str]) -> str:
    """The name under which scores are listed, and the others that it goes by."""
    # A name may depend on arguments, so that only an object has it; a class that needs some goes by what it registered.
    name = names[0] if required(cls) else cls().name
    others = [other for other in names if other != name]
    return f"{name} ({', '.join(others)})" if others else name


def _needs(cls: type[Proxy]) -> What:
    # A registered proxy of a user's own may need arguments.
    return What("depends on its arguments", "") if required(cls) else what_it_needs(cls())


def _shown(cls: type[Proxy]) -> str:
    names = names_of(_PROXIES).get(cls, [cls.__name__])
    needs = _needs(cls)
    labels = f"; labels: {needs.labels}" if needs.labels else ""
    return "\n".join(
        [
            f"{_titled(cls, names)}: {class_path(cls)}",
            "",
            documentation(cls),
            "",
            f"Needs: {needs.passes}{labels}",
            f"Parameters: {', '.join(parameters(cls)) or 'none'}",
        ]
    )
