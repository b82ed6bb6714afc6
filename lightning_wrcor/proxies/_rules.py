"""Rules that make one ranking of several: pure functions of a table of values.

A table is a float64 tensor of shape (n candidates, m members), higher is better; a rule gives n values, higher is better.
What is not finite (a dead network, or one that a member refuses) ranks last in its column and never ties with a finite
value. No rule depends on the order of rows or columns, not even in the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

_BLOCK = 2**20
"""Pairs that are compared at once (4 MB)."""


def doubled_ranks(values: Tensor) -> Tensor:
    """Twice the rank of each value, from 1 (worst) to n (best); equal values share the mean of their ranks.

    Args:
        values: ``(n,)``; -inf is the worst.

    Returns:
        ``(n,)`` int64: twice, so that means of ranks are whole numbers and sums of them are exact.
    """
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    doubled: Tensor = (2 * below + counts + 1)[place]
    return doubled


def rank_table(scores: Tensor) -> Tensor:
    """`doubled_ranks` of every member: ``(n, m)`` int64. What is not finite ranks last."""
    scores = torch.where(torch.isfinite(scores), scores, -math.inf)
    return torch.stack([doubled_ranks(column) for column in scores.unbind(1)], 1)


def wins_minus_losses(ranks: Tensor, first: int = 0) -> Tensor:
    """Pairs that each candidate wins, minus those that it loses, by the majority of the members.

    A pair is won by who is ahead in more members; it is nobody's where both are ahead in equally many.

    Args:
        ranks: ``(n, m)``, such as `rank_table` gives.
        first: only pairs with a candidate from this one on are counted: those that are new.

    Returns:
        ``(n,)`` int64.
    """
    n = len(ranks)
    # float32 holds twice a rank exactly up to 8 million candidates, and its signs are the quickest to take.
    columns = [column.float().contiguous() for column in ranks.unbind(1)]
    net = ranks.new_zeros(n, dtype=torch.int64)
    size = max(1, _BLOCK // max(1, n))
    for start in range(first, n, size):
        stop = min(n, start + size)
        ahead = columns[0].new_zeros(stop - start, stop)
        for column in columns:
            ahead += (column[start:stop, None] - column[None, :stop]).sign_()
        ahead.sign_()
        net[start:stop] += ahead.sum(1).long()
        net[:start] -= ahead[:, :start].sum(0).long()
    return net


def copeland(scores: Tensor, net: Tensor | None = None) -> Tensor:
    """Standing by pairwise majority, in (0, 1]: mean rank / n, 1 is best.

    Candidates are ranked by their wins minus losses over all others, and then by the Borda count. A majority of members
    alone can go round in circles (a beats b, b beats c, c beats a) and then depends on who is compared first; this count
    is its transitive form (A. H. Copeland, "A reasonable social welfare function", University of Michigan, 1951).

    Args:
        scores: ``(n, m)``.
        net: `wins_minus_losses` of all pairs, where it is known already.

    Returns:
        ``(n,)``; candidates that are equal in both counts share the mean of their ranks.
    """
    n, m = scores.shape
    ranks = rank_table(scores)
    net = wins_minus_losses(ranks) if net is None else net
    # One whole number that orders as the pair does: the Borda count is at most 2 m n.
    return doubled_ranks(net * (2 * m * n + 1) + ranks.sum(1)).double() / (2 * n)


def borda(scores: Tensor) -> Tensor:
    """Mean of the members' ranks, divided by n: in (0, 1]."""
    n, m = scores.shape
    return rank_table(scores).sum(1).double() / (2 * m * n)


def log_rank(scores: Tensor) -> Tensor:
    """Sum over the members of log(rank / n): at most 0. A low rank in one member weighs more than high ones elsewhere.

    Reference: Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024.
    """
    return _sum_of_members(_log_shares(rank_table(scores)))


def z_score(scores: Tensor) -> Tensor:
    """Sum over the members of (value - mean) / standard deviation, both over the member's finite values.

    A member that is constant adds 0 to all. What is not finite counts as one standard deviation below the worst finite
    value.
    """
    return _sum_of_members(torch.stack([_standardised(column) for column in scores.unbind(1)], 1))


def agreement(
    scores: Tensor,
    anchors: Sequence[int] = (),
    beside: Sequence[int] = (),
    adjusted: Mapping[int, float] | None = None,
) -> Tensor:
    """Sum over the members of weight times log(rank / n), with the weights of `agreement_weights`: at most 0.

    Args:
        scores: ``(n, m)``.
        anchors: columns of those that are trusted.
        beside: columns that are trusted as far as they agree with the rest, the anchors held fixed.
        adjusted: columns that are ranked with the anchors held fixed, by `rank_beside`, and how much each counts.
    """
    ranks, adjusted = rank_table(scores), adjusted or {}
    weights = torch.tensor(
        agreement_weights(scores, anchors, beside, adjusted), dtype=torch.float64, device=ranks.device
    )
    known = ranks[:, list(anchors)]
    for member in adjusted:
        ranks[:, member] = rank_beside(ranks[:, member], known)
    return _sum_of_members(_log_shares(ranks) * weights)


