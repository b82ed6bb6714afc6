"""The figures of a search card: sharp at every size, each with a caption that says how to read it, and with a text."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from lightning_wrcor.proxies import WRCor
from lightning_wrcor.report._card_html import Markup, joined, tag
from lightning_wrcor.report._card_why import place_in_history
from lightning_wrcor.report._told import COSTS, counted, explained, ranking_proxy
from lightning_wrcor.search import SearchResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, WIDE = 3.5, 7.0
"""Inches: text of 7 points can be read on a phone, whose page is as wide; and for what needs more room."""

_SMALLEST = 6.0
"""Points that text must have in a figure that a phone shows whole."""

_ON_A_PHONE = 6.8
"""Widths of a letter m to the inch on a phone, where a figure scrolls: text of 7 points has 11 pixels."""

_MANY, _DOTS = 400, 250
"""Points of one kind from which on they are a picture inside of the figure, and its dots to the inch."""


def pictures(figures: Mapping[str, Figure], names: Sequence[str], result: SearchResult) -> Markup:
    """Those of the figures that have these names, side by side where there is room."""
    shown = [_picture(name, figures[name], result) for name in names if name in figures]
    return tag("div", joined(shown), class_="figures") if shown else Markup("")


def needs_room(figure: Figure) -> bool:
    """Whether its text is too small to be read at the width of a phone."""
    from matplotlib.text import Text

    sizes = [float(one.get_fontsize()) for one in figure.findobj(Text) if one.get_text().strip() and one.get_visible()]
    return min(sizes, default=_SMALLEST) < _SMALLEST


def _picture(name: str, figure: Figure, result: SearchResult) -> Markup:
    inches = figure.get_figwidth()
    wide = inches > 1.05 * WIDTH
    # As an image and not as a part of the page: the identifiers of two figures would be the same.
    image = tag(
        "img",
        src=f"data:image/svg+xml;base64,{base64.b64encode(svg(figure)).decode()}",
        alt=_alt(name, result),
        width=f"{96 * inches:.0f}",
        height=f"{96 * figure.get_figheight():.0f}",
        # A small drawing is not blown up; and none is pressed onto a phone, where its text would be tiny.
        style=f"--most: {10.5 * inches:.1f}rem; --least: {(5.9 if wide else _ON_A_PHONE) * inches:.1f}rem",
        class_="wide" if wide else None,
    )
    image = Markup(image.removesuffix("</img>"))
    if wide:
        image = tag("div", image, class_="scroll", role="region", tabindex="0", aria_label="Figure that scrolls")
    else:
        image = tag("div", image, class_="scroll")
    return tag("figure", image, tag("figcaption", _caption(name, figure, result)), class_="wide" if wide else None)


def svg(figure: Figure) -> bytes:
    """The figure as SVG that stands alone; text is drawn, so that no font is needed."""
    import matplotlib
    from matplotlib.lines import Line2D

    for line in figure.findobj(Line2D):
        if line.get_marker() not in (None, "", "None", " ") and len(line.get_xdata()) > _MANY:  # type: ignore[arg-type]
            line.set_rasterized(True)
    held = BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.image_inline": True, "svg.hashsalt": "search card"}):
        figure.savefig(held, format="svg", dpi=_DOTS, metadata=nothing)
    whole = held.getvalue().decode("utf-8", "replace")
    whole = re.sub(r"<!--.*?-->\s*", "", whole[whole.index("<svg") :], flags=re.DOTALL)  # each text once more
    return whole.encode()


def _alt(name: str, result: SearchResult) -> str:
    """What the figure shows, for those who do not see it."""
    rows, proxy = result.leaderboard, ranking_proxy(result)
    funnel = result.funnel
    if name.startswith("score_"):
        cost = name.removeprefix("score_")
        best, front = rows[0], len(result.pareto(cost))  # type: ignore[arg-type]
        return (
            f"Scatter of {counted(len(rows))}: {proxy} against {COSTS[cost]}. The winner has {best.score:.4f} at "
            f"{getattr(best, cost):,.6g} {COSTS[cost]}; {front} on the Pareto front."
        )
    if name == "winner":
        return f"Drawing of the winner's genotype {rows[0].name}"
    if name == "progress":
        best_of = f" The best, {rows[0].score:.4f}, is number {place_in_history(result):,}." if rows else ""
        return f"{proxy} of {counted(len(result.history))} in the order of proposal.{best_of}"
    if name == "funnel":
        return f"Bars: {funnel}."
    if name == "shares":
        listed = "; ".join(
            f"layer {row['layer']}: "
            + ", ".join(f"{part}s {row[part]:.3g}" for part in ("activation", "gradient") if part in row)
            for row in rows[0].details["shares"]
        )
        return f"Bars of the layers' shares. {listed}."
    return "Correlation matrices between the images of the batch, for each layer and for the sum of all."


def _caption(name: str, figure: Figure, result: SearchResult) -> str:
    """How to read the figure."""
    if name.startswith("score_"):
        cost = COSTS[name.removeprefix("score_")]
        return (
            f"Score against {cost}, a point for every candidate. The line is the Pareto front: nobody is both cheaper and "
            f"better than a candidate on it. Where the whole cloud rises to the right, the score follows {cost}, and a high "
            "score says little else."
        )
    if name == "shares":
        of = explained(result.best)
        whose = (
            "" if of == ranking_proxy(result) else f" These shares are of {of or 'another proxy'}, which does not rank."
        )
        return (
            f"Which layers carry the score, from the input on the left.{whose} A share is how much the score grows with the "
            "logarithm of that layer's weight; all shares together are the number of images."
        ) + (_TWICE if of == WRCor.name else "")
    if name == "winner" and _says(figure, "multiply-adds"):
        return f"{_CAPTIONS[name]} The costs in it are for the classes and the images of the search."
    return _CAPTIONS[name]


def _says(figure: Figure, words: str) -> bool:
    from matplotlib.text import Text

    return any(one.get_text() == words for one in figure.findobj(Text))


_TWICE = " WRCor gives each layer twice the weight of the one before, so that its last layers carry the most in every network."
_CAPTIONS = {
    "winner": "The network that won, as its space describes it: cells as graphs from the input to the output, with what is "
    "done on the way, or stages and choices as a table.",
    "progress": "Every candidate in the order in which it was proposed, and the best so far. A line that still climbs at the "
    "end asks for a larger budget. Grey bands are generations, where the strategy has some: later ones should lie higher than "
    "the first, which was drawn at random.",
    "funnel": "What became of the candidates that were proposed, from above: what was repeated, rejected by a constraint, "
    "failed or dead, and what is left.",
    "correlations": "How much the images resemble each other in the winner: a row and a column for each image, sorted by "
    "class. Above the activations of each layer, below the gradients, and K, which is their weighted sum. Dark off the "
    "diagonal means that images are told apart there, which makes the shape term high; a light square on it is a class.",
}
