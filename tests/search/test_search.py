"""The search as a whole: who is scored, with which score, and what it leaves as it was."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from search_toys import BATCH, CELLS, Endless, Noise, Of, Widths, batch
from torch import nn

from lightning_wrcor import zero_shot_search
from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor.proxies import Context, WRCor
from lightning_wrcor.proxies._score import score_prepared
from lightning_wrcor.search import RandomSearch, RegularisedEvolution, SearchError, SearchResult, _search
from lightning_wrcor.spaces import NetworkList


def search(space: Any = None, proxy: Any = None, **kwargs: Any) -> SearchResult:
    return zero_shot_search(
        Widths() if space is None else space, BATCH, Noise() if proxy is None else proxy, progress=False, **kwargs
    )


class Huge(Widths):
    """More candidates than can be counted in 64 bits."""

    def __len__(self) -> int:
        return 10**30


def widths(result: SearchResult) -> list[int]:
    return [row.genotype[1] for row in result.history]


# ---- who is scored


def test_a_finite_space_is_drawn_from_without_replacement() -> None:
    result = search(budget=12)
    assert sorted(widths(result)) == list(range(1, 13))
    assert widths(result) != list(range(1, 13))
    assert result.funnel.sampled == 12
    assert result.notes == []


def test_every_network_of_a_list_in_its_order() -> None:
    result = search(strategy="exhaustive")
    assert widths(result) == list(range(1, 13))
    assert widths(search(strategy="exhaustive", budget=5)) == [1, 2, 3, 4, 5]


def test_the_budget_counts_those_that_are_scored() -> None:
    # Widths below 5 are rejected, and every network has two descriptions.
    result = search(Widths(12, copies=2), budget=6, constraints={"min_params": 7 * 5 + 3})
    assert len(result.history) == result.funnel.scored == 6
    assert min(widths(result)) >= 5
    assert result.funnel.repeated
    assert result.funnel.rejected["min_params"]
    funnel = result.funnel
    assert funnel.sampled == funnel.scored + funnel.repeated + sum(funnel.rejected.values())


def test_more_budget_than_candidates() -> None:
    for strategy in ("random", "exhaustive"):
        result = search(budget=50, strategy=strategy)
        assert len(result.history) == 12
        assert result.notes == ["The search ended after 12 of 50 candidates: the space has no others."]


def test_an_endless_space_that_gives_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_search, "REDRAWS", 40)
    result = search(Endless(3), budget=10)
    assert sorted(widths(result)) == [1, 2, 3]
    assert result.funnel.repeated >= 40
    assert result.funnel.sampled < 60
    assert result.notes == ["The search ended after 3 of 10 candidates: 40 in a row were rejected or repeated."]


def test_a_finite_space_is_looked_through_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_search, "REDRAWS", 4)
    for strategy in ("random", "exhaustive"):
        result = search(Widths(30), strategy=strategy, budget=3, constraints={"min_depth": 1, "min_params": 7 * 30 + 3})
        assert widths(result) == [30], "the only candidate, behind 29 that are rejected"


def test_two_descriptions_of_one_network_are_scored_once() -> None:
    proxy = Noise()
    result = search(Widths(4, copies=3), proxy, strategy="exhaustive")
    assert proxy.seen == widths(result) == [1, 2, 3, 4]
    assert result.funnel.repeated == 8
    assert len({row.key for row in result.history}) == 4


def test_one_seed_one_winner() -> None:
    first, again = search(Endless(200), budget=8), search(Endless(200), budget=8)
    other = search(Endless(200), budget=8, seed=1)
    assert [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in first.history] == [
        row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in again.history
    ]
    assert first.best.key == again.best.key
    assert widths(first) != widths(other)


def test_the_strategy_is_told_what_it_asked_for() -> None:
    class Learning(RandomSearch):
        generation = 4
        told: tuple[list[int], ...] = ()

        def tell(self, evaluations: Any) -> None:
            self.told += ([row.genotype[1] for row in evaluations],)

    strategy = Learning()
    result = search(strategy=strategy, budget=10)
    assert [len(rows) for rows in strategy.told] == [4, 4, 2]
    assert [width for rows in strategy.told for width in rows] == widths(result)


# ---- which score


def test_a_score_depends_on_the_candidate_alone() -> None:
    everyone = search(CELLS, "wrcor", budget=6)
    for row in everyone.history[-2:]:
        name = CELLS.name(row.genotype)

        class One(type(CELLS)):  # type: ignore[misc]
            def sample(self, rng: random.Random, name: str = name) -> Any:
                return self.parse(name)

            def __len__(self) -> int:
                return 10**7

        alone = search(One(width=4, cells=1), "wrcor", budget=1)
        assert alone.best.score == row.score


def test_the_score_is_that_of_the_network_built_from_the_derived_seed() -> None:
    for row in search(CELLS, "wrcor", budget=2, seed=5).history:
        seed = derive_seed(5, CELLS.key(row.genotype))
        with own_random_numbers(seed):
            network = CELLS.build(row.genotype, num_classes=3)
            report = score_prepared(network, BATCH, [WRCor()], seed=seed, layers=CELLS.layers(row.genotype))
        assert row.score == report.value
        assert row.scores == {"wrcor": report.value}
        assert (row.params, row.macs, row.depth) == (report.params, report.macs, report.depth)
        assert row.details["shares"] == report.shares
        assert row.details["depth_normalised"] is False
        assert row.name == CELLS.name(row.genotype)


def test_several_proxies_are_recorded_and_the_first_ranks() -> None:
    result = search(proxy=["params", Noise()], strategy="exhaustive")
    assert result.best.genotype[1] == 12
    assert all(row.scores == {"params": row.params, "noise": row.scores["noise"]} for row in result.history)
    assert result.history[3].scores["noise"] == search(strategy="exhaustive").history[3].score


def test_the_space_says_which_layer_a_module_belongs_to() -> None:
    class Layered(Widths):
        def layers(self, genotype: Any) -> dict[str, int]:
            return {"1": 4}

    # One non-linearity: a layer further is B log 2 more.
    plain, layered = (search(space, "wrcor", strategy="exhaustive") for space in (Widths(), Layered()))
    assert plain.history[9].details["shares"][0]["layer"] == 0
    assert layered.history[9].score == pytest.approx(plain.history[9].score + len(BATCH[0]) * 4 * math.log(2))


def test_the_default_device_makes_no_difference() -> None:
    expected = search(budget=2)
    with torch.device("meta"):
        result = search(budget=2)
    assert [row.score for row in result.history] == [row.score for row in expected.history]


def test_networks_that_change_their_input_do_not_change_the_next() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width = 0
            self.rest = nn.Sequential(nn.Flatten(), nn.Linear(48, 30), nn.ReLU(), nn.Linear(30, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rest(x.mul_(3).add_(1))

    class Runs(Noise):
        def value(self, context: Context) -> float:
            return float(context.network(context.images).sum())

    images, labels = batch()
    before = images.clone()
    space = NetworkList({str(number): Careless for number in range(3)})
    rows = zero_shot_search(space, (images, labels), [Runs(), "wrcor"], strategy="exhaustive", progress=False).history
    alone = zero_shot_search(NetworkList({"2": Careless}), (before, labels), [Runs(), "wrcor"], progress=False)
    assert torch.equal(images, before)
    assert rows[2].scores == alone.best.scores


# ---- what a reader should know


def test_few_images_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    two = zero_shot_search(CELLS, batch(2), "wrcor", budget=2, journal=path, progress=False)
    (note,) = two.notes
    assert note.startswith("Scored on only 2 images: what a proxy learns from images rests on 1 pair of them")
    assert two.rerank().notes == SearchResult.from_journal(path).notes == [note]
    (note,) = zero_shot_search(Widths(), batch(15), Noise(), budget=2, progress=False).notes
    assert note.startswith("Scored on only 15 images: what a proxy learns from images rests on 105 pairs of them")
    assert zero_shot_search(CELLS, batch(16), "wrcor", budget=2, progress=False).notes == []
    counted = zero_shot_search(Widths(), batch(2), ["params", "macs"], budget=2, progress=False)
    assert counted.notes == [], "what only counts looks at no image"


def test_a_budget_within_the_first_population_is_noted() -> None:
    strategy = RegularisedEvolution(population=5)
    note = "All 5 candidates were drawn at random: RegularisedEvolution learns only after its first 5 (population=5). "
    note += "Give it a larger budget, or a smaller population."
    assert search(strategy=strategy, budget=5).notes == [note]
    assert search(strategy=strategy, budget=6).notes == []
    assert search(strategy="random", budget=5).notes == []
    (note,) = search(strategy=strategy, budget=1).notes
    assert note.startswith("The only candidate was drawn at random: ")


# ---- raw scores over mixed depths


def _chain(depth: int) -> Any:
    def build(num_classes: int, in_chans: int) -> nn.Module:
        blocks = [nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(depth)]
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 6), *blocks, nn.Linear(6, num_classes))

    return build


def test_depths_are_normalised_where_they_differ_by_nature() -> None:
    networks = {f"depth {depth}": _chain(depth) for depth in (1, 3, 5)}
    normalised = search(NetworkList(networks), "wrcor")
    assert all(row.details["depth_normalised"] for row in normalised.history)
    assert normalised.notes == []
    raw = search(NetworkList(networks), WRCor(depth_normalised=False), budget=3)
    assert len(raw.notes) == 1
    assert raw.notes[0].startswith("Warning: these are raw wrcor scores of networks that differ in depth")
    assert raw.notes[0] in raw.table()
    assert search(CELLS, "wrcor", budget=1).notes == [], "one depth by nature: the raw score is the paper's"


# ---- what it leaves as it was


def _random_state() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_global_random_numbers_are_left_as_they_were(error: type[BaseException] | None) -> None:
    def draw(width: int) -> float:
        if error is not None and width > 6:
            raise error
        return random.random() + np.random.rand() + float(torch.rand(()))

    torch.manual_seed(3)
    before = _random_state()
    if error is None:
        search(proxy=Of(draw), budget=5)
    else:
        with pytest.raises((error, SearchError)):
            search(Widths(60), proxy=Of(draw))
    assert _random_state() == before


def test_spaces_that_draw_from_global_random_numbers() -> None:
    class Careless(Endless):
        def sample(self, rng: random.Random) -> Any:
            return 0, random.randint(1, 10) + np.random.randint(10) * 10 + int(torch.randint(10, ())) * 100

    torch.manual_seed(1)
    before = _random_state()
    first = search(Careless(), budget=5)
    assert _random_state() == before
    torch.manual_seed(2)
    np.random.rand()
    random.random()
    assert widths(search(Careless(), budget=5)) == widths(first)


# ---- what is refused before anything is scored


def _never(width: int) -> float:
    raise AssertionError("scored")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0}, "at least 1; got 0"),
        ({"budget": 2.5}, "at least 1; got 2.5"),
        ({"strategy": "randm"}, "no strategy named 'randm'.*closest first: random, "),
        ({"strategy": {"class_path": "lightning_wrcor.search.Random"}}, "Its strategies: RandomSearch, "),
        ({"proxy": "wrcr"}, "no proxy named 'wrcr'.*closest first: wrcor"),
        ({"proxy": ["wrcor", "param"]}, "no proxy named 'param'.*closest first: params"),
        ({"proxy": []}, "list of proxies is empty"),
        ({"proxy": [WRCor(), WRCor(gates=True)]}, "Two proxies have the name 'wrcor'"),
        ({"space": "nasbench21"}, "no search space 'nasbench21'. Did you mean nasbench201.? There are: nasbench201"),
        ({"space": ["resnet18", "resnet19"]}, "resnet19"),
        ({"num_classes": 2}, "largest label is 2, but num_classes is 2"),
        ({"strategy": "exhaustive", "space": Endless()}, "Endless cannot be enumerated"),
        ({"strategy": "exhaustive", "space": Huge()}, "1,000,000.* candidates, too many to score"),
        ({"constraints": {"max_parms": 3}}, "'max_parms'. Did you mean max_params.? Constraints: max_params"),
    ],
)
def test_settings_that_cannot_work(arguments: dict[str, Any], message: str, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=message):
        search(**{"proxy": Of(_never), "journal": tmp_path / "journal", **arguments})
    assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.randn(1, 3, 4, 4), torch.tensor([1]), "batch of one"),
        (torch.randn(2, 3, 4, 4), torch.tensor([1, -1]), "smallest label is -1"),
        (torch.randn(2, 3, 4, 4), torch.tensor([0, 0]), "All labels are 0.*num_classes"),
        (torch.randn(2, 4, 4), torch.tensor([0, 1]), "Images are floating point"),
    ],
)
def test_batches_that_cannot_be_scored(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zero_shot_search(Widths(), (images, labels), Of(_never), progress=False)


def test_labels_that_are_probabilities() -> None:
    images, _ = BATCH
    labels = torch.full((len(images), 3), 1 / 3)
    assert zero_shot_search(CELLS, (images, labels), budget=1, progress=False).num_classes == 3
    with pytest.raises(ValueError, match="probabilities of 3 classes, but num_classes is 4"):
        zero_shot_search(Widths(), (images, labels), Of(_never), num_classes=4, progress=False)


@pytest.mark.parametrize("strategy", ["random", "exhaustive"])
def test_a_huge_space_can_be_searched_with_a_budget(strategy: str) -> None:
    result = search(Huge(), Of(float), strategy=strategy, budget=2)
    assert len(result.history) == 2
    if strategy == "exhaustive":
        assert widths(result) == [1, 2]
