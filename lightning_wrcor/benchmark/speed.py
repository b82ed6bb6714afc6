"""How fast scoring is: beside a training step, beside the published way, beside what the machine can do."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from lightning_wrcor.benchmark._growth import draw_growth, measure_growth
from lightning_wrcor.benchmark._peak_memory import peak_memory
from lightning_wrcor.benchmark._speed_networks import (
    FOUR,
    NAMES,
    SJW,
    Subject,
    count_work,
    in_channels_last,
    now,
    numpy_correlation,
    published_score,
    ratio,
    scored,
    subject,
    timed,
    training_step,
)
from lightning_wrcor.benchmark._speed_report import WIDE, NetworkSpeed, Speed, format_speed, write
from lightning_wrcor.benchmark._threads import threads_of_torch
from lightning_wrcor.proxies._correlation import correlations, multiply
from lightning_wrcor.proxies._precision import Precision, read_precision
from lightning_wrcor.search import zero_shot_search
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import Space, get_space

ASPECTS = ("networks", "proxies", "memory", "published", "overhead", "growth", "precision")


def measure_speed(
    names: Sequence[str] = NAMES,
    batch_size: int = 64,
    repeats: int = 3,
    device: str = "cpu",
    aspects: Sequence[str] = ASPECTS,
    say: Callable[[str], None] = lambda line: None,
    image_size: int | None = None,
    precisions: Sequence[Precision] = ("float32",),
) -> Speed:
    """Measure with the threads that torch has.

    Args:
        names: networks, of `NAMES`.
        batch_size: images.
        repeats: repetitions; each times everything once, so that ratios are within one moment.
        device: ``"cpu"`` or a CUDA device.
        aspects: what to measure, of `ASPECTS`.
        say: receives a line when something is done.
        image_size: pixels of the networks' images and of the search in the MobileNetV2 space; by default those of the table.
        precisions: those of the networks' training steps and scores, a row each.

    Raises:
        ValueError: for a network, an aspect, a device or a precision that there is not.
    """
    _check_device(device)
    precisions = [read_precision(one) for one in precisions]
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
        large = image_size or 128
        for space, pixels in ((get_space("nasbench201"), 32), (get_space("mobilenet_v2", resolutions=large), large)):
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
        rates = {one: found.rate if one == "float32" else machine_rate(device, one) for one in precisions}
        for name, precision in product(names, precisions):
            network = subject(name, batch_size, image_size, device)
            row = _network(network, repeats, device, precision, rates[precision], aspects)
            if "memory" in aspects:
                asked = (batch_size, device, torch.get_num_threads(), image_size, precision)
                peaks = [peak_memory(name, what, *asked) for what in ("score", "step")]
                row.memory_over_step = None if None in peaks else peaks[0] / peaks[1]  # type: ignore[operator]
            found.networks.append(row)
            say(f"{name}, {precision}: {row.over_step:.2f} training steps")
    return found


def _check_device(device: str) -> None:
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"Times are taken on cpu or cuda, whose end can be waited for; got {device!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"There is no CUDA device here, or torch ({torch.__version__}) was built without CUDA.")


def _setting(batch_size: int, repeats: int, device: str) -> dict[str, Any]:
    where = f"CPU, {torch.get_num_threads()} threads, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "batch size": batch_size,
        "repetitions": repeats,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else where,
        "threads": torch.get_num_threads(),
        "versions": library_versions(),
    }


def machine_rate(device: str = "cpu", precision: Precision = "float32") -> float:
    """10^9 multiply-adds a second of a product of two large matrices: the best of some."""
    size = 2048 if device == "cpu" else 8192  # which a GPU needs to be busy
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
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


def _network(
    one: Subject, repeats: int, device: str, precision: Precision, rate: float, aspects: Sequence[str]
) -> NetworkSpeed:
    work = count_work(one)
    actions: dict[str, Callable[[], object]] = {
        "step": partial(training_step, one, precision=precision),
        "score": partial(scored, one, ["wrcor"], precision),
        "step, channels last": partial(training_step, in_channels_last(one), True, precision),
    }
    if "proxies" in aspects:
        actions |= {"four": partial(scored, one, FOUR, precision), "sjw": partial(scored, one, SJW, precision)}
    if "published" in aspects and precision == "float32":  # as it was published
        actions["published"] = partial(published_score, one)
    times = timed(actions, repeats, device)
    score = statistics.median(times["score"])
    return NetworkSpeed(
        name=one.name,
        pixels=one.pixels,
        precision=precision,
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


def add_command(commands: Any) -> None:
    """Add ``speed`` to the command line."""
    parser = commands.add_parser("speed", help="how fast scoring is, beside a training step and the published way")
    parser.add_argument(
        "--networks", default=",".join(NAMES), help=f"names with commas between, of {', '.join(NAMES)}; by default all"
    )
    parser.add_argument(
        "--aspects",
        default=",".join(ASPECTS),
        help=f"what to measure, with commas between, of {', '.join(ASPECTS)}; by default all",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images in the batch (noise)")
    parser.add_argument("--image-size", type=int, help="pixels a side; by default a size for each network")
    parser.add_argument(
        "--precision",
        default="float32",
        help="of the networks' training steps and scores: float32, bfloat16 (autocast), or both with a comma between",
    )
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
                arguments.image_size,
                arguments.precision.split(","),
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
