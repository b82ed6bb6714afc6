"""A search that is under way: what it was asked for, and what it has found."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from lightning_wrcor.search._evaluate import Setting
from lightning_wrcor.search._ranks import Ranks
from lightning_wrcor.search._votes import Votes
from lightning_wrcor.search.constraints import Constraints
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.journal import Journal
from lightning_wrcor.search.result import Funnel, library_versions
from lightning_wrcor.search.strategies import Strategy


@dataclass
class Run:
    """What stays the same during a search, and what it has found.

    Attributes:
        redraws: candidates in a row that may be rejected or repeated where a search has no end.
        nothing_left: whether the strategy had no more to propose.
        misfit: why the first candidate that takes no images of this size was left out.
    """

    setting: Setting
    strategy: Strategy
    budget: int | None
    constraints: Constraints
    ranks: Ranks
    journal: str | os.PathLike[str] | None
    redraws: int
    history: list[Evaluation] = field(default_factory=list)
    funnel: Funnel = field(default_factory=Funnel)
    seen: set[str] = field(default_factory=set)
    known: dict[str, Evaluation] = field(default_factory=dict)
    votes: Votes = field(init=False)
    smallest: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    nothing_left: bool = False
    misfit: str | None = None

    def __post_init__(self) -> None:
        self.votes = Votes(self.setting.proxies, self.setting.scored)

    def open_journal(self) -> Journal | None:
        """Rank zero opens the journal; all ranks learn what is in it, or that it cannot be used."""
        if self.journal is None:
            return None
        journal, problem = None, None
        if self.ranks.rank == 0:
            try:
                journal = Journal(self.journal, self.setting.identity(), self._about())
            except (OSError, ValueError) as error:
                problem = error
        self.known, problem = self.ranks.broadcast((journal.known if journal else {}, problem))
        if problem is not None:
            raise problem
        return journal

    def _about(self) -> dict[str, Any]:
        """What a journal says of the search that begins it, beside what the search is known by."""
        return {
            "input_size": list(self.setting.input_size),
            "proxies": [one.config() for one in self.setting.proxies],
            "strategy": self.strategy.config(),
            "versions": library_versions(),
        }
