"""Searches that were interrupted go on where they were; other files are left alone."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from search_toys import BATCH, Noise, Of, Stops, Widths, batch

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import Journal, SearchResult
from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.journal import fingerprint
from lightning_wrcor.spaces import NetworkList

SEARCH = {"space": {"class_path": "a.B", "init_args": {"width": 4, "names": ["x", "y"]}}, "seed": 0}


def search(path: Path | None, proxy: Any = None, space: Any = None, **kwargs: Any) -> SearchResult:
    return zero_shot_search(
        Widths(30) if space is None else space,
        kwargs.pop("batch", BATCH),
        proxy or Stops(),
        **{"budget": 20, "journal": path, "progress": False, "constraints": {"min_params": 20}, **kwargs},
    )


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


def interrupted(path: Path, after: int) -> None:
    proxy = Stops()
    proxy.left = after
    with pytest.raises(KeyboardInterrupt):
        search(path, proxy)


def strict(line: str) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


# ---- going on


@pytest.mark.parametrize("after", [0, 1, 13])
def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path, after: int) -> None:
    path, proxy = tmp_path / "deep" / "journal.jsonl", Stops()
    interrupted(path, after)
    assert len(path.read_text().splitlines()) == 1 + after
    resumed, undisturbed = search(path, proxy), search(None)
    assert rows(resumed) == rows(undisturbed)
    assert resumed.best.key == undisturbed.best.key
    assert len(proxy.seen) == 20 - after
    assert resumed.funnel.resumed == after
    assert vars(resumed.funnel) | {"resumed": 0} == vars(undisturbed.funnel)
    assert len(path.read_text().splitlines()) == 21
    proxy.seen.clear()
    assert rows(search(path, proxy)) == rows(undisturbed)
    assert proxy.seen == [], "nothing is left to score"


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path, proxy = tmp_path / "journal.jsonl", Stops()
    interrupted(path, 5)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert rows(search(path, proxy)) == rows(search(None))
    assert len(proxy.seen) == 16
    assert [strict(line)["key"] for line in path.read_text().splitlines()[1:]][:4]
    assert len(path.read_text().splitlines()) == 21


@pytest.mark.parametrize("kept", [0, 1, 20, 60])
def test_a_torn_header(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, SEARCH).close()
    header = path.read_bytes()
    path.write_bytes(header[:kept])
    Journal(path, SEARCH).close()
    assert path.read_bytes() == header


def test_another_budget_and_other_constraints_go_on(tmp_path: Path) -> None:
    path, proxy = tmp_path / "journal.jsonl", Stops()
    first = search(path, budget=8)
    second = search(path, proxy, budget=15)
    assert rows(second)[:8] == rows(first)
    assert len(proxy.seen) == 7
    proxy.seen.clear()
    third = search(path, proxy, budget=6, constraints={"max_params": 7 * 20 + 3})
    assert max(row.genotype[1] for row in third.history) <= 20, "known candidates meet the new constraints too"
    assert rows(third) == rows(search(None, budget=6, constraints={"max_params": 7 * 20 + 3}))
    assert third.funnel.resumed + len(proxy.seen) == 6
    fourth = search(path, proxy, strategy="exhaustive", budget=30, constraints=None)
    assert len(fourth.history) == 30
    assert fourth.funnel.resumed >= 15


def test_failed_candidates_are_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    broken = True

    def mended(width: int) -> float:
        if broken and width % 3 == 0:
            raise RuntimeError("no memory")
        return -math.inf if width == 4 else width

    proxy = Of(mended)
    first = search(path, proxy, strategy="exhaustive", constraints=None, budget=12)
    assert first.funnel.failed == 4
    proxy.seen.clear()
    broken = False
    second = search(path, proxy, strategy="exhaustive", constraints=None, budget=12)
    assert proxy.seen == [3, 6, 9, 12]
    assert (second.funnel.scored, second.funnel.dead, second.funnel.failed, second.funnel.resumed) == (11, 1, 0, 8)
    proxy.seen.clear()
    assert rows(search(path, proxy, strategy="exhaustive", constraints=None, budget=12)) == rows(second)
    assert proxy.seen == [], "of several lines with one key the last holds"


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    values = {1: -math.inf, 2: math.nan, 3: math.inf}
    result = search(path, Of(lambda width: values.get(width, 1.0)), strategy="exhaustive", constraints=None)
    lines = [strict(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines[1:5]] == ["dead", "failed", "failed", "ok"]
    assert [line["score"] for line in lines[1:5]] == [None, None, None, 1.0]
    known = Journal(path, strict(path.read_text().splitlines()[0])["search"]).known
    assert known["001"].score == -math.inf
    assert math.isnan(known["002"].score)
    assert [row.to_dict() for row in known.values()] == [row.to_dict() for row in result.history]


# ---- other searches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "its seed is 0, this search's is 1"),
        ({"space": Widths(31)}, "its space.init_args.count is 30, this search's is 31"),
        ({"space": Widths(30, copies=2)}, "its space.init_args.copies is 1, this search's is 2"),
        ({"proxy": "params"}, r"its proxies\[0\].class_path is 'search_toys.Stops', this search's is .*Params"),
        ({"proxy": [Stops(), "params"]}, "its proxies is .*, this search's is "),
        # All that differs is named; of another class the class alone.
        (
            {"seed": 1, "space": Widths(31, copies=2), "num_classes": 7},
            r"its space.init_args.count is 30, this search's is 31; its space.init_args.copies is 1, this search's is 2; "
            r"its seed is 0, this search's is 1; its number of classes is 3, this search's is 7\. Name another",
        ),
        (
            {"space": "nasbench201", "seed": 1},
            "search: its space.class_path is 'search_toys.Widths', this search's is '[^;]*NASBench201'; its seed is 0",
        ),
        ({"batch": batch(seed=1)}, "its probe batch is '.*', this search's is '"),
        ({"num_classes": 7}, "its number of classes is 3, this search's is 7"),
    ],
)
def test_a_journal_of_another_search_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "journal.jsonl"
    search(path, budget=2)
    path.write_text(path.read_text() + '{"torn')
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as error:
        search(path, **changes)
    assert str(path) in str(error.value)
    assert "is of another search" in str(error.value)
    assert path.read_bytes() == before, "not even its torn line is dropped"


def test_networks_whose_code_changed_are_refused(tmp_path: Path) -> None:
    path, width = tmp_path / "journal.jsonl", 3

    def mine(num_classes: int) -> torch.nn.Module:
        return Widths().build((0, width), num_classes)

    search(path, space=NetworkList({"mine": mine}), constraints=None)
    width = 4
    with pytest.raises(
        ValueError,
        match=r"journal.jsonl is of other networks: in it mine has 24 parameters, .* here 31, .* must have changed",
    ):
        search(path, space=NetworkList({"mine": mine}), constraints=None)


def test_modules_with_other_weights_are_scored_anew(tmp_path: Path) -> None:
    path, proxy = tmp_path / "journal.jsonl", Noise()
    torch.manual_seed(0)
    modules = {"a": Widths().build((0, 3), 3), "b": Widths().build((0, 3), 3)}
    space = NetworkList(modules)
    assert space.key("a") != space.key("b").replace("b ", "a ")
    first = search(path, proxy, space, constraints=None)
    assert rows(search(path, proxy, NetworkList(dict(modules)), constraints=None)) == rows(first)
    assert len(proxy.seen) == 2
    with torch.no_grad():
        next(modules["b"].parameters()).add_(1)
    second = search(path, proxy, space, constraints=None)
    assert len(proxy.seen) == 3
    scores = [{row.name: row.score for row in result.history} for result in (first, second)]
    assert scores[0]["a"] == scores[1]["a"]
    assert scores[1]["b"] == pytest.approx(scores[0]["b"] + 9)


def test_the_fingerprint_of_a_batch() -> None:
    images, labels = BATCH
    same = fingerprint((images.clone(), labels.clone()))
    assert fingerprint(BATCH) == same
    assert len(same) == 16
    changed = images.clone()
    changed[3, 1, 2, 2] += 1e-3
    others = [
        (changed, labels),
        (images, labels.flip(0)),
        (images.half(), labels),
        (images.reshape(len(images), 3, 2, 8), labels),
        (images, labels.int()),
    ]
    assert len({fingerprint(other) for other in others} | {same}) == 6
    assert fingerprint((images.to(memory_format=torch.channels_last), labels)) == same


# ---- damaged and foreign files


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    search(path, budget=4)
    lines = path.read_text().splitlines()
    for damaged in (lines[2][:-30], "", "[1, 2]", '"abc"', '{"key": "x"}', lines[2].replace('"ok"', '"fine"')):
        path.write_text("\n".join([*lines[:2], damaged, *lines[3:]]) + "\n")
        with pytest.raises(ValueError, match=r"Line 3 of the journal .*journal.jsonl is damaged"):
            search(path, budget=4)


@pytest.mark.parametrize(
    "content", [b"notes", b"notes\nmore", b"{}\n", b'{"format": "x"}\n', b"[1]\n", b"\x80\x02}q\x00", b"\n\n"]
)
def test_other_files_are_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine is no journal of lightning_wrcor. Name another file with journal="):
        search(path)
    assert path.read_bytes() == content


def test_a_journal_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, SEARCH).close()
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match="has version 2; this package reads 1"):
        Journal(path, SEARCH)


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "journal.jsonl", tmp_path / "file" / "deeper" / "journal.jsonl", tmp_path):
        with pytest.raises(
            OSError, match=r"The journal .* cannot be written: .*Name another file with journal="
        ) as error:
            search(path)
        assert str(path) in str(error.value)
    journal = Journal(tmp_path / "journal.jsonl", SEARCH)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"The journal .*journal.jsonl cannot be written: .*No space left"):
        journal.add(Evaluation("a", "a", "a", {"p": 1.0}, 1.0))


def test_an_interruption_in_a_write_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    with Journal(path, SEARCH) as journal:
        journal.add(Evaluation("a", "a", "a", {"p": 1.0}, 1.0))
        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.add(Evaluation("b", "b", "b", {"p": 2.0}, 2.0, details={"long": "x" * 100_000}))
    monkeypatch.undo()
    with Journal(path, SEARCH) as journal:
        assert list(journal.known) == ["a", "b"]


def test_each_evaluation_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, SEARCH) as journal:
        for number, key in enumerate("abc", start=2):
            journal.add(Evaluation(key, key, key, {"p": 1.0}, 1.0))
            assert path.read_bytes().count(b"\n") == number
        with pytest.raises(ValueError, match="JSON"):
            journal.add(Evaluation("d", "d", "d", {"p": 1.0}, 1.0, details={"odd": math.nan}))
        assert path.read_bytes().count(b"\n") == 4
    Journal(os.devnull, SEARCH).close()  # no file, and nothing to go on from


def test_a_journal_is_closed_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Path] = []
    close = Journal.close

    def watched(journal: Journal) -> None:
        closed.append(journal.path)
        close(journal)

    monkeypatch.setattr(Journal, "close", watched)
    interrupted(tmp_path / "journal.jsonl", 2)
    assert closed == [tmp_path / "journal.jsonl"]
