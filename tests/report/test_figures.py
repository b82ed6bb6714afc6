"""Figures of a search, read back from the figure: what is drawn is what was found, and it can be read."""

from __future__ import annotations

import json
import math
import random
import runpy
import sys
from itertools import accumulate, combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

matplotlib = pytest.importorskip("matplotlib")

import matplotlib.image as mpimg  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from search_toys import CELLS, batch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from lightning_wrcor import report, zero_shot_search  # noqa: E402
from lightning_wrcor.report.__main__ import main  # noqa: E402
from lightning_wrcor.search import (  # noqa: E402
    NSGA2,
    Evaluation,
    Funnel,
    RegularisedEvolution,
    Reinforce,
    SearchResult,
)

BATCH, OTHER = (batch(12, size=8, classes=3, seed=seed) for seed in (0, 1))
BOUNDS = {"max_params": 16_000, "min_depth": 4, "latency": {"warmup": 0, "repeats": 1}}
LONG = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2| $x^2$ $"


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search") / "journal.jsonl"


@pytest.fixture(scope="module")
def found(journal: Path) -> SearchResult:
    """A random search of real cells, under constraints that reject some."""
    return zero_shot_search(CELLS, BATCH, "wrcor", budget=14, constraints=BOUNDS, journal=journal, progress=False)


def invented(
    count: int = 60, strategy: dict[str, Any] | None = None, proxy: str = "fake", **settings: Any
) -> SearchResult:
    """A result with everything that there can be, of a space that cannot be built."""
    rng = random.Random(0)
    rows = []
    for place in range(count):
        status = "ok" if place == 0 else rng.choice(["ok"] * 8 + ["dead", "failed"])
        score = {"ok": rng.gauss(100, 10), "dead": -math.inf, "failed": math.nan}[status]
        macs = int(10 ** rng.uniform(6, 10))
        row = Evaluation(
            place, f"{LONG}{place}", f"{place:03d}", {proxy: score}, score, macs // 100, macs, 5 + place % 40
        )
        row.status, row.latency_ms, row.memory_mb = status, rng.uniform(1, 9), rng.uniform(1, 2)  # type: ignore[assignment]
        rows.append(row)
    kinds = [sum(row.status == kind for row in rows) for kind in ("ok", "dead", "failed")]
    rejected = {"max_macs": 9000, "max_memory_mb": 1200, "min_params": 800, "max_latency_ms": 300}
    funnel = Funnel(sum([678, *rejected.values(), *kinds]), 678, rejected, *kinds, resumed=17)
    bounds = {"max_macs": 6e8, "max_memory_mb": 12.5, "min_params": 3e6, "max_latency_ms": 3.25}
    result = SearchResult({}, [{}], strategy or {}, bounds, 0, 10, (3, 8, 8), rows, funnel)
    for name, value in settings.items():
        setattr(result, name, value)
    return result


def artist(axes: Any, label: str) -> Any:
    (one,) = (line for line in axes.lines if line.get_label().startswith(label))
    return one


def points(axes: Any, label: str) -> list[tuple[float, float]]:
    return [tuple(point) for point in artist(axes, label).get_xydata().tolist()]


