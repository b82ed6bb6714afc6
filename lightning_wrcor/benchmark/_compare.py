"""One score against one column of accuracies: every statistic of the benchmark's table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_wrcor.benchmark._statistics import (
    KENDALL_INTERVAL,
    RESAMPLES,
    best_of_top,
    draw_counts,
    is_constant,
    kendall,
    partial_correlation,
    percentile_interval,
    rank_codes,
    resampled_kendall,
    resampled_order,
    resampled_spearman,
    spearman,
    standard_ranks,
)

TOP = (1, 5, 10)
"""How many of the highest ranked networks the regret looks at."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """How one quantity ranks the networks, compared with one column of accuracies.

    Dead networks (-inf) and those without a value rank last. Intervals are 95 % percentile bootstrap intervals over
    networks; None stands for what is undefined, and ``note`` says why.

    Attributes:
        column: the accuracies.
        name: the proxy, a vote, a part of a proxy (``wrcor:size_term``), or a cost (``params``).
        n: networks.
        dead: of these, networks that score -inf.
        refused: of these, networks that the proxy does not take.
        failed: of these, networks that could not be scored at all.
        spearman: Spearman's rank correlation, -1 to 1.
        spearman_interval: its interval.
        kendall: Kendall's tau-b, -1 to 1.
        kendall_interval: its interval; None above 3,000 networks.
        given_params: Spearman's correlation with the number of parameters held fixed.
        given_params_interval: its interval.
        over_params: Spearman's correlation minus that of the number of parameters, on the same networks.
        over_params_interval: its interval, from the same resamples for both.
        near_macs: of the pairs of networks whose MACs are within a factor of two, the share that is ordered as the
            accuracies order it minus the share ordered contrarily, -1 to 1: what is left where size hardly differs.
        near_macs_interval: its interval; None above 3,000 networks.
        top1_accuracy: accuracy of the network that ranks highest.
        regret: for k = 1, 5 and 10, the best accuracy of all minus the best among the k that rank highest.
        seconds: mean wall time of this proxy for one network, where it was measured.
        note: why something is undefined, or None.
    """

    column: str
    name: str
    n: int
    dead: int = 0
    refused: int = 0
    failed: int = 0
    spearman: float | None = None
    spearman_interval: Interval | None = None
    kendall: float | None = None
    kendall_interval: Interval | None = None
    given_params: float | None = None
    given_params_interval: Interval | None = None
    over_params: float | None = None
    over_params_interval: Interval | None = None
    near_macs: float | None = None
    near_macs_interval: Interval | None = None
    top1_accuracy: float | None = None
    regret: dict[int, float] = field(default_factory=dict)
    seconds: float | None = None
    note: str | None = None

    @property
    def verdict(self) -> str:
        """The comparison with counting parameters, in words.

        "worse" and "better" are said only where the whole interval of the difference lies on that side of zero.
        """
        if self.name == "params":
            return "the baseline"
        if self.over_params is None:
            return "undefined"
        side = "below" if self.over_params < 0 else "above"
        if self.over_params_interval is None:
            return f"{side} params, no interval"
        low, high = self.over_params_interval
        if low == high == 0:
            return "ranks as params does"
        if high < 0:
            return "**worse than params**"
        return "better than params" if low > 0 else f"{side} params, within chance"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON."""
        regret = {str(k): value for k, value in self.regret.items()}
        return {**asdict(self), "regret": regret, "verdict": self.verdict.strip("*")}


