"""The winner as plain values: what a checkpoint must hold so that the network can be built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from lightning_wrcor.search.constraints import MEASURED
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.result import SearchResult
from lightning_wrcor.spaces import Genotype, Space, freeze, get_space

CHECKPOINT_KEY = "lightning_wrcor"
"""Top-level key of a checkpoint under which the winner is stored."""


@dataclass(frozen=True)
class Winner:
    """A chosen network.

    Attributes:
        space: the search space, as plain values.
        genotype: the network's description.
        name: its short name.
        num_classes: classes of the network that is trained.
        in_chans: channels of the images.
        attribute: attribute of the LightningModule that holds the network.
        summary: figures of the search that chose it (score, costs, funnel, baselines); empty where it was given.
    """

    space: dict[str, Any]
    genotype: Genotype
    name: str
    num_classes: int
    in_chans: int
    attribute: str
    summary: dict[str, Any] = field(default_factory=dict)

    def build(self, space: Space | None = None) -> nn.Module:
        """Build the network, untrained, from torch's global random numbers.

        Args:
            space: the space itself, where its plain values do not say all (a list that holds modules or functions).
        """
        space = get_space(self.space) if space is None else space  # not by truth: that would count its candidates
        return space.build(self.genotype, num_classes=self.num_classes, in_chans=self.in_chans)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint may hold them that is read with ``weights_only=True``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Winner:
        """The way back from `to_dict`."""
        return cls(**{**data, "genotype": freeze(data["genotype"])})

    @classmethod
    def of(
        cls,
        result: SearchResult,
        num_classes: int,
        in_chans: int,
        attribute: str,
        chosen: Evaluation | None = None,
    ) -> Winner:
        """The winner of a search, or another of its candidates that was chosen in the place of it."""
        best = chosen if chosen is not None else result.best
        summary = {
            "score": best.score,
            "scores": dict(best.scores),
            "params": best.params,
            "macs": best.macs,
            "depth": best.depth,
            **{name: value for name in MEASURED if (value := getattr(best, name)) is not None},
            "funnel": str(result.funnel),
            "baselines": dict(result.baselines),
            "seconds": result.seconds,
            "seed": result.seed,
            "proxies": result.proxies,
            "strategy": result.strategy,
        }
        return cls(result.space, best.genotype, best.name, num_classes, in_chans, attribute, summary)
