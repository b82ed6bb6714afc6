"""What a search found, and what that is worth."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from lightning_wrcor.proxies._precision import Precision
from lightning_wrcor.search._funnel import Funnel as Funnel
from lightning_wrcor.search._standings import in_race_order, verdict
from lightning_wrcor.search._table import table
from lightning_wrcor.search.evaluation import Evaluation, ranked, tie_groups
from lightning_wrcor.spaces import Space, get_space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_wrcor.search._rerank import Given
    from lightning_wrcor.search.constraints import Constraints

FORMAT = "lightning_wrcor search result"
VERSION = 1
BASELINES = ("params", "macs", "depth")
SAYS_LITTLE = 0.95
"""Rank correlation with a cost from which on a proxy says little that the cost does not."""

ENOUGH = 10
"""Candidates from which on a rank correlation that high is no accident."""


@dataclass
class SearchResult:
    """The outcome of a search.

    Attributes:
        space: the search space, as plain values (``class_path`` and ``init_args``).
        proxies: the proxies and votes, as plain values; the first one ranks.
        strategy: the strategy, as plain values.
        constraints: the bounds that were set.
        seed: the search's seed.
        num_classes: classes of the networks that were scored.
        input_size: ``(channels, height, width)`` of the probe images.
        history: every evaluation, in the order in which the candidates were proposed.
        funnel: how many candidates were sampled, rejected, scored.
        seconds: wall time of the search.
        versions: of the libraries that computed the scores.
        notes: what a reader should know (an early end, failures, scores that mostly count depth).
        precision: of the pass in which candidates were scored.
        searched_space: the space itself; None in a result that was read from a file.
    """

    space: dict[str, Any]
    proxies: list[dict[str, Any]]
    strategy: dict[str, Any]
    constraints: dict[str, float]
    seed: int
    num_classes: int
    input_size: tuple[int, int, int]
    history: list[Evaluation]
    funnel: Funnel
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    precision: Precision = "float32"
    searched_space: Space | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process knows the space as text only: it may hold functions that cannot be pickled.
        return {**vars(self), "searched_space": None}

    @cached_property
    def leaderboard(self) -> list[Evaluation]:
        """All candidates with a finite score, best first (ties within 1e-6: the cheaper first, then the smaller key).

        After a race the finalists come first, by their places in it; then the others; then finalists that were left out.
        """
        return in_race_order(ranked(self.history))

    @property
    def best(self) -> Evaluation:
        """The winner.

        Raises:
            ValueError: when no candidate has a finite score.
        """
        if not self.leaderboard:
            raise ValueError(f"No candidate has a finite score: {self.funnel}.")
        return self.leaderboard[0]

    @property
    def race(self) -> str:
        """How the race for the first place ended, in words; empty without one."""
        return verdict(self.leaderboard)

    def pareto(self, cost: Literal["macs", "params", "depth", "memory_mb", "latency_ms"] = "macs") -> list[Evaluation]:
        """Candidates that no other beats in both score and cost, cheapest first; ties in score are no gain.

        Raises:
            ValueError: for a cost that was not measured in this search.
        """
        if any(getattr(row, cost) is None for row in self.leaderboard):
            raise ValueError(
                f"{cost} was not measured in this search; it is where the constraints bound it, and latency_ms also with "
                "constraints={'latency': {}}."
            )
        groups = enumerate(tie_groups(self.history))
        rows = [(getattr(row, cost), level, row) for level, group in groups for row in group]
        front: list[Evaluation] = []
        best = math.inf
        for _, level, row in sorted(rows, key=lambda entry: entry[:2]):
            if level < best:
                front.append(row)
                best = level
        return front

    @cached_property
    def baselines(self) -> dict[str, float]:
        """Spearman's rank correlation of the score with params, macs and depth over the candidates scored.

        A cost that all candidates share has none and is left out. Close to 1 means that the ranking is that of size.
        """
        import torch
        from torchmetrics.functional import spearman_corrcoef

        rows = self.leaderboard
        scores = torch.tensor([row.score for row in rows], dtype=torch.float64)
        result: dict[str, float] = {}
        for name in BASELINES:
            costs = torch.tensor([getattr(row, name) for row in rows], dtype=torch.float64)
            if len(rows) >= 3 and len(costs.unique()) > 1 and len(scores.unique()) > 1:
                result[name] = float(spearman_corrcoef(scores, costs))
        return result

    @property
    def honesty(self) -> str:
        """One sentence: how much of the ranking size alone explains."""
        proxy = next(iter(self.best.scores))
        if not self.baselines:
            few = "Too few candidates" if len(self.leaderboard) < 3 else "Candidates or scores are too much alike"
            return f"{few} to say how much of the {proxy} ranking is explained by size."
        listed = ", ".join(f"{name} {value:+.2f}" for name, value in self.baselines.items())
        sentence = f"Rank correlation of {proxy} with {listed} (n={len(self.leaderboard)})."
        name, value = max(self.baselines.items(), key=lambda item: abs(item[1]))
        if abs(value) >= SAYS_LITTLE and len(self.leaderboard) >= ENOUGH and proxy not in BASELINES:
            sentence += f" Warning: {proxy} says little here that {name} does not."
        return sentence

    def rerank(
        self,
        proxy: Given | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
    ) -> SearchResult:
        """The same candidates ranked anew from their stored scores; nothing is scored, and this result stays as it is.

        Votes are counted anew among the candidates that remain. A race is left out, which was among other finalists.

        Args:
            proxy: what ranks: the name of a stored proxy or vote, a proxy as it was stored, a vote whose members were, or
                several of them, of which the first ranks. None for those that rank now.
            constraints: further bounds on the stored costs.

        Raises:
            ValueError: for a proxy without stored values, or stored with other settings (the message names what is
                stored), and for a bound on a cost that is not stored.
        """
        from lightning_wrcor.search._rerank import rerank  # which knows this module

        return rerank(self, proxy, constraints)

    def network(
        self, num_classes: int | None = None, in_chans: int | None = None, space: Space | None = None
    ) -> nn.Module:
        """Build the winner, untrained, from torch's global random numbers.

        Args:
            num_classes: classes; by default those of the search.
            in_chans: channels of the images; by default those of the search.
            space: the space, where the result was read from a file and the space's plain values do not say all (a list
                that holds modules or functions).
        """
        classes = self.num_classes if num_classes is None else num_classes
        channels = in_chans or self.input_size[0]
        return self._space(space).build(self.best.genotype, num_classes=classes, in_chans=channels)

    def draw(self, *, width: float = 7.0, space: Space | None = None) -> Figure:
        """Draw the winner as a matplotlib figure: `Space.draw`, with costs for the search's classes and images.

        Args:
            width: inches that the figure may be wide.
            space: as for `network`.
        """
        return self._space(space).draw(
            self.best.genotype, width=width, input_size=self.input_size, num_classes=self.num_classes
        )

    def _space(self, given: Space | None) -> Space:
        # Not by truth: that would count the space's candidates.
        space = self.searched_space if given is None else given
        return get_space(self.space) if space is None else space

    def table(self, rows: int = 10) -> str:
        """The best candidates with their costs, how a race ended, and the sentence on baselines, for a terminal."""
        return table(self, rows)

    def to_pandas(self) -> Any:
        """The history as a pandas DataFrame, one row a candidate (pandas is not a dependency)."""
        import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]

        rows = [row.to_dict() for row in self.history]
        for row in rows:
            row |= {f"score_{name}": value for name, value in row.pop("scores").items()}
            race = row.pop("race", {})
            row |= {f"race_{name}": race[name] for name in ("place", "mean", "error", "no_worse") if name in race}
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON."""
        data = {name: getattr(self, name) for name, part in self.__dataclass_fields__.items() if part.init}
        data["history"] = [row.to_dict() for row in self.history]
        data["funnel"] = asdict(self.funnel)
        data["input_size"] = list(self.input_size)
        return {"format": FORMAT, "version": VERSION, **data}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write everything as strict JSON (scores that are not finite are null, ``status`` says which they were).

        A file that is there is replaced at once, never half written.

        Raises:
            IsADirectoryError: for a folder.
        """
        target = Path(path)
        if target.is_dir():
            raise IsADirectoryError(f"{path} is a folder; name the file in it, such as {target / 'search.json'}.")
        text = json.dumps(self.to_dict(), allow_nan=False, indent=1) + "\n"
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(target)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchResult:
        """The way back from `to_dict`.

        Raises:
            ValueError: for data that is no search result, or of another version.
        """
        data = dict(data) if isinstance(data, Mapping) else {}
        if data.pop("format", None) != FORMAT:
            raise ValueError("this is no search result of lightning_wrcor")
        if (version := data.pop("version", None)) != VERSION:
            raise ValueError(f"the search result has version {version}; this package reads {VERSION}")
        data["history"] = [Evaluation.from_dict(row) for row in data["history"]]
        data["funnel"] = Funnel(**data["funnel"])
        data["input_size"] = tuple(data["input_size"])
        return cls(**data)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> SearchResult:
        """Read what `to_json` wrote.

        Raises:
            ValueError: for a file that is no search result; the message names it.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read as a search result: {error}") from error

    @classmethod
    def from_journal(
        cls,
        path: str | os.PathLike[str],
        proxy: Given | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
    ) -> SearchResult:
        """A result from the scores that a journal holds, in the order of the file; no network is built.

        All candidates of the file are in it, from however many runs. ``seconds`` is the time that scoring them took. What
        the journal does not know is left open: the strategy of merged journals, and how many candidates were rejected.

        Args:
            path: the journal.
            proxy: what ranks, as in `rerank`; by default what ranked in the search that began the file.
            constraints: bounds on the stored costs.

        Raises:
            OSError: where the file cannot be read.
            ValueError: for a file that is no journal or holds no line, and as in `rerank`.
        """
        from lightning_wrcor.search._rerank import result_of_journal  # which knows this module

        return result_of_journal(path, proxy, constraints)


def library_versions(names: Sequence[str] = ("lightning_wrcor", "torch", "timm")) -> dict[str, str]:
    """Versions of the installed packages."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
