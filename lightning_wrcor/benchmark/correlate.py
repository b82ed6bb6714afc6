"""How well a proxy's ranking agrees with known accuracies, always beside parameters, MACs and depth."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_wrcor.search import Evaluation, Strategy, zero_shot_search
from lightning_wrcor.spaces import Genotype, Space, get_space

_ARCHITECTURES = ("arch", "architecture", "channels", "model", "name")


class Listed(Strategy):
    """Proposes the candidates of a list, in its order."""

    kind = "listed"
    default_budget = None
    generation = 16

    def __init__(self, candidates: Sequence[str]) -> None:
        self.candidates = candidates

    def start(self, space: Space, seed: int) -> None:
        """Begin with the first."""
        self._rest: list[Genotype] = [space.parse(text) for text in self.candidates]

    def ask(self, n: int) -> list[Genotype]:
        """The next ``n``."""
        asked, self._rest = self._rest[:n], self._rest[n:]
        return asked


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of one quantity with the accuracies.

    Attributes:
        name: the proxy, a part of it (``wrcor:size_term``), or a cost (``params``).
        spearman: Spearman's rank correlation, -1 to 1.
        kendall: Kendall's tau-b, -1 to 1.
        n: networks.
    """

    name: str
    spearman: float
    kendall: float
    n: int


def correlate(
    space: str | Space,
    accuracies: str | Path,
    column: str,
    images: str | Path,
    out: str | Path,
    proxies: Sequence[str] = ("wrcor",),
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    num_classes: int | None = None,
    architectures: str | None = None,
) -> list[Agreement]:
    """Score networks whose accuracy is known and compare the rankings. A run that was cut off goes on where it was.

    Args:
        space: the search space that reads the architectures.
        accuracies: a CSV file (``.gz`` too) with a column of architectures and one of accuracies.
        column: name of the accuracy column; rows without a number there are left out.
        images: an ``.npz`` file with ``x_train`` ``(n, height, width, 3)`` uint8 and ``y_train`` ``(n,)``.
        out: folder for the journal, the scores (``scores.csv``) and the table (``table.md``).
        proxies: names of proxies.
        limit: number of rows, drawn at random from ``seed``; None takes all.
        seed: chooses rows, images and weights.
        batch_size: images in the probe batch.
        num_classes: classes of the networks; by default one more than the largest label of the probe batch.
        architectures: name of the architecture column; found by itself where it has a usual name.

    Returns:
        One line for each proxy, each part of it, and each cost. Dead and failed networks rank last.

    Raises:
        ValueError: for a column that is not there; the message lists those there are.
    """
    space, folder = get_space(space), Path(out)
    rows = _rows(Path(accuracies), column, architectures)
    if limit is not None and limit < len(rows):
        rows = random.Random(seed).sample(rows, limit)
    result = zero_shot_search(
        space,
        _batch(Path(images), batch_size, seed),
        proxy=list(proxies),
        strategy=Listed([text for text, _ in rows]),
        seed=seed,
        num_classes=num_classes,
        journal=folder / "journal.jsonl",
    )
    by_key = {row.key: row for row in result.history}
    scored = [(by_key[space.key(space.parse(text))], accuracy) for text, accuracy in rows]
    table = _agreements(scored, proxies)
    _write(folder, scored, table, result.seconds, result.versions)
    return table


