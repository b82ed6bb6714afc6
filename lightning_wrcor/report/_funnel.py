"""What became of the candidates that a strategy proposed."""

from __future__ import annotations

from matplotlib.figure import Figure

from lightning_wrcor.report._sheet import BLUE, FAINT, GREY, INK, ORANGE, VERMILION, Sheet, wrapped
from lightning_wrcor.report._told import SHORT, counted
from lightning_wrcor.search import SearchResult
from lightning_wrcor.search._funnel import lost_too


def draw(result: SearchResult, width: float) -> Figure:
    """The figure of `draw_funnel`."""
    funnel = result.funnel
    lost = [("repeated", funnel.repeated, GREY)] * bool(funnel.repeated)
    lost += [(_rejected(result, name), count, ORANGE) for name, count in funnel.rejected.items() if count]
    lost += [(name, count, VERMILION) for name, count in (("failed", funnel.failed), ("dead", funnel.dead)) if count]
    rows = [("sampled", funnel.sampled, FAINT), *lost, ("scored", funnel.scored, BLUE)]
    sheet = Sheet(width, 0.75 + 0.27 * len(rows))
    sheet.heading("What became of the candidates")
    resumed = f"{counted(funnel.resumed)} from the journal{lost_too(funnel)}"
    axes = sheet.axes(details=resumed if funnel.resumed else "")
    whole = max(funnel.sampled, *(count for _, count, _ in rows), 1)
    left = funnel.sampled
    for place, (name, count, colour) in enumerate(rows):
        ends = place in (0, len(rows) - 1)
        left -= 0 if ends else count
        start = 0 if ends else max(left, 0)
        axes.barh(place, count, left=start, height=0.72, color=colour, linewidth=0)
        share = f" ({count / funnel.sampled:.1%})" if place and funnel.sampled else ""
        axes.text(
            start + count + 0.012 * whole, place, f"{count:,}{share}", va="center", ha="left", fontsize=sheet.small,
            color=INK, label=name,
        )  # fmt: skip
    labels = ["\n".join(wrapped(name, 0.36 * width, sheet.small)) for name, _, _ in rows]
    axes.set_yticks(range(len(rows)), labels)
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, whole * (1.0 + 0.9 * sheet.scale / (0.6 * width)))
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return sheet.figure


def _rejected(result: SearchResult, name: str) -> str:
    """``rejected: MACs > 600 million``; the constraint's name where its bound is not known."""
    side, _, cost = name.partition("_")
    bound = result.constraints.get(name)
    if bound is None or cost not in SHORT or side not in ("max", "min"):
        return f"rejected by {name}"
    number = f"{bound / 1e6:,.4g} million" if cost in ("params", "macs") and bound >= 1e6 else f"{bound:,.10g}"
    unit = {"memory_mb": " MB", "latency_ms": " ms", "resolution": " pixels"}.get(cost, "")
    value = f"{'>' if side == 'max' else '<'} {number}{unit}".replace(" ", "\u00a0")  # stays in one line
    return f"rejected: {SHORT[cost]} {value}"
