"""``python -m lightning_wrcor.report figures``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_wrcor.report._figures import all_figures
from lightning_wrcor.report._reading import read_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

FORMATS = ("png", "pdf", "svg")
_DOTS = 200
"""Of a PNG, an inch."""


def add_figures(commands: Any) -> None:
    """Add the subcommand; ``run`` of what it parses draws."""
    parser = commands.add_parser(
        "figures",
        help="draw the figures of a search as files",
        description="Draw the figures of a search: its winner, score against costs, progress, funnel and layer shares. "
        "The search may be under way. Matrices of correlations need a batch: lightning_wrcor.report.draw_correlations.",
    )
    add = parser.add_argument
    add("search", help="the journal of a search, or its search.json")
    add("--out", required=True, metavar="FOLDER", help="where the files go; those of the same names are replaced")
    add("--format", choices=FORMATS, default="png", help="png (the default), pdf or svg")
    add("--width", type=_inches, default=7.0, help="inches: 3.5 or 7 for a paper (7 is the default), 13 for a slide")
    add("--proxy", help="rank by another proxy or vote whose values are stored")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> None:
    figures = all_figures(read_result(given.search, given.proxy), width=given.width)
    folder = Path(given.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        path = folder / f"{name}.{given.format}"
        figure.savefig(path, dpi=_DOTS, bbox_inches=_as_wide(figure, given.width))  # without pyplot: it needs no screen
        print(path)


def _as_wide(figure: Figure, width: float) -> Bbox:
    """The figure with as much room on both sides as makes it ``width`` inches wide: a drawing of a genotype is narrower."""
    from matplotlib.transforms import Bbox

    wide, high = figure.get_size_inches()
    room = max(0.0, (width - wide) / 2)
    return Bbox([[-room, 0.0], [wide + room, high]])


def _inches(text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 1 <= width <= 100:
        raise argparse.ArgumentTypeError(f"a width is 1 to 100 inches; got {text!r}")
    return width
