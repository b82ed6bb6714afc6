"""What became of the winner in training, for the search card."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_wrcor.report._card_html import Markup, code, joined, settings_table, table
from lightning_wrcor.report._told import ranking_proxy
from lightning_wrcor.search import SearchResult


@dataclass(frozen=True)
class TrainingOutcome:
    """What training made of the network that a search found.

    Args:
        name: the network that was trained: the winner, or a finalist that was taken in its place.
        accuracy: its test accuracy, a share of 1.
        random: test accuracies of random candidates that were trained alike, by name.
        finalists: validation accuracies of the finalists after a short training, by name, in the order of their scores.
        images: which images the test accuracy is of, in words.
        weights: which weights were tested, in words.
        checkpoint: the file that was tested.
        chosen_by: what chose that checkpoint, and its value.
        figures: further values of the test, by name.

    Raises:
        ValueError: for an accuracy that is no share of 1.
    """

    name: str
    accuracy: float
    random: Mapping[str, float] = field(default_factory=dict)
    finalists: Mapping[str, float] = field(default_factory=dict)
    images: str = ""
    weights: str = ""
    checkpoint: str = ""
    chosen_by: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, one in {**self.finalists, **self.tested}.items():
            if not 0 <= one <= 1:
                raise ValueError(f"An accuracy is a share, from 0 to 1; that of {name} is {one!r}.")

    @property
    def tested(self) -> dict[str, float]:
        """All test accuracies, by name."""
        return {**self.random, self.name: self.accuracy}


def training(result: SearchResult, outcome: TrainingOutcome) -> Markup:
    """What became of the winner, beside others that were trained alike."""
    scores = {row.name: row.score for row in result.leaderboard}
    head = ["network", "", ranking_proxy(result), "test accuracy"]
    rows: list[list[object]] = [
        [code(outcome.name), "trained", _score(scores, outcome.name), f"{outcome.accuracy:.2%}"]
    ]
    for name, accuracy in sorted(outcome.random.items(), key=lambda pair: -pair[1]):
        rows.append([code(name), "random", _score(scores, name), f"{accuracy:.2%}"])
    parts = [table("Test accuracies; a score of - means that the search did not score it", head, rows)]
    if outcome.finalists:
        finals = [[code(name), _score(scores, name), f"{one:.2%}"] for name, one in outcome.finalists.items()]
        head = ["finalist", ranking_proxy(result), "validation accuracy"]
        parts.append(table("Finalists after a short training, in the order of their scores", head, finals))
    told: list[tuple[object, object]] = [("test images", outcome.images or "not recorded")]
    told += [("weights", outcome.weights or "not recorded")]
    if outcome.checkpoint:
        told.append(("checkpoint", code(outcome.checkpoint)))
    if outcome.chosen_by:
        told.append(("chosen by", ", ".join(" ".join(_figure(*one)) for one in outcome.chosen_by.items())))
    told += [_figure(*one) for one in outcome.figures.items()]
    return joined([*parts, settings_table("The training", told)])


def in_words(result: SearchResult, outcome: TrainingOutcome) -> str:
    """What was trained, and how that compares with what was trained alike."""
    place = next((place for place, row in enumerate(result.leaderboard, start=1) if row.name == outcome.name), None)
    if place == 1:
        what = "The winner was trained"
    elif place is None:
        what = f"{outcome.name}, which the search did not score, was trained"
    else:
        why = " as the best of the finalists" if outcome.finalists else ""
        what = f"Not the winner by score but number {place:,} was trained{why}"
    tested = f" on {outcome.images}" if outcome.images not in ("", "unknown") else ""
    sentence = f"{what}: test accuracy {outcome.accuracy:.2%}{tested}."
    others = list(outcome.random.values())
    if len(others) == 1:
        sentence += f" One random candidate trained alike has {others[0]:.2%}."
    elif others:
        worse, equal = sum(one < outcome.accuracy for one in others), others.count(outcome.accuracy)
        median = f"median {statistics.median(others):.2%}"
        how = f"better than {worse}" + f", equal to {equal}" * bool(equal)
        sentence += f" It is {how} of {len(others)} random candidates trained alike ({median})."
    if 0 < len(others) < 10:
        sentence += " So few say little; each was trained once."
    return sentence


def _figure(name: str, value: float) -> tuple[str, str]:
    """A metric as Lightning logs it, for readers: ``test/top5`` of 0.98 is a ``test top-5 accuracy`` of 98.00%."""
    stage, _, metric = name.rpartition("/")
    stage = {"val": "validation "}.get(stage, f"{stage} " if stage else "")
    if (top := re.fullmatch(r"top(\d+)", metric)) and 0 <= value <= 1:
        return f"{stage}top-{top[1]} accuracy", f"{value:.2%}"
    return f"{stage}{metric}", f"{value:.4g}"


def _score(scores: Mapping[str, float], name: str) -> str:
    return f"{scores[name]:,.4f}" if name in scores else "-"
