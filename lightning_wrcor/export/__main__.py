"""``python -m lightning_wrcor.export CHECKPOINT FOLDER``: the trained winner as files, with a model card."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lightning_wrcor._mistakes import end, told_plainly, with_tracebacks
from lightning_wrcor.export import FORMATS, export_network


def main(argv: Sequence[str] | None = None) -> None:
    """Export one checkpoint; a mistake ends the program with one message and status 2.

    Args:
        argv: the command line without the program's name; None takes the one that Python was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m lightning_wrcor.export", description=__doc__)
    add = parser.add_argument
    add("checkpoint", help="a checkpoint written with ZeroShotSearch or ZeroShotSearchModule")
    add("folder", help="where the files go; a folder that holds an export is replaced")
    add("--formats", default="weights,program", help=f"separated by commas: {', '.join(FORMATS)}")
    add("--image-size", type=int, help="pixels a side of the images, where the checkpoint does not say it")
    add("--mean", help="mean of each channel that normalisation subtracts, such as 0.485,0.456,0.406")
    add("--std", help="standard deviation of each channel that normalisation divides by")
    add("--search", help="search.json of the search, for the card")
    add("--figure", action="append", default=[], metavar="NAME=VALUE", help="for the card, such as test/top1=0.81")
    add("--data", help="for the card: what the figures were measured on")
    given = parser.parse_args(argv)
    try:
        with told_plainly():
            figures = dict(_figure(text) for text in given.figure)
            exported = export_network(
                given.checkpoint,
                given.folder,
                [part.strip() for part in given.formats.split(",") if part.strip()],
                image_size=given.image_size,
                mean=_numbers("--mean", given.mean),
                std=_numbers("--std", given.std),
                search=given.search,
                figures={**figures, "data": given.data} if given.data else figures,
            )
    except ImportError as error:
        if with_tracebacks():
            raise
        end(str(error))
    for path in sorted(exported.folder.iterdir()):
        print(path)


def _figure(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--figure takes NAME=NUMBER, such as test/top1=0.81; got {text!r}.") from None


def _numbers(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between; got {text!r}.") from None


if __name__ == "__main__":
    main()
