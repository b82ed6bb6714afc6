"""Results without a search: the scores that a journal or another result holds, ranked anew. No network is built."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any, cast

from lightning_wrcor.proxies import Context, Proxy, get_proxy
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search._evaluate import _scored, read_proxies
from lightning_wrcor.search._messages import all_at_random, notes
from lightning_wrcor.search._run import Run
from lightning_wrcor.search._stored import Stored, read_stored
from lightning_wrcor.search._votes import Votes
from lightning_wrcor.search.constraints import BOUNDED, Constraints
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.result import Funnel, SearchResult
from lightning_wrcor.search.strategies import Strategy, get_strategy
from lightning_wrcor.spaces import Space, get_space

Given = str | Proxy | Mapping[str, Any] | Sequence[str | Proxy | Mapping[str, Any]]
"""A proxy or vote in any of its forms, or several of them."""


def result_of_journal(
    path: str | os.PathLike[str], proxy: Given | None, constraints: Constraints | Mapping[str, Any] | None
) -> SearchResult:
    """`SearchResult.from_journal`."""
    stored = read_stored(path)
    if not stored.search:
        raise ValueError(f"The journal {path} is empty: there is nothing to rank.")
    result = _as_stored(stored)
    if proxy is None and "proxies" not in stored.about and any(_waits(row) for row in result.history):
        raise ValueError(
            f"A vote ranked in the journal {path}, which does not say which one: name it with proxy=..., such as "
            f"proxy=Vote([{', '.join(map(repr, _columns(result.history)))}])."
        )
    ranked = rerank(result, proxy, constraints, f"The journal {path}")
    ranked.funnel.resumed = len(ranked.history)
    ranked.notes += result.notes
    if stored.repeated:
        ranked.notes.append(
            f"The journal holds {len(stored.repeated)} scores of a race, which this ranking leaves aside: a search with "
            "racing=... and this journal goes on from them."
        )
    return ranked


def rerank(
    result: SearchResult,
    proxy: Given | None,
    constraints: Constraints | Mapping[str, Any] | None,
    holder: str = "This result",
) -> SearchResult:
    """`SearchResult.rerank`; ``holder`` is what messages call the place where the scores are stored."""
    columns = _columns(result.history)
    listed = _proxies(result.proxies, columns)
    given = [] if proxy is None else _read(proxy, listed, columns, holder)
    proxies = [*given, *(one for one in listed if one.name not in {new.name for new in given})]
    scored = _scored(proxies)
    names = proxies[0].names if isinstance(proxies[0], Vote) else [proxies[0].name]
    votes = {one.name for one in (*proxies, *listed) if isinstance(one, Vote)}
    bounds = Constraints.read(constraints)
    funnel = replace(result.funnel, rejected=dict(result.funnel.rejected), scored=0, dead=0, failed=0, resumed=0)
    history = []
    for row in result.history:
        broken = _violated(row, bounds, holder)
        if broken is not None:
            funnel.rejected[broken] = funnel.rejected.get(broken, 0) + 1
            continue
        new = _ranked_by(row, names, votes)
        status = "scored" if new.status == "ok" else new.status
        setattr(funnel, status, getattr(funnel, status) + 1)
        history.append(new)
    count = Votes(proxies, scored)
    count.count(history)
    told = SimpleNamespace(  # as much of a search as its notes are made of
        budget=None,
        strategy=None,  # what it came to is said of all candidates, in _origin
        misfit=None,
        history=history,
        funnel=funnel,
        votes=count,
        setting=SimpleNamespace(
            space=_space_of_depths(result),
            scored=scored,
            ranking=names,
            precision=result.precision,
            batch=None,
        ),
    )
    ranked = replace(
        result,
        proxies=[one.config() for one in proxies],
        constraints=_tighter(Constraints.read(result.constraints), bounds).to_dict(),
        history=history,
        funnel=funnel,
        notes=[*notes(cast(Run, told)), *_origin(result, listed, proxies)],
    )
    ranked.searched_space = result.searched_space
    return ranked


# ---- what is stored


def _as_stored(stored: Stored) -> SearchResult:
    """A journal's rows as the result of a search; what the header does not say is left open."""
    search, about = stored.search, stored.about
    history = list(stored.known.values())
    try:
        result = SearchResult(
            space=search["space"],
            proxies=about.get("proxies") or search["proxies"],
            strategy=about.get("strategy", {}),
            constraints={},
            seed=search["seed"],
            num_classes=search["number of classes"],
            input_size=tuple(about.get("input_size") or (0, 0, 0)),
            history=history,
            funnel=Funnel(sampled=len(history)),
            seconds=math.fsum(row.seconds for row in history),
            versions=about.get("versions") or {"lightning_wrcor": search["version of lightning_wrcor"]},
            precision=search.get("precision", "float32"),
        )
    except KeyError as error:
        raise ValueError(
            f"The header of the journal {stored.path} does not name the {error.args[0]} of its search."
        ) from error
    if "input_size" not in about:
        result.input_size = _own_size(search["space"])
        result.notes.append(
            f"The journal does not say how large the images were; {' x '.join(map(str, result.input_size))} is what the "
            "space is meant for."
        )
    return result


def _own_size(space: Mapping[str, Any]) -> tuple[int, int, int]:
    try:
        return get_space(space).input_size
    except (ValueError, TypeError):  # a space of objects, or of a class that is not at hand
        return Space.input_size


def _columns(rows: Sequence[Evaluation]) -> list[str]:
    """Names under which there are values. A proxy may have refused some networks: the longest rows say the order."""
    return list(dict.fromkeys(name for row in sorted(rows, key=lambda row: -len(row.scores)) for name in row.scores))


