"""Racing: the best of a search are scored again with other weights, and the cheapest of those that keep up wins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any

from lightning_wrcor._config import plain, read_settings


@dataclass(frozen=True)
class Racing:
    """How the best candidates of a search race for the first place.

    A score depends on the weights that a candidate was given at random, and the best of many scores is partly a lucky
    one. So each finalist is scored again, with fresh weights; the score that made it a finalist is not counted, because it
    was chosen for being high. Let the best mean be m with the standard error s, and another finalist's m' with s'. That
    finalist is no worse than the best as long as

        m - m' <= errors * sqrt(s^2 + s'^2),

    the standard error of a difference whose two variances are not taken to be equal (Welch, Biometrika 34, 1947). Of all
    that are no worse, the best included, the cheapest wins: fewest MACs, then fewest parameters, then the smaller key. It
    is the rule of Breiman, Friedman, Olshen and Stone (Classification and Regression Trees, 1984, section 3.4.3), who take
    the simplest tree within one standard error of the best. "No worse" is not "shown to be as good": few seeds tell little
    apart.

    Args:
        finalists: how many of the best candidates race, at least 2.
        seeds: fresh scores of each, at least 2. They are drawn from the search's seed, the candidate and the number of the
            repetition alone, and do not count in the budget.
        errors: how many standard errors of the difference a finalist may be behind. Of two finalists that are in truth
            alike, a given one is more than 2 behind in one case of 22 with 4 seeds and equal variances (Student's t with 6
            degrees of freedom), and in one of 11 with 2 seeds; of more than two, the best mean is a lucky one more often. 0
            takes the best mean.

    Raises:
        ValueError: for numbers out of these ranges.
    """

    finalists: int = 8
    seeds: int = 4
    errors: float = 2.0

    def __post_init__(self) -> None:
        for name in ("finalists", "seeds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 2:
                raise ValueError(f"{name} of a race is a whole number of at least 2; got {value!r}.")
        number = self.errors
        if isinstance(number, bool) or not isinstance(number, Real) or not 0 <= number < math.inf:
            raise ValueError(f"errors of a race is a number of standard errors, 0 or more; got {number!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, given: Racing | Mapping[str, Any] | None) -> Racing | None:
        """A race from what a user gives: an object, a mapping of its arguments, or None for no race.

        Raises:
            TypeError: for anything else.
            ValueError: for a setting that is not known; the message lists those there are, closest first.
        """
        return read_settings(cls, given, "a race")


@dataclass
class Standing:
    """How a finalist came out of a race.

    Attributes:
        scores: its value under each fresh seed: -inf where it was dead, NaN where it could not be scored. Where a vote
            ranks, the finalists vote anew under each seed, among themselves.
        reasons: why it was dead or failed, else None; one for each seed.
        mean: of the scores that there are; -inf if one of them is -inf, NaN for fewer than two.
        error: standard error of the mean; NaN where the mean is not finite.
        no_worse: whether it is no worse than the best mean, so that it could win.
        place: 1 for the winner; None where the mean is not finite, which leaves it out of the race.
        errors: how many standard errors of the difference it could be behind.
    """

    scores: list[float]
    reasons: list[str | None]
    mean: float = math.nan
    error: float = math.nan
    no_worse: bool = False
    place: int | None = None
    errors: float = field(default=2.0, kw_only=True)

    @classmethod
    def of(cls, scores: Sequence[float], reasons: Sequence[str | None], errors: float) -> Standing:
        """The standing of one finalist before it is compared with others."""
        standing = cls(list(scores), list(reasons), errors=errors)
        known = [score for score in scores if not math.isnan(score)]
        if len(known) < 2:  # one value has no standard error
            return standing
        if min(known) == -math.inf:
            standing.mean = -math.inf
            return standing
        standing.mean = statistics.fmean(known)
        standing.error = statistics.stdev(known) / math.sqrt(len(known))
        return standing

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON: what is not finite is None, and ``statuses`` says which it was."""
        row = asdict(self)
        for name in ("mean", "error"):
            row[name] = _finite(row[name])
        row["scores"] = [_finite(score) for score in self.scores]
        row["statuses"] = [_status(score) for score in self.scores]
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Standing:
        """The way back from `to_dict`."""
        row = dict(row)
        meant = {"dead": -math.inf, "failed": math.nan}
        scores = [meant.get(status, score) for status, score in zip(row.pop("statuses"), row["scores"], strict=True)]
        standing = cls(**{**row, "scores": scores})
        if standing.mean is None:
            standing.mean = Standing.of(scores, standing.reasons, standing.errors).mean
        standing.error = math.nan if standing.error is None else standing.error
        return standing


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _status(score: float) -> str:
    return "failed" if math.isnan(score) else "dead" if score == -math.inf else "ok"