def add_command(commands: Any) -> None:
    """Add ``correlate`` to the command line."""
    parser = commands.add_parser("correlate", help="rank correlation of proxies with known accuracies")
    parser.add_argument("--space", required=True, help="name of the search space, such as nasbench201")
    parser.add_argument("--accuracies", required=True, help="CSV file (.gz too) of architectures and accuracies")
    parser.add_argument("--column", required=True, help="column of the accuracies")
    parser.add_argument("--images", required=True, help=".npz file with x_train (n, h, w, 3) uint8 and y_train (n,)")
    parser.add_argument("--out", required=True, help="folder for the journal, the scores and the table")
    parser.add_argument("--proxies", default="wrcor", help="names of proxies, separated by commas")
    parser.add_argument("--limit", type=int, help="number of rows, drawn at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="chooses rows, images and weights")
    parser.add_argument("--batch-size", type=int, default=64, help="images in the probe batch")
    parser.add_argument("--num-classes", type=int, help="classes of the networks")
    parser.add_argument(
        "--architectures", help="column of the architectures, found by itself where it has a usual name"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "run")}
    given["proxies"] = given["proxies"].split(",")
    print(format_table(correlate(**given)))
    return 0


def _rows(path: Path, column: str, architectures: str | None) -> list[tuple[str, float]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        where = architectures or next((name for name in _ARCHITECTURES if name in names), None)
        for wanted in (where, column):
            if wanted not in names:
                raise ValueError(f"{path} has no column {wanted!r}; it has {', '.join(names)}.")
        return [(row[str(where)], float(row[column])) for row in reader if row[column]]


def _batch(path: Path, batch_size: int, seed: int) -> tuple[Tensor, Tensor]:
    import numpy as np

    with np.load(path) as data:
        images, labels = torch.from_numpy(data["x_train"]), torch.from_numpy(data["y_train"]).long()
    pixels = images.float().permute(0, 3, 1, 2) / 255
    pixels = (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True)
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))[:batch_size]
    return pixels[chosen].contiguous(), labels[chosen]


def _agreements(scored: Sequence[tuple[Evaluation, float]], proxies: Sequence[str]) -> list[Agreement]:
    from torchmetrics.functional import kendall_rank_corrcoef, spearman_corrcoef

    columns: dict[str, list[float]] = {}
    for position, proxy in enumerate(proxies):
        columns[proxy] = [row.scores.get(proxy, -math.inf) for row, _ in scored]
        if position == 0 and any("size_term" in row.details for row, _ in scored):
            for part in ("size_term", "shape_term"):
                columns[f"{proxy}:{part}"] = [row.details.get(part, -math.inf) for row, _ in scored]
    for cost in ("params", "macs", "depth"):
        columns.setdefault(cost, [float(getattr(row, cost)) for row, _ in scored])
    target = torch.tensor([accuracy for _, accuracy in scored], dtype=torch.float64)
    table = []
    for name, values in columns.items():
        finite = [value for value in values if math.isfinite(value)]
        last = min(finite, default=0.0) - 1.0
        ranks = torch.tensor([value if math.isfinite(value) else last for value in values], dtype=torch.float64)
        table.append(
            Agreement(
                name,
                float(spearman_corrcoef(ranks, target)),
                float(torch.as_tensor(kendall_rank_corrcoef(ranks, target))),
                len(values),
            )
        )
    return table


def _write(
    folder: Path,
    scored: Sequence[tuple[Evaluation, float]],
    table: Sequence[Agreement],
    seconds: float,
    versions: dict[str, str],
) -> None:
    with open(folder / "scores.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = sorted({name for row, _ in scored for name in row.scores})
        writer.writerow(["architecture", "accuracy", *names, "params", "macs", "depth", "status", "seconds"])
        for row, accuracy in scored:
            values: list[Any] = [row.scores.get(name, "") for name in names]
            costs = [row.params, row.macs, row.depth, row.status, f"{row.seconds:.3f}"]
            writer.writerow([row.name, accuracy, *values, *costs])
    each = sum(row.seconds for row, _ in scored) / len(scored)
    (folder / "table.md").write_text(format_table(table) + f"\n\n{each:.2f} s a network. {json.dumps(versions)}\n")


def format_table(table: Sequence[Agreement]) -> str:
    """The agreements as a Markdown table."""
    lines = ["| | Spearman | Kendall | n |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {row.name} | {row.spearman:.3f} | {row.kendall:.3f} | {row.n} |" for row in table])