def _waits(row: Evaluation) -> bool:
    return row.status == "ok" and math.isnan(row.score)


class _Absent(Proxy):
    """Stands for a stored proxy whose class is not at hand: its values are there all the same."""

    def __init__(self, name: str, stored: dict[str, Any]) -> None:
        self.name = name  # type: ignore[misc]
        self._stored = stored

    def config(self) -> dict[str, Any]:
        return self._stored

    def measure(self, context: Context) -> float:
        raise ValueError(f"The class of the proxy {self.name} is not at hand.")


def _proxies(configs: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[Proxy]:
    """The proxies that were listed. A column that none of them claims is that of one whose class is not at hand."""
    found: list[Proxy | None] = []
    for config in configs:
        try:
            found.append(get_proxy(config))
        except (ValueError, TypeError):
            found.append(None)
    claimed = {name for one in found if one is not None for name in (one.name, *_members(one))}
    free = iter([name for name in columns if name not in claimed])
    named = [
        (_Absent(name, dict(config)) if (name := next(free, None)) is not None else None) if one is None else one
        for one, config in zip(found, configs, strict=True)
    ]
    return [one for one in named if one is not None]


def _members(proxy: Proxy) -> list[str]:
    return proxy.names if isinstance(proxy, Vote) else []


# ---- what is asked for


def _read(given: Given, listed: Sequence[Proxy], columns: Sequence[str], holder: str) -> list[Proxy]:
    """The proxies that a user asks for; a name that is stored means what is stored under it.

    Raises:
        ValueError: for a proxy without stored values, or stored with other settings.
    """
    plain = {one.name: one for one in _scored(listed)}
    known = {**plain, **{one.name: one for one in listed}}
    several: Sequence[Any] = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    proxies = read_proxies([known.get(one, one) if isinstance(one, str) else one for one in several])
    for one in _scored(proxies):
        stored = plain.get(one.name)
        if one.name not in columns or stored is None:
            there = ", ".join(name for name in columns if name in plain) or "nothing"
            raise ValueError(f"{holder} holds no values of {one.name!r}; it holds those of {there}.")
        if stored.config() != one.config():
            raise ValueError(f"{holder} holds {one.name!r} as {_shown(stored)}, and not as {_shown(one)}.")
    return proxies


def _shown(proxy: Proxy) -> str:
    config = proxy.config()
    arguments = ", ".join(f"{name}={value!r}" for name, value in config["init_args"].items())
    return f"{config['class_path'].rpartition('.')[2]}({arguments})"


def _violated(row: Evaluation, bounds: Constraints, holder: str) -> str | None:
    known = {name: value for name in BOUNDED if (value := getattr(row, name)) is not None}
    if row.status == "failed":
        known = {name: value for name, value in known.items() if value}  # it may not even have been counted
    for name in BOUNDED:
        if bounds.bounds(name) and name not in known and row.status != "failed":
            raise ValueError(f"{holder} does not hold {name} of {row.name}, so that it cannot be bounded.")
    return bounds.violated(known)


def _tighter(one: Constraints, other: Constraints) -> Constraints:
    """Both bounds at once."""
    pairs = [(field.name, getattr(one, field.name), getattr(other, field.name)) for field in fields(Constraints)]
    chosen = {}
    for name, first, second in pairs:
        if first is None or second is None or name == "latency":
            chosen[name] = second if first is None else first
        else:
            chosen[name] = min(first, second) if name.startswith("max_") else max(first, second)
    return Constraints(**chosen)


# ---- the new ranking


def _ranked_by(row: Evaluation, names: Sequence[str], votes: set[str]) -> Evaluation:
    """A copy of a row, ranked by these proxies. Votes' values are left out: they depend on who else is there."""
    scores = {name: value for name, value in row.scores.items() if name not in votes}
    new = replace(row, scores=scores, race=None)
    if not scores:  # it failed
        return new
    if not any(name in scores for name in names):
        refused = row.details.get("refused", {})
        new.status, new.score = "failed", math.nan
        new.reason = next((refused[name] for name in names if name in refused), f"there is no value of {names[0]}")
        return new
    new.rank_by(names)
    return new


def _space_of_depths(result: SearchResult) -> Space | SimpleNamespace:
    """Who knows whether raw scores mostly count depth: the space, which is made only where there are raw scores."""
    unknown = SimpleNamespace(mixed_depth=False)
    if not any(row.details.get("depth_normalised") is False for row in result.history):
        return unknown
    try:
        return result._space(None)
    except (ValueError, TypeError):  # a space that its plain values do not make
        return unknown


def _strategy(result: SearchResult) -> Strategy | None:
    try:
        return get_strategy(result.strategy)
    except (ValueError, TypeError):  # journals that were merged do not say it; a class that is not at hand
        return None


def _origin(result: SearchResult, before: Sequence[Proxy], now: Sequence[Proxy]) -> list[str]:
    """What a reader of a ranking by other proxies than the search's own should know."""
    said = []
    strategy = str(result.strategy.get("class_path", "")).rpartition(".")[2]
    drawn = all_at_random(_strategy(result), len(result.history))
    if drawn:
        said.append(drawn)
    elif before[0].config() != now[0].config() and strategy not in ("", "RandomSearch", "ExhaustiveSearch"):
        said.append(
            f"{strategy} proposed these candidates in a search that {before[0].name} ranked; with {now[0].name} it might have "
            "proposed others."
        )
    if any(row.race is not None for row in result.history):
        said.append("The search's race is left out: it was among the finalists of another ranking.")
    return said
