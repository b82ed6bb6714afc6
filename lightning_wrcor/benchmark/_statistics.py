"""Rank statistics of a score against known accuracies, with bootstrap intervals; plain functions of tensors.

Everything here works on *codes*: whole numbers that order the networks as the score does, equal for ties. What has no
value (a dead network scores -inf, a refused or failed one nothing) takes the lowest code: it ranks last, below every
finite value, and ties with its like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95

KENDALL_INTERVAL = 3000
"""Networks up to which Kendall's interval is computed: it takes all pairs."""

_SMALL = 1e-9
"""What is left of a variance by rounding where the ranks are the same."""


def rank_codes(values: Sequence[float | None]) -> Tensor:
    """Codes ``(n,)`` (int64) that order like the values, equal for equal values; what is not finite comes first.

    Args:
        values: one number a network; None, NaN and -inf for one without a value.
    """
    finite = torch.tensor([value is not None and math.isfinite(value) for value in values], dtype=torch.bool)
    codes = torch.zeros(len(values), dtype=torch.int64)
    known = torch.tensor([value for value, ok in zip(values, finite, strict=True) if ok], dtype=torch.float64)
    if len(known):
        codes[finite] = torch.unique(known, return_inverse=True)[1] + int(not finite.all())
    return codes


def is_constant(codes: Tensor) -> bool:
    """Whether nothing can be ranked: no two networks differ."""
    return len(codes) == 0 or bool((codes == codes[0]).all())


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Spearman's rank correlation by torchmetrics; None where it is undefined (fewer than 3 networks, all tied)."""
    from torchmetrics.functional import spearman_corrcoef

    if len(first) < 3 or is_constant(first) or is_constant(second):
        return None
    return float(spearman_corrcoef(first.double(), second.double()))


def kendall(first: Tensor, second: Tensor) -> float | None:
    """Kendall's tau-b by torchmetrics; None where it is undefined (fewer than 3 networks, all tied)."""
    from torchmetrics.functional import kendall_rank_corrcoef

    if len(first) < 3 or is_constant(first) or is_constant(second):
        return None
    return float(torch.as_tensor(kendall_rank_corrcoef(first.double(), second.double(), variant="b")))


def draw_counts(n: int, resamples: int, seed: int) -> Tensor:
    """Bootstrap resamples as counts ``(resamples, n)`` (float64): how often each network was drawn, ``n`` draws each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(max(n, 1), (resamples, n), generator=generator)  # of none: none
    counts = torch.zeros(resamples, n, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(counts))


def group_counts(codes: Tensor, counts: Tensor) -> Tensor:
    """How many networks of each resample have each code, ``(resamples, codes)``."""
    return torch.zeros(len(counts), int(codes.max()) + 1, dtype=torch.float64).index_add_(1, codes, counts)


def standard_ranks(codes: Tensor, counts: Tensor) -> Tensor:
    """Ranks inside each resample, ``(resamples, n)``, centred and of unit length; NaN where all are tied.

    Ties take their middle rank. The sum over networks of counts times two such ranks is Spearman's correlation in the
    resample.
    """
    groups = group_counts(codes, counts)
    middle = groups.cumsum(1) - (groups - 1) / 2
    centred = middle[:, codes] - (counts.sum(1, keepdim=True) + 1) / 2
    length = (counts * centred.square()).sum(1, keepdim=True).sqrt()
    return torch.where(length > _SMALL, centred / length, math.nan)


def resampled_spearman(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    """Spearman's correlation in every resample, ``(resamples,)``, of two results of `standard_ranks`."""
    return (counts * first * second).sum(1)


def pair_signs(codes: Tensor) -> Tensor:
    """``(n, n)`` float32: 1 where the row's network ranks above the column's, -1 below, 0 for a tie."""
    return torch.sign(codes[:, None] - codes[None, :]).float()


def untied_pairs(codes: Tensor, counts: Tensor) -> Tensor:
    """Ordered pairs of each resample that are no tie, ``(resamples,)``; twice the same network is one."""
    return counts.sum(1).square() - group_counts(codes, counts).square().sum(1)


def resampled_kendall(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    """Kendall's tau-b in every resample, ``(resamples,)``, of two codes; NaN where all are tied.

    The sums are of whole numbers below 2^24, which are exact in float32.
    """
    agree = ((counts.float() @ (pair_signs(first) * pair_signs(second))).double() * counts).sum(1)
    scale = (untied_pairs(first, counts) * untied_pairs(second, counts)).sqrt()
    return torch.where(scale > 0, agree / scale, math.nan)


def resampled_order(first: Tensor, second: Tensor, counts: Tensor, pairs: Tensor) -> Tensor:
    """Of some pairs, the share that two codes order alike minus the share that they order contrarily, in every resample.

    A pair that is tied in one of them is neither.

    Args:
        first: codes ``(n,)``.
        second: codes ``(n,)``.
        counts: resamples ``(resamples, n)``.
        pairs: ``(n, n)`` bool, symmetric; which pairs.

    Returns:
        ``(resamples,)``, -1 to 1; NaN where no pair is left.
    """
    there = pairs & ~torch.eye(len(first), dtype=torch.bool)
    signs = torch.where(there, pair_signs(first) * pair_signs(second), 0.0)
    agree = ((counts.float() @ signs).double() * counts).sum(1)
    total = ((counts.float() @ there.float()).double() * counts).sum(1)
    return torch.where(total > 0, agree / total, math.nan)


def partial_correlation(xy: Tensor, xz: Tensor, yz: Tensor) -> Tensor:
    """Correlation of x and y with z held fixed, from the three correlations; NaN where z determines x or y.

    Of Spearman's correlations it is the partial rank correlation.
    """
    left = (1 - xz.square()) * (1 - yz.square())
    return torch.where(left > _SMALL, (xy - xz * yz) / left.clamp_min(_SMALL).sqrt(), math.nan).clamp(-1, 1)


def percentile_interval(values: Tensor, level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile bootstrap interval; None where less than half of the resamples have a value."""
    known = values[~values.isnan()]
    if 2 * len(known) < len(values) or not len(known):
        return None
    low, high = known.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=known.dtype)).tolist()
    return low, high


def best_of_top(codes: Tensor, accuracies: Tensor, k: int) -> float:
    """The best accuracy among the ``k`` networks that rank highest.

    Where a tie stands across the border, the expected best over all ways to break it, so that the order of the rows makes
    no difference.

    Args:
        codes: ``(n,)``, higher is better.
        accuracies: ``(n,)``.
        k: networks that are looked at; more than there are means all.
    """
    k = min(k, len(codes))
    border = codes.sort(descending=True).values[k - 1]
    above = accuracies[codes > border]
    tied = accuracies[codes == border].sort().values.tolist()
    free = k - len(above)
    sure = float(above.max()) if len(above) else -math.inf
    # The place-th smallest of the tied is the best of those drawn in comb(place, free - 1) of all draws.
    ways = (math.comb(place, free - 1) * max(accuracy, sure) for place, accuracy in enumerate(tied))
    return math.fsum(way / math.comb(len(tied), free) for way in ways)
