"""Votes: several proxies rank a set of networks together.

A vote is a proxy to its user, but its value for one network depends on the others: it is computed from a finished table of
its members' values, or for candidates that arrive one group after another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from lightning_wrcor._config import closest
from lightning_wrcor.proxies._base import Context, Measurement, Proxy
from lightning_wrcor.proxies._rules import RULES, agreement, agreement_weights, copeland, rank_table, wins_minus_losses


class Vote(Proxy):
    """Ranks a set of networks by several proxies, with a rule that makes one ranking of theirs.

    A network that is dead (-inf) for a member, or that the member refuses, is last in that member's ranking. It is dead
    for the vote only if no member gives a finite value.

    Args:
        members: at least two proxies: names, mappings with ``class_path`` and ``init_args``, or proxies.
        rule: ``copeland`` (pairwise majority: wins minus losses over all others, then the Borda count; the standing, 1 for
            the best), ``borda`` (mean rank / n), ``z_score`` (sum of the standardised values), ``log_rank`` (sum of
            log(rank / n), as in AZ-NAS, Lee and Ham, CVPR 2024) or ``agreement`` (the same, with weights: an anchor
            counts 1, any other member 2 r^2, r its rank correlation with the anchors' ranks, 0 below 0). All but
            ``z_score`` look at ranks alone.
        name: the name under which its values are listed; None is ``vote``.
        anchors: members that are trusted under the rule ``agreement``; without any, all members together.
        beside: members that are trusted, under that rule, as far as they agree with the others where the anchors are alike:
            3 r, r the rank correlation, the anchors held fixed, with what the anchors and the others say together.
        adjusted: members that are ranked with the anchors held fixed under that rule, by what the anchors' ranks do not
            explain of theirs (least squares), and how much each counts. For what need not grow with a network to be good.

    Raises:
        ValueError: for fewer than two members, two of one name, a vote among them, names that are not known, anchors that
            are no members, anchors under a rule that has none, members beside or adjusted for no anchors, and weights
            below 0.

    Example:
        >>> Vote(["wrcor", "params"], rule="borda").combine({"wrcor": [3.0, 1.0, 2.0], "params": [9, 8, 7]})
        [1.0, 0.5, 0.5]
    """

    name = "vote"

    def __init__(
        self,
        members: Sequence[str | Proxy | Mapping[str, Any]],
        rule: str = "copeland",
        name: str | None = None,
        anchors: Sequence[str] = (),
        beside: Sequence[str] = (),
        adjusted: Mapping[str, float] | None = None,
    ) -> None:
        self._set(members, rule, anchors, beside, adjusted)
        # Of the instance: several votes in one list need names of their own.
        self.name = type(self).name if name is None else str(name)  # type: ignore[misc]
        _ = self.proxies  # a mistake in the members shows here

    def _set(
        self,
        members: Sequence[str | Proxy | Mapping[str, Any]],
        rule: str,
        anchors: Sequence[str] = (),
        beside: Sequence[str] = (),
        adjusted: Mapping[str, float] | None = None,
    ) -> None:
        if isinstance(members, (str, Mapping, Proxy)):
            raise ValueError(f"The members of a vote are a list of at least two proxies; got {members!r}.")
        if rule not in RULES:
            raise ValueError(
                f"There is no rule {rule!r} for votes. Rules, closest first: {', '.join(closest(rule, RULES))}."
            )
        if anchors and rule != "agreement":
            raise ValueError(
                f"The rule {rule} knows no anchors (got {anchors!r}): leave them out, or use rule='agreement'."
            )
        if adjusted is not None and not isinstance(adjusted, Mapping):
            raise ValueError(f"adjusted says how much each member counts, {{name: number}}; got {adjusted!r}.")
        if (beside or adjusted) and not anchors:
            raise ValueError(
                f"Members are beside anchors, or adjusted for them (beside={beside!r}, adjusted={adjusted!r}), and the "
                "vote has none: name them."
            )
        self.members = list(members)
        self.rule = rule
        self.anchors = [anchors] if isinstance(anchors, str) else list(anchors)
        self.beside = [beside] if isinstance(beside, str) else list(beside)
        self.adjusted = dict(adjusted or {})

    @cached_property
    def proxies(self) -> list[Proxy]:
        """The members as proxies.

        Raises:
            ValueError: for members that make no vote.
        """
        from lightning_wrcor.proxies._registry import get_proxy  # which knows the votes too

        found = [get_proxy(member) for member in self.members]
        names = [one.name for one in found]
        if len(found) < 2:
            raise ValueError(f"A vote has at least two members; got {', '.join(names) or 'none'}.")
        for one in found:
            if isinstance(one, Vote):
                raise ValueError(f"The member {one.name!r} is a vote itself; name its members instead.")
            if names.count(one.name) > 1:
                raise ValueError(f"Two members of the vote have the name {one.name!r}. Leave one out.")
        for anchor in self.anchors:
            if anchor not in names:
                raise ValueError(f"The anchor {anchor!r} is no member of the vote. Members: {', '.join(names)}.")
        roles = [*self.anchors, *self.beside, *self.adjusted]
        for name in (*self.beside, *self.adjusted):
            if name not in names:
                raise ValueError(
                    f"{name!r} is beside the anchors, or adjusted for them, but no member of the vote. Members: "
                    f"{', '.join(names)}."
                )
            if roles.count(name) > 1:
                raise ValueError(f"{name!r} is an anchor, beside the anchors, or adjusted for them; only one of these.")
        for name, weight in self.adjusted.items():
            if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
                raise ValueError(f"The adjusted member {name!r} counts {weight!r}; that is a number from 0 on.")
        return found

    @property
    def names(self) -> list[str]:
        """The members' names."""
        return [one.name for one in self.proxies]

    def measure(self, context: Context) -> float | Measurement:
        """A single network has no value.

        Raises:
            ValueError: always; the message names the members.
        """
        raise ValueError(
            f"The vote {self.name!r} ranks a set of networks, and a single network has no value of it: ask for its "
            f"members ({', '.join(self.names)}) instead."
        )

    def combine(self, scores: Mapping[str, Sequence[float]]) -> list[float]:
        """The vote on a finished table.

        Args:
            scores: for each member's name its values of all candidates, higher is better; NaN and -inf rank last. Columns
                of other proxies are left aside.

        Returns:
            One value a candidate, higher is better; -inf where no member gives a finite value.

        Raises:
            ValueError: for a member without a column, columns of different lengths, and values of +inf.
        """
        tally = Tally(self)
        tally.add(scores)
        return tally.values()

    def weights(self, scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """How much each member counts on a finished table; 1 for each under rules that weigh none.

        Args:
            scores: as for `combine`.
        """
        tally = Tally(self)
        tally.add(scores)
        return tally.weights()


class Tally:
    """A vote among candidates that arrive one group after another.

    Pairs that have been compared stay as they are when others arrive, so that a group of k among n candidates costs k n
    comparisons. The values are those of `Vote.combine` on the whole table.

    Args:
        vote: the vote.
    """

    def __init__(self, vote: Vote) -> None:
        self.vote = vote
        self._table = torch.zeros(0, len(vote.proxies), dtype=torch.float64, device="cpu")
        self._net = torch.zeros(0, dtype=torch.int64, device="cpu")

    def add(self, scores: Mapping[str, Sequence[float]]) -> None:
        """More candidates, in the form that `Vote.combine` takes."""
        names = self.vote.names
        for name in names:
            if name not in scores:
                there = ", ".join(scores) or "none"
                raise ValueError(f"The vote {self.vote.name!r} needs values of {name!r}; those there are: {there}.")
        columns = {name: torch.as_tensor(scores[name], dtype=torch.float64, device="cpu") for name in names}
        if len({column.shape for column in columns.values()}) > 1 or columns[names[0]].dim() != 1:
            listed = ", ".join(f"{name} {tuple(column.shape)}" for name, column in columns.items())
            raise ValueError(f"Every member of a vote has one value for each candidate; got the shapes {listed}.")
        for name, column in columns.items():
            if bool((column == math.inf).any()):
                raise ValueError(f"A value of {name!r} is +inf, which ranks nothing.")
        self._table = torch.cat([self._table, torch.stack(list(columns.values()), 1)])

    def weights(self) -> dict[str, float]:
        """How much each member counts now."""
        names = self.vote.names
        if self.vote.rule != "agreement" or not len(self._table):
            return dict.fromkeys(names, 1.0)
        return dict(zip(names, agreement_weights(self._table, *self._roles), strict=True))

    @property
    def _roles(self) -> tuple[list[int], list[int], dict[int, float]]:
        """The columns of the anchors, of those beside them, and of those adjusted for them with what each counts."""
        place = self.vote.names.index
        anchors, beside = ([place(name) for name in names] for names in (self.vote.anchors, self.vote.beside))
        return anchors, beside, {place(name): weight for name, weight in self.vote.adjusted.items()}

    def values(self) -> list[float]:
        """The values of all candidates so far, in the order in which they came."""
        if not len(self._table):
            return []
        if self.vote.rule == "copeland":
            net = wins_minus_losses(rank_table(self._table), first=len(self._net))
            net[: len(self._net)] += self._net
            self._net = net
            values = copeland(self._table, net)
        elif self.vote.rule == "agreement":
            values = agreement(self._table, *self._roles)
        else:
            values = RULES[self.vote.rule](self._table)
        dead = ~torch.isfinite(self._table).any(1)
        found: list[float] = torch.where(dead, -math.inf, values).tolist()
        return found


class Consensus(Vote):
    """Parameters and MACs, six proxies that are trusted as far as they agree, and three that are adjusted for size.

    NASWOT, SynFlow, the correlation of image gradients (`jacob_cor`), and what activations and gradients have in common are
    trusted as far as they follow parameters and MACs: where they do they decide between networks of one size; where they do
    not, as among whole families of networks, size decides alone. The entropy of blocks is trusted as far as it agrees with
    these where size is alike. Three have no scale, and say how good a network is for its size: `az_trainability`, which
    counts 1/2, and two readings of one thing, `gradient_density` and `gradient_reach`, which count 1/4 each.
    docs/consensus.md says where it was measured, what it costs, and where it falls short.

    Args:
        rule: how the members' rankings become one; see `Vote`. Under ``agreement`` parameters and MACs are the anchors,
            the entropy is beside them, and the last three are adjusted for them.

    Source: this project.
    """

    name = "consensus"

    def __init__(self, rule: str = "agreement") -> None:
        sizes = ("params", "macs")
        like_size = ("naswot", "synflow", "jacob_cor", "common_activations", "common_gradients")
        beside = ("block_entropy",)
        adjusted = {"az_trainability": 0.5, "gradient_density": 0.25, "gradient_reach": 0.25}
        members = (*sizes, *like_size, *beside, *adjusted)
        if rule == "agreement":
            self._set(members, rule, sizes, beside, adjusted)
        else:
            self._set(members, rule)


class SJW(Vote):
    """The majority of SynFlow, JacCor and WRCor (Jing et al., arXiv 2507.08841, Neurocomputing 2025).

    Args:
        rule: how the members' rankings become one; see `Vote`.
    """

    name = "sjw"

    def __init__(self, rule: str = "copeland") -> None:
        self._set(("synflow", "jacob_cor", "wrcor"), rule)


class SPW(Vote):
    """The majority of SynFlow, PNorm and WRCor (Jing et al., arXiv 2507.08841, Neurocomputing 2025).

    Args:
        rule: how the members' rankings become one; see `Vote`.
    """

    name = "spw"

    def __init__(self, rule: str = "copeland") -> None:
        self._set(("synflow", "pnorm", "wrcor"), rule)


class AZNAS(Vote):
    """Expressivity, progressivity, trainability and MACs by log ranks (AZ-NAS, Lee and Ham, CVPR 2024).

    Args:
        rule: how the members' rankings become one; see `Vote`.
    """

    name = "az_nas"

    def __init__(self, rule: str = "log_rank") -> None:
        self._set(("az_expressivity", "az_progressivity", "az_trainability", "macs"), rule)


class VKDNWAggregate(Vote):
    """VKDNW with JacCor, AZ-NAS's expressivity and trainability, and MACs by log ranks (Tybl and Neumann, CVPR 2025).

    Args:
        rule: how the members' rankings become one; see `Vote`.
    """

    name = "vkdnw_aggregate"

    def __init__(self, rule: str = "log_rank") -> None:
        self._set(("vkdnw", "jacob_cor", "az_expressivity", "az_trainability", "macs"), rule)


class TENAS(Vote):
    """The NTK's condition number and the number of linear regions by ranks (TE-NAS, Chen et al., ICLR 2021).

    Args:
        rule: how the members' rankings become one; see `Vote`.
    """

    name = "tenas"

    def __init__(self, rule: str = "borda") -> None:
        self._set(("ntk", "linear_regions"), rule)