def words(figure: Any) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ").replace("\u00a0", " ")


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def shown_texts(figure: Any) -> list[Text]:
    """All text that is drawn: ticks outside of the limits are not."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                slack = 1e-9 * (high - low)
                if not (axis.get_visible() and low - slack <= tick.get_loc() <= high + slack):
                    hidden |= {tick.label1, tick.label2}
    return [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip() and one not in hidden]


def assert_legible(figure: Any, width: float) -> None:
    """Everything lies inside, no text covers another, and its size goes with the width."""
    assert figure.get_figwidth() == pytest.approx(width)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    box = figure.get_tightbbox(renderer)
    assert box.x0 > -0.01
    assert box.x1 < figure.get_figwidth() + 0.01
    assert box.y0 > -0.01
    assert box.y1 < figure.get_figheight() + 0.01
    extents = [(text, text.get_window_extent(renderer)) for text in shown_texts(figure)]
    for (one, first), (other, second) in combinations(extents, 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert wide < 1 or high < 1.5, f"{one.get_text()!r} covers {other.get_text()!r}"
    scale = max(1.0, width / 7)
    for text, _ in extents:
        assert 7 * scale - 1e-6 <= text.get_fontsize() <= 8 * scale + 1e-6, text.get_text()


# ---- score against costs


@pytest.mark.parametrize("cost", ["macs", "params", "depth", "latency_ms"])
def test_costs_show_every_candidate_the_front_and_the_winner(found: SearchResult, cost: Any) -> None:
    (axes,) = report.draw_costs(found, cost).axes
    unit = {"macs": 1e3, "params": 1e3}.get(cost, 1.0)
    expected = sorted((getattr(row, cost) / unit, row.score) for row in found.history if row.status == "ok")
    np.testing.assert_allclose(sorted(points(axes, "candidates")), expected)
    front = [(getattr(row, cost) / unit, row.score) for row in found.pareto(cost)]
    steps = points(axes, "Pareto front")
    np.testing.assert_allclose(steps[:-1], front)
    assert steps[-1] == pytest.approx((max(x for x, _ in expected), front[-1][1]))  # on to the dearest
    assert artist(axes, "Pareto front").get_drawstyle() == "steps-post"
    np.testing.assert_allclose(points(axes, "winner"), [(getattr(found.best, cost) / unit, found.best.score)])
    labels = {"macs": "MACs (thousands)", "params": "parameters (thousands)", "depth": "depth (non-linearities)"}
    assert axes.get_xlabel() == labels.get(cost, "latency (ms)")
    assert axes.get_ylabel().startswith("wrcor")


def test_the_front_is_what_no_other_beats(found: SearchResult) -> None:
    """By the definition, without the package's own function."""
    rows = [row for row in found.history if row.status == "ok"]
    best = {
        (row.macs / 1e3, row.score)
        for row in rows
        if not any(
            o.macs <= row.macs and o.score >= row.score and (o.macs, o.score) != (row.macs, row.score) for o in rows
        )
    }
    drawn = points(report.draw_costs(found).axes[0], "Pareto front")[:-1]
    np.testing.assert_allclose(sorted(drawn), sorted(best))


def test_dead_candidates_stand_on_the_lower_edge_with_their_costs() -> None:
    result = invented()
    figure = report.draw_costs(result)
    dead = artist(figure.axes[0], "dead")
    assert sorted(dead.get_xdata()) == pytest.approx(sorted(r.macs / 1e9 for r in result.history if r.status == "dead"))
    assert all(0 <= y < 0.1 for y in dead.get_ydata())
    assert dead.get_transform() == figure.axes[0].get_xaxis_transform()
    assert f"dead ({result.funnel.dead})" in legend(figure)


def test_axes_are_logarithmic_where_values_span_decades(found: SearchResult) -> None:
    result = invented()
    assert report.draw_costs(result).axes[0].get_xscale() == "log"
    assert report.draw_costs(result, "latency_ms").axes[0].get_xscale() == "linear"
    assert report.draw_costs(found).axes[0].get_xscale() == "linear"
    assert report.draw_costs(result).axes[0].get_xlabel() == "MACs (billions)"
    assert report.draw_costs(result, "params").axes[0].get_xlabel() == "parameters (millions)"
    assert report.draw_costs(result).axes[0].get_yscale() == "linear"
    for row in result.history:
        row.score = math.exp(row.score)  # of gradients, say
    wide = invented(history=result.history)
    for draw in (report.draw_costs, report.draw_progress):
        axes = draw(wide).axes[0]
        assert axes.get_yscale() == "log"
        low, high = axes.get_ylim()
        assert all(low < row.score < high for row in wide.leaderboard)


