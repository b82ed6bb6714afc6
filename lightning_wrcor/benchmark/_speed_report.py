"""What the speed benchmark found: as a table in Markdown, and as JSON."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning_wrcor.benchmark._growth import Growth

WIDE = 802_816
"""Values an image of the large response: 64 channels of 112 x 112 pixels."""


@dataclass
class NetworkSpeed:
    """One network. Times are medians in seconds; ratios are medians over repetitions.

    Attributes:
        name: the network.
        pixels: height and width of the images.
        precision: of the training step and of the score.
        step: forward and backward with gradients of parameters.
        score: WRCor, once the network is built.
        over_step: WRCor over that training step.
        over_step_channels_last: over the same step with network and images in channels-last.
        four_over_one: wrcor, naswot, snip and zico in one pass over WRCor alone.
        sjw_over_step: synflow, jacob_cor and wrcor over the training step.
        published_over_score: the published way over WRCor; None, as the two above, where it was not timed.
        memory_over_step: peak memory of the score over that of the step; None where it was not measured.
        gmacs: 10^9 multiply-adds that the score cannot do without.
        gram_share: share of them that the correlations take.
        of_the_machine: share of the machine's rate of matrix products in this precision that the score reaches with these.
    """

    name: str
    pixels: int
    step: float
    score: float
    over_step: float
    over_step_channels_last: float
    gmacs: float
    gram_share: float
    of_the_machine: float
    four_over_one: float | None = None
    sjw_over_step: float | None = None
    published_over_score: float | None = None
    memory_over_step: float | None = None
    precision: str = "float32"


@dataclass
class Speed:
    """All that was measured.

    Attributes:
        setting: batch size, threads, device, repetitions and versions.
        rate: 10^9 multiply-adds a second of the machine, in a product of two large float32 matrices.
        networks: one row a network.
        wide_response: the published way over ours for one response of 64 x 802,816.
        overheads: by space, all of a search that is not scoring networks that are built, over that.
        growth: times as images, pixels, cells and candidates grow.
        bfloat16: Spearman's rank correlation of WRCor in bfloat16 with that in float32, over 100 candidates.
    """

    setting: dict[str, Any]
    rate: float
    networks: list[NetworkSpeed] = field(default_factory=list)
    wide_response: float | None = None
    overheads: dict[str, float] = field(default_factory=dict)
    growth: list[Growth] = field(default_factory=list)
    bfloat16: float | None = None


def format_speed(found: Speed) -> str:
    """Markdown: a table of the networks, in ms where none takes a second, and what stands for itself."""
    quick = all(max(row.step, row.score) < 1 for row in found.networks)
    unit, times, form = ("ms", 1e3, ".1f") if quick else ("s", 1.0, ".2f")
    head = (
        f"| | pixels | training step, {unit} | WRCor, {unit} | WRCor / step | / step, channels-last | memory / step "
        "| four / WRCor | SJW / step | published / WRCor | 10^9 MACs | of them correlations | of the machine's rate |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for row in found.networks:
        cells = [
            row.name if row.precision == "float32" else f"{row.name}, {row.precision}",
            str(row.pixels),
            format(times * row.step, form),
            format(times * row.score, form),
            f"{row.over_step:.2f}",
            f"{row.over_step_channels_last:.2f}",
            _or_dash(row.memory_over_step, ".2f"),
            _or_dash(row.four_over_one, ".2f"),
            _or_dash(row.sjw_over_step, ".2f"),
            _or_dash(row.published_over_score, ".1f"),
            f"{row.gmacs:.1f}",
            f"{row.gram_share:.0%}",
            f"{row.of_the_machine:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    told = []
    if found.networks:
        middle = statistics.median(row.over_step for row in found.networks)
        told.append(f"Median of WRCor over a training step: {middle:.2f}.")
    if found.wide_response is not None:
        told.append(
            f"Correlation of one response of {found.setting['batch size']} x {WIDE:,}, published way over ours: "
            f"{found.wide_response:.1f}."
        )
    for space, share in found.overheads.items():
        told.append(f"Building, checking and bookkeeping over scoring, {space}: {share:.1%}.")
    if found.bfloat16 is not None:
        told.append(
            f"Rank correlation of WRCor in bfloat16 with float32, 100 cells of NAS-Bench-201: {found.bfloat16:.3f}."
        )
    for grown in found.growth:
        first, last = grown.sizes[0], grown.sizes[-1]
        told.append(
            f"From {first} to {last} {grown.what}: {grown.seconds[-1] / grown.seconds[0]:.1f} times the time for "
            f"{grown.gmacs[-1] / grown.gmacs[0]:.1f} times the work."
        )
    told.append(f"The machine's rate: {found.rate:.0f} 10^9 multiply-adds a second.")
    setting = found.setting
    told.append(
        f"{setting['batch size']} images (noise), {setting['repetitions']} repetitions; {setting['device']}; "
        f"{setting['versions']}"
    )
    return "\n".join([*(lines if found.networks else []), "", *told])


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def write(found: Speed, path: str | os.PathLike[str]) -> None:
    """Write all that was measured as JSON."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data: Mapping[str, Any] = {"format": "lightning_wrcor speed", "version": 1, **asdict(found)}
    target.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
