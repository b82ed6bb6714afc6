"""Journals of one search, from several places, become one."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from search_toys import BATCH, Endless, Noise, Of, Widths, batch

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import Evaluation, Journal, Racing, SearchResult, merge_journals

SEARCH = {
    "space": {"class_path": "a.B", "init_args": {}},
    "proxies": [{"class_path": "p.Q", "init_args": {}}],
    "seed": 0,
}


def search(path: Path | None, proxy: Any = None, space: Any = None, **kwargs: Any) -> SearchResult:
    space = Widths(30) if space is None else space
    return zero_shot_search(space, BATCH, proxy or Noise(), **{"journal": path, "progress": False, **kwargs})


def journal(path: Path, *rows: Evaluation, about: Any = None, repeats: Any = (), **changes: Any) -> Path:
    with Journal(path, {**SEARCH, **changes}, about) as file:
        for row in rows:
            file.add(row)
        for row, number in repeats:
            file.add(row, number)
    return path


def row(key: str, value: float = 1.0, status: Any = "ok", **more: Any) -> Evaluation:
    if status == "failed":  # it could not even be counted
        return Evaluation(key, key, key, status=status, **more)
    return Evaluation(key, key, key, {"p": value}, value, 1, 2, 3, status=status, **more)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [one.to_dict() | {"seconds": 0, "proxy_seconds": {}} for one in result.history]


def test_a_search_goes_on_from_all_of_them(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.jsonl" for name in "abc")
    search(first, budget=8)
    search(second, strategy="exhaustive", budget=9)
    search(third, budget=14, constraints={"min_params": 100})
    before = [path.read_bytes() for path in (first, second, third)]
    out = merge_journals([first, second, third], tmp_path / "deep" / "all.jsonl")
    assert out == tmp_path / "deep" / "all.jsonl"
    assert [path.read_bytes() for path in (first, second, third)] == before
    parts = [{line["key"] for line in lines(path)[1:]} for path in (first, second, third)]
    keys = [line["key"] for line in lines(out)[1:]]
    assert set(keys) == set.union(*parts)
    assert len(keys) == len(set(keys)) < sum(map(len, parts)), "each once, though some were scored in several places"
    assert keys[:8] == [line["key"] for line in lines(first)[1:]], "in the order of the files"
    proxy = Noise()
    result = search(out, proxy, strategy="exhaustive")
    assert len(proxy.seen) == 30 - len(keys)
    assert result.funnel.resumed == len(keys)
    assert rows(result) == rows(search(None, strategy="exhaustive"))
    assert [entry.name for entry in out.parent.iterdir()] == ["all.jsonl"], "nothing half written is left"


def test_what_failed_in_one_place_is_taken_from_the_other(tmp_path: Path) -> None:
    a = journal(
        tmp_path / "a", row("x", math.nan, "failed", reason="no memory"), row("y"), row("w", math.nan, "failed")
    )
    b = journal(tmp_path / "b", row("x", 4.0), row("y", math.nan, "failed"), row("z", -math.inf, "dead"))
    for number, paths in enumerate(([a, b], [b, a])):
        known = Journal(merge_journals(paths, tmp_path / f"{number}"), SEARCH).known
        assert {key: one.status for key, one in known.items()} == {"x": "ok", "y": "ok", "w": "failed", "z": "dead"}
        assert known["x"].score == 4.0
        assert known["z"].score == -math.inf


def test_a_torn_line_and_several_lines_of_one_key(tmp_path: Path) -> None:
    a = journal(tmp_path / "a", row("x", math.nan, "failed"), row("y"), row("x", 2.0))
    a.write_bytes(a.read_bytes() + b'{"genotype": "to')
    b = journal(tmp_path / "b", row("x", 2.0), row("z", 3.0))
    out = merge_journals([a, b], tmp_path / "out")
    assert [(line["key"], line["score"]) for line in lines(out)[1:]] == [("x", 2.0), ("y", 1.0), ("z", 3.0)]


@pytest.mark.parametrize(
    ("ours", "theirs", "agree"),
    [
        (1.0, 1.0 + 5e-7, True),
        (1.0, 1.0 + 5e-6, False),
        (-3e9, -3e9 * (1 + 9e-7), True),
        (0.0, 1e-9, False),
        (-math.inf, -math.inf, True),
        (-math.inf, 1.0, False),
    ],
)
def test_scores_that_disagree(tmp_path: Path, ours: float, theirs: float, agree: bool) -> None:
    status = {-math.inf: "dead"}
    a = journal(tmp_path / "a.jsonl", row("y"), row("x", ours, status.get(ours, "ok")))
    b = journal(tmp_path / "b.jsonl", row("x", theirs, status.get(theirs, "ok")))
    if agree:
        known = Journal(merge_journals([a, b], tmp_path / "out"), SEARCH).known
        assert known["x"].score == ours, "that of the first file"
        return
    with pytest.raises(
        ValueError, match=r"a.jsonl and .*b.jsonl disagree: the p of x is .* in the first and "
    ) as error:
        merge_journals([a, b], tmp_path / "out")
    assert repr(ours) in str(error.value)
    assert repr(theirs) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_networks_that_differ(tmp_path: Path) -> None:
    a, b = row("x"), row("x")
    b.macs = 20
    paths = [journal(tmp_path / "a", a), journal(tmp_path / "b", b)]
    with pytest.raises(
        ValueError, match=r"a and .*b are of other networks: x has 2 macs in the first and 20 in the second"
    ):
        merge_journals(paths, tmp_path / "out")


def test_a_value_that_only_one_has_is_no_disagreement(tmp_path: Path) -> None:
    more = row("x")
    more.scores = {"p": 1.0, "q": 5.0}
    for number, pair in enumerate([(row("x"), more), (more, row("x"))]):
        paths = [journal(tmp_path / f"{number}{name}", one) for name, one in zip("ab", pair, strict=True)]
        assert Journal(merge_journals(paths, tmp_path / f"out{number}"), SEARCH).known["x"].scores == more.scores


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "the seed is 0 in the first and 1 in the second"),
        ({"space": Widths(31)}, "the space.init_args.count is 30 in the first and 31 in the second"),
        ({"proxy": [Noise(), "params"]}, r"the proxies are \[.*\] in the first and \[.*\] in the second"),
        ({"batch": batch(seed=1)}, "the probe batch is '.*' in the first and '.*' in the second"),
        (
            {"seed": 1, "space": Widths(31)},
            "searches: the space.init_args.count is 30 in the first and 31 in the second; the seed is 0 in the first and 1 in "
            "the second. Scores",
        ),
    ],
)
def test_journals_of_different_searches(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    search(a, budget=2)
    settings = {"space": Widths(30), "batch": BATCH, "proxy": Noise(), **changes}
    zero_shot_search(
        settings.pop("space"),
        settings.pop("batch"),
        settings.pop("proxy"),
        budget=2,
        journal=b,
        progress=False,
        **settings,
    )
    with pytest.raises(ValueError, match=message) as error:
        merge_journals([a, b], tmp_path / "out")
    assert f"The journals {a} and {b} are of different searches" in str(error.value)


def test_the_order_of_the_proxies_makes_no_difference(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    search(a, [Noise(), "params"], budget=4)
    search(b, ["params", Noise()], Widths(30), strategy="exhaustive", budget=6)
    out = merge_journals([a, b], tmp_path / "out")
    assert SearchResult.from_journal(out).proxies == SearchResult.from_journal(a).proxies, "as the first lists them"
    assert (
        SearchResult.from_journal(merge_journals([b, a], tmp_path / "turned"))
        .proxies[0]["class_path"]
        .endswith("Params")
    )


def test_the_header_says_what_all_agree_on(tmp_path: Path) -> None:
    paths = [
        journal(tmp_path / "a", row("x"), about={"input_size": [3, 4, 4], "strategy": {"class_path": "R"}}),
        journal(tmp_path / "b", row("y"), about={"input_size": [3, 4, 4], "strategy": {"class_path": "E"}, "more": 1}),
        journal(tmp_path / "c", row("z")),
    ]
    header = lines(merge_journals(paths, tmp_path / "out"))[0]
    assert header == {**lines(paths[2])[0], "about": {"input_size": [3, 4, 4], "more": 1}}


def test_scores_of_races_are_merged_too(tmp_path: Path) -> None:
    a = journal(tmp_path / "a", row("x"), repeats=[(row("x", 2.0), 1), (row("x", math.nan, "failed"), 2)])
    b = journal(tmp_path / "b", row("x"), repeats=[(row("x", 3.0), 2), (row("x", 4.0), 3)])
    with Journal(merge_journals([a, b], tmp_path / "out"), SEARCH) as merged:
        assert {key: one.score for key, one in merged.repeated.items()} == {("x", 1): 2.0, ("x", 2): 3.0, ("x", 3): 4.0}
        assert list(merged.known) == ["x"]
    c = journal(tmp_path / "c", row("x"), repeats=[(row("x", 2.1), 1)])
    with pytest.raises(ValueError, match=r"disagree: the p of x is 2.0 in the first and 2.1"):
        merge_journals([a, c], tmp_path / "other")


def test_a_race_goes_on_from_merged_journals(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    search(a, budget=6, racing=Racing(2, 2))
    search(b, strategy="exhaustive", budget=30)
    proxy, out = Noise(), merge_journals([a, b], tmp_path / "out")
    settings: dict[str, Any] = {"strategy": "exhaustive", "racing": Racing(3, 3)}
    result = search(out, proxy, **settings)
    assert rows(result) == rows(search(None, **settings))
    raced = {line["key"] for line in lines(a) if "repetition" in line}
    shared = raced & {one.key for one in result.leaderboard[:3]}
    assert len(proxy.seen) == 9 - 2 * len(shared)


def test_the_output_is_never_replaced_nor_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (journal(tmp_path / name, row(name)) for name in "ab")
    for out in (a, b, journal(tmp_path / "mine", row("m"))):
        before = out.read_bytes()
        with pytest.raises(FileExistsError, match="which is not overwritten: name another one"):
            merge_journals([a, b], out)
        assert out.read_bytes() == before
    out, link = tmp_path / "out", os.link

    def meanwhile(source: Any, target: Any) -> None:
        Path(target).write_text("of another program")
        link(source, target)

    monkeypatch.setattr(os, "link", meanwhile)
    with pytest.raises(FileExistsError, match="which is not overwritten"):
        merge_journals([a, b], out)
    assert out.read_text() == "of another program"

    def unknown(source: Any, target: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", unknown)
    assert len(lines(merge_journals([a, b], tmp_path / "without links"))) == 3
    monkeypatch.undo()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        merge_journals([a, b], tmp_path / "never")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b", "mine", "out", "without links"]


def test_what_cannot_be_merged(tmp_path: Path) -> None:
    a = journal(tmp_path / "a", row("x"))
    for paths in ([], [a], str(a), a):
        with pytest.raises(ValueError, match="a list of two or more journals; got "):
            merge_journals(paths, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="missing"):
        merge_journals([a, tmp_path / "missing"], tmp_path / "out")
    (tmp_path / "notes").write_text("notes\n")
    with pytest.raises(ValueError, match=r"notes is no journal of lightning_wrcor\.$"):
        merge_journals([a, tmp_path / "notes"], tmp_path / "out")
    (tmp_path / "empty").write_bytes(a.read_bytes()[:30])
    with pytest.raises(ValueError, match="empty is empty: leave it out"):
        merge_journals([a, tmp_path / "empty"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lines_that_wait_for_a_vote(tmp_path: Path) -> None:
    from lightning_wrcor.proxies import Vote

    a, b = tmp_path / "a", tmp_path / "b"
    vote = Vote([Noise(), "params"])
    search(a, vote, Endless(60), budget=7)
    search(b, [Noise(), "params"], Endless(60), budget=9, constraints={"min_params": 40})
    out, noise = merge_journals([a, b], tmp_path / "out"), Noise()
    again = search(out, Vote([noise, "params"]), Endless(60), budget=7)
    assert noise.seen == []
    assert rows(again) == rows(search(None, vote, Endless(60), budget=7))
    assert SearchResult.from_journal(out).best.scores["vote"] == 1.0


def test_of_many_files_the_pair_that_disagrees_is_named(tmp_path: Path) -> None:
    values = [1.0, 1.0, 1.5]
    paths = [journal(tmp_path / f"{n}.jsonl", row("x", value)) for n, value in enumerate(values)]
    with pytest.raises(ValueError, match=r"0.jsonl and .*2.jsonl disagree"):
        merge_journals(paths, tmp_path / "out")


def test_candidates_that_failed_on_one_machine(tmp_path: Path) -> None:
    small = True

    def machine(width: int) -> float:
        if small and width == 3:
            raise RuntimeError("no memory")
        return width

    a, b = tmp_path / "a", tmp_path / "b"
    search(a, Of(machine), strategy="exhaustive", budget=6)
    small = False
    search(b, Of(machine), strategy="exhaustive", budget=6)
    assert [SearchResult.from_journal(path).funnel.scored for path in (a, b)] == [5, 6]
    assert SearchResult.from_journal(merge_journals([a, b], tmp_path / "out")).funnel.scored == 6
