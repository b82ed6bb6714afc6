"""Searches whose scores come from a table, so that a strategy can be tried many times."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from search_toys import BATCH

from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies import Params
from lightning_wrcor.search import Evaluation, SearchResult, Strategy, _evaluate, _search, zero_shot_search
from lightning_wrcor.spaces import Genotype, NASBench201, Space

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class Cells(NASBench201):
    """NAS-Bench-201 with one network for each genotype and costs that are quick to count."""

    def key(self, genotype: Genotype) -> str:
        assert isinstance(genotype, tuple)
        return "".join(str(OPERATIONS.index(str(operation))) for operation in genotype)

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        assert isinstance(genotype, tuple)
        size = {"nor_conv_1x1": 1, "nor_conv_3x3": 9}
        params = sum(size.get(str(operation), 0) for operation in genotype)
        return Costs(params, 16 * params + 1, sum(operation in size for operation in genotype))


def cell_table(seed: int) -> dict[Genotype, float]:
    """A made-up accuracy for each cell: a weight for each operation on each edge, weights for pairs, and noise."""
    rng = random.Random(seed)
    single = {(edge, operation): rng.gauss(0, 1) for edge in range(6) for operation in OPERATIONS}
    pairs = {
        (*edges, *operations): rng.gauss(0, 0.5)
        for edges in itertools.combinations(range(6), 2)
        for operations in itertools.product(OPERATIONS, repeat=2)
    }
    table: dict[Genotype, float] = {}
    for cell in NASBench201():
        assert isinstance(cell, tuple)
        value = sum(single[edge, str(operation)] for edge, operation in enumerate(cell))
        value += sum(pairs[one, other, cell[one], cell[other]] for one, other in itertools.combinations(range(6), 2))  # type: ignore[index]
        table[cell] = value + rng.gauss(0, 0.5)
    return table


Searcher = Callable[..., SearchResult]


def table_search(monkeypatch: pytest.MonkeyPatch, score: Callable[[Genotype], float]) -> Searcher:
    """`zero_shot_search` in which ``score`` takes the place of networks: NaN is a failure, -inf a dead network.

    Everything else, from what is proposed to what is told, is the search's own.
    """

    def evaluate(setting: Any, candidate: Any) -> Evaluation:
        row = Evaluation(candidate.genotype, setting.space.name(candidate.genotype), candidate.key)
        row.params, row.macs, row.depth = candidate.costs.params, candidate.costs.macs, candidate.costs.depth
        value = score(candidate.genotype)
        if math.isnan(value):
            row.status, row.reason = "failed", "no value"
            return row
        row.scores = dict.fromkeys((one.name for one in setting.scored), value)
        row.rank_by(setting.ranking)
        return row

    assert _search.evaluate is _evaluate.evaluate
    monkeypatch.setattr(_search, "evaluate", evaluate)

    def run(space: Space, strategy: Strategy | str, budget: int | None = None, **settings: Any) -> SearchResult:
        settings = {"proxy": Params(), "progress": False, "num_classes": 3, **settings}
        return zero_shot_search(space, BATCH, strategy=strategy, budget=budget, **settings)

    return run


def names(result: SearchResult) -> list[str]:
    return [row.name for row in result.history]


def evaluation(score: float, genotype: Genotype = 0, **costs: int) -> Evaluation:
    """One that was scored; NaN failed, -inf is dead."""
    status = "failed" if math.isnan(score) else "dead" if score == -math.inf else "ok"
    return Evaluation(genotype, str(genotype), str(genotype), {"p": score}, score, status=status, **costs)  # type: ignore[arg-type]


def sign_test(first: Sequence[float], second: Sequence[float]) -> float:
    """One-sided p of the sign test: how likely so few pairs in which ``first`` is larger are by chance; ties left out."""
    larger = sum(a > b for a, b in zip(first, second, strict=True))
    smaller = sum(a < b for a, b in zip(first, second, strict=True))
    n = larger + smaller
    return sum(math.comb(n, k) for k in range(larger + 1)) / 2**n
