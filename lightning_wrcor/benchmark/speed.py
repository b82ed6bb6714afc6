"""How fast scoring is: beside a training step, beside the published way, beside what the machine can do."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from lightning_wrcor.benchmark._growth import Growth, draw_growth, measure_growth
from lightning_wrcor.benchmark._peak_memory import peak_memory
from lightning_wrcor.benchmark._speed_networks import (
    FOUR,
    NAMES,
    SJW,
    Subject,
    count_work,
    now,
    numpy_correlation,
    published_score,
    ratio,
    scored,
    subject,
    timed,
    training_step,
)
from lightning_wrcor.benchmark._threads import threads_of_torch
from lightning_wrcor.proxies._correlation import correlations, multiply
from lightning_wrcor.proxies._precision import Precision
from lightning_wrcor.search import zero_shot_search
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import Space, get_space

WIDE = 802_816
"""Values an image of the large response: 64 channels of 112 x 112 pixels."""

ASPECTS = ("networks", "proxies", "memory", "published", "overhead", "growth", "precision")


@dataclass
class NetworkSpeed:
    """One network. Times are medians in seconds; ratios are medians over repetitions.

    Attributes:
        name: the network.
        pixels: height and width of the images.
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
        of_the_machine: share of the machine's rate of matrix products that the score reaches with these.
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


