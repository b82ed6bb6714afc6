"""The search card: what it says is what was found, it fetches nothing, and a name from a user does nothing in it."""

from __future__ import annotations

import base64
import math
import random
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

import pytest

matplotlib = pytest.importorskip("matplotlib")

import torch  # noqa: E402
from search_toys import CELLS, Noise, Widths, batch  # noqa: E402

from lightning_wrcor import report, zero_shot_search  # noqa: E402
from lightning_wrcor.report.__main__ import main  # noqa: E402
from lightning_wrcor.report._card_outcome import in_words  # noqa: E402
from lightning_wrcor.search import (  # noqa: E402
    NSGA2,
    Evaluation,
    Funnel,
    LocalSearch,
    RegularisedEvolution,
    Reinforce,
    SearchResult,
    Strategy,
)

BATCH = batch(12, size=8, classes=3)
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> & --> </style>"
VOID = {"meta", "img", "wbr", "br"}


class Page(HTMLParser):
    """The card as a tree's worth of facts; elements that are not closed where they should be are an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def text(self) -> str:
        return " ".join("".join(data for tag, data in self.words if tag != "style").split())

    def row(self, *cells: str) -> list[str]:
        return next(row for row in self.rows if row[: len(cells)] == list(cells))

    def svgs(self) -> dict[str, ElementTree.Element]:
        """By the texts that stand for them."""
        found = {}
        for image in self.of("img"):
            kind, data = str(image["src"]).split(",", 1)
            assert kind == "data:image/svg+xml;base64"
            found[str(image["alt"])] = ElementTree.fromstring(base64.b64decode(data))
        return found


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search") / "journal.jsonl"


@pytest.fixture(scope="module")
def found(journal: Path) -> SearchResult:
    strategy = RegularisedEvolution(6, 3, children=3)
    bounds = {"max_params": 16_000}
    return zero_shot_search(
        CELLS, BATCH, ["wrcor", "naswot"], strategy, 14, bounds, journal=journal, progress=False
    )  # fmt: skip


@pytest.fixture(scope="module")
def card(found: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"budget": 14, "run": {"model": {"lr": 0.1}}}
    path = tmp_path_factory.mktemp("card") / "new" / "card.html"
    assert report.write_card(found, path, batch=BATCH, settings=settings) == path
    return path


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have tests of their own, and take their time."""
    monkeypatch.setattr("lightning_wrcor.report._card.all_figures", lambda *_, **__: {})


def invented(count: int = 40, name: str = "n{}", **settings: Any) -> SearchResult:
    """Candidates of a space that cannot be built, every fifth of them dead or failed."""
    rng = random.Random(0)
    rows = []
    for place in range(count):
        score = rng.gauss(100, 10)
        row = Evaluation(place, name.format(place), f"{place:04d}", {"wrcor": score, "naswot": 2 * score}, score)
        row.params, row.macs, row.depth = 1000 + place, 10**6 + 7 * place, 5 + place % 3
        row.details = {"size_term": score - 30 - place, "shape_term": 30 + place, "refused": {"zen": f"why not {name}"}}
        if place % 5 == 4:
            row.status, row.reason = ("dead", "flat") if place % 2 else ("failed", EVIL)
            row.score = -math.inf if place % 2 else math.nan
        rows.append(row)
    kinds = [sum(row.status == kind for row in rows) for kind in ("ok", "dead", "failed")]
    funnel = Funnel(count + 9, 2, {"max_macs": 7}, *kinds)
    result = SearchResult({}, [{}], {}, {"max_macs": 6e8}, 3, 10, (3, 8, 8), rows, funnel)
    for key, value in settings.items():
        setattr(result, key, value)
    return result


def written(result: SearchResult, **more: Any) -> Page:
    return Page(report.write_card(result, "card.html", **more))


# ---- what it says


