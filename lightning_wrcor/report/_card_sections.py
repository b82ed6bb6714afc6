"""The tables of a search card."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_wrcor.report._card_html import Markup, code, facts, joined, settings_table, table, tag, titled
from lightning_wrcor.report._card_outcome import TrainingOutcome
from lightning_wrcor.report._told import COSTS, FIXED, counted, ranking_proxy
from lightning_wrcor.search import Evaluation, SearchResult
from lightning_wrcor.search._funnel import lost_too
from lightning_wrcor.search._table import short
from lightning_wrcor.search.result import BASELINES, ENOUGH, SAYS_LITTLE

ROWS = 20
"""Candidates that a table lists at most."""

_LONGEST = 600
"""Characters of a setting that are shown."""

_COUNTED = {"params": "params", "macs": "MACs", "depth": "depth"}
_MEASURED = {"resolution": "pixels", "memory_mb": "MB", "latency_ms": "ms"}


def value(number: float | None, form: str = ",.4g") -> str:
    """A number that may be missing."""
    return "-" if number is None or math.isnan(number) else format(number, form)


# ---- the winner


def space_of(result: SearchResult) -> Markup:
    """The space, as short as it goes."""
    return code(_shortened(said(result.space), 200))


def key_facts(result: SearchResult) -> Markup:
    """What the winner scores and costs."""
    best, proxy = result.best, ranking_proxy(result)
    said = [(f"{proxy}, its score", f"{best.score:,.4f}")]
    said += [("place", f"1 of {len(result.leaderboard):,} scored")]
    said += [("parameters", short(best.params)), ("MACs of one image", short(best.macs))]
    said += [(f"depth ({FIXED['depth']})", f"{best.depth:,}")]
    for cost, unit in _MEASURED.items():
        if (cost_value := getattr(best, cost)) is not None:
            said.append((COSTS.get(cost, cost), f"{cost_value:,.4g} {unit}"))
    said += [(name, value(best.scores.get(name))) for name in _other_proxies(result)]
    return facts(said)


# ---- where it stands


def leaderboard(result: SearchResult, outcome: TrainingOutcome | None) -> Markup:
    """The best candidates, with their costs and the values of all proxies."""
    proxy, rows = ranking_proxy(result), result.leaderboard[:ROWS]
    others = _other_proxies(result)
    measured = [cost for cost in _MEASURED if any(getattr(row, cost) is not None for row in rows)]
    raced = any(row.race is not None for row in rows)
    # A proxy that only counts a cost, and ranks, has its column already.
    counts = {cost: title for cost, title in _COUNTED.items() if not (cost == proxy and _only_counts(rows, cost))}
    head = ["", "candidate", proxy, *(["race mean", "error"] * raced), *others, *counts.values()]
    head += [_MEASURED[cost] for cost in measured]
    tested = outcome.tested if outcome is not None else {}
    shown = any(row.name in tested for row in rows)
    body = []
    for place, row in enumerate(rows, start=1):
        race = ["-", "-"] if row.race is None else [value(row.race.mean, ",.4f"), value(row.race.error, ".2g")]
        cells: list[object] = [place, code(row.name), f"{row.score:,.4f}", *(race * raced)]
        cells += [value(row.scores.get(name)) for name in others]
        cells += [f"{row.depth:,}" if cost == "depth" else short(getattr(row, cost)) for cost in counts]
        cells += [value(getattr(row, cost)) for cost in measured]
        cells += [f"{tested[row.name]:.2%}" if row.name in tested else "-"] * shown
        body.append(cells)
    many = f"The {len(rows)} best of {counted(len(result.leaderboard))} with a score, by {proxy} (higher is better)"
    return table(many, [*head, *(["test accuracy"] * shown)], body, name=1)


def _columns(rows: Sequence[Evaluation]) -> list[str]:
    return list(dict.fromkeys(name for row in sorted(rows, key=lambda row: -len(row.scores)) for name in row.scores))


def _other_proxies(result: SearchResult) -> list[str]:
    """Those beside the one that ranks; what only counts a cost that is shown is left out."""
    rows, proxy = result.leaderboard, ranking_proxy(result)
    names = [name for name in _columns(rows) if name != proxy]
    return [name for name in names if not _only_counts(rows, name)]


def _only_counts(rows: Sequence[Evaluation], name: str) -> bool:
    """Whether a proxy has the name of a cost and its values."""
    return name in BASELINES and all(row.scores.get(name) == getattr(row, name) for row in rows)


def baselines(result: SearchResult) -> Markup:
    """How much of the ranking each cost explains, and where the winner would stand by it alone."""
    rows, proxy = result.leaderboard, ranking_proxy(result)
    body = []
    for name in BASELINES:
        larger = sum(getattr(row, name) > getattr(rows[0], name) for row in rows)
        alike = sum(getattr(row, name) == getattr(rows[0], name) for row in rows) - 1
        others = f"{alike:,} other{'s' * (alike != 1)}"
        alone = f"{larger + 1:,} of {len(rows):,}" + f", shared with {others}" * bool(alike)
        body.append([COSTS[name], value(result.baselines.get(name), "+.2f"), alone])
    head = ["sorted by", f"rank correlation with {proxy}", "winner's place"]
    how = (
        "Spearman's rank correlation, from -1 to 1, and the place that the winner would have if the largest came first. Near 1 "
        f"the ranking is that of size, and one could have sorted by size without scoring anything: from {SAYS_LITTLE} on the "
        f"card warns, where at least {ENOUGH} candidates have a score. It says nothing of accuracy."
    )
    return joined([table("What size alone explains", head, body), tag("p", how, class_="quiet")])


# ---- the search


def funnel(result: SearchResult) -> Markup:
    """What became of the candidates that were proposed."""
    one = result.funnel
    rows: list[tuple[str, int]] = [("sampled", one.sampled), ("repeated", one.repeated)]
    for name, count in one.rejected.items():
        bound = result.constraints.get(name)
        said = "" if bound is None else f" ({_plain(bound)})"
        rows.append((f"rejected by {name}{said}", count))
    rows += [
        ("failed", one.failed),
        ("dead", one.dead),
        ("scored", one.scored),
        (f"from a journal{lost_too(one)}", one.resumed),
    ]
    body = [
        [name, f"{count:,}", f"{count / one.sampled:.1%}" if one.sampled else "-"]
        for name, count in rows
        if count or name in ("sampled", "failed", "dead", "scored")
    ]
    return table("Candidates", ["", "number", "of those sampled"], body)


def troubles(result: SearchResult) -> Markup:
    """Dead and failed candidates, and what proxies refused, by their reasons."""
    found: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for row in result.history:
        why: list[tuple[str, str]] = [(row.status, row.reason or "no reason is known")] if row.status != "ok" else []
        why += [(f"refused by {name}", reason) for name, reason in row.details.get("refused", {}).items()]
        for key in why:
            found[key] += 1
            first.setdefault(key, row.name)
    if not found:
        return tag("p", "No candidate failed or is dead, and no proxy refused one.")
    body = [
        [kind, f"{count:,}", _shortened(reason), code(_shortened(first[kind, reason]))]
        for (kind, reason), count in found.most_common(ROWS)
    ]
    more = f"; {len(found) - ROWS:,} further reasons are left out" if len(found) > ROWS else ""
    return reasons_table(f"Dead, failed and refused candidates, by reason{more}", body)


def reasons_table(caption: str, rows: Sequence[Sequence[object]]) -> Markup:
    """Kind, number, reason and example: text, but for the number."""
    head = joined((tag("th", title, scope="col") for title in ("what", "number", "reason", "first of them")), "")
    body = joined(
        tag(
            "tr",
            tag("th", kind, scope="row"),
            tag("td", count, data_title="number"),
            tag("td", reason),
            tag("td", example, data_title="first of them"),
        )
        for kind, count, reason, example in rows
    )
    whole = tag(
        "table", tag("thead", tag("tr", head)), tag("tbody", body), class_="settings stacks", aria_label=caption
    )
    return titled(caption, whole)


# ---- settings, versions, costs


def configuration(result: SearchResult, batch_size: int | None, settings: Mapping[str, Any]) -> Markup:
    """What was searched, how, under which constraints and with which seed; and further settings as they were given."""
    channels, height, width = result.input_size
    images = f"{channels} x {height} x {width} (channels, height, width)"
    rows: list[tuple[object, object]] = [
        ("space", said(result.space)),
        (
            "proxies",
            joined([said(one) for one in result.proxies], "; ") + " (the first ranks)" * (len(result.proxies) > 1),
        ),
        ("strategy", said(result.strategy)),
        ("constraints", ", ".join(f"{name} {_plain(bound)}" for name, bound in result.constraints.items()) or "none"),
        ("candidates scored", f"{len(result.history):,}"),
        ("seed", result.seed),
        ("classes", f"{result.num_classes:,}"),
        ("images", images),
        ("precision", result.precision),
        ("probe batch", "not known" if batch_size is None else f"{batch_size:,} images"),
    ]
    flat = {name: one for name, one in settings.items() if not isinstance(one, (Mapping, list, tuple))}
    rows += [(name, _plain(one)) for name, one in flat.items()]
    parts = [settings_table("Settings of the search", [(name, _shortened(one)) for name, one in rows])]
    nested = {name: one for name, one in settings.items() if name not in flat}
    for name, one in nested.items():
        text = json.dumps(one, indent=1, default=str, ensure_ascii=False)
        parts.append(tag("details", tag("summary", name), tag("pre", code(text))))
    return joined(parts)


def said(config: Mapping[str, Any]) -> str:
    """``NASBench201(width=8, cells=1)``; a vote with its members."""
    if "class_path" not in config:
        return "not known"
    name = str(config["class_path"]).rpartition(".")[2]
    arguments = ", ".join(f"{key}={_argument(one)}" for key, one in config.get("init_args", {}).items())
    return f"{name}({arguments})"


def _argument(one: Any) -> str:
    if isinstance(one, Mapping) and "class_path" in one:
        return said(one)
    if isinstance(one, (list, tuple)):
        return f"[{', '.join(map(_argument, one))}]"
    return repr(one)


def _plain(one: Any) -> str:
    if isinstance(one, Mapping):
        return ", ".join(f"{name}={each}" for name, each in one.items())
    return f"{one:,.10g}" if isinstance(one, (int, float)) and not isinstance(one, bool) else str(one)


def _shortened(one: object, longest: int = _LONGEST) -> str:
    text = str(one)
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"


def costs(result: SearchResult, device: str | None) -> Markup:
    """How long it took."""
    seconds = [row.seconds for row in result.history]
    whole, fresh = math.fsum(seconds), len(result.history) - result.funnel.resumed
    rows: list[tuple[object, object]] = []
    if fresh > 0 and result.seconds > 0:
        rate = f"{fresh:,} of the candidates were scored in it, {fresh / result.seconds:,.3g} a second"
        rows.append(("wall time of the search", f"{result.seconds:,.1f} s ({rate})"))
    if whole > 0:
        each = f"{len(seconds) / whole:,.3g} a second; median {1000 * statistics.median(seconds):,.4g} ms a candidate"
        rows.append(("building and scoring, all candidates together", f"{whole:,.1f} s ({each})"))
    for name in _columns(result.leaderboard):
        known = [row.proxy_seconds[name] for row in result.history if name in row.proxy_seconds]
        if known:
            rows.append((f"of it {name}", f"{math.fsum(known):,.1f} s (a pass that proxies share counts for each)"))
    rows.append(("device", device or "not recorded"))
    return settings_table("Costs", rows)


def versions(result: SearchResult, here: Mapping[str, str]) -> Markup:
    """Libraries that computed the scores, and those that wrote the card."""
    names = dict.fromkeys([*result.versions, *here])
    body = [[name, result.versions.get(name, "not recorded"), here.get(name, "-")] for name in names]
    return table("Versions", ["", "computed the scores", "wrote this card"], body)