@dataclass
class Speed:
    """All that was measured.

    Attributes:
        setting: batch size, threads, device, repetitions and versions.
        rate: 10^9 multiply-adds a second of the machine, in a product of two float32 matrices of 2,048 x 2,048.
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


def measure_speed(
    names: Sequence[str] = NAMES,
    batch_size: int = 64,
    repeats: int = 3,
    device: str = "cpu",
    aspects: Sequence[str] = ASPECTS,
    say: Callable[[str], None] = lambda line: None,
) -> Speed:
    """Measure with the threads that torch has.

    Args:
        names: networks, of `NAMES`.
        batch_size: images.
        repeats: repetitions; each times everything once, so that ratios are within one moment.
        device: ``"cpu"`` or a CUDA device.
        aspects: what to measure, of `ASPECTS`.
        say: receives a line when something is done.

    Raises:
        ValueError: for a network or an aspect that there is not.
    """
    for one in names:
        if one not in NAMES:
            raise ValueError(f"There is no network {one!r} here; there are {', '.join(NAMES)}.")
    for one in aspects:
        if one not in ASPECTS:
            raise ValueError(f"There is no aspect {one!r}; there are {', '.join(ASPECTS)}.")
    found = Speed(_setting(batch_size, repeats, device), machine_rate(device))
    say(f"matrix products: {found.rate:.0f} 10^9 multiply-adds a second")
    if "published" in aspects:
        found.wide_response = _wide_response(batch_size, repeats, device)
        say(f"one response of {batch_size} x {WIDE:,}: {found.wide_response:.1f}")
    if "overhead" in aspects:
        for space, pixels in ((get_space("nasbench201"), 32), (get_space("mobilenet_v2", resolutions=128), 128)):
            name = type(space).__name__
            found.overheads[name] = measure_overhead(space, batch_size, pixels, device)
            say(f"not scoring, {name}: {found.overheads[name]:.1%}")
    if "precision" in aspects:
        found.bfloat16 = rank_agreement(device)
        say(f"bfloat16 and float32: {found.bfloat16:.3f}")
    if "growth" in aspects:
        found.growth = measure_growth(repeats, device)
        say("growth: done")
    if "networks" in aspects:
        for name in names:
            row = _network(subject(name, batch_size, device=device), repeats, device, found.rate, aspects)
            if "memory" in aspects:
                threads = torch.get_num_threads()
                peaks = [peak_memory(name, what, batch_size, device, threads) for what in ("score", "step")]
                row.memory_over_step = None if None in peaks else peaks[0] / peaks[1]  # type: ignore[operator]
            found.networks.append(row)
            say(f"{name}: {row.over_step:.2f} training steps")
    return found


def _setting(batch_size: int, repeats: int, device: str) -> dict[str, Any]:
    where = f"CPU, {torch.get_num_threads()} threads, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "batch size": batch_size,
        "repetitions": repeats,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else where,
        "threads": torch.get_num_threads(),
        "versions": library_versions(),
    }


def machine_rate(device: str = "cpu", size: int = 2048) -> float:
    """10^9 multiply-adds a second of a product of two float32 matrices: the best of some."""
    matrix = torch.randn(size, size, device=device)
    times = timed({"product": partial(torch.mm, matrix, matrix)}, 5, device)["product"]
    return size**3 / min(times) / 1e9


def _wide_response(batch_size: int, repeats: int, device: str) -> float:
    rows = torch.randn(batch_size, WIDE, device=device)
    times = timed(
        {"theirs": lambda: numpy_correlation(rows), "ours": lambda: correlations([multiply(rows)])[0].sum().item()},
        max(3, repeats),
        device,
    )
    return ratio(times["theirs"], times["ours"])


def measure_overhead(
    space: Space, batch_size: int = 64, pixels: int = 32, device: str = "cpu", budget: int = 12
) -> float:
    """All of a search with a journal that is not scoring networks that are built, over that.

    Building them, drawing and counting candidates, the journal, the ranking.

    Args:
        space: the space.
        batch_size: images (noise).
        pixels: their height and width.
        device: where candidates are scored.
        budget: candidates, after two that are not counted.
    """
    images = torch.randn(batch_size, 3, pixels, pixels, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(batch_size) % 10).to(device)
    zero_shot_search(space, (images, labels), budget=2, seed=1, progress=False)
    build, building = space.build, 0.0

    def timed_build(*args: Any, **kwargs: Any) -> nn.Module:
        nonlocal building
        start = now(device)
        network = build(*args, **kwargs)
        building += now(device) - start
        return network

    space.build = timed_build  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = now(device)
            journal = str(Path(folder) / "journal.jsonl")
            result = zero_shot_search(space, (images, labels), budget=budget, seed=0, progress=False, journal=journal)
            wall = now(device) - start
    finally:
        del space.build
    scoring = sum(row.seconds for row in result.history) - building
    return wall / scoring - 1


def rank_agreement(
    device: str = "cpu", candidates: int = 100, batch_size: int = 16, space: Space | None = None
) -> float:
    """Spearman's rank correlation of WRCor in bfloat16 with WRCor in float32 over the same candidates.

    Args:
        device: where they are scored.
        candidates: how many.
        batch_size: images (noise of 32 pixels).
        space: by default the whole of NAS-Bench-201.
    """
    from torchmetrics.functional import spearman_corrcoef

    images = torch.randn(batch_size, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(batch_size) % 10).to(device)
    full, half = (
        zero_shot_search(
            space or "nasbench201", (images, labels), budget=candidates, precision=precision, progress=False
        )
        for precision in get_args(Precision)
    )
    scores = {row.key: row.score for row in half.history}
    # Dead networks rank last, as in a search.
    pairs = [[one.score, scores[one.key]] for one in full.history]
    both = torch.tensor(pairs, dtype=torch.float64).clamp_min(-1e9)
    return float(spearman_corrcoef(both[:, 0], both[:, 1]))


def _network(one: Subject, repeats: int, device: str, rate: float, aspects: Sequence[str]) -> NetworkSpeed:
    work = count_work(one)
    actions: dict[str, Callable[[], object]] = {
        "step": partial(training_step, one),
        "score": partial(scored, one, ["wrcor"]),
        "step, channels last": partial(training_step, one, True),
    }
    if "proxies" in aspects:
        actions |= {"four": partial(scored, one, FOUR), "sjw": partial(scored, one, SJW)}
    if "published" in aspects:
        actions["published"] = partial(published_score, one)
    times = timed(actions, repeats, device)
    score = statistics.median(times["score"])
    return NetworkSpeed(
        name=one.name,
        pixels=one.pixels,
        step=statistics.median(times["step"]),
        score=score,
        over_step=ratio(times["score"], times["step"]),
        over_step_channels_last=ratio(times["score"], times["step, channels last"]),
        gmacs=work.macs / 1e9,
        gram_share=work.products / work.macs,
        of_the_machine=work.macs / 1e9 / score / rate,
        four_over_one=ratio(times["four"], times["score"]) if "four" in times else None,
        sjw_over_step=ratio(times["sjw"], times["step"]) if "sjw" in times else None,
        published_over_score=ratio(times["published"], times["score"]) if "published" in times else None,
    )


def format_speed(found: Speed) -> str:
    """Markdown: a table of the networks, and what stands for itself."""
    head = (
        "| | pixels | training step, s | WRCor, s | WRCor / step | / step, channels-last | memory / step | four / WRCor "
        "| SJW / step | published / WRCor | 10^9 MACs | of them correlations | of the machine's rate |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for row in found.networks:
        cells = [
            row.name,
            str(row.pixels),
            f"{row.step:.2f}",
            f"{row.score:.2f}",
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
            f"Correlation of one response of 64 x {WIDE:,}, published way over ours: {found.wide_response:.1f}."
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


def add_command(commands: Any) -> None:
    """Add ``speed`` to the command line."""
    parser = commands.add_parser("speed", help="how fast scoring is, beside a training step and the published way")
    parser.add_argument("--networks", default=",".join(NAMES), help="names with commas between")
    parser.add_argument("--aspects", default=",".join(ASPECTS), help="what to measure, with commas between")
    parser.add_argument("--batch-size", type=int, default=64, help="images in the batch (noise)")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; medians are shown")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--threads", type=int, help="threads of torch; by default as many as torch takes")
    parser.add_argument("--figure", help="an image file for how the time grows (aspect growth)")
    parser.add_argument("--out", help="a JSON file for all that was measured")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        with threads_of_torch(arguments.threads):
            found = measure_speed(
                arguments.networks.split(","),
                arguments.batch_size,
                arguments.repeats,
                arguments.device,
                arguments.aspects.split(","),
                lambda line: print(line, file=sys.stderr, flush=True),
            )
        if arguments.figure and found.growth:
            draw_growth(found.growth, arguments.figure)
        if arguments.out:
            write(found, arguments.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_speed(found))
    return 0


def write(found: Speed, path: str | os.PathLike[str]) -> None:
    """Write all that was measured as JSON."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data: Mapping[str, Any] = {"format": "lightning_wrcor speed", "version": 1, **asdict(found)}
    target.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
