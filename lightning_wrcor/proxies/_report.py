"""What a score is and what it rests on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class ScoreReport:
    """The score of one network, and what it rests on. Fields that the proxy does not have are None.

    Attributes:
        proxy: name of the proxy that gave ``value``.
        value: higher is better; -inf for a dead network.
        scores: value of every proxy that was asked for, by name.
        refused: why a proxy has no value for this network, in one sentence, by the proxy's name.
        reason: why ``value`` is -inf, or None.
        size_term: B log(sum of the weights): what counting (weighted) non-linearities alone gives.
        shape_term: the rest: log abs det of K divided by the sum of the weights.
        sign: sign of det K, 1 or -1 (sums of absolute correlations need not be positive semi-definite).
        smallest_eigenvalue: of K.
        shares: for each layer, ``{"layer": l, "activation": a, "gradient": g}``: the derivative of the score with respect
            to the log of that weight. All together they sum to B.
        depth_normalised: whether the weights were divided by the sum of 2^l over the layers.
        responses_used: correlation matrices in the sum, by part.
        responses_skipped: matrices left out, by reason.
        coverage: captured share of the non-linearities that ran, 0 to 1.
        coverage_text: the same in words.
        batch_size: images B in the probe batch.
        params: parameters of the network.
        macs: multiply-adds of one image.
        depth: non-linearities of one forward pass.
        seconds: wall time of the score.
        proxy_seconds: of it, by proxy: the pass that the proxy needs (which others may have shared) and what it computes.
        notes: what was changed in the copy that was scored, and warnings.
    """

    proxy: str
    value: float
    scores: dict[str, float]
    refused: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    size_term: float | None = None
    shape_term: float | None = None
    sign: int | None = None
    smallest_eigenvalue: float | None = None
    shares: list[dict[str, float]] | None = None
    depth_normalised: bool | None = None
    responses_used: dict[str, int] = field(default_factory=dict)
    responses_skipped: dict[str, int] = field(default_factory=dict)
    coverage: float | None = None
    coverage_text: str = ""
    batch_size: int = 0
    params: int = 0
    macs: int = 0
    depth: int = 0
    seconds: float = 0.0
    proxy_seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON: numbers that are not finite become None (``reason`` says why)."""
        values: dict[str, Any] = _finite(asdict(self))
        return values

    def __str__(self) -> str:
        lines = [f"{self.proxy} {self.value:.4f}" + (f"  ({self.reason})" if self.reason else "")]
        if self.size_term is not None and self.shape_term is not None:
            form = "depth-normalised" if self.depth_normalised else "raw"
            lines.append(f"  size term {self.size_term:.4f} + shape term {self.shape_term:.4f} ({form})")
            lines.append(f"  K: sign {self.sign:+d}, smallest eigenvalue {self.smallest_eigenvalue:.4g}")
        others = {name: value for name, value in self.scores.items() if name != self.proxy}
        if others:
            lines.append("  " + ", ".join(f"{name} {value:.6g}" for name, value in others.items()))
        lines += [f"  {name}: none. {why}" for name, why in self.refused.items()]
        if self.coverage_text:
            lines.append(f"  {self.coverage_text}")
        if self.responses_skipped:
            skipped = ", ".join(f"{count} ({reason})" for reason, count in self.responses_skipped.items())
            lines.append(f"  responses left out: {skipped}")
        lines.append(
            f"  {self.params:,} parameters, {self.macs:,} MACs, {self.depth} non-linearities, {self.seconds:.2f} s"
        )
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return value
