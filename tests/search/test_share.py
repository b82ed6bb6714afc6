"""Tasks shared over processes: each is done once, all learn of all, and a process that is lost is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from search_toys import BATCH, Noise, Team, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import Ranks, SearchError
from lightning_wrcor.search._ranks import RankLostError, TorchRanks
from lightning_wrcor.search._share import share


def test_one_process_gives_each_result_as_it_comes() -> None:
    done: list[int] = []

    def work(task: int) -> int:
        done.append(task)
        return task * task

    for new in share(Ranks(), range(5), work):
        assert new == [done[-1] ** 2]
    assert done == [0, 1, 2, 3, 4]
    assert list(share(Ranks(), [], int)) == []


@pytest.mark.parametrize("size", [2, 3])
def test_each_task_is_done_once_and_all_learn_of_all(size: int) -> None:
    done: list[list[int]] = [[] for _ in range(size)]

    def member(ranks: Ranks) -> list[list[int]]:
        def work(task: int) -> int:
            done[ranks.rank].append(task)
            return -task

        return list(share(ranks, range(20), work))

    first, *others = Team(size).run(member)
    assert all(other == first for other in others)
    assert sorted(-value for new in first for value in new) == list(range(20))
    assert sorted(task for tasks in done for task in tasks) == list(range(20))
    assert all(new == sorted(new, reverse=True) for new in first), "in the order of the tasks"


class Pair(Ranks):
    """Rank zero of two; the other does the odd tasks, each in the time that this one takes for the even one before."""

    world_size = 2

    def gather(self, items: list[Any]) -> list[list[Any]]:
        return [items, [(turn + 1, took, -turn - 1) for turn, took, _ in items]]


def test_exchanges_are_neither_too_seldom_nor_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lightning_wrcor.search._share.time.perf_counter", lambda: now[0])

    def rounds(seconds: float, count: int, known: float = 0.0) -> list[int]:
        def work(task: int) -> int:
            now[0] += seconds
            return -task

        return [len(new) for new in share(Pair(), range(count), work, known)]

    # 3 s are longer than the 2 s that are waited for at least; after that, 8 tasks of each process are 24 s.
    assert rounds(3.0, 36) == [2, 16, 16, 2]
    assert rounds(3.0, 36, known=3.0) == [16, 16, 4]
    assert rounds(0.25, 36) == [16, 16, 4], "2 s are 8 tasks of a quarter of a second"
    assert rounds(1 / 64, 300) == [256, 44], "quick ones are exchanged every 2 s"


def test_tasks_that_fall_to_no_process_are_a_mistake() -> None:
    class Forgetful(Ranks):
        def turns(self, count: int) -> Iterator[int]:
            return iter(range(count - 1))

    found = share(Forgetful(), range(3), int)
    assert [next(found), next(found)] == [[0], [1]]
    with pytest.raises(RuntimeError, match=r"Forgetful.turns left out 1 of 3 tasks"):
        next(found)


def cut_off(*arguments: Any, **settings: Any) -> None:
    raise RuntimeError("[pair.cc:544] Connection closed by peer [127.0.0.1]:1234\nmore of it")


def both_alike(gathered: list[Any], items: list[Any], group: Any) -> None:
    gathered[:] = [items, items]


@pytest.mark.parametrize("call", ["all_gather_object", "broadcast_object_list"])
def test_a_process_that_is_lost_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(dist, "broadcast_object_list", lambda held, src, group: None)
    monkeypatch.setattr(dist, "all_gather_object", both_alike)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: Counter())
    monkeypatch.setattr(dist, call, cut_off)
    said = r"One of the processes died, or could not be reached any more \(\[pair.cc:544\] .*:1234\)\. "
    for journal in (None, tmp_path / "journal"):
        kept = (
            "Nothing of the search is kept without a journal"
            if journal is None
            else f"There are no scores in {journal} yet: "
        )
        with pytest.raises(SearchError, match=said + kept) as error:
            zero_shot_search(Widths(), BATCH, Noise(), journal=journal, progress=False, ranks=TorchRanks(0, 2))
        assert isinstance(error.value.__cause__, RankLostError)
        assert "\n" not in str(error.value)


class Counter:
    """The store of a process group."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str, step: int) -> int:
        self.counts[name] = self.counts.get(name, 0) + step
        return self.counts[name]


def test_two_processes_draw_from_one_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Counter()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    name = ["one name"]
    monkeypatch.setattr(dist, "broadcast_object_list", lambda held, src, group: held.__setitem__(0, name[0]))
    first, second = TorchRanks(0, 2), TorchRanks(1, 2)
    mine, others = first.turns(5), second.turns(5)
    assert [next(mine), next(others), next(others), next(mine), next(others)] == [0, 1, 2, 3, 4]
    assert (next(mine, None), next(others, None)) == (None, None)
    assert list(first.turns(2)) == [0, 1], "the next tasks are counted anew"
    name[0] = "another name"
    assert list(TorchRanks(0, 2).turns(2)) == [0, 1], "and those of another search too"
    assert list(TorchRanks(0, 1).turns(3)) == [0, 1, 2]


def test_scores_are_exchanged_through_gloo_whatever_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []
    monkeypatch.setattr(dist, "new_group", lambda backend: used.append(backend) or "group of its own")
    monkeypatch.setattr(dist, "destroy_process_group", lambda group: used.append(("gone", group)))
    monkeypatch.setattr(dist, "all_gather_object", lambda gathered, items, group: used.append(group))
    for backend in ("nccl", "gloo"):
        monkeypatch.setattr(dist, "get_backend", lambda backend=backend: backend)
        ranks = TorchRanks(0, 2)
        ranks.gather([])
        with ranks:
            ranks.gather([])
        ranks.gather([])
    assert used == [None, "gloo", "group of its own", ("gone", "group of its own"), None, None, None, None]