def test_the_winner_its_costs_and_the_honest_sentence(found: SearchResult, card: Path) -> None:
    page, best = Page(card), found.best
    title = "".join(data for tag, data in page.words if tag == "title")
    assert title.startswith("Search card: ")
    assert best.name.startswith(title.removeprefix("Search card: ")[:70])
    assert best.name in page.text
    assert "NASBench201(width=4, cells=1)" in page.text
    for fact in (
        f"{best.score:.4f}",
        f"{best.macs / 1e3:.2f}k",
        f"1 of {len(found.leaderboard)} scored",
        found.honesty,
    ):
        assert fact in page.text
    for _, rho in found.baselines.items():
        assert f"{rho:+.2f}" in page.text


@pytest.mark.parametrize(
    ("step", "count", "said"),
    [
        (1, 9, "fewer than 10 candidates stand in the order of size by accident too often, so the card does not warn."),
        (1, 10, "So a ranking by parameters alone accounts for 100% of the variance of the ranks."),
        (
            -1,
            10,
            "So if anything the score prefers fewer parameters: a ranking by parameters, largest first, would put",
        ),
    ],
)
def test_what_the_correlation_with_size_comes_to(no_figures: None, step: int, count: int, said: str) -> None:
    rows = [
        Evaluation(place, f"n{place}", f"{place}", {"wrcor": place}, place, 100 + step * place, 7, 3)
        for place in range(count)
    ]
    text = written(invented(0, history=rows)).text
    assert said in text
    assert ("Warning: wrcor says little here that params does not." in text) == (count == 10)


