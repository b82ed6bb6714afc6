"""Rows of a table as networks of a space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml  # jsonargparse brings it

from lightning_wrcor.benchmark._tables import Row, Table
from lightning_wrcor.spaces import Genotype, Space, TimmModels, get_space

_NAMED = 3
NDS = ("darts", "enas", "pnas", "nasnet", "amoebanet")
"""The spaces of NDS, which ``nds`` names as one."""


@dataclass(frozen=True)
class Network:
    """A network with known accuracies; ``key`` is the space's, one for all genotypes of one network."""

    name: str
    key: str
    accuracies: dict[str, float]


def read_space(spec: str | Space | Mapping[str, Any] | Sequence[Any], choices: Mapping[str, list[int]]) -> Space:
    """A space from what a user gives, on a command line too.

    Args:
        spec: what `get_space` takes, ``nds`` for the five spaces of NDS as one, or a JSON or YAML text of ``class_path``
            and ``init_args``.
        choices: widths and depths that the space has to know; what the user gives wins.

    Raises:
        ValueError: for what is no space; the message says what is wrong.
    """
    if spec == "nds":
        spec = {"class_path": "UnionSpace", "init_args": {"spaces": {
            kind: {"class_path": kind, "init_args": dict(choices)} for kind in NDS
        }}}  # fmt: skip
        choices = {}
    if isinstance(spec, str) and (":" in spec or "{" in spec):
        try:
            spec = yaml.safe_load(spec)
        except yaml.YAMLError as error:
            raise ValueError(f"The space {spec!r} is neither a name nor JSON or YAML: {error}") from error
    try:
        if isinstance(spec, Space) or not choices:
            return get_space(spec)
        given = (spec.get("init_args") or {}) if isinstance(spec, Mapping) else {}
        return get_space(spec, **{name: values for name, values in choices.items() if name not in given})
    except TypeError as error:
        raise ValueError(str(error)) from error


def read_networks(space: Space, table: Table) -> tuple[list[Network], list[str]]:
    """The networks of a table, rows of one architecture joined with the mean of their accuracies.

    A row that the space cannot read (a model that the installed timm does not have) is left out. Architectures that
    differ and yet describe one network (isomorphic cells) stay apart, as their benchmark lists them, and share a score.

    Returns:
        The networks, in the order of their first rows, and what happened to the rows, in sentences.

    Raises:
        ValueError: where the space can read none of them.
    """
    grouped: dict[Genotype, list[Row]] = {}
    unread: dict[str, str] = {}
    verdicts: dict[str, Genotype | None] = {}
    skipped = 0
    for row in table.rows:
        text = _without_tag(row.text) if isinstance(space, TimmModels) else row.text
        if text not in verdicts:
            try:
                verdicts[text] = space.parse(text)
            except ValueError as error:
                verdicts[text] = None
                unread[row.text] = str(error)
        genotype = verdicts[text]
        if genotype is None:
            skipped += 1
        else:
            grouped.setdefault(genotype, []).append(row)
    first = "; ".join(f"{text}: {reason}" for text, reason in list(unread.items())[:_NAMED])
    if not grouped:
        raise ValueError(f"{space!r} can read none of {len(table.rows)} architectures. {first}")
    networks = []
    for genotype, rows in grouped.items():
        columns = dict.fromkeys(name for row in rows for name in row.accuracies)
        means = {name: _mean([row.accuracies[name] for row in rows if name in row.accuracies]) for name in columns}
        networks.append(Network(space.name(genotype), space.key(genotype), means))
    notes = []
    if skipped:
        named = ", ".join(list(unread)[:_NAMED]) + (", ..." if len(unread) > _NAMED else "")
        notes.append(
            f"{skipped} row{'s were' if skipped > 1 else ' was'} skipped because the space cannot read their architecture: "
            f"{named}."
        )
    joined = sum(len(rows) for rows in grouped.values() if len(rows) > 1)
    if joined:
        several = sum(len(rows) > 1 for rows in grouped.values())
        notes.append(
            f"{joined} rows share their architecture with another row; they were joined into "
            f"{several} network{'s' * (several > 1)} with the mean of their accuracies."
        )
    return networks, notes


def shared_note(networks: Sequence[Network]) -> list[str]:
    """A sentence on architectures that are one network and share a score."""
    times = Counter(network.key for network in networks)
    shared = sum(count for count in times.values() if count > 1)
    if not shared:
        return []
    return [
        f"{shared} architectures share a network, and so a score, with another one of the list; each keeps its accuracy."
    ]


def _without_tag(text: str) -> str:
    """Timm's own results name the weights after a dot, ``resnet50.a1_in1k``; the network is what stands before it."""
    return text.partition(".")[0]


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else sum(values) / len(values)