def agreement_weights(
    scores: Tensor,
    anchors: Sequence[int] = (),
    beside: Sequence[int] = (),
    adjusted: Mapping[int, float] | None = None,
) -> list[float]:
    """How much each member counts in `agreement`: an anchor 1, one beside 3 r, an adjusted one as given, any other 2 r^2.

    For these others r is the rank correlation with the anchors, whose ranks are added up for that, and counts as 0 below 0.
    A member that shares half of its variance with the anchors counts as much as one of them, one that agrees with them
    entirely twice as much, and one that does not agree, or contradicts them, nothing. So a member is trusted where it goes
    along with what is known to be mostly right, and can say more than that, without any accuracy being known. Without
    anchors all members are what each is compared with; if none agrees with the others then, all count 1.

    For a member beside, r is its rank correlation, the anchors held fixed for both, with what the anchors and the others
    say together.

    Args:
        scores: ``(n, m)``.
        anchors: columns of those that are trusted.
        beside: columns that are trusted as far as they agree with the rest, the anchors held fixed.
        adjusted: columns that are adjusted for the anchors, and how much each counts.
    """
    ranks, given = rank_table(scores), dict(adjusted or {})
    known = ranks[:, list(anchors)]
    reference = _away(known if anchors else ranks).sum(1)
    plain = [member for member in range(scores.shape[1]) if member not in given and member not in beside]
    weights = dict.fromkeys(anchors, 1.0)
    for member in plain:
        weights.setdefault(member, 2 * max(0.0, _correlation(_away(ranks[:, member]), reference)) ** 2)
    if not any(weights.values()):
        weights = dict.fromkeys(plain, 1.0)
    if beside:
        counts = torch.tensor([weights[member] for member in plain], dtype=torch.float64, device=ranks.device)
        # Sums that differ by rounding alone tie: log 2 + log 6 and log 3 + log 4.
        together = doubled_ranks(torch.round(_sum_of_members(_log_shares(ranks[:, plain]) * counts), decimals=9))
        rest = _away(rank_beside(together, known))
        for member in beside:
            own = rank_beside(ranks[:, member], known)
            weights[member] = 3 * max(0.0, _correlation(_away(own), rest))
    weights |= given
    return [float(weights[member]) for member in range(scores.shape[1])]


def _away(ranks: Tensor) -> Tensor:
    """Doubled ranks less their mean: whole numbers, whose sums depend on no order."""
    return ranks - (len(ranks) + 1)


def _correlation(one: Tensor, other: Tensor) -> float:
    """Of two columns of whole numbers whose mean is 0; 0 where one is constant."""
    sizes = math.sqrt(int(one.square().sum())) * math.sqrt(int(other.square().sum()))
    return min(1.0, int((one * other).sum()) / sizes) if sizes else 0.0


def rank_beside(ranks: Tensor, known: Tensor) -> Tensor:
    """Ranks of what others do not explain of a member's ranks: of the residuals of a least-squares fit with a constant.

    Args:
        ranks: ``(n,)``, as `doubled_ranks` gives them.
        known: ``(n, k)``, those that explain.

    Returns:
        ``(n,)`` int64, doubled.
    """
    away, along = _away(ranks), _away(known)
    # Sums of whole numbers, so that the order of the rows makes no difference; rounding takes what the order of the
    # columns makes, and lets those tie who are alike in all.
    slopes = torch.linalg.pinv((along.T @ along).double(), hermitian=True) @ (along.T @ away).double()
    return doubled_ranks(torch.round(away.double() - along.double() @ slopes, decimals=6))


RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "copeland": copeland,
    "borda": borda,
    "z_score": z_score,
    "log_rank": log_rank,
    "agreement": agreement,
}


def _log_shares(ranks: Tensor) -> Tensor:
    """log(rank / n) of doubled ranks."""
    return torch.log(ranks.double() / (2 * len(ranks)))


def _standardised(column: Tensor) -> Tensor:
    finite = torch.isfinite(column)
    values = column[finite]
    result = torch.zeros_like(column)
    if not len(values):
        return result
    if values.max() > values.min():
        values = values / values.abs().max()  # squares of large values would overflow
        # fsum rounds once, so that the order of the candidates makes no difference.
        away = values - math.fsum(values.tolist()) / len(values)
        result[finite] = away / math.sqrt(math.fsum(away.square().tolist()) / len(values))
    result[~finite] = result[finite].min() - 1
    return result


def _sum_of_members(table: Tensor) -> Tensor:
    # From the smallest to the largest, so that the order of the members makes no difference.
    total = table.new_zeros(len(table))
    for column in table.sort(dim=1).values.unbind(1):
        total = total + column
    return total
