"""How the time of a score grows: with images, pixels, depth and candidates, beside the work that there is to do."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from lightning_wrcor.benchmark._speed_networks import count_work, scored, subject, timed
from lightning_wrcor.search import zero_shot_search
from lightning_wrcor.spaces import get_space

SIZES: dict[str, tuple[int, ...]] = {
    "images": (16, 32, 64, 128),
    "pixels": (16, 32, 48, 64),
    "cells a stage": (1, 2, 4, 8),
    "candidates": (4, 8, 16, 32),
}
"""What grows, and the sizes that are timed."""


@dataclass
class Growth:
    """Times as one thing grows, everything else being equal.

    Attributes:
        what: what grows.
        sizes: how large it is.
        seconds: median time at each size.
        gmacs: 10^9 multiply-adds that are to be done at each size; for candidates their number.
    """

    what: str
    sizes: list[int]
    seconds: list[float]
    gmacs: list[float]

    @property
    def over_work(self) -> float:
        """Growth of the time over the growth of the work, from the smallest to the largest; at most 1 is good."""
        return (self.seconds[-1] / self.seconds[0]) / (self.gmacs[-1] / self.gmacs[0])


def measure_growth(
    repeats: int = 3, device: str = "cpu", sizes: dict[str, tuple[int, ...]] | None = None
) -> list[Growth]:
    """Time WRCor on NAS-Bench-201's network of 3x3 convolutions, and random searches of that space.

    The network has one cell a stage and takes 16 images of 32 pixels, except for what grows.

    Args:
        repeats: repetitions; medians are taken.
        device: ``"cpu"`` or a CUDA device.
        sizes: as `SIZES`.
    """
    found = []
    for what, steps in (sizes or SIZES).items():
        actions: dict[str, Callable[[], object]] = {}
        work: list[float] = []
        for size in steps:
            if what == "candidates":
                actions[str(size)] = partial(_search, size, device)
                work.append(float(size))
                continue
            one = subject(
                "nasbench201",
                size if what == "images" else 16,
                size if what == "pixels" else 32,
                device,
                size if what == "cells a stage" else 1,
            )
            actions[str(size)] = partial(scored, one, ["wrcor"])
            work.append(count_work(one).macs / 1e9)
        times = timed(actions, repeats, device)
        found.append(Growth(what, list(steps), [statistics.median(times[str(size)]) for size in steps], work))
    return found


def _search(budget: int, device: str) -> None:
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(16) % 10).to(device)
    space = get_space("nasbench201", cells=1)
    zero_shot_search(space, (images, labels), budget=budget, progress=False)


def draw_growth(found: Sequence[Growth], path: str | Path) -> None:
    """Draw the times on logarithmic axes, each beside a line that grows as the work does."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    from lightning_wrcor.benchmark._figures import BLUE, GREY  # which imports matplotlib

    figure = Figure(figsize=(7.0, 2.2 * ((len(found) + 1) // 2)), layout="constrained")
    grid = figure.subplots((len(found) + 1) // 2, 2, squeeze=False).flat
    for axes, one in zip(grid, found, strict=False):
        axes.plot(one.sizes, [one.seconds[0] * macs / one.gmacs[0] for macs in one.gmacs], color=GREY, ls="--")
        axes.plot(one.sizes, one.seconds, color=BLUE, marker="o", ms=4)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(one.sizes, [str(size) for size in one.sizes])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.minorticks_off()
        axes.set_xlabel(one.what, fontsize=8)
        axes.set_ylabel("seconds", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    for axes in list(grid):
        axes.remove()
    figure.legend(["as the work grows", "measured"], loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=200)
