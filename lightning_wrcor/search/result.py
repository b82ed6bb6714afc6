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

from lightning_wrcor.search.evaluation import Evaluation, ranked, tie_groups
from lightning_wrcor.spaces import Space, get_space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "lightning_wrcor search result"
VERSION = 1
BASELINES = ("params", "macs", "depth")
SAYS_LITTLE = 0.95
"""Rank correlation with a cost from which on a proxy says little that the cost does not."""

ENOUGH = 10
"""Candidates from which on a rank correlation that high is no accident."""


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
        return ", ".join(parts) + f" ({self.resumed} from the journal)" * bool(self.resumed)


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
    searched_space: Space | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process knows the space as text only: it may hold functions that cannot be pickled.
        return {**vars(self), "searched_space": None}

    @cached_property
    def leaderboard(self) -> list[Evaluation]:
        """All candidates with a finite score, best first (ties within 1e-6: the cheaper first, then the smaller key)."""
        return ranked(self.history)

    @property
    def best(self) -> Evaluation:
        """The winner.

        Raises:
            ValueError: when no candidate has a finite score.
        """
        if not self.leaderboard:
            raise ValueError(f"No candidate has a finite score: {self.funnel}.")
        return self.leaderboard[0]

    def pareto(self, cost: Literal["macs", "params", "depth"] = "macs") -> list[Evaluation]:
        """Candidates that no other beats in both score and cost, cheapest first; ties in score are no gain."""
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
        """Draw the winner as a matplotlib figure: `Space.draw`.

        Args:
            width: inches that the figure may be wide.
            space: as for `network`.
        """
        return self._space(space).draw(self.best.genotype, width=width)

    def _space(self, given: Space | None) -> Space:
        # Not by truth: that would count the space's candidates.
        space = self.searched_space if given is None else given
        return get_space(self.space) if space is None else space

    def table(self, rows: int = 10) -> str:
        """The best candidates with their costs, and the sentence on baselines, for a terminal."""
        proxy = next(iter(self.best.scores))
        shown = self.leaderboard[:rows]
        # A proxy may have refused some: those with the most columns say their order.
        columns = dict.fromkeys(name for row in sorted(shown, key=lambda row: -len(row.scores)) for name in row.scores)
        others = [name for name in columns if name != proxy]
        head = ["", "candidate", proxy, *others, "params", "MACs", "depth"]
        body = [
            [
                str(place),
                row.name if len(row.name) <= 70 else row.name[:67] + "...",
                f"{row.score:.4f}",
                *(f"{row.scores[name]:.4g}" if name in row.scores else "-" for name in others),
                _short(row.params),
                _short(row.macs),
                str(row.depth),
            ]
            for place, row in enumerate(shown, start=1)
        ]
        widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in [head, *body]
        ]
        # The whole text of the winner: what genotype=... takes.
        winner = [f"Best: {self.best.name}"] if len(self.best.name) > 70 else []
        return "\n".join([*lines, *winner, f"{self.funnel}; {self.seconds:.1f} s.", self.honesty, *self.notes])

    def to_pandas(self) -> Any:
        """The history as a pandas DataFrame, one row a candidate (pandas is not a dependency)."""
        import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]

        rows = [row.to_dict() for row in self.history]
        for row in rows:
            row |= {f"score_{name}": value for name, value in row.pop("scores").items()}
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
        """
        target = Path(path)
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


def _short(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return str(int(count))


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