class Comparison:
    """A column of accuracies, and the resamples that all scores are compared on.

    Args:
        column: its name.
        accuracies: one a network, all finite.
        params: number of parameters of each network; None where it is not known.
        resamples: bootstrap resamples.
        seed: of the resamples.
        macs: multiply-adds of each network; without them nothing is said of pairs of about one size.
    """

    def __init__(
        self,
        column: str,
        accuracies: Sequence[float],
        params: Sequence[float | None],
        resamples: int = RESAMPLES,
        seed: int = 0,
        macs: Sequence[float | None] | None = None,
    ) -> None:
        self.column = column
        self.accuracies = torch.tensor(accuracies, dtype=torch.float64)
        n = len(accuracies)
        self._target = rank_codes(accuracies)
        self._params = rank_codes(params)
        # The first row counts every network once: the sample itself, before its resamples.
        self._counts = torch.cat([torch.ones(1, n, dtype=torch.float64), draw_counts(n, resamples, seed)])
        if n:
            self._target_ranks = standard_ranks(self._target, self._counts)
            self._params_ranks = standard_ranks(self._params, self._counts)
            self._params_spearman = resampled_spearman(self._params_ranks, self._target_ranks, self._counts)
        self._near: Tensor | None = None
        if macs is not None and 0 < n <= KENDALL_INTERVAL:
            sizes = torch.tensor([value or math.nan for value in macs], dtype=torch.float64).log2()
            self._near = (sizes[:, None] - sizes[None, :]).abs() <= 1  # never where one is not known

    def measure(
        self,
        name: str,
        values: Sequence[float | None],
        *,
        refused: int = 0,
        failed: int = 0,
        seconds: float | None = None,
    ) -> Agreement:
        """Compare one score with the accuracies.

        Args:
            name: the score.
            values: one a network; -inf for a dead one, None for one that has no value.
            refused: networks that it did not take, for the record.
            failed: networks that could not be scored, for the record.
            seconds: its mean wall time for one network, for the record.
        """
        n, codes = len(values), rank_codes(values)
        dead = sum(value == -math.inf for value in values)
        known: dict[str, Any] = {"dead": dead, "refused": refused, "failed": failed, "seconds": seconds}
        if n:
            best = float(self.accuracies.max())
            found = {k: best_of_top(codes, self.accuracies, k) for k in TOP}
            # Rounding of a mean over ties must not give a regret below zero.
            known |= {"top1_accuracy": found[1], "regret": {k: max(best - value, 0.0) for k, value in found.items()}}
        note = self._undefined(codes)
        if note:
            return Agreement(self.column, name, n, note=note, **known)
        ranks = standard_ranks(codes, self._counts)
        rho = resampled_spearman(ranks, self._target_ranks, self._counts)
        to_params = resampled_spearman(ranks, self._params_ranks, self._counts)
        given = partial_correlation(rho, to_params, self._params_spearman)
        over = rho - self._params_spearman
        tau = resampled_kendall(codes, self._target, self._counts) if n <= KENDALL_INTERVAL else None
        near = None if self._near is None else resampled_order(codes, self._target, self._counts, self._near)
        return Agreement(
            self.column,
            name,
            n,
            spearman=spearman(codes, self._target),
            spearman_interval=percentile_interval(rho[1:]),
            kendall=kendall(codes, self._target),
            kendall_interval=None if tau is None else percentile_interval(tau[1:]),
            given_params=_number(given[0]),
            given_params_interval=None if given[0].isnan() else percentile_interval(given[1:]),
            over_params=_number(over[0]),
            over_params_interval=None if over[0].isnan() else percentile_interval(over[1:]),
            near_macs=None if near is None else _number(near[0]),
            near_macs_interval=None if near is None or near[0].isnan() else percentile_interval(near[1:]),
            **known,
        )

    def _undefined(self, codes: Tensor) -> str | None:
        """Why there is no correlation, or None."""
        if len(codes) < 3:
            networks = f"{len(codes)} network{'s' * (len(codes) != 1)}"
            return f"a rank correlation needs at least 3 networks, and there are {networks}"
        if is_constant(self._target):
            return f"all {len(codes)} networks have the same accuracy"
        return f"it has the same value for all {len(codes)} networks" if is_constant(codes) else None


def _number(value: Tensor) -> float | None:
    return None if value.isnan() else float(value)
