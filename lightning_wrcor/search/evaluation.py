"""One scored candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from lightning_wrcor.proxies import ScoreReport
from lightning_wrcor.search.racing import Standing
from lightning_wrcor.spaces import freeze

Status = Literal["ok", "dead", "failed"]

TIE = 1e-6
"""Scores closer than this, relatively, are a tie."""


@dataclass
class Evaluation:
    """A candidate and what came of it.

    Attributes:
        genotype: plain data that describes the network.
        name: its short name; the space's ``parse`` reads it back.
        key: canonical text, the same for all genotypes of one network.
        scores: value of every proxy, by name, without those that refused this network; empty where scoring failed.
            The value of a vote depends on the other candidates and changes as they arrive.
        score: the value that ranks (of the first proxy), higher is better; -inf for a dead network, NaN for a failed one
            and until a vote that ranks is counted.
        params: parameters.
        macs: multiply-adds of one image.
        depth: non-linearities of one forward pass.
        status: ``"ok"``, ``"dead"`` (scores -inf) or ``"failed"`` (could not be scored).
        reason: why it is dead or failed, else None.
        seconds: wall time of building and scoring it.
        proxy_seconds: of it, by proxy: its pass (which others may have shared) and what it computes.
        details: what the score rests on (size and shape term, coverage, ...), and which proxies ``refused`` this network
            and why; plain values.
        resolution: height and width in pixels that the network brings images to; None where images decide.
        memory_mb: most memory that the activations of one image take at once, in 10^6 bytes; None where nobody asked.
        latency_ms: median time of a forward pass as the constraints' ``latency`` says; None where nobody asked.
        race: how it came out of a race; None for who was no finalist.
    """

    genotype: Any
    name: str
    key: str
    scores: dict[str, float] = field(default_factory=dict)
    score: float = math.nan
    params: int = 0
    macs: int = 0
    depth: int = 0
    status: Status = "ok"
    reason: str | None = None
    seconds: float = 0.0
    proxy_seconds: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    resolution: int | None = None
    memory_mb: float | None = None
    latency_ms: float | None = None
    race: Standing | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON; a score that is not finite becomes None, ``status`` says which it was."""
        row = asdict(self)
        row["scores"] = {name: value if math.isfinite(value) else None for name, value in self.scores.items()}
        row["score"] = self.score if math.isfinite(self.score) else None
        del row["race"]
        return row if self.race is None else {**row, "race": self.race.to_dict()}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Evaluation:
        """The way back from `to_dict`.

        Raises:
            TypeError: for data of another form.
            ValueError: for a status that there is not, or a score that does not go with it.
        """
        if not isinstance(row, Mapping):
            raise TypeError(f"an evaluation is a mapping; got {row!r}")
        evaluation = cls(**row)
        evaluation.race = None if evaluation.race is None else Standing.from_dict(row["race"])
        evaluation.genotype = freeze(evaluation.genotype)
        if evaluation.status not in get_args(Status):
            raise ValueError(f"no status is called {evaluation.status!r}")
        finite = isinstance(evaluation.score, (int, float)) and math.isfinite(evaluation.score)
        if finite != (evaluation.status == "ok"):
            raise ValueError(f"the score {evaluation.score!r} does not go with the status {evaluation.status!r}")
        if not finite:
            evaluation.score = -math.inf if evaluation.status == "dead" else math.nan
        evaluation.scores = {name: -math.inf if value is None else value for name, value in evaluation.scores.items()}
        return evaluation

    def add_report(self, report: ScoreReport, ranking: Sequence[str] = ()) -> None:
        """Take over what a score report says.

        Args:
            report: the report.
            ranking: names of the proxies that rank (see `rank_by`); by default the report's own.

        Raises:
            ValueError: for a score of NaN or +inf, which ranks nothing.
        """
        for name, value in report.scores.items():
            if math.isnan(value) or value == math.inf:
                raise ValueError(f"The proxy {name} gave {value}.")
        said = report.to_dict()
        self.scores = dict(report.scores)
        self.reason = report.reason
        self.proxy_seconds = dict(report.proxy_seconds)
        self.rank_by(ranking or [report.proxy])
        kept = ("size_term", "shape_term", "sign", "smallest_eigenvalue", "shares", "depth_normalised", "coverage")
        for name in (*kept, "responses_skipped", "refused", "notes"):
            if said[name] is not None and said[name] not in ([], {}):  # 0 and False say something
                self.details[name] = said[name]

    def rank_by(self, names: Sequence[str]) -> None:
        """Set score and status by the proxies that rank: a single one, or the members of a vote.

        With several the score stays NaN until the vote is counted; the candidate is dead only if none has a finite value.
        """
        values = [self.scores[name] for name in names if name in self.scores]
        alive = any(value > -math.inf for value in values)
        self.score = -math.inf if not alive else values[0] if len(names) == 1 else math.nan
        self.status = "ok" if alive else "dead"
        self.reason = None if alive else self.reason or f"{', '.join(names)} gave -inf"


def tie_groups(evaluations: Iterable[Evaluation]) -> list[list[Evaluation]]:
    """The candidates that have a finite score, best first, ties together: the cheaper first, then the smaller key.

    Groups are found downwards, each from its best, because "closer than 1e-6" is not transitive; so the order that the
    candidates come in makes no difference.
    """
    groups: list[list[Evaluation]] = []
    for row in sorted((row for row in evaluations if row.status == "ok"), key=lambda row: (-row.score, row.key)):
        if groups and math.isclose(row.score, groups[-1][0].score, rel_tol=TIE):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [sorted(group, key=lambda row: (row.macs, row.params, row.key)) for group in groups]


def ranked(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """The candidates that have a finite score, best first, in one total order whatever order they came in."""
    return [row for group in tie_groups(evaluations) for row in group]
