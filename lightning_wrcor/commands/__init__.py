"""Quick commands: ``python -m lightning_wrcor score``, ``proxies`` and ``spaces``, without a configuration file.

Nothing here imports Lightning, and nothing but Python is imported until the command line has been understood.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "score": "score networks by their names, on a folder of images or on noise",
    "proxies": "list the proxies, or show one of them",
    "spaces": "list the search spaces, or show one of them",
}
"""Each command and what it does; the module of its name runs it."""

INTERRUPTED = 130


def summary() -> str:
    """The commands in one sentence, for the help of the Lightning CLI."""
    listed = "; ".join(f"`{name}` ({what})" for name, what in COMMANDS.items())
    return f"For a quick look, without a configuration file: {listed}. Each has its own --help."


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: the command line without the program's name: the command, then its arguments.

    Returns:
        0; 1 where a network could not be scored; 2 for a mistake in what was asked for.
    """
    from lightning_wrcor.commands._arguments import read_arguments

    arguments = read_arguments(argv)
    try:
        status = int(importlib.import_module(f"{__name__}.{arguments.command}").run(arguments))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `... | head` has read enough, and Python's last flush must not fail for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
