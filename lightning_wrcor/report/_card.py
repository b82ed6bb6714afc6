"""The search card: one file that lets a person say why the winner won."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_wrcor._matplotlib import check_drawing
from lightning_wrcor.proxies._score import Batch, check_batch
from lightning_wrcor.report import _card_sections as sections
from lightning_wrcor.report._card_figures import WIDE, WIDTH, needs_room, pictures
from lightning_wrcor.report._card_html import Markup, bullets, code, joined, page, section, tag
from lightning_wrcor.report._card_outcome import TrainingOutcome, in_words, training
from lightning_wrcor.report._card_why import against_random, of_size, sentences
from lightning_wrcor.report._figures import all_figures
from lightning_wrcor.search import SearchResult
from lightning_wrcor.search._messages import images_of
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLE = 80
"""Characters of a name in the title of the window."""


def write_card(
    result: SearchResult,
    path: str | os.PathLike[str],
    *,
    batch: Batch | None = None,
    space: Space | None = None,
    outcome: TrainingOutcome | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Path:
    """Write the search card: one HTML file with everything in it, to be read in a browser and to be printed.

    It says why the winner won (its lead, the size and the shape term, the layers that carry the score, its place among
    random candidates), how much of the ranking size alone explains, and shows the leaderboard with baselines, all figures
    of `all_figures`, what became of the other candidates, settings, versions, seed and costs. It fetches nothing and runs
    nothing. Where matplotlib is missing it has no figures, and says how to get them.

    Args:
        result: the search, which may be under way: `lightning_wrcor.SearchResult.from_journal`.
        path: the file, made with its folder; a file that is there is replaced at once, never half written.
        batch: the search's probe batch, ``(images, labels)`` as for `lightning_wrcor.score`, for the correlation matrices.
        space: as for `lightning_wrcor.SearchResult.network`.
        outcome: what training made of the winner, where it was trained.
        settings: what else a reader should know and a result does not hold (budget, precision, a configuration), as plain
            values by name; mappings and lists are shown whole, below the others.
        device: what the scores were computed on, in words; by default the batch's device.

    Returns:
        The path.

    Raises:
        OSError: where the file cannot be written.
        ValueError: for a batch that nothing can be scored on.

    Example:
        >>> import tempfile, torch
        >>> from lightning_wrcor import zero_shot_search
        >>> batch = torch.randn(4, 3, 8, 8), torch.arange(4) % 2
        >>> result = zero_shot_search(["test_resnet"], batch, progress=False)
        >>> write_card(result, f"{tempfile.mkdtemp()}/card.html", batch=batch).name
        'card.html'
    """
    if batch is not None:
        check_batch(batch)
        device = device or str(batch[0].device)
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(21, "The card is a file, but this is a folder", str(path))
    whole = page(_title(result), joined(_parts(result, batch, space, outcome, settings or {}, device)))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    fresh.write_text(whole, encoding="utf-8")
    fresh.replace(target)
    return target


def _title(result: SearchResult) -> str:
    name = result.best.name if result.leaderboard else "no winner yet"
    return f"Search card: {name if len(name) <= _TITLE else name[: _TITLE - 1] + '…'}"


def _parts(
    result: SearchResult,
    batch: Batch | None,
    space: Space | None,
    outcome: TrainingOutcome | None,
    settings: Mapping[str, Any],
    device: str | None,
) -> Iterator[Markup]:
    figures, missing = _figures(result, batch, space)
    body = list(_sections(result, figures, outcome, settings, batch, device))
    yield tag("header", joined(_head(result, missing, outcome), ""))
    links = [tag("a", title, href=f"#{key}") for key, title, _ in body]
    yield tag("nav", joined(links, " "), aria_label="Contents")
    yield tag("main", joined(section(key, title, content) for key, title, content in body))
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    yield tag(
        "footer",
        tag("p", f"Written by lightning_wrcor on {when}. A score compares untrained networks and is no accuracy."),
    )


def _figures(result: SearchResult, batch: Batch | None, space: Space | None) -> tuple[dict[str, Figure], str]:
    """The figures, and why there are none."""
    try:
        check_drawing(WIDTH)
    except ImportError as error:
        return {}, f"This card has no figures. {error}"
    figures = all_figures(result, batch, space=space, width=WIDTH)
    if "winner" in figures and needs_room(figures["winner"]):
        figures["winner"] = result.draw(width=WIDE, space=space)
    return figures, ""


def _head(result: SearchResult, missing: str, outcome: TrainingOutcome | None) -> Iterator[Markup]:
    yield tag("p", "Search card · ", sections.space_of(result), class_="kind")
    told = [*result.notes, *([missing] if missing else [])]
    if result.leaderboard:
        yield tag("h1", code(result.best.name))
        yield sections.key_facts(result)
        yield tag("p", sentences(result), class_="why")
        warned = " warning" if "Warning" in result.honesty else ""
        yield tag("div", tag("p", f"{result.honesty} {of_size(result)}"), class_=f"box{warned}")
    else:
        yield tag("h1", "No winner yet")
        yield tag("p", f"No candidate has a finite score: {result.funnel}.")
    if outcome is not None:
        yield tag("div", tag("p", in_words(result, outcome)), class_="box")
    if told:
        warned = " warning" if any(one.startswith("Warning") for one in told) else ""
        yield tag("div", tag("strong", "Notes"), bullets(told), class_=f"box{warned}")


def _sections(
    result: SearchResult,
    figures: Mapping[str, Figure],
    outcome: TrainingOutcome | None,
    settings: Mapping[str, Any],
    batch: Batch | None,
    device: str | None,
) -> Iterator[tuple[str, str, Markup]]:
    """Key, title and content of each part of the card."""

    def shown(*names: str) -> Markup:
        return pictures(figures, names, result)

    if result.leaderboard:
        why = bullets(against_random(result))
        yield "why", "Why it won", joined([why, shown("shares", "winner", "correlations")])
        scatters = shown(*(name for name in figures if name.startswith("score_")))
        stands = joined([sections.leaderboard(result, outcome), sections.baselines(result), scatters])
        yield "place", "Where it stands", stands
    if outcome is not None:
        yield "training", "What training made of it", training(result, outcome)
    search = [shown("progress", "funnel"), sections.funnel(result), sections.troubles(result)]
    yield "search", "The search", joined(search)
    size = images_of(result.leaderboard, batch)
    yield "settings", "Settings", sections.configuration(result, size, settings)
    here = {"python": platform.python_version(), **library_versions(("torch", "lightning", "timm", "lightning_wrcor"))}
    yield "costs", "Costs and versions", joined([sections.costs(result, device), sections.versions(result, here)])
