"""How many candidates went into a search, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Funnel:
    """How many candidates went in and what became of them.

    Attributes:
        sampled: proposed by the strategy.
        repeated: proposed again, or another description of a network already seen; not scored twice.
        rejected: by the name of the constraint that rejected them.
        scored: with a finite score.
        dead: scored -inf.
        failed: could not be scored.
        resumed: of the scored, dead and failed ones, those that came from the journal.
    """

    sampled: int = 0
    repeated: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    scored: int = 0
    dead: int = 0
    failed: int = 0
    resumed: int = 0

    def __str__(self) -> str:
        parts = [f"{self.sampled} sampled"]
        parts += [f"{self.repeated} repeated"] * bool(self.repeated)
        parts += [f"{count} rejected by {name}" for name, count in self.rejected.items()]
        parts += [f"{self.scored} scored"]
        parts += [f"{self.dead} dead"] * bool(self.dead) + [f"{self.failed} failed"] * bool(self.failed)
        return ", ".join(parts) + f" ({self.resumed} from the journal{lost_too(self)})" * bool(self.resumed)


def lost_too(funnel: Funnel) -> str:
    """What those from the journal hold beside the scored ones, so that they may be more than these; empty for nothing."""
    lost = ["dead"] * bool(funnel.dead) + ["failed"] * bool(funnel.failed)
    return f", {' and '.join(lost)} ones too" if lost else ""
