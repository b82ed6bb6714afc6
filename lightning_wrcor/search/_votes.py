"""Votes in a search: counted over all candidates so far, after each generation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_wrcor.proxies import Proxy
from lightning_wrcor.proxies.votes import Tally, Vote
from lightning_wrcor.search._progress import Progress
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.result import Funnel


class Votes:
    """Writes the votes' values into the evaluations of a search.

    Args:
        proxies: as the user listed them, votes among them; the first ranks.
        scored: the proxies that score candidates.

    Attributes:
        leader: the best candidate so far by a vote that ranks, else None.
    """

    def __init__(self, proxies: Sequence[Proxy], scored: Sequence[Proxy]) -> None:
        self._tallies = [Tally(one) for one in proxies if isinstance(one, Vote)]
        self._columns = list(dict.fromkeys(one.name for one in (*proxies, *scored)))
        self._first = proxies[0] if isinstance(proxies[0], Vote) else None
        self._rows: list[Evaluation] = []
        self.leader: Evaluation | None = None

    def count(self, evaluations: Sequence[Evaluation]) -> None:
        """Take a generation in, and write the values of all evaluations so far, in place.

        Failed candidates take no part. The columns of ``scores`` are as the user listed the proxies, then the members
        that were not listed.
        """
        new = [row for row in evaluations if row.status != "failed"]
        self._rows += new
        votes = {tally.vote.name: math.nan for tally in self._tallies}
        for tally in self._tallies:
            # A member that refused a candidate ranks it last.
            tally.add({name: [row.scores.get(name, math.nan) for row in new] for name in tally.vote.names})
        for row in new:
            known = {**row.scores, **votes}
            row.scores = {name: known[name] for name in self._columns if name in known}
        for tally in self._tallies:
            name = tally.vote.name
            for row, value in zip(self._rows, tally.values(), strict=True):
                row.scores[name] = value
                if tally.vote is self._first:
                    row.score = value
        if self._first is not None:
            alive = (row for row in self._rows if row.status == "ok")
            self.leader = max(alive, key=lambda row: (row.score, -row.macs, -row.params), default=None)

    def notes(self) -> list[str]:
        """What a reader of a ranking by vote should know."""
        if self._first is None:
            return []
        name, rule, members = self._first.name, self._first.rule, ", ".join(self._first.names)
        if rule == "agreement":
            (tally,) = (tally for tally in self._tallies if tally.vote is self._first)
            members = ", ".join(f"{member} {weight:.2f}" for member, weight in tally.weights().items())
        return [
            f"{name} is a vote ({rule} of {members}) among these {len(self._rows)} candidates: its values mean nothing "
            "beside others."
        ]


class VotingProgress(Progress):
    """The bar of a search in which a vote may rank, so that who leads, and its value, can change with each generation."""

    def lead(self, funnel: Funnel, leader: Evaluation | None) -> None:
        """Show who leads; None changes nothing."""
        if leader is None:
            return
        self._best, self._name = leader.score, leader.name
        self._show(funnel)
        self._bar.refresh()
