"""Which initialisation and which definition reproduce published values of zen and l2_norm on NAS-Bench-201."""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.benchmark._tables import read_table
from lightning_wrcor.inspection.features import Features
from lightning_wrcor.spaces import NASBench201

INITIALISATIONS = ("torch's default", "Gaussian, deviation 1", "Kaiming normal")


@dataclass(frozen=True)
class Variant:
    """One way to compute a proxy, and how it agrees with the published column.

    Attributes:
        name: initialisation and definition.
        spearman: rank correlation with the published values.
        pearson: linear correlation with them.
        mean: mean of this variant.
        published: mean of the published values.
        n: networks.
    """

    name: str
    spearman: float
    pearson: float
    mean: float
    published: float
    n: int


@torch.no_grad()
def zen_variants(network: nn.Module, batch_size: int = 32) -> dict[str, float]:
    """Zen by several definitions, for one network as it is initialised; it sees 32 x 32 noise in training mode.

    The scale of normalisation is taken from the variance of the batch (the paper), or from the running variance after one
    and after two forward passes (what code that reads it afterwards gets: the momentum is 0.1, and it starts at 1).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
    noise, other = torch.randn(batch_size, 3, 32, 32), torch.randn(batch_size, 3, 32, 32)
    network.train()
    with _variances(norms) as seen, Features(batch_size) as features:
        logits = network(noise)
    batch_term = math.fsum(0.5 * math.log(value) if value > 0 else -math.inf for value in seen)
    first, once = features.tensor.clone(), _running(norms)
    with Features(batch_size) as features:
        moved_logits = network(noise + 0.01 * other)
    moved = float((first - features.tensor).abs().flatten(1).sum(1).mean())
    moved_log = math.log(moved) if moved > 0 else -math.inf
    return {
        "sum abs(change of features)": moved,
        "sum abs(change of logits)": float((logits - moved_logits).abs().sum(1).mean()),
        "log sum abs(change of features)": moved_log,
        "log sum + batch variances": moved_log + batch_term,
        "log sum + running variances after one pass": moved_log + once,
        "log sum + running variances after two passes": moved_log + _running(norms),
    }


@contextmanager
def _variances(norms: Sequence[nn.Module]) -> Iterator[list[float]]:
    """The mean over channels of the variance of what each normalisation receives."""
    seen: list[float] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(float(inputs[0].var((0, 2, 3)).mean()))

    handles = [norm.register_forward_pre_hook(hook) for norm in norms]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _running(norms: Sequence[nn.BatchNorm2d]) -> float:
    return math.fsum(0.5 * math.log(float(norm.running_var.mean())) for norm in norms if norm.running_var is not None)


@torch.no_grad()
def l2_norm_variants(network: nn.Module) -> dict[str, float]:
    """Sum of the 2-norms of all convolutions and linear maps, and of the convolutions alone."""
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    norms = {module: float(module.weight.norm()) for module in layers}
    return {
        "sum of norms": math.fsum(norms.values()),
        "of convolutions alone": math.fsum(norm for module, norm in norms.items() if isinstance(module, nn.Conv2d)),
    }


@torch.no_grad()
def initialise(network: nn.Module, how: str) -> None:
    """Draw the weights as one of `INITIALISATIONS` says."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and how != INITIALISATIONS[0]:
            if how == INITIALISATIONS[1]:
                nn.init.normal_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def compare_variants(path: Path, proxy: str, limit: int | None = None, seed: int = 0) -> list[Variant]:
    """All variants of one proxy against its published column.

    Args:
        path: table with ``arch`` and ``published_zen`` or ``published_l2_norm``.
        proxy: ``"zen"`` or ``"l2_norm"``.
        limit: networks, drawn at random; None takes all.
        seed: draws networks, weights and noise.

    Raises:
        ValueError: for another proxy, or a table without the column.
    """
    from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

    if proxy not in ("zen", "l2_norm"):
        raise ValueError(f"There are variants of zen and l2_norm; got {proxy!r}.")
    column = f"published_{proxy}"
    rows = read_table(path, [column]).rows
    if limit is not None and limit < len(rows):
        rows = random.Random(seed).sample(rows, limit)
    space = NASBench201()
    values: dict[str, list[float]] = {}
    for row in rows:
        genotype = space.parse(row.text)
        for how in INITIALISATIONS:
            with own_random_numbers(derive_seed(seed, row.text, how)):
                network = space.build(genotype, num_classes=10)
                initialise(network, how)
                found = zen_variants(network) if proxy == "zen" else l2_norm_variants(network)
            for name, value in found.items():
                values.setdefault(f"{how}: {name}", []).append(value)
    published = torch.tensor([row.accuracies[column] for row in rows], dtype=torch.float64)
    result = []
    for name, column_values in values.items():
        ours = torch.tensor(column_values, dtype=torch.float64)
        finite = ours.isfinite()
        one, other = ours[finite], published[finite]
        spearman, pearson = float(spearman_corrcoef(one, other)), float(pearson_corrcoef(one, other))
        result.append(Variant(name, spearman, pearson, float(one.mean()), float(other.mean()), len(one)))
    return result


def add_command(commands: Any) -> None:
    """Add ``variants`` to the command line."""
    parser = commands.add_parser("variants", help="which definitions reproduce published values of zen and l2_norm")
    parser.add_argument("proxy", choices=["zen", "l2_norm"])
    parser.add_argument("--published", required=True, help="CSV file (.gz too) with arch and published_zen, ...")
    parser.add_argument("--limit", type=int, help="networks, drawn at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="draws networks, weights and noise")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        variants = compare_variants(Path(arguments.published), arguments.proxy, arguments.limit, arguments.seed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("| initialisation: definition | Spearman | Pearson | mean | published mean | n |\n|---|---|---|---|---|---|")
    for one in variants:
        numbers = f"{one.spearman:.3f} | {one.pearson:.3f} | {one.mean:.4g} | {one.published:.4g} | {one.n}"
        print(f"| {one.name} | {numbers} |")
    return 0
