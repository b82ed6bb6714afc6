"""One small network of each of timm's families: can it be scored, and is everything in it seen?"""

from __future__ import annotations

import argparse
import math
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.benchmark._second_count import look_inside
from lightning_wrcor.proxies import ScoreReport, score

SMALL = ("test_", "zepto", "atto", "femto", "pico", "nano", "xxs", "xx_small", "tiny", "xs", "x_small", "mini", "small")
"""Words in the names of small models."""

SIZES = (112, 128, 126, 144, 160, 192, 224, 256)
"""Pixels a side that are tried in this order, where the model's size is not fixed."""

CLASSES = 10

EXPLAINED = {
    "csatv2": "its spatial attention normalises over a single channel, which gives zero for every image: 14 of its "
    "activations are constant in any network of this family",
}
"""Families that cannot meet the requirement, and why."""


@dataclass
class FamilyResult:
    """What was found of one family.

    Attributes:
        family: timm's module.
        model: the model that stands for it.
        size: pixels a side.
        params: number of parameters.
        value: WRCor.
        module_calls: calls of torch's and timm's activation modules that are no gates, counted by plain hooks.
        modules_seen: those of them that were captured.
        calls: all non-linearities that were captured, functions included.
        unseen: custom autograd functions that no captured module accounts for.
        independent: calls whose input does not depend on the images.
        activations: activation responses in the score.
        gradients: gradient responses in the score.
        skipped: responses left out, by reason.
        mixed: responses whose rows are not the samples: one changes with another sample's image, or not with its own.
        notes: what the report says.
        seconds: wall time of the score.
        error: why there is no score.
    """

    family: str
    model: str = ""
    size: int = 0
    params: int = 0
    value: float = math.nan
    module_calls: int = 0
    modules_seen: int = 0
    calls: int = 0
    unseen: int = 0
    independent: int = 0
    activations: int = 0
    gradients: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    mixed: int = 0
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def coverage(self) -> float:
        """Share of the calls of listed activations that were captured."""
        called = self.module_calls + self.unseen
        return self.modules_seen / called if called else 1.0

    @property
    def skipped_share(self) -> float:
        """Share of the responses (to the images) that are not in the score."""
        responses = 2 * (self.calls - self.independent)
        return 1.0 - (self.activations + self.gradients) / responses if responses else 0.0

    @property
    def problems(self) -> list[str]:
        """Where it falls short: a finite score, 95 % captured, as many gradients as activations, 10 % left out."""
        if self.error:
            return [self.error]
        found = []
        if not math.isfinite(self.value):
            found.append("no finite score")
        if self.coverage < 0.95:
            found.append(f"only {self.coverage:.0%} captured")
        if self.gradients != self.activations:
            found.append(f"{self.activations} activations but {self.gradients} gradients")
        if self.skipped_share > 0.1:
            found.append(f"{self.skipped_share:.0%} of the responses left out")
        if self.mixed:
            found.append(f"samples mixed up in {self.mixed} responses")
        return found


def measure_family(family: str, model: str | None = None, batch_size: int = 4) -> FamilyResult:
    """Score one model of a family and count by other means what was seen.

    Args:
        family: timm's module.
        model: the model; None takes the smallest.
        batch_size: images in the batch, drawn from a normal distribution.
    """
    import timm

    result = FamilyResult(family)
    try:
        result.model = model or smallest_model(family)
        with own_random_numbers(0):
            network = timm.create_model(result.model, num_classes=CLASSES)
        result.params = sum(parameter.numel() for parameter in network.parameters())
        report, images = _score_at_a_workable_size(network, result.model, batch_size)
        result.size = images.shape[-1]
        _read(result, report)
        called, calls, result.mixed = look_inside(network, images)
        seen = Counter(call.module for call in calls)
        result.module_calls = called.total()
        result.modules_seen = sum(min(count, seen[name]) for name, count in called.items())
        result.independent = sum(not call.depends for call in calls)
    except Exception as error:  # listed in the table
        result.error = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return result


def smallest_model(family: str, most: int = 8) -> str:
    """The model of the family with the fewest parameters, of a few whose names look small.

    Args:
        family: timm's module.
        most: how many are built (without weights) and compared.
    """
    import timm

    def looks(name: str) -> tuple[int, int]:
        words = [place for place, word in enumerate(SMALL) if word in name]
        digits = [int(part) for part in "".join(c if c.isdigit() else " " for c in name).split()]
        return words[0] if words else len(SMALL), min(digits, default=0)

    params: dict[str, int] = {}
    for name in sorted(timm.list_models(module=family), key=looks)[:most]:
        with torch.device("meta"), own_random_numbers(0):
            try:
                network = timm.create_model(name, num_classes=CLASSES)
            except Exception:  # some compute with values while they are built: only where there is no other
                params[name] = 10**12
            else:
                encoder = getattr(network, "num_classes", CLASSES) != CLASSES  # it returns features
                params[name] = 10**13 if encoder else sum(parameter.numel() for parameter in network.parameters())
    return min(params, key=lambda name: params[name])


