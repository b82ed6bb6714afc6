"""One scored candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lightning_wrcor.proxies import ScoreReport

Status = Literal["ok", "dead", "failed"]


@dataclass
class Evaluation:
    """A candidate and what came of it.

    Attributes:
        genotype: plain data that describes the network.
        name: its short name; the space's ``parse`` reads it back.
        key: canonical text, the same for all genotypes of one network.
        scores: value of every proxy, by name; empty for a failed candidate.
        score: the value that ranks (of the first proxy), higher is better; -inf for a dead network, NaN for a failed one.
        params: parameters.
        macs: multiply-adds of one image.
        depth: non-linearities of one forward pass.
        status: ``"ok"``, ``"dead"`` (scores -inf) or ``"failed"`` (could not be scored).
        reason: why it is dead or failed, else None.
        seconds: wall time of building and scoring it.
        details: what the score rests on (size and shape term, coverage, ...), plain values.
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
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON; a score that is not finite becomes None, ``status`` says which it was."""
        row = asdict(self)
        row["scores"] = {name: value if math.isfinite(value) else None for name, value in self.scores.items()}
        row["score"] = self.score if math.isfinite(self.score) else None
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Evaluation:
        """The way back from `to_dict`."""
        from lightning_wrcor.spaces import freeze

        row = dict(row)
        row["genotype"] = freeze(row["genotype"])
        row["scores"] = {name: -math.inf if value is None else value for name, value in row["scores"].items()}
        if row["score"] is None:
            row["score"] = -math.inf if row["status"] == "dead" else math.nan
        return cls(**row)

    def add_report(self, report: ScoreReport) -> None:
        """Take over what a score report says."""
        plain = report.to_dict()
        self.scores = dict(report.scores)
        self.score = report.value
        self.status = "dead" if report.value == -math.inf else "ok"
        self.reason = report.reason
        kept = ("size_term", "shape_term", "sign", "smallest_eigenvalue", "shares", "depth_normalised", "coverage")
        self.details = {name: plain[name] for name in (*kept, "responses_skipped", "notes") if plain[name]}




def ranked(evaluations: list[Evaluation]) -> list[Evaluation]:
    """The candidates that have a finite score, best first, in one total order whatever order they came in.

    Ties are found downwards from the best of each group, because "closer than 1e-6" is not transitive.
    """
    rows = sorted((row for row in evaluations if row.status == "ok"), key=lambda row: (-row.score, row.key))
    result: list[Evaluation] = []
    while rows:
        tied = [row for row in rows if math.isclose(row.score, rows[0].score, rel_tol=1e-6)]
        result += sorted(tied, key=lambda row: (row.macs, row.params, row.key))
        rows = rows[len(tied) :]
    return result
