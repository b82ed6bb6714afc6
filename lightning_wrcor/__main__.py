"""``python -m lightning_wrcor``: the quick commands, and for everything else the Lightning CLI."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lightning_wrcor import commands


def main(args: Sequence[str] | None = None) -> object:
    """Run the command line; quick commands start without Lightning, which takes seconds to import.

    Args:
        args: the command line without the program's name; None takes it from the process.

    Returns:
        The exit status of a quick command, or the `lightning.pytorch.cli.LightningCLI` that ran.
    """
    given = list(sys.argv[1:] if args is None else args)
    if given and given[0] in commands.COMMANDS:
        return commands.main(given)
    from lightning_wrcor.cli import main as lightning_cli

    return lightning_cli(args)


if __name__ == "__main__":
    status = main()
    if isinstance(status, int):
        sys.exit(status)