def _score_at_a_workable_size(network: nn.Module, model: str, batch_size: int) -> tuple[ScoreReport, Tensor]:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model)
    own = config.input_size[1] if config is not None else 224
    fixed = config is not None and config.fixed_input_size
    sizes = [own] if fixed else [*(size for size in SIZES if size < own), own]
    for size in sizes:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch_size, 3, size, size, generator=generator)
        try:
            return score(network, (images, torch.arange(batch_size) % CLASSES)), images
        except Exception:  # sizes that do not fit are refused in as many ways as there are models
            if size == own:
                raise
    raise AssertionError("unreachable")


def _read(result: FamilyResult, report: ScoreReport) -> None:
    result.value = report.value
    result.calls = report.depth
    result.unseen = round(report.depth / report.coverage) - report.depth if report.coverage else 0
    result.activations = report.responses_used.get("activations", 0)
    result.gradients = report.responses_used.get("gradients", 0)
    result.skipped = report.responses_skipped
    result.notes = report.notes
    result.seconds = report.seconds
    result.error = report.reason or ""


# ---- the command


def add_command(commands: Any) -> None:
    """Add ``families`` to the subcommands."""
    parser: argparse.ArgumentParser = commands.add_parser("families", help=__doc__, description=__doc__)
    parser.add_argument(
        "--output", type=Path, help="Markdown file for the table; without it only the summary is printed"
    )
    parser.add_argument("--families", nargs="+", metavar="MODULE", help="timm's modules (default: all)")
    parser.add_argument("--batch-size", type=int, default=4, metavar="B", help="images in the batch (default: 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure the families, write the table, print the summary; 1 where a family falls short."""
    import timm

    torch.set_num_threads(arguments.threads)
    families = arguments.families or timm.list_modules()
    results = []
    for family in families:
        results.append(measure_family(family, batch_size=arguments.batch_size))
        last = results[-1]
        print(f"{family}: {last.model}, {last.value:.2f}, {'; '.join(last.problems) or 'ok'}", flush=True)
    print(summary(results))
    if arguments.output is not None:
        command = "python -m lightning_wrcor.benchmark families"
        command += f" --families {' '.join(arguments.families)}" if arguments.families else ""
        command += f" --batch-size {arguments.batch_size}" if arguments.batch_size != 4 else ""
        arguments.output.write_text(table(results, f"{command} --output {arguments.output}"), encoding="utf-8")
    return int(any(result.problems and result.family not in EXPLAINED for result in results))


def summary(results: Sequence[FamilyResult]) -> str:
    """What holds of all families, in a few sentences."""
    scored = [result for result in results if not result.error]
    seen, called = (sum(getattr(result, name) for result in scored) for name in ("modules_seen", "module_calls"))
    responses = sum(2 * (result.calls - result.independent) for result in scored)
    used = sum(result.activations + result.gradients for result in scored)
    short = [
        f"{result.family} ({'; '.join(result.problems)}"
        + (f": {why})" if (why := EXPLAINED.get(result.family)) else ")")
        for result in results
        if result.problems
    ]
    return (
        f"{len(scored)} of {len(results)} families have a finite score. {seen:,} of {called:,} calls of activation modules "
        f"captured, {sum(result.calls for result in scored):,} non-linearities with those that are functions. "
        f"{used:,} of {responses:,} responses in the scores. "
        + (f"Short of the requirement: {', '.join(short)}." if short else "Every family meets the requirement.")
    )


def table(results: Sequence[FamilyResult], command: str) -> str:
    """The Markdown page."""
    import timm

    rows = []
    cells: list[Any]
    for result in results:
        left_out = ", ".join(f"{count} ({reason})" for reason, count in result.skipped.items())
        remarks = "; ".join([*result.problems, *result.notes])
        captured = f"{result.modules_seen}/{result.module_calls}"
        cells = [
            result.family,
            result.model,
            result.size,
            f"{result.params / 1e6:.1f}",
            f"{result.value:.2f}",
            captured,
        ]
        cells += [result.calls, result.activations, result.gradients, left_out, f"{result.seconds:.1f}", remarks]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    versions = f"torch {torch.__version__}, timm {timm.__version__}, Python {platform.python_version()}"
    return "\n".join(
        [
            "# timm's families",
            "",
            "One small network of each of timm's families, scored with WRCor: random weights, random images. Required of",
            "each: a finite score, at least 95 % of the calls of activation modules captured (counted a second time, by plain",
            "forward hooks on torch's and timm's activation classes), as many gradients as activations, and at most 10 % of",
            "the responses left out. That the rows of a response are the samples is checked by changing one image.",
            "",
            summary(results),
            "",
            f"`{command}`, {date.today().isoformat()}, {versions}.",
            "",
            "| family | model | pixels | M parameters | WRCor | modules captured | non-linearities | activations | gradients "
            "| left out | seconds | remarks |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
