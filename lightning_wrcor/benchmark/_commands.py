"""The command lines of ``correlate`` and ``agreement``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lightning_wrcor.benchmark._statistics import RESAMPLES
from lightning_wrcor.benchmark.agreement import compare_runs, format_agreement
from lightning_wrcor.benchmark.correlate import correlate
from lightning_wrcor.search import SearchError

INTERRUPTED = 130


def add_correlate(commands: Any) -> None:
    """Add ``correlate`` to the command line."""
    parser = commands.add_parser("correlate", help="rank correlation of proxies with known accuracies")
    add = parser.add_argument
    add("--space", required=True, help="name of the search space, or JSON or YAML text of class_path and init_args")
    add("--accuracies", required=True, help="CSV file of architectures and accuracies, or JSON file of NDS (.gz too)")
    add("--column", required=True, help="column of the accuracies, or several with commas between")
    add(
        "--images",
        required=True,
        help=".npz file with x_train (n, h, w, c) uint8 and y_train (n,), or folder of folders",
    )
    add("--out", required=True, help="folder for the journal, the scores, the tables and the figures")
    add("--proxies", default="wrcor", help="names of proxies and votes, separated by commas")
    add("--limit", type=int, help="number of networks, drawn at random; all without it")
    add("--seed", type=int, default=0, help="chooses networks, images and weights")
    add("--rows-seed", type=int, help="chooses the networks instead of --seed: keep it where only --seed changes")
    add("--batch-size", type=int, default=64, help="images in the probe batch")
    add("--image-size", type=int, help="pixels a side of the images; a folder's default is the space's own")
    add("--num-classes", type=int, help="classes of the networks; by default the largest label of all images + 1")
    add("--architectures", help="column of the architectures, found where it has a usual name; several are joined by ;")
    add("--table", help="table of a JSON file that holds several")
    add("--where", action="append", metavar="COLUMN=VALUE", help="keep rows with this value; may be repeated")
    add("--match", metavar="REGEX", help="keep rows in whose architecture this is found")
    add("--errors", action="store_true", help="the columns hold errors in per cent (known of NDS files)")
    add("--device", default="cpu", help="where networks are scored, such as cuda")
    add("--threads", type=int, help="threads of torch; tiny networks are faster with one")
    add("--resamples", type=int, default=RESAMPLES, help="bootstrap resamples")
    add("--only-report", action="store_true", help="make the tables of what the journal has, and score nothing")
    add("--no-figures", action="store_false", dest="figures", help="draw no figures")
    parser.set_defaults(run=_correlate)


def add_agreement(commands: Any) -> None:
    """Add ``agreement`` to the command line."""
    parser = commands.add_parser("agreement", help="rank correlation of two runs' scores, and of published scores")
    parser.add_argument("first", help="scores.csv of one run, or several with commas between, of one scored in parts")
    parser.add_argument("second", help="scores.csv of another run on the same networks, likewise")
    parser.add_argument("--published", help="CSV file (.gz too) with published scores")
    parser.add_argument("--prefix", default="published_", help="what the names of its columns begin with")
    parser.add_argument("--names", default="", help="published names of proxies: ours=theirs,ours=theirs")
    parser.add_argument("--architectures", help="its column of architectures, found where it has a usual name")
    parser.set_defaults(run=_agreement)


def _correlate(arguments: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "run")}
    try:
        given["where"] = _pairs(given["where"] or [], "--where")
        given |= {
            name: [part.strip() for part in given[name].split(",") if part.strip()] for name in ("column", "proxies")
        }
        report = correlate(**given)
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on; with --only-report it makes the tables so far.", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, SearchError) as error:
        return _refuse(error)
    print(report.to_markdown(), end="")
    return 0


def _agreement(arguments: argparse.Namespace) -> int:
    try:
        names = _pairs([part for part in arguments.names.split(",") if part], "--names")
        rows = compare_runs(
            arguments.first.split(","),
            arguments.second.split(","),
            arguments.published,
            arguments.prefix,
            names,
            arguments.architectures,
        )
    except (ValueError, OSError) as error:
        return _refuse(error)
    print(format_agreement(rows))
    return 0


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise ValueError(f"{option} takes NAME=VALUE; got {text!r}.")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _refuse(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
