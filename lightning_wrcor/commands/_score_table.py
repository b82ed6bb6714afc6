"""The scores of a few networks as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_wrcor.commands._text import columns, wrapped
from lightning_wrcor.proxies import Vote
from lightning_wrcor.search import Evaluation, Funnel, SearchResult
from lightning_wrcor.search._evaluate import Setting
from lightning_wrcor.search._table import short
from lightning_wrcor.search.result import BASELINES, ENOUGH

_LONGEST = 80
"""Letters of a name; a cell of NAS-Bench-201 has 77."""

_PARTS = {"size_term": "size term", "shape_term": "shape term"}


def table(setting: Setting, rows: Sequence[Evaluation], source: str, noise: bool) -> str:
    """What was scored on, the networks in the order of ``rows``, and what there is to say about them.

    Args:
        setting: what they were scored with.
        rows: the networks.
        source: what the images are, in words.
        noise: whether they are noise.
    """
    names = _proxies(setting)
    first = setting.scored[0].name  # whose parts an evaluation keeps, where it has a value
    parts = {
        name: title
        for name, title in _PARTS.items()
        if any(name in row.details and first in row.scores for row in rows)
    }
    head = ["network"]
    body = [[row.name if len(row.name) <= _LONGEST else f"{row.name[: _LONGEST - 3]}..."] for row in rows]
    for name in names:
        shown = parts if name == first else {}
        head += [name, *shown.values()]
        for row, cells in zip(rows, body, strict=True):
            known = row.details if first in row.scores else {}
            cells += [_number(row.scores.get(name)), *(_number(known.get(part)) for part in shown)]
    head += ["params", "MACs", "depth", "coverage", "seconds"]
    for row, cells in zip(rows, body, strict=True):
        cells += _costs(row)
        cells += [f"{row.details['coverage']:.0%}" if "coverage" in row.details else "-", f"{row.seconds:.2f}"]
    said = _heading(setting, source, noise)
    return "\n".join([wrapped(said), "", *columns(head, body), *map(wrapped, _remarks(setting, rows))])


def _proxies(setting: Setting) -> list[str]:
    """Columns of scores: as they were asked for, then the members of votes. Counts have columns of their own."""
    found = [proxy.name for proxy in (*setting.proxies, *setting.scored)]
    return [name for name in dict.fromkeys(found) if name not in BASELINES]


def _heading(setting: Setting, source: str, noise: bool) -> str:
    labels = " with made-up labels" if noise else ""
    unusual = "" if setting.precision == "float32" else f", in {setting.precision}"
    said = f"Scored on {source}{labels}, {setting.num_classes:,} classes, seed {setting.seed}{unusual}."
    if noise:
        said += " Scores on noise are only a quick look: give --images for images of yours."
    return said


def _costs(row: Evaluation) -> list[str]:
    # A network that could not even be counted has no parameters, which is no number of parameters.
    if row.status == "failed" and not row.params:
        return ["-", "-", "-"]
    return [short(row.params), short(row.macs), str(row.depth)]


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1e6 or math.isinf(value) else f"{value:.6g}"


def _remarks(setting: Setting, rows: Sequence[Evaluation]) -> list[str]:
    """Why a network has no score, what a proxy refused, what size explains, and what was changed for scoring."""
    said: list[str] = []
    for row in rows:
        if row.status == "failed":
            said.append(f"{row.name} could not be scored. {row.reason}")
        elif row.status == "dead":
            said.append(f"{row.name} is dead: {(row.reason or '').removeprefix('dead: ')}.")
        said += [f"{row.name} has no {name}. {why}" for name, why in row.details.get("refused", {}).items()]
    for vote in (proxy for proxy in setting.proxies if isinstance(proxy, Vote)):
        alive = sum(row.status != "failed" for row in rows)
        said.append(
            f"{vote.name} is a vote ({vote.rule} of {', '.join(vote.names)}) among these {alive} networks: its values mean "
            "nothing beside others."
        )
    if any(row.details.get("depth_normalised") for row in rows):
        said.append("wrcor is normalised by depth here, because networks of this space differ in depth.")
    if sum(row.status == "ok" for row in rows) >= ENOUGH:
        said.append(_honesty(setting, rows))
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in row.details.get("notes", []):
            notes.setdefault(note, []).append(row.name)
    said += [f"{', '.join(names)}: {note}." for note, names in notes.items()]
    return said


def _honesty(setting: Setting, rows: Sequence[Evaluation]) -> str:
    """The sentence that stands below every ranking of a search."""
    found = SearchResult(
        space=setting.space.config(),
        proxies=[proxy.config() for proxy in setting.proxies],
        strategy={},
        constraints={},
        seed=setting.seed,
        num_classes=setting.num_classes,
        input_size=setting.input_size,
        history=list(rows),
        funnel=Funnel(),
    )
    return found.honesty
