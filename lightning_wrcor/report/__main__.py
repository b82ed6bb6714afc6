"""``python -m lightning_wrcor.report``: what a person sees of a search, as files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lightning_wrcor._mistakes import end, told_plainly, with_tracebacks
from lightning_wrcor.report._card_command import add_card
from lightning_wrcor.report._command import add_figures


def main(argv: Sequence[str] | None = None) -> None:
    """Run one subcommand; a mistake ends the program with one message and status 2.

    Args:
        argv: the command line without the program's name; None takes the one that Python was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m lightning_wrcor.report", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_figures(commands)
    add_card(commands)
    given = parser.parse_args(argv)
    try:
        with told_plainly():
            given.run(given)
    except (ImportError, OSError) as error:
        if with_tracebacks():
            raise
        end(str(error))


if __name__ == "__main__":
    main()
