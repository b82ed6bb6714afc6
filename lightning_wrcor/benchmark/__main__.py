"""``python -m lightning_wrcor.benchmark``: measurements of this library, one subcommand each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lightning_wrcor.benchmark import (
    _commands,
    ablation,
    cost,
    counting,
    families,
    scaling,
    searches,
    speed,
    strategies,
    training,
    variants,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one measurement.

    Args:
        argv: the command line without the program's name; None takes the one that Python was started with.

    Returns:
        0; 1 where something falls short of what it should be; 2 for a mistake in what was asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m lightning_wrcor.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    families.add_command(commands)
    _commands.add_correlate(commands)
    _commands.add_agreement(commands)
    ablation.add_command(commands)
    cost.add_command(commands)
    counting.add_command(commands)
    variants.add_command(commands)
    strategies.add_command(commands)
    searches.add_command(commands)
    scaling.add_command(commands)
    speed.add_command(commands)
    training.add_command(commands)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