@pytest.mark.parametrize("draw", [report.draw_costs, report.draw_progress])
def test_a_few_scores_far_below_do_not_press_the_others_into_a_line(draw: Any) -> None:
    result = invented(100)
    scored = [row for row in result.history if row.status == "ok"]
    for row in scored[:4]:
        row.score = -8000.0
    figure = draw(invented(history=result.history))
    axes = figure.axes[0]
    low = artist(axes, "score lower than shown")
    assert len(low.get_xdata()) == 4
    assert len(points(axes, "candidates")) == len(scored) - 4
    assert axes.get_ylim()[0] > -100
    assert axes.get_ylim()[1] > max(row.score for row in scored)
    assert "score lower than shown (4)" in legend(figure)


def test_the_rank_correlation_with_the_cost_is_told(found: SearchResult) -> None:
    assert f"rank correlation of score and MACs {found.baselines['macs']:+.2f}" in words(report.draw_costs(found))


def test_costs_that_cannot_be_drawn_say_what_to_do(found: SearchResult) -> None:
    with pytest.raises(ValueError, match=r"^cost is one of 'macs', .*'depth'; got 'flops'\.$"):
        report.draw_costs(found, "flops")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^memory_mb was not measured in this search"):
        report.draw_costs(found, "memory_mb")
    with pytest.raises(ValueError, match=r"^No candidate has a finite score"):
        report.draw_costs(invented(0))
    for width in (0, -3.5, math.nan):
        with pytest.raises(ValueError, match=r"^width is a positive number of inches"):
            report.draw_funnel(found, width=width)


# ---- progress


def test_progress_shows_every_candidate_and_the_best_so_far() -> None:
    result = invented()
    figure = report.draw_progress(result)
    (axes,) = figure.axes
    numbered = list(enumerate(result.history, start=1))
    alive = [(place, row.score) for place, row in numbered if row.status == "ok"]
    np.testing.assert_allclose(points(axes, "candidates"), alive)
    best = list(accumulate((score for _, score in alive), max))
    line = points(axes, "best so far")
    np.testing.assert_allclose(
        line, [*((place, top) for (place, _), top in zip(alive, best, strict=True)), (60, best[-1])]
    )
    for status in ("dead", "failed"):
        assert list(artist(axes, status).get_xdata()) == [place for place, row in numbered if row.status == status]
        assert f"{status} ({getattr(result.funnel, status)})" in legend(figure)
    place = next(place for place, row in numbered if row is result.best)
    np.testing.assert_allclose(points(axes, "winner"), [(place, result.best.score)])


