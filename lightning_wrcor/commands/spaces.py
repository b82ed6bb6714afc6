"""``python -m lightning_wrcor spaces [NAME]``: what search spaces there are, and one genotype of a space."""

from __future__ import annotations

import argparse
import random

from lightning_wrcor._config import class_path
from lightning_wrcor.commands._text import (
    class_of,
    columns,
    documentation,
    first_sentence,
    names_of,
    parameters,
    refuse,
    required,
    wrapped,
)
from lightning_wrcor.spaces import FiniteSpace, Space
from lightning_wrcor.spaces._registry import _SPACES

_OPEN = "as you say"


def run(arguments: argparse.Namespace) -> int:
    """List all spaces, or show one; the exit status."""
    if arguments.name is None:
        print(_listed())
        return 0
    try:
        cls = class_of(_SPACES, arguments.name)
        if arguments.num_classes < 1:
            raise ValueError(f"A network has at least 1 class; got --num-classes {arguments.num_classes}.")
    except (ValueError, TypeError) as error:
        return refuse(error)
    print(_shown(cls, arguments.seed, arguments.num_classes))
    return 0


def _listed() -> str:
    found = sorted(names_of(_SPACES).items(), key=lambda item: item[1])
    head, *lines = columns(
        ["name", "genotypes", "images"], [[", ".join(names), *_size(cls)] for cls, names in found], left=(0, 2)
    )
    said = [f"{len(found)} search spaces", "", head]
    for (cls, _), line in zip(found, lines, strict=True):
        said += [line, wrapped(first_sentence(cls), "    ")]
    said += ["", wrapped("A space without a number is sampled, not counted. `spaces NAME` says all about one.")]
    return "\n".join(said)


def _size(cls: type[Space]) -> tuple[str, str]:
    if required(cls):
        return _OPEN, _OPEN
    space = cls()
    # Not len(), which cannot count beyond 2^63.
    number = f"{type(space).__len__(space):,}" if isinstance(space, FiniteSpace) else "-"
    return number, _pixels(space)


def _pixels(space: Space) -> str:
    return " x ".join(map(str, space.input_size))


def _shown(cls: type[Space], seed: int, num_classes: int) -> str:
    names = ", ".join(names_of(_SPACES).get(cls, [getattr(cls, "kind", cls.__name__)]))
    arguments = parameters(cls)
    said = [f"{names}: {class_path(cls)}", "", documentation(cls), ""]
    said.append("Parameters: " + (", ".join(arguments) or "none"))
    if missing := required(cls):
        return "\n".join([*said, f"No example: it needs {' and '.join(missing)}."])
    space = cls()
    number, _ = _size(cls)
    if number != "-":
        said.append(f"Genotypes: {number}")
    genotype = space.sample(random.Random(seed))
    said += ["", f"One genotype, drawn with seed {seed}:", f"    {space.name(genotype)}"]
    try:
        costs = space.costs(genotype, num_classes=num_classes)
    except ValueError as error:
        return "\n".join([*said, f"    not counted: {error}"])
    resolution = space.resolution(genotype)
    own = f", brought to {resolution} pixels" if resolution is not None else ""
    said.append(
        f"    {costs.params:,} parameters, {costs.macs:,} MACs, depth {costs.depth} "
        f"(images of {_pixels(space)}{own}, {num_classes:,} classes)"
    )
    return "\n".join(said)
