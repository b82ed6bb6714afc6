"""The arguments of the quick commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lightning_wrcor.commands import COMMANDS

_SCORE = """
Scores are those of a search over the same networks,

    zero_shot_search(TimmModels([NAMES], image_size=SIZE), (images, labels),
                     strategy="exhaustive", num_classes=CLASSES, seed=SEED,
                     precision=PRECISION)

(with --space, that space in the place of TimmModels): each network's weights
come from the seed and its name. The function score(network, batch) is another
thing: it scores the weights that a network has, and does not normalise wrcor by
depth.

Noise is torch.randn(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(SEED))
with the labels torch.arange(BATCH) % CLASSES.

Exit status: 0; 1 where a network could not be scored (the others are); 2 for a
mistake in what was asked for.
"""


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Understand a command line; what cannot be understood ends the program with status 2."""
    parser = argparse.ArgumentParser(prog="python -m lightning_wrcor")
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {
        name: commands.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, what in COMMANDS.items()
    }
    _add_score(parsers["score"])
    parsers["proxies"].add_argument("name", nargs="?", help="a proxy or vote: all that there is to say about it")
    _add_spaces(parsers["spaces"])
    return parser.parse_args(argv)


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _SCORE
    add = parser.add_argument
    add("names", nargs="+", metavar="NAME", help="a model of timm (a pattern such as 'resnet1*' too), or see --space")
    add(
        "--space",
        default="timm",
        help="search space whose text each NAME is, by its name or as JSON or YAML of class_path and init_args "
        "(default timm)",
    )
    add(
        "--proxy",
        action="append",
        help="proxy or vote; several with commas between, or the option again; the first ranks (default wrcor)",
    )
    add(
        "--images",
        metavar="PATH",
        help="folder with one folder of images a class, or .npz file with x_train (n, h, w, c) uint8 and y_train (n,); "
        "random noise without it",
    )
    add("--image-size", type=int, metavar="SIZE", help="pixels a side of the images; by default the space's own")
    add("--batch-size", type=int, default=64, metavar="BATCH", help="images in the probe batch (default 64)")
    add(
        "--num-classes",
        type=int,
        metavar="CLASSES",
        help="classes of the networks; by default those of the images, 1,000 on noise",
    )
    add("--seed", type=int, default=0, help="chooses weights, and images or noise (default 0)")
    add("--device", default="cpu", help="where networks are scored, such as cuda (default cpu)")
    add(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of the pass that proxies share; bfloat16 is for devices that are fast in it (default float32)",
    )
    add("--threads", type=int, help="threads of torch; tiny networks are faster with one")
    add("--json", action="store_true", help="everything that is known of each network, as JSON")


def _add_spaces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a space: its parameters, and one genotype with what it costs")
    parser.add_argument("--seed", type=int, default=0, help="chooses the genotype (default 0)")
    parser.add_argument("--num-classes", type=int, default=1000, help="classes of its network (default 1000)")
