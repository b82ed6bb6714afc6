"""What candidates are scored with, and one candidate: what it costs, and what it scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.inspection import Costs, Latency
from lightning_wrcor.proxies import Proxy, ScoreReport, get_proxy
from lightning_wrcor.proxies._precision import Precision
from lightning_wrcor.proxies._score import Batch, score_prepared
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.journal import fingerprint
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import Genotype, ImageSizeError, Space


@dataclass(frozen=True)
class Setting:
    """What every candidate is scored with: all that a score depends on beside the candidate.

    Attributes:
        proxies: as the user listed them, votes among them; the first ranks.
    """

    space: Space
    proxies: list[Proxy]
    batch: Batch
    seed: int
    num_classes: int
    precision: Precision = "float32"

    @property
    def input_size(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of the probe images."""
        channels, height, width = self.batch[0].shape[1:]
        return channels, height, width

    def image_size(self, resolution: int | None) -> tuple[int, int, int]:
        """Shape of the images that a network takes which brings them to its own resolution, or to none (None)."""
        return self.input_size if resolution is None else (self.input_size[0], resolution, resolution)

    def build(self, genotype: Genotype) -> nn.Module:
        """The network, on the CPU whatever the device, so that the same seed gives the same weights everywhere."""
        with torch.device("cpu"):
            return self.space.build(genotype, num_classes=self.num_classes, in_chans=self.input_size[0])

    @cached_property
    def scored(self) -> list[Proxy]:
        """The proxies that score candidates, each once: those listed, then the members of votes."""
        return _scored(self.proxies)

    @property
    def votes(self) -> list[Vote]:
        """The votes among the proxies."""
        return [one for one in self.proxies if isinstance(one, Vote)]

    @property
    def ranking(self) -> list[str]:
        """Names of the proxies of which one at least must have a value: the one that ranks, or the members of its vote."""
        first = self.proxies[0]
        return first.names if isinstance(first, Vote) else [first.name]

    def identity(self) -> dict[str, Any]:
        """The setting as plain values, for the journal's header."""
        # Where it is the usual one it is left out, as in journals from before there was another.
        unusual = {} if self.precision == "float32" else {"precision": self.precision}
        return {
            **unusual,
            "space": self.space.config(),
            "proxies": [proxy.config() for proxy in self.scored],
            "seed": int(self.seed),
            "number of classes": self.num_classes,
            "probe batch": fingerprint(self.batch),
            "version of lightning_wrcor": library_versions(["lightning_wrcor"]).get("lightning_wrcor"),
        }


def read_proxies(given: str | Proxy | Mapping[str, Any] | Sequence[str | Proxy | Mapping[str, Any]]) -> list[Proxy]:
    """Proxies and votes from what a user gives, each with a name of its own."""
    several: Sequence[Any] = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    proxies = [get_proxy(one) for one in several]
    if not proxies:
        raise ValueError("The list of proxies is empty: give at least one; the first ranks.")
    names = [one.name for one in proxies]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two proxies have the name {name!r}, under which one score can be listed. Leave one out.")
    return proxies


def _scored(proxies: Sequence[Proxy]) -> list[Proxy]:
    """Votes replaced by their members, at the end, and each proxy once.

    Raises:
        ValueError: for two different proxies of one name.
    """
    votes = [one for one in proxies if isinstance(one, Vote)]
    found = {one.name: one for one in proxies if not isinstance(one, Vote)}
    for vote in votes:
        for member in vote.proxies:
            known = found.setdefault(member.name, member)
            if known is not member and known.config() != member.config():
                raise ValueError(
                    f"The member {member!r} of the vote {vote.name!r} and {known!r} have one name, {member.name!r}, under "
                    "which one score can be listed. Use the same settings for both, or leave one out."
                )
    for vote in votes:
        if vote.name in found:
            raise ValueError(f"A vote and a proxy have the name {vote.name!r}. Give the vote another with name=...")
    return list(found.values())


def count_classes(labels: Tensor, num_classes: int | None) -> int:
    """The number of classes, and that the labels fit it."""
    if labels.is_floating_point():
        found = int(labels.shape[1])
        if num_classes is not None and num_classes != found:
            raise ValueError(f"The labels are probabilities of {found} classes, but num_classes is {num_classes}.")
        return found
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise ValueError(f"The smallest label is {low}; labels are counted from 0.")
    if num_classes is None:
        if high == 0:
            raise ValueError("All labels are 0, which does not say how many classes there are: pass num_classes=...")
        return high + 1
    if high >= num_classes:
        raise ValueError(
            f"The largest label is {high}, but num_classes is {num_classes}, which allows labels from 0 to "
            f"{num_classes - 1}."
        )
    return int(num_classes)