@pytest.mark.parametrize(
    "strategy",
    [RegularisedEvolution(5, 2, children=3), NSGA2(population=5), Reinforce(first=5, draws=3)],
    ids=lambda strategy: strategy.kind,
)
def test_generations_begin_where_the_strategy_was_told(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    original = type(strategy).tell

    def tell(self: Any, evaluations: Any) -> None:
        told.append(len(evaluations))
        original(self, evaluations)

    monkeypatch.setattr(type(strategy), "tell", tell)
    result = zero_shot_search(CELLS, BATCH, "params", strategy=strategy, budget=13, constraints=BOUNDS, progress=False)
    starts = [0, *list(accumulate(told))[:-1]]
    bands = [patch for patch in report.draw_progress(result).axes[0].patches if isinstance(patch, Rectangle)]
    # Every other generation is shaded, from its first candidate to its last.
    ends = [*starts[1:], 13]
    expected = list(zip(starts, ends, strict=True))[::2]
    assert [(band.get_x(), band.get_x() + band.get_width()) for band in bands] == [
        (a + 0.5, b + 0.5) for a, b in expected
    ]


def test_many_generations_share_bands_and_unknown_ones_have_none(found: SearchResult) -> None:
    evolution = RegularisedEvolution(20, children=2).config()
    figure = report.draw_progress(invented(500, evolution))
    bands = figure.axes[0].patches
    assert 5 < len(bands) < 30
    assert (bands[0].get_x(), bands[0].get_width()) == (0.5, 20)
    (told,) = (text for text in legend(figure) if text.startswith("generations"))
    together = int(told.split()[1])
    assert bands[1].get_width() == 2 * together == bands[1].get_x() - 20.5
    for strategy in (found.strategy, {}, {"class_path": "nowhere.Strategy", "init_args": {}}):
        assert not report.draw_progress(invented(50, strategy)).axes[0].patches


# ---- funnel


def test_bars_of_the_funnel_are_its_counts(found: SearchResult) -> None:
    for result in (found, invented()):
        funnel = result.funnel
        assert sum(funnel.rejected.values()) > 0
        axes = report.draw_funnel(result).axes[0]
        lost = [funnel.repeated, *funnel.rejected.values(), funnel.failed, funnel.dead]
        counts = [funnel.sampled, *(count for count in lost if count), funnel.scored]
        assert [bar.get_width() for bar in axes.patches] == counts
        assert [int(text.get_text().split()[0].replace(",", "")) for text in axes.texts] == counts
        # Each takes away from the right of what the one before left; the last is what remains.
        for one, other in zip(axes.patches[:-2], axes.patches[1:-1], strict=True):
            left = one.get_x() if one is not axes.patches[0] else one.get_width()
            assert other.get_x() + other.get_width() == pytest.approx(left)
        assert axes.patches[-1].get_x() + axes.patches[-1].get_width() == axes.patches[-2].get_x()


def test_the_funnel_names_the_bounds(found: SearchResult) -> None:
    names = words(report.draw_funnel(invented()))
    for text in ("MACs > 600 million", "memory > 12.5 MB", "parameters < 3 million", "latency > 3.25 ms"):
        assert f"rejected: {text}" in names
    assert "17 candidates from the journal" in names
    assert "rejected: parameters > 16,000" in words(report.draw_funnel(found))
    unknown = invented(constraints={}, funnel=Funnel(9, 0, {"max_macs": 4}, 5))
    assert "rejected by max_macs" in words(report.draw_funnel(unknown))


# ---- shares


def test_bars_of_shares_are_those_of_the_winner(found: SearchResult) -> None:
    axes = report.draw_shares(found).axes[0]
    shares = found.best.details["shares"]
    for bars, part in zip(axes.containers, ("activation", "gradient"), strict=True):
        assert bars.get_label() == f"{part}s"
        assert [bar.get_height() for bar in bars] == [row[part] for row in shares]
        for bar, row in zip(bars, shares, strict=True):
            assert round(bar.get_x() + bar.get_width() / 2) == row["layer"]
    assert "All shares together are 12" in words(report.draw_shares(found))


def test_a_search_without_shares_says_which_have_some(found: SearchResult) -> None:
    with pytest.raises(ValueError, match=r"^The search kept no layer shares of .*draw_correlations\(result, batch\)"):
        report.draw_shares(invented())
    only = invented()
    only.best.details["shares"] = [{"layer": 2, "activation": 12.0}]
    assert [bars.get_label() for bars in report.draw_shares(only).axes[0].containers] == ["activations"]


# ---- correlations


class Tiny(nn.Module):
    """Three non-linearities in two layers, one of them called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 5, 3), nn.GELU(), nn.Conv2d(5, 5, 1), nn.SiLU())
        self.head = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(images)).mean((2, 3)))


def by_hand(network: Tiny, images: torch.Tensor, labels: torch.Tensor) -> dict[str, list[np.ndarray]]:
    """Absolute correlations of the three responses and of their gradients, by NumPy."""
    inputs = [network.stem[0](images)]
    inputs.append(network.body[0](inputs[0].relu()))
    inputs.append(network.body[2](nn.functional.gelu(inputs[1])))
    loss = cross_entropy(network.head(nn.functional.silu(inputs[2]).mean((2, 3))), labels)
    gradients = torch.autograd.grad(loss, inputs)
    rows = {"activation": inputs, "gradient": gradients}
    return {
        part: [np.abs(np.corrcoef(one.detach().double().flatten(1).numpy())) for one in found]
        for part, found in rows.items()
    }


def matrices(figure: Any) -> dict[str, np.ndarray]:
    return {axes.get_label(): np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images}


def test_matrices_are_numpys() -> None:
    torch.manual_seed(0)
    network, (images, labels) = Tiny(), batch(10, size=6)
    before = [parameter.clone() for parameter in network.parameters()]
    state = torch.get_rng_state()
    layers = {"stem": 0, "body": 3}
    drawn = matrices(report.draw_correlations(network, (images, labels), layers=layers))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
    parts = by_hand(network, images, labels)
    order = np.argsort(labels.numpy(), kind="stable")
    expected = {}
    for part, (first, second, third) in parts.items():
        expected |= {f"{part} 0": first, f"{part} 3": (second + third) / 2}
    total = sum(first + 8 * (second + third) for first, second, third in parts.values())
    expected["K"] = total / (2 * (1 + 8 + 8))
    assert drawn.keys() == expected.keys()
    for name, matrix in expected.items():
        np.testing.assert_allclose(drawn[name], matrix[np.ix_(order, order)], atol=2e-5, err_msg=name)
        np.testing.assert_allclose(drawn[name].diagonal(), 1.0)
    alike = matrices(report.draw_correlations(network, (images, labels), proxy="rcor", layers=layers))["K"]
    np.testing.assert_allclose(alike, (sum(map(sum, parts.values())) / 6)[np.ix_(order, order)], atol=2e-5)
    gradients = matrices(report.draw_correlations(network, (images, labels), proxy="gcor"))["K"]
    np.testing.assert_allclose(gradients, (sum(parts["gradient"]) / 3)[np.ix_(order, order)], atol=2e-5)


def test_the_winner_has_the_weights_that_it_was_scored_with(found: SearchResult, journal: Path) -> None:
    """Its K gives the shape term of the search: the log-determinant of K divided by the sum of its weights."""
    for result in (found, SearchResult.from_journal(journal)):
        figure = report.draw_correlations(result, BATCH)
        sign, log_det = np.linalg.slogdet(matrices(figure)["K"])
        assert sign == found.best.details["sign"]
        assert log_det == pytest.approx(found.best.details["shape_term"], rel=1e-5)
        assert f"wrcor {found.best.score:.4f}" in words(figure)
        assert "in the search" not in words(figure)
    layers = [row["layer"] for row in found.best.details["shares"]]
    assert set(matrices(figure)) == {
        "K",
        *(f"{part} {layer}" for part in ("activation", "gradient") for layer in layers),
    }


def test_another_batch_is_told(found: SearchResult) -> None:
    assert f"({found.best.score:.4f} in the search)" in words(report.draw_correlations(found, OTHER))


def test_probabilities_are_labels_too(found: SearchResult) -> None:
    images, labels = BATCH
    soft = nn.functional.one_hot(labels, 3).float()
    hard = matrices(report.draw_correlations(found, BATCH))
    for name, matrix in matrices(report.draw_correlations(found, (images, soft))).items():
        np.testing.assert_allclose(matrix, hard[name], atol=1e-5)


def test_more_layers_than_fit_are_left_out_evenly() -> None:
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(24)))
    network.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)])
    layers = {str(place): place for place in range(24)}
    figure = report.draw_correlations(network, batch(6, size=4), layers=layers, width=3.5)
    shown = sorted(int(name.split()[1]) for name in matrices(figure) if name.startswith("activation"))
    assert len(shown) < 24
    assert (shown[0], shown[-1]) == (0, 23)
    assert {b - a for a, b in pairwise(shown)} <= {1, 2}
    assert f"{len(shown)} of 24 layers" in words(figure)
    assert_legible(figure, 3.5)


def test_correlations_that_cannot_be_drawn_say_why(found: SearchResult) -> None:
    with pytest.raises(TypeError, match="takes a SearchResult or a network"):
        report.draw_correlations("resnet18", BATCH)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^A batch is a pair of tensors"):
        report.draw_correlations(found, BATCH[0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^The matrices are those of wrcor, rcor, acor or gcor; got naswot\.$"):
        report.draw_correlations(found, BATCH, proxy="naswot")
    with pytest.raises(ValueError, match=r"^The winner .* cannot be scored on this batch: "):
        report.draw_correlations(found, (BATCH[0], BATCH[1] + 50))
    with pytest.raises(ValueError, match="no non-linearity"):
        report.draw_correlations(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), batch())


# ---- all of them


@pytest.mark.parametrize("width", [3.5, 7.0, 13.0])
def test_everything_can_be_read(found: SearchResult, width: float) -> None:
    figures = [report.draw_progress(invented(), width=width), report.draw_funnel(invented(), width=width)]
    if width < 13:  # a slide is a page in large
        figures += [report.draw_costs(invented(), width=width), report.draw_correlations(found, OTHER, width=width)]
    if width < 7:  # where there is the least room
        many = invented(400, RegularisedEvolution(20, children=2).config(), proxy="vkdnw_aggregate_of_five_votes")
        figures += [report.draw_progress(many, width=width), report.draw_shares(found, width=width)]
        figures += [report.draw_costs(found, "latency_ms", width=width), report.draw_funnel(found, width=width)]
    for figure in figures:
        assert_legible(figure, width)


def test_a_smaller_figure_is_the_same_in_small(found: SearchResult) -> None:
    for draw in (report.draw_costs, report.draw_funnel):
        small, usual = draw(found, width=1.75), draw(found, width=3.5)
        assert small.get_figheight() == pytest.approx(usual.get_figheight() / 2)
        sizes = [sorted(text.get_fontsize() for text in shown_texts(figure)) for figure in (small, usual)]
        assert sizes[0] == pytest.approx([size / 2 for size in sizes[1]])


def test_all_figures_are_those_that_are_defined(found: SearchResult) -> None:
    both = ["progress", "funnel"]
    costs = ["score_macs", "score_params", "score_latency_ms"]
    assert list(report.all_figures(found, BATCH)) == ["winner", *costs, *both, "shares", "correlations"]
    # A space that cannot be built, another proxy, and every cost measured.
    assert list(report.all_figures(invented(), BATCH)) == [*costs, "score_memory_mb", *both]
    assert list(report.all_figures(invented(0))) == both
    with pytest.raises(ValueError, match=r"^A batch is a pair of tensors"):
        report.all_figures(found, "no batch")  # type: ignore[arg-type]


def test_pyplot_and_settings_are_left_alone(found: SearchResult) -> None:
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    report.all_figures(found)
    assert not pyplot.get_fignums()
    assert dict(matplotlib.rcParams) == before


def test_a_missing_matplotlib_says_what_to_install(found: SearchResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"^A drawing needs matplotlib: pip install 'lightning_wrcor\[recipes\]'\.$"
    for draw in (report.draw_costs, report.draw_progress, report.draw_funnel, report.draw_shares, report.all_figures):
        with pytest.raises(ImportError, match=message):
            draw(found)
    with pytest.raises(ImportError, match=message):
        report.draw_correlations(found, BATCH)


def test_the_package_can_be_imported_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, forgotten_report: None
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "draw_costs" in runpy.run_path(str(report.__file__))


# ---- while a search runs, and from a terminal


def test_a_journal_that_is_being_written_is_drawn_as_far_as_it_is(found: SearchResult, journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    Path("whole.jsonl").write_bytes(b"".join(lines[:8]))
    Path("torn.jsonl").write_bytes(b"".join(lines[:8]) + lines[8][:-20])
    counts = []
    for name in ("whole.jsonl", "torn.jsonl"):
        before = Path(name).read_bytes()
        result = SearchResult.from_journal(name)
        figures = report.all_figures(result)
        assert {"winner", "score_macs", "progress", "funnel", "shares"} <= figures.keys()
        axes = figures["progress"].axes[0]
        drawn = [line for line in axes.lines if line.get_label().startswith(("candidates", "dead"))]
        counts.append(sum(len(line.get_xdata()) for line in drawn))
        assert Path(name).read_bytes() == before
    assert counts == [7, 7]


def test_a_journal_that_says_little_or_nothing_yet_is_drawn(journal: Path) -> None:
    head, *rows = journal.read_bytes().splitlines(keepends=True)
    Path("begun.jsonl").write_bytes(head)
    figures = report.all_figures(SearchResult.from_journal("begun.jsonl"))
    assert list(figures) == ["progress", "funnel"]
    assert "no candidate yet" in words(figures["progress"])
    assert_legible(figures["progress"], 7.0)
    header = json.loads(head)
    del header["about"]  # as merged journals may be, and old ones
    Path("old.jsonl").write_bytes(json.dumps(header).encode() + b"\n" + b"".join(rows))
    figures = report.all_figures(SearchResult.from_journal("old.jsonl"))
    assert len(points(figures["score_macs"].axes[0], "candidates")) == sum(b'"ok"' in row for row in rows)


def test_the_command_writes_files(found: SearchResult, journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["figures", str(journal), "--out", "a/folder", "--format", "pdf"])
    printed = capsys.readouterr().out.split()
    assert printed == [f"a/folder/{name}.pdf" for name in report.all_figures(found)]
    assert all(Path(path).read_bytes().startswith(b"%PDF") for path in printed)


@pytest.mark.parametrize("width", [2.5, 13.0])
def test_the_command_gives_every_figure_one_width(found: SearchResult, journal: Path, width: float) -> None:
    drawn = found.draw(width=width).get_size_inches()
    main(["figures", str(journal), "--out", "out", "--width", str(width)])
    sizes = {path.stem: mpimg.imread(path).shape for path in Path("out").iterdir()}
    assert {size[1] for size in sizes.values()} == {round(200 * width)}
    assert sizes["winner"][0] == pytest.approx(200 * drawn[1], abs=1)
    if width > drawn[0]:  # as much white on the left as on the right, and the drawing as large as before
        dark = (mpimg.imread(Path("out/winner.png"))[..., :3] < 0.9).any(axis=(0, 2)).nonzero()[0]
        assert (dark[0] + dark[-1]) / 2 == pytest.approx(100 * width, abs=0.1 * 200 * drawn[0])
        assert dark[-1] - dark[0] <= 200 * drawn[0]


def test_the_command_reads_results_and_ranks_by_another_proxy(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Evaluation(0, "a", "a", {"params": 5.0, "wrcor": 1.0}, 5.0)]
    rows += [Evaluation(1, "b", "b", {"params": 4.0, "wrcor": 2.0}, 4.0)]
    proxies = [{"class_path": f"lightning_wrcor.proxies.{name}", "init_args": {}} for name in ("Params", "WRCor")]
    SearchResult({}, proxies, {}, {}, 0, 3, (3, 8, 8), rows, Funnel(2, scored=2)).to_json("search.json")
    main(["figures", "search.json", "--out", "out", "--width", "3.5"])
    pictures = list(Path("out").iterdir())
    assert len(pictures) == 4
    for path in pictures:
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert int.from_bytes(head[16:20], "big") == 700
    main(["figures", "search.json", "--out", "other", "--format", "svg", "--proxy", "wrcor"])
    drawn = Path("other/progress.svg").read_text()
    assert "<!-- wrcor (higher is better) -->" in drawn
    assert "<!-- Winner: b" in drawn
    for source in ("search.json", str(journal)):
        with pytest.raises(SystemExit) as stop:
            main(["figures", source, "--out", "out", "--proxy", "naswot"])
        assert stop.value.code == 2
        assert "holds no values of 'naswot'" in capsys.readouterr().err


def test_mistakes_end_the_command_with_one_sentence(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.json").write_text("{}")
    Path("file").write_text("")
    cases = {
        ("nowhere.json", "--out", "out"): "nowhere.json",
        ("other.json", "--out", "out"): "other.json cannot be read as a search result: this is no search result",
        (str(journal), "--out", "file"): "file",
        (str(journal), "--out", "out", "--width", "wide"): "a width is 1 to 100 inches; got 'wide'",
        (str(journal), "--out", "out", "--width", "0"): "a width is 1 to 100 inches; got '0'",
        (str(journal), "--out", "out", "--format", "gif"): "invalid choice: 'gif'",
        (str(journal),): "--out",
    }
    for arguments, expected in cases.items():
        with pytest.raises(SystemExit) as stop:
            main(["figures", *arguments])
        printed = capsys.readouterr().err
        assert stop.value.code == 2
        assert expected in printed
        assert "Traceback" not in printed
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
