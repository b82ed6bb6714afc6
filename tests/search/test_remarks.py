"""What a result says of proxies without a value, and of raw scores that count depth."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest
from search_toys import BATCH, CELLS, Of, Widths
from torch import Tensor, nn

from lightning_wrcor import SearchResult, zero_shot_search
from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies import Context, Observer, Proxy, WRCor
from lightning_wrcor.search._remarks import _ranked_by_depth
from lightning_wrcor.spaces import Genotype, NASBench201, Space


def search(space: Any, proxy: Any, **settings: Any) -> SearchResult:
    return zero_shot_search(space, BATCH, proxy, progress=False, **settings)


class Second(Of):
    """Another one, beside the first."""

    name = "second"


def refuses(width: int) -> float:
    raise ValueError("no width will do.")


def refuses_some(width: int) -> float:
    return -math.inf if width < 2 else refuses(width)


# ---- proxies without a value


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (refuses, "second refused all 3 candidates: no width will do."),
        (lambda width: math.nan, "second refused all 3 candidates: The proxy second gave NaN."),
        (lambda width: -math.inf, "second is -inf for all 3 candidates."),
        (refuses_some, "second has a value for none of 3 candidates: 1 -inf, 2 refused: no width will do."),
        (lambda width: 1.0 if width == 2 else -math.inf, None),
        (lambda width: 1.0 if width == 2 else refuses(width), None),
    ],
)
def test_a_recorded_proxy_without_a_value(function: Any, said: str | None, tmp_path: Path) -> None:
    journal = tmp_path / "search.jsonl"
    result = search(Widths(3), [Of(float), Second(function)], strategy="exhaustive", journal=journal)
    assert result.notes == ([] if said is None else [f"Warning: {said}"])
    assert result.rerank().notes == result.notes
    if said is not None:
        assert f"Warning: {said}" in result.table()


def test_failed_candidates_do_not_count() -> None:
    some = search(Widths(12), [Of(lambda width: 1 / (width - 5)), Second(refuses)], strategy="exhaustive")
    assert some.funnel.failed == 1
    assert some.notes[1:] == ["Warning: second refused all 11 candidates: no width will do."]
    one = search(Widths(1), ["params", Second(refuses)])
    assert one.notes[-1] == "Warning: second refused the only candidate: no width will do."


class Zeros(Observer):
    """Counts what is zero, of which nobody asked to be shown anything."""

    zeros = 0

    def see_activated(self, call: Call, tensor: Tensor) -> None:
        self.zeros += int((tensor == 0).sum())


class Sparse(Proxy):
    name = "sparse"
    observers = (Zeros,)

    def measure(self, context: Context) -> float:
        zeros = context.observer(Zeros).zeros
        return math.log(zeros) if zeros else -math.inf


def test_a_need_that_was_forgotten_is_named() -> None:
    (note,) = search(Widths(3), ["params", Sparse()]).notes
    hint = "Zeros.see_activated is called only with needs = Needs(activated=True)"
    assert note == f"Warning: sparse is -inf for all 3 candidates: {hint}."
    with pytest.raises(
        RuntimeError, match=r"None of 3 candidates got a finite score .*Zeros\.see_activated is called only"
    ):
        search(Widths(3), Sparse())


# ---- raw scores that count depth


class Chains(Space):
    """Plain networks of 1 to 4 hidden layers, all as wide."""

    kind = "chains"

    def sample(self, rng: random.Random) -> Genotype:
        return rng.randint(1, 4)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        return rng.choice([depth for depth in range(1, 5) if depth != genotype])

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        assert isinstance(genotype, int)
        blocks = [nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(genotype)]
        return nn.Sequential(nn.Flatten(), nn.Linear(16 * in_chans, 64), *blocks, nn.Linear(64, num_classes))

    def name(self, genotype: Genotype) -> str:
        return f"depth {genotype}"

    def parse(self, text: str) -> Genotype:
        return int(text.removeprefix("depth "))


class Mixed(Chains):
    """The same, which says it."""

    mixed_depth = True  # type: ignore[assignment]


class Decided(Chains):
    """The same, which says that it does not matter."""

    mixed_depth = False  # type: ignore[assignment]


class Cells(NASBench201):
    """A user's own, made of one of ours."""


class Widest(Chains):
    """The same, all of one depth."""

    def sample(self, rng: random.Random) -> Genotype:
        return 2


def depth_notes(result: SearchResult) -> list[str]:
    return [note for note in result.notes if "depth" in note]


def test_a_class_that_does_not_say_that_depths_differ(tmp_path: Path) -> None:
    raw = search(Chains(), "wrcor", budget=4, journal=tmp_path / "search.jsonl")
    assert [row.depth for row in raw.leaderboard] == [4, 3, 2, 1], "raw scores rank by depth alone"
    (note,) = depth_notes(raw)
    assert note == (
        "Warning: the networks have 1 to 4 layers, and in 100% of the pairs that differ in it the deeper one has the better "
        "wrcor, so that it mostly counts depth. Give Chains the line mixed_depth = True, or wrcor depth_normalised=True."
    )
    assert raw.rerank().notes == SearchResult.from_journal(tmp_path / "search.jsonl").notes == raw.notes


def test_a_journal_from_before_it_said_so_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "search.jsonl"
    search(Chains(), "wrcor", budget=2, journal=journal)
    assert search(Chains(), "wrcor", budget=3, journal=journal).funnel.resumed == 2
    monkeypatch.setattr(Chains, "mixed_depth", True)
    with pytest.raises(
        ValueError, match=r"search\.jsonl is of the time when mixed_depth was False in Chains; it is True now"
    ):
        search(Chains(), "wrcor", budget=3, journal=journal)
    plain = tmp_path / "plain.jsonl"
    for mixed in (False, True):  # scores that nobody normalises are the same
        monkeypatch.setattr(Chains, "mixed_depth", mixed)
        assert search(Chains(), "rcor", budget=2, journal=plain).funnel.resumed == 2 * mixed


@pytest.mark.parametrize(
    ("space", "proxy"),
    [
        (Mixed(), "wrcor"),
        (Decided(), "wrcor"),
        (Chains(), WRCor(depth_normalised=True)),
        (Chains(), WRCor(depth_normalised=False)),
        (Chains(), "rcor"),
        (Chains(), ["naswot", "wrcor"]),
        (Widest(), "wrcor"),
        (CELLS, "wrcor"),
        (Cells(width=4, cells=1), "wrcor"),
    ],
    ids=str,
)
def test_nobody_is_warned_without_need(space: Space, proxy: Any) -> None:
    assert depth_notes(search(space, proxy, budget=4)) == []


def test_the_share_of_pairs_that_are_ranked_by_depth() -> None:
    rng = random.Random(0)
    for spread in (1, 3, 100):
        rows = [(float(rng.randint(0, spread)), rng.randint(1, 4)) for _ in range(40)]
        pairs = [(a, b) for a, b in itertools.permutations(rows, 2) if a[1] < b[1]]
        assert _ranked_by_depth(rows) == sum(a[0] < b[0] for a, b in pairs) / len(pairs)
    assert _ranked_by_depth([(1.0, 2), (3.0, 2)]) is None
    assert _ranked_by_depth([]) is None