@dataclass(frozen=True)
class Candidate:
    """A candidate that may be scored.

    Attributes:
        genotype: its description.
        key: canonical text.
        costs: what is counted; None where that failed.
        problem: why it cannot be counted or measured, and so is not scored.
        misfit: why it takes no images of the size that the search has, and so is left out.
        resolution: pixels that its network brings images to, where that is part of the genotype.
        memory_mb: most memory that activations of one image take, in 10^6 bytes; None where nobody asked.
        latency_ms: time of a forward pass; None where nobody asked.
    """

    genotype: Genotype
    key: str
    costs: Costs | None
    problem: str | None = None
    misfit: str | None = None
    resolution: int | None = None
    memory_mb: float | None = None
    latency_ms: float | None = None

    @property
    def known(self) -> dict[str, float]:
        """All costs that are known, by the names that constraints have for them."""
        others = {name: getattr(self, name) for name in ("resolution", "memory_mb", "latency_ms")}
        counted = vars(self.costs) if self.costs is not None else {}
        return {**counted, **{name: value for name, value in others.items() if value is not None}}

    def write_costs(self, evaluation: Evaluation) -> None:
        """Write all costs that are known into an evaluation."""
        for name, value in self.known.items():
            setattr(evaluation, name, value)


def count(setting: Setting, genotype: Genotype, key: str) -> Candidate:
    """Count what a candidate costs."""
    space = setting.space
    try:
        costs = space.costs(genotype, setting.input_size, setting.num_classes)
        return Candidate(genotype, key, costs, resolution=space.resolution(genotype))
    except ImageSizeError as error:
        return Candidate(genotype, key, None, misfit=str(error))
    except Exception as error:  # a candidate that cannot be counted is recorded as failed
        return Candidate(genotype, key, None, _describe(error))


def count_memory(setting: Setting, candidate: Candidate) -> Candidate:
    """The candidate with the memory that its activations take."""
    try:
        size = setting.image_size(candidate.resolution)
        found = setting.space.peak_memory(candidate.genotype, size, setting.num_classes)
    except Exception as error:
        return replace(candidate, problem=_describe(error))
    return replace(candidate, memory_mb=found / 1e6)


def measure_latency(setting: Setting, candidate: Candidate, latency: Latency) -> Candidate:
    """The candidate with its latency on the probe batch's device, or with the reason why there is none."""
    try:
        network = setting.build(candidate.genotype)
        found = latency.measure(network, setting.image_size(candidate.resolution), setting.batch[0].device)
    except Exception as error:
        return replace(candidate, problem=f"latency cannot be measured: {_describe(error)}")
    return replace(candidate, latency_ms=found)


def evaluate(setting: Setting, candidate: Candidate) -> Evaluation:
    """Build and score one candidate; whatever goes wrong with it is written into the evaluation."""
    start = time.perf_counter()
    evaluation = Evaluation(candidate.genotype, candidate.key, candidate.key)
    out_of_memory = False
    problem = candidate.problem
    try:
        evaluation.name = setting.space.name(candidate.genotype)
        candidate.write_costs(evaluation)
        if candidate.problem is None and candidate.costs is not None:
            evaluation.add_report(_score(setting, candidate, candidate.costs), setting.ranking)
    except Exception as error:  # out of memory, a shape that does not fit, NaN: this candidate's own trouble
        problem = _describe(error)
        out_of_memory = isinstance(error, torch.OutOfMemoryError)
    if problem is not None:
        evaluation.status, evaluation.reason = "failed", problem
    if out_of_memory:
        torch.cuda.empty_cache()  # not while the error is handled: until then it holds all that was computed
    evaluation.seconds = time.perf_counter() - start
    return evaluation


def _score(setting: Setting, candidate: Candidate, costs: Costs) -> ScoreReport:
    images, labels = setting.batch
    seed = derive_seed(setting.seed, candidate.key)
    with own_random_numbers(seed):
        return score_prepared(
            setting.build(candidate.genotype).to(images.device),
            # Copies: a network may change its input in place, and the next one must not see that.
            (images.clone(), labels.clone()),
            setting.scored,
            seed=seed,
            layers=setting.space.layers(candidate.genotype),
            mixed_depth=setting.space.mixed_depth,
            costs=costs,
            num_classes=setting.num_classes,
            any_of=setting.ranking,
            precision=setting.precision,
        )


def _describe(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
