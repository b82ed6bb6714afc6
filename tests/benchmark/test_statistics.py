"""The benchmark's statistics against slow formulas and SciPy."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch

from lightning_wrcor.benchmark._compare import Comparison
from lightning_wrcor.benchmark._statistics import (
    best_of_top,
    draw_counts,
    kendall,
    partial_correlation,
    percentile_interval,
    rank_codes,
    resampled_kendall,
    resampled_spearman,
    spearman,
    standard_ranks,
)

stats = pytest.importorskip("scipy.stats")


def draw(n: int, ties: int, seed: int) -> tuple[list[float], list[float], list[float]]:
    rng = random.Random(seed)
    size = [float(rng.randrange(ties)) for _ in range(n)]
    accuracy = [value + rng.gauss(0, ties / 3) for value in size]
    return [value + float(rng.randrange(ties)) for value in accuracy], accuracy, size


def test_without_a_value_ranks_last_and_ties() -> None:
    assert rank_codes([2.0, -math.inf, 5.0, None, 2.0, math.nan, -1e30]).tolist() == [2, 0, 3, 0, 2, 0, 1]
    assert rank_codes([3.0, 1.0]).tolist() == [1, 0]


def test_correlations_are_those_of_scipy() -> None:
    scores, accuracies, _ = draw(40, 6, 0)
    scores = [float(round(score)) for score in scores]
    codes = rank_codes(scores), rank_codes(accuracies)
    assert spearman(*codes) == pytest.approx(stats.spearmanr(scores, accuracies).statistic, abs=1e-6)
    assert kendall(*codes) == pytest.approx(stats.kendalltau(scores, accuracies).statistic, abs=1e-6)


@pytest.mark.parametrize("values", [[1.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
def test_what_cannot_be_correlated_has_no_correlation(values: list[float]) -> None:
    codes, others = rank_codes(values), torch.arange(len(values))
    assert spearman(codes, others) is None
    assert kendall(codes, others) is None


def test_every_resample_has_the_correlations_of_its_networks() -> None:
    scores, accuracies, _ = draw(15, 4, 1)
    scores = [float(round(score)) for score in scores]
    scores[3] = -math.inf
    counts = draw_counts(15, 30, seed=2)
    assert (counts.sum(1) == 15).all()
    codes, target = rank_codes(scores), rank_codes(accuracies)
    rho = resampled_spearman(standard_ranks(codes, counts), standard_ranks(target, counts), counts)
    tau = resampled_kendall(codes, target, counts)
    for place, times in enumerate(counts.int().tolist()):
        drawn = [network for network, count in enumerate(times) for _ in range(count)]
        pair = [codes[drawn].tolist(), [accuracies[network] for network in drawn]]
        assert float(rho[place]) == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-9)
        assert float(tau[place]) == pytest.approx(stats.kendalltau(*pair).statistic, abs=1e-9)


def test_partial_correlation_is_that_of_the_residuals() -> None:
    columns = [stats.rankdata(column) for column in draw(50, 8, 3)]
    design = np.column_stack([np.ones(50), columns[2]])
    left = [column - design @ np.linalg.lstsq(design, column, rcond=None)[0] for column in columns[:2]]
    xy, xz, yz = (
        torch.tensor(np.corrcoef(columns[a], columns[b])[0, 1], dtype=torch.float64)
        for a, b in ((0, 1), (0, 2), (1, 2))
    )
    assert float(partial_correlation(xy, xz, yz)) == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-9)
    assert partial_correlation(xy, torch.ones_like(xy), yz).isnan()


def test_percentiles_leave_undefined_resamples_out() -> None:
    values = torch.cat([torch.arange(101, dtype=torch.float64), torch.full((20,), math.nan, dtype=torch.float64)])
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert percentile_interval(torch.full((4,), math.nan)) is None


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 20])
def test_best_of_the_top_is_the_mean_over_all_ways_to_break_ties(k: int) -> None:
    scores, accuracies = [3, 1, 2, 2, 2, 2, 0], [5.0, 9.0, 7.0, 4.0, 6.0, 6.5, 8.0]
    found = []
    for order in itertools.permutations(range(7)):
        ranked = sorted(order, key=lambda place: -scores[place])  # stable: ties in the order of the permutation
        found.append(max(accuracies[place] for place in ranked[:k]))
    assert best_of_top(torch.tensor(scores), torch.tensor(accuracies), k) == pytest.approx(sum(found) / len(found))


def test_a_comparison_holds_every_statistic() -> None:
    scores, accuracies, params = draw(60, 9, 4)
    values: list[float | None] = [-math.inf, None, *scores[2:]]
    row = Comparison("acc", accuracies, params, resamples=400, seed=0).measure("mine", values, refused=1)
    lowest = [min(scores) - 1] * 2 + scores[2:]
    rho = stats.spearmanr(lowest, accuracies).statistic
    baseline = stats.spearmanr(params, accuracies).statistic
    assert (row.n, row.dead, row.refused, row.failed) == (60, 1, 1, 0)
    assert row.spearman == pytest.approx(rho, abs=1e-6)
    assert row.over_params == pytest.approx(rho - baseline, abs=1e-9)
    best, chosen = max(accuracies), accuracies[int(np.argmax(lowest))]
    assert row.top1_accuracy == chosen
    assert row.regret[1] == pytest.approx(best - chosen)
    assert row.regret[5] == pytest.approx(best - max(accuracies[i] for i in np.argsort(lowest)[-5:]))
    assert row.spearman_interval is not None
    low, high = row.spearman_interval
    reference = stats.bootstrap(
        (lowest, accuracies),
        lambda x, y: stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.05)


def test_pairs_of_about_one_size() -> None:
    values, accuracies, params = draw(40, 12, seed=5)
    rng = random.Random(1)
    macs: list[float | None] = [*(2.0 ** rng.uniform(0, 5) for _ in range(38)), None, 0.0]

    def slow(chosen: list[int]) -> float:
        signs = [
            np.sign(values[i] - values[j]) * np.sign(accuracies[i] - accuracies[j])
            for i, j in itertools.combinations(chosen, 2)
            if i != j and macs[i] and macs[j] and 0.5 <= macs[i] / macs[j] <= 2.0
        ]
        return float(np.mean(signs))

    row = Comparison("acc", accuracies, params, resamples=200, seed=0, macs=macs).measure("mine", values)
    assert row.near_macs == pytest.approx(slow(list(range(40))), abs=1e-6)
    drawn = [[i for i in range(40) for _ in range(int(counts[i]))] for counts in draw_counts(40, 200, 0)]
    expected = np.quantile([slow(chosen) for chosen in drawn], [0.025, 0.975])
    assert row.near_macs_interval == pytest.approx(tuple(expected), abs=1e-6)
    assert Comparison("acc", accuracies, params).measure("mine", values).near_macs is None
    apart = Comparison("acc", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], macs=[1.0, 4.0, 16.0]).measure("mine", [1.0, 3.0, 2.0])
    assert (apart.near_macs, apart.near_macs_interval) == (None, None)


def test_worse_than_params_is_said_where_chance_does_not_explain_it() -> None:
    _, accuracies, params = draw(80, 20, 5)
    noise = [random.Random(place).random() for place in range(80)]
    comparison = Comparison("acc", accuracies, params)
    said = {name: comparison.measure(name, values).verdict for name, values in (("noise", noise), ("own", accuracies))}
    assert said == {"noise": "**worse than params**", "own": "better than params"}
    assert comparison.measure("params", params).verdict == "the baseline"
    assert comparison.measure("macs", [2 * value for value in params]).verdict == "ranks as params does"
    # The same ranking but for pairs of neighbours: a difference, and one that this data cannot tell from none.
    close = {
        place: rank + 1.5 * (rank % 2 == 0) for rank, place in enumerate(sorted(range(80), key=params.__getitem__))
    }
    assert comparison.measure("close", [close[place] for place in range(80)]).verdict.endswith("params, within chance")


def test_too_few_networks_and_constant_values_are_explained() -> None:
    few = Comparison("acc", [1.0, 2.0], [3.0, 4.0]).measure("mine", [1.0, 2.0])
    assert few.spearman is few.kendall is few.spearman_interval is None
    assert few.regret[1] == 0.0
    assert few.note == "a rank correlation needs at least 3 networks, and there are 2 networks"
    none = Comparison("acc", [], []).measure("mine", [])
    assert none.note is not None
    assert none.regret == {}
    same = Comparison("acc", [1.0, 2.0, 4.0], [3.0, 4.0, 5.0]).measure("mine", [7.0, 7.0, 7.0])
    assert same.note == "it has the same value for all 3 networks"
    assert same.verdict == "undefined"
    equal = Comparison("acc", [1.0, 1.0, 1.0], [3.0, 4.0, 5.0]).measure("mine", [7.0, 6.0, 7.0])
    assert equal.note == "all 3 networks have the same accuracy"


def test_without_intervals_of_pairs_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_wrcor.benchmark._compare.KENDALL_INTERVAL", 10)
    scores, accuracies, params = draw(20, 5, 8)
    row = Comparison("acc", accuracies, params, resamples=50).measure("mine", scores)
    assert row.kendall is not None
    assert row.kendall_interval is None
    assert row.spearman_interval is not None