def test_why_it_won_is_by_hand(found: SearchResult, card: Path) -> None:
    text, rows = Page(card).text, found.leaderboard
    best, middle = rows[0], rows[len(rows) // 2]
    size = best.details["size_term"] - middle.details["size_term"]
    lead = best.score - middle.score
    assert f"It is {lead:.4g} ahead of the candidate in the middle of the ranking" in text
    assert f"(size term {size:+.4g}, shape term {lead - size:+.4g})" in text
    assert f"{rows[0].score - rows[1].score:.4g} above the second" in text
    assert f"and {rows[0].score - rows[1].score:.4g} ahead of the second, " in text
    assert text.count("The size term counts the network's non-linearities") == 1
    assert text.count("The shape term says how well the responses tell the images apart.") == 1
    # The fewest layers, largest first, that carry two thirds of the score.
    totals = {row["layer"]: row["activation"] + row["gradient"] for row in best.details["shares"]}
    sizes = sorted(totals.values(), reverse=True)
    fewest = next(count for count in range(1, len(sizes) + 1) if sum(sizes[:count]) >= sum(sizes) * 2 / 3)
    assert f"carr{'y' if fewest > 1 else 'ies'} {sum(sizes[:fewest]) / sum(sizes):.0%} of its score" in text
    gradients = sum(row["gradient"] for row in best.details["shares"]) / sum(sizes)
    assert f"the activations of all layers carry {1 - gradients:.0%} of it, and the gradients {gradients:.0%}." in text
    # Against the first generation, which evolution draws at random.
    first = max((row for row in found.history[:6] if row.status == "ok"), key=lambda row: row.score)
    if first is best:
        assert "one of the first 6 candidates, drawn at random" in text
    else:
        assert f"The best of the first 6 candidates, which were drawn at random, has {first.score:.4f}" in text
        assert f"number {rows.index(first) + 1} of {len(rows)}" in text
    assert "12 images" in text


@pytest.mark.parametrize(("shape", "said"), [(0.9, "mainly by shape"), (0.5, "by both"), (0.1, "mainly by size")])
def test_a_lead_is_of_size_or_of_shape(no_figures: None, shape: float, said: str) -> None:
    result = invented()
    for row in result.history:
        row.details |= {"size_term": (1 - shape) * row.scores["wrcor"], "shape_term": shape * row.scores["wrcor"]}
    assert f"ahead of the candidate in the middle of the ranking, {said}" in written(result).text


def test_both_leads_are_told_alike_and_rounding_is_none(no_figures: None) -> None:
    """The first is ahead of the second by size alone, and of the one in the middle by both."""
    result = invented(10)
    for place, row in enumerate(result.leaderboard):
        row.score = row.scores["wrcor"] = 100.0 - 10 * place
        shape = 50.0 - (5 * place if place > 1 else 2e-14 * place)
        row.details |= {"size_term": row.score - shape, "shape_term": shape}
    text = written(result).text
    assert "40 ahead of the candidate in the middle of the ranking, by both (size term +20, shape term +20)" in text
    assert ", and 10 ahead of the second, mainly by size (size term +10, shape term 0)." in text
    assert "Against the second" not in text
    result = invented(10)
    for row in result.leaderboard[:2]:
        row.score = row.scores["wrcor"] = 500.0
    assert "ahead of the second" not in written(result).text, "a tie is no lead"


@pytest.mark.parametrize(
    "strategy", [RegularisedEvolution(14), Reinforce(first=20), NSGA2(population=15), LocalSearch(14)]
)
def test_a_strategy_that_never_came_to_learn(no_figures: None, strategy: Strategy) -> None:
    name, argument = type(strategy).__name__, strategy.learns_after
    result = zero_shot_search(Widths(), BATCH, [Noise(), "params"], strategy, 14, journal="j.jsonl", progress=False)
    note = f"All 12 candidates were drawn at random: {name} learns only after its first {strategy.drawn_first} "
    note += f"({argument}={strategy.drawn_first}). Give it a larger budget, or a smaller {argument}."
    for one in (result, result.rerank("params"), SearchResult.from_journal("j.jsonl")):
        text = written(one).text
        assert note in one.notes
        assert f"All candidates were drawn at random, as {name} never came to learn: it is the best of 12." in text
        assert "the strategy found none better" not in text
    some = result.rerank(constraints={"max_params": result.best.params})
    assert note in some.notes, "of the search, however few are ranked now"
    longer = invented(21, strategy=strategy.config())
    assert "never came to learn" not in written(longer).text
    assert f"of the first {strategy.drawn_first} candidates" in written(longer).text


def test_terms_of_another_proxy_say_nothing_of_the_ranking(found: SearchResult) -> None:
    page = written(found.rerank("naswot"))
    assert "size term" not in page.text
    assert "of its score" not in page.text
    assert "These shares are of wrcor, which does not rank." in page.text


def test_ties_and_a_single_candidate_and_none(no_figures: None) -> None:
    result = invented()
    for row in result.history[:4]:
        row.score = row.scores["wrcor"] = 500.0
    text = written(invented(history=result.history)).text
    assert "4 candidates share the highest wrcor of 32, 500.0000; of these it is the cheapest" in text
    assert "It is the only candidate with a score." in written(invented(1)).text
    empty = written(invented(0))
    assert "No winner yet" in empty.text
    assert empty.row("scored") == ["scored", "0", "0.0%"]


def test_the_leaderboard_has_the_best_twenty_with_every_value(no_figures: None) -> None:
    result = invented(60)
    page = written(result)
    body = [row for row in page.rows if len(row) > 2 and row[0].isdigit()]
    assert [row[0] for row in body] == [str(place) for place in range(1, 21)]
    for shown, row in zip(body, result.leaderboard, strict=False):
        values = [row.name, f"{row.score:.4f}", f"{row.scores['naswot']:.4g}", f"{row.params / 1e3:.2f}k", "1.00M"]
        assert shown[1:] == [*values, str(row.depth)]
    larger = sum(row.params > result.best.params for row in result.leaderboard)
    assert page.row("parameters")[2] == f"{larger + 1} of {len(result.leaderboard)}"
    alike = sum(row.depth == result.best.depth for row in result.leaderboard) - 1
    assert page.row("depth")[2].endswith(f", shared with {alike} others")
    two = invented(2)
    two.history[1].depth = two.history[0].depth
    assert written(two).row("depth")[2] == "1 of 2, shared with 1 other"


@pytest.mark.parametrize("ranks", ["params", "wrcor"])
def test_a_cost_that_is_also_a_proxy_is_listed_once(no_figures: None, ranks: str) -> None:
    result = invented(3)
    for row in result.history:
        row.scores = {ranks: row.score, "params": float(row.params)}
        row.score = row.scores[ranks]
    head = written(result).row("", "candidate")
    assert sorted(head[2:]) == sorted({ranks, "params", "MACs", "depth"})


def test_a_race_is_told_and_its_means_are_shown(no_figures: None) -> None:
    result = invented()
    from lightning_wrcor.search import Standing
    from lightning_wrcor.search._standings import settle

    for row in result.leaderboard[:3]:
        row.race = Standing.of([row.score + 1, row.score - 1], [None, None], 2.0)
    settle(result.leaderboard[:3])
    page = written(invented(history=result.history))
    assert "It won a race of the best. Race of 3 finalists, 2 fresh seeds each:" in page.text
    assert "race mean" in page.text
    assert f"{page.row('1')[3]}" == page.row("1")[2], "the mean of two that lie evenly about the score"
    assert "lucky" not in page.text


def test_funnel_and_troubles(no_figures: None) -> None:
    result = invented()
    page = written(result)
    assert page.row("rejected by max_macs (600,000,000)")[1:] == ["7", f"{7 / 49:.1%}"]
    for kind in ("dead", "failed"):
        count = sum(row.status == kind for row in result.history)
        assert page.row(kind)[1] == str(count) > "0"
        first = next(row for row in result.history if row.status == kind)
        assert page.row(kind, str(count), str(first.reason))[3] == first.name
    assert page.row("refused by zen", "40", "why not n{}")


def test_those_from_a_journal_may_be_more_than_were_scored(no_figures: None) -> None:
    result = invented()
    result.funnel.resumed = 40
    page = written(result)
    assert page.row("from a journal, dead and failed ones too")[1] == "40"
    assert sum(int(page.row(kind)[1]) for kind in ("scored", "dead", "failed")) == 40


def test_settings_versions_and_costs(found: SearchResult, card: Path) -> None:
    import platform

    import torch

    page = Page(card)
    assert page.row("strategy")[1].startswith("RegularisedEvolution(population=6, tournament=3, children=3")
    assert page.row("constraints")[1] == "max_params 16,000"
    assert page.row("probe batch")[1] == "12 images"
    assert page.row("budget")[1] == "14"
    assert '"lr": 0.1' in page.text
    assert page.row("device")[1] == "cpu"
    assert page.row("python")[2] == platform.python_version()
    assert (
        page.row("torch")[1:] == [found.versions["torch"], torch.__version__.partition("+")[0]]
        or "+" in torch.__version__
    )
    seconds = sum(row.seconds for row in found.history)
    middle = 1000 * median(row.seconds for row in found.history)
    assert f"({14 / seconds:.3g} a second; median {middle:.4g} ms a candidate)" in page.text


def test_what_training_made_of_it(no_figures: None) -> None:
    result = invented()
    first, second = (row.name for row in result.leaderboard[:2])
    outcome = report.TrainingOutcome(
        second, 0.5, {"r": 0.4, "s": 0.7}, {first: 0.1, second: 0.2}, "7 images", "EMA", "best.ckpt",
        {"val/top1": 0.25}, {"test/top5": 1.0, "test/loss": 0.125},
    )  # fmt: skip
    page = written(result, outcome=outcome)
    assert (
        "Not the winner by score but number 2 was trained as the best of the finalists: test accuracy 50.00% on 7 images."
        in page.text
    )
    assert "better than 1 of 2 random candidates trained alike (median 55.00%)" in page.text
    assert page.row("s") == ["s", "random", "-", "70.00%"]
    assert page.row("2", second)[-1] == "50.00%", "in the leaderboard too"
    for name, value in {
        "test images": "7 images",
        "weights": "EMA",
        "checkpoint": "best.ckpt",
        "chosen by": "validation top-1 accuracy 25.00%",
        "test top-5 accuracy": "100.00%",
        "test loss": "0.125",
    }.items():
        assert page.row(name)[1] == value
    alike = report.TrainingOutcome(first, 0.5, {"r": 0.4, "s": 0.5, "t": 0.5})
    unknown = report.TrainingOutcome(first, 0.5, images="unknown")
    assert in_words(result, unknown) == "The winner was trained: test accuracy 50.00%."
    assert "better than 1, equal to 2 of 3 random candidates trained alike (median 50.00%)" in in_words(result, alike)
    assert (
        "The winner was trained: test accuracy 25.00%."
        in written(result, outcome=report.TrainingOutcome(first, 0.25)).text
    )
    assert "What training made of it" not in written(result).text
    with pytest.raises(ValueError, match=r"^An accuracy is a share, from 0 to 1; that of r is 91\.5\.$"):
        report.TrainingOutcome("a", 0.9, {"r": 91.5})


# ---- its form


def test_figures_are_those_of_the_search(found: SearchResult, card: Path) -> None:
    page = Page(card)
    pictures = page.svgs()
    begin = ("Bars of the layers", "Drawing", "Correlation", "Scatter", "Scatter", "wrcor of 14", "Bars: ")
    assert [alt.startswith(known) for alt, known in zip(pictures, begin, strict=True)] == [True] * 7
    assert len(page.of("figcaption")) == 7
    for svg in pictures.values():
        assert not [one for one in svg.iter() if one.tag.endswith("}text")], "text that needs a font"
    few = list(written(invented(12)).svgs())
    assert [alt.partition(" ")[0] for alt in few] == ["Scatter", "Scatter", "wrcor", "Bars:"], "not what there is not"


def test_nothing_is_fetched_and_nothing_runs(card: Path) -> None:
    text, page = card.read_text(encoding="utf-8"), Page(card)
    assert not re.search(r"https?:|@import|url\(|<script|<link|javascript:", text)
    assert all(str(a["href"]).startswith("#") for a in page.of("a"))
    keys = {attributes.get("id") for _, attributes in page.tags}
    assert {str(a["href"])[1:] for a in page.of("a")} <= keys
    (policy,) = (meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    for _, svg in page.svgs().items():
        for one in svg.iter():
            for key, value in one.attrib.items():
                assert not key.endswith("href") or value.startswith(("#", "data:image/png")), value


def test_it_is_a_page_that_can_be_read_aloud(card: Path) -> None:
    page = Page(card)
    assert page.of("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    assert len(page.of("h1")) == len(page.of("main")) == 1
    assert all(th.get("scope") in ("row", "col") for th in page.of("th"))
    assert all(len(str(image["alt"])) > 20 for image in page.of("img"))
    style = "".join(data for tag, data in page.words if tag == "style")
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_names_from_users_are_text() -> None:
    result = invented(12, f"{EVIL}{{}}", notes=[EVIL], versions={EVIL: EVIL}, space={"class_path": EVIL})
    outcome = report.TrainingOutcome(EVIL, 0.5, {EVIL + "r": 0.5}, images=EVIL, checkpoint=EVIL)
    page = written(result, outcome=outcome, settings={EVIL: EVIL, "nested": {EVIL: [EVIL]}}, device=EVIL)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object"}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert all(str(image["src"]).startswith("data:") for image in page.of("img"))
    assert page.text.count("<script>alert(1)</script>") > 10
    assert page.svgs()


def test_characters_that_no_file_can_hold_are_replaced(no_figures: None) -> None:
    assert "a\ufffd\ufffdb0" in written(invented(3, "a\x00\ud800b{}")).text


def test_thousands_of_candidates_make_a_file_of_reasonable_size() -> None:
    page = report.write_card(invented(5000), "card.html")
    assert page.stat().st_size < 1_500_000
    assert len(Page(page).rows) < 100


def test_a_drawing_that_needs_room_scrolls_in_a_box_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_wrcor.spaces import TimmEfficientNet

    space, result = TimmEfficientNet(), invented(1)
    result.history[0].genotype = space.sample(random.Random(1))
    monkeypatch.setattr(
        "lightning_wrcor.report._card.all_figures", lambda *_, **__: {"winner": result.draw(width=3.5, space=space)}
    )
    (image,) = written(result, space=space).of("img")
    assert int(str(image["width"])) > 96 * 3.6
    assert image["class"] == "wide", "for which the style has the least width everywhere"
    least = float(str(image["style"]).partition("--least: ")[2].removesuffix("rem"))
    assert least > 20, "wider than a phone of 360 pixels, so that its text can be read"
    result.history[0].genotype = CELLS.sample(random.Random(0))
    monkeypatch.setattr(
        "lightning_wrcor.report._card.all_figures", lambda *_, **__: {"winner": result.draw(width=3.5, space=CELLS)}
    )
    (image,) = written(result, space=CELLS).of("img")
    assert "class" not in image


def test_a_phone_has_each_number_beside_its_title(no_figures: None) -> None:
    """A long name fills the line; so the head of the table is not shown there, and each cell says what it is."""
    result = invented(5, "|a_long_name~{}" + 9 * "|a_part~0" + "|")
    outcome = report.TrainingOutcome(result.best.name, 0.5, {"r": 0.4})
    page = written(result, outcome=outcome)
    stacked = [one for one in page.of("table") if "stacks" in str(one.get("class"))]
    titles = ["The 4 best of 4", "Test accuracies", "Dead, failed and refused"]
    assert [str(one["aria-label"]).startswith(title) for one, title in zip(stacked, titles, strict=True)] == [True] * 3
    cells = [one.get("data-title") for one in page.of("td")]
    assert cells[:7] == [None, "wrcor", "naswot", "params", "MACs", "depth", "test accuracy"]
    style = "".join(data for tag, data in page.words if tag == "style")
    assert "content: attr(data-title)" in style.partition("@media screen and (max-width: 40rem)")[2]


def test_the_winner_is_drawn_with_the_costs_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 7
    result = zero_shot_search(["test_resnet"], images, "params", budget=1, progress=False)
    figure = result.draw(width=3.5)
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert {f"{result.best.params:,}", f"{result.best.macs:,}", "for 7 classes and an image of 1 × 32 × 32"} <= set(
        drawn
    )
    monkeypatch.setattr("lightning_wrcor.report._card.all_figures", lambda *_, **__: {"winner": figure})
    assert "The costs in it are for the classes and the images of the search." in written(result).text


def test_without_matplotlib_the_card_says_how_to_get_figures(
    found: SearchResult, monkeypatch: pytest.MonkeyPatch, forgotten_report: None
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    from lightning_wrcor.report._card import write_card

    page = Page(write_card(found, "card.html"))
    assert not page.of("img")
    assert "This card has no figures. A drawing needs matplotlib: pip install 'lightning_wrcor[recipes]'." in page.text
    assert found.best.name in page.text


# ---- from a terminal, and while a search runs


def test_the_command_reads_a_journal_of_a_search_under_way(
    found: SearchResult, journal: Path, no_figures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    Path("torn.jsonl").write_bytes(b"".join(lines[:8]) + lines[8][:-20])
    main(["card", "torn.jsonl", "--out", "a/card.html", "--proxy", "naswot"])
    assert capsys.readouterr().out == "a/card.html\n"
    page = Page(Path("a/card.html"))
    assert page.row("sampled")[1] == "7"
    assert "naswot, its score" in page.text
    assert "the search may be under way" in page.text
    found.to_json("search.json")
    main(["card", "search.json", "--out", "b.html"])
    assert "the search may be under way" not in Page(Path("b.html")).text
    assert page.row("read from")[1] == "torn.jsonl"
    for arguments in (["nowhere.json", "--out", "c.html"], ["search.json", "--out", "."]):
        with pytest.raises(SystemExit) as stop:
            main(["card", *arguments])
        assert stop.value.code == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not list(Path().glob("*.tmp"))


def test_a_batch_that_nothing_can_be_scored_on_is_refused(found: SearchResult) -> None:
    with pytest.raises(ValueError, match=r"^A batch is a pair of tensors"):
        report.write_card(found, "card.html", batch="none")  # type: ignore[arg-type]
    assert not Path("card.html").exists()
