"""``python -m lightning_wrcor.report card``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightning_wrcor.report._card import write_card
from lightning_wrcor.report._reading import is_journal, read_result


def add_card(commands: Any) -> None:
    """Add the subcommand; ``run`` of what it parses writes the card."""
    parser = commands.add_parser(
        "card",
        help="write the search card, one HTML file that says why the winner won",
        description="Write the search card: one HTML file with figures, leaderboard, baselines, settings and costs. The search "
        "may be under way. Matrices of correlations need a batch: lightning_wrcor.report.write_card.",
    )
    add = parser.add_argument
    add("search", help="the journal of a search, or its search.json")
    add("--out", required=True, metavar="FILE", help="the card, such as card.html; a file of that name is replaced")
    add("--proxy", help="rank by another proxy or vote whose values are stored")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> None:
    result = read_result(given.search, given.proxy)
    if is_journal(given.search):
        result.notes.append(
            "This card was written from a journal: the search may be under way, and candidates that were repeated or rejected "
            "are not in it, nor are its constraints and its race."
        )
    print(write_card(result, given.out, settings={"read from": Path(given.search).name}))
