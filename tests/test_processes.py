from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import process_toys
import pytest
import search_toys
import torch
from warm_python import Started, run_one, run_two, start_two

from lightning_wrcor import ZeroShotSearch, load_network, zero_shot_search
from lightning_wrcor._random import derive_seed
from lightning_wrcor.search import SearchResult

import toys

SCRIPTS = Path(__file__).parent / "scripts"


def facts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.processes
def test_two_processes_share_the_search_and_train_one_winner(tmp_path: Path) -> None:
    run_two(SCRIPTS / "two_processes.py", tmp_path)
    first, second = facts(tmp_path)
    assert first["result"] == second["result"]
    assert first["winner"] == second["winner"]
    assert first["weights"] == second["weights"]
    assert first["scored_here"], "both work"
    assert second["scored_here"], "both work"
    assert not set(first["scored_here"]) & set(second["scored_here"]), "on different candidates"
    assert len(first["scored_here"]) + len(second["scored_here"]) == 12
    assert all("depth seven is unlucky" in reason for reason in first["failed"])
    assert first["failed"] == second["failed"]
    assert first["frozen"] == ["unused.weight", "unused.bias"]
    assert first["lost_weights"] == second["lost_weights"]

    # One process, the same seed: the same scores and the same winner.
    from lightning_wrcor.proxies import Context, Measurement, WRCor

    class Watched(WRCor):
        name = "watched"

        def measure(self, context: Context) -> Measurement:
            if context.costs.depth == 7:
                raise RuntimeError("depth seven is unlucky")
            return super().measure(context)

    alone = ZeroShotSearch(toys.CELLS, proxy=Watched(), budget=12, batch_size=16, journal=None)
    toys.trainer(callbacks=[alone], max_steps=1).fit(toys.Lit(), toys.loader(64))
    assert alone.result is not None
    assert first["winner"] == alone.winner.name  # type: ignore[union-attr]
    scores = [[row.key, row.score if row.status == "ok" else None] for row in alone.result.history]
    assert first["result"] == scores
    assert len((tmp_path / "journal").read_text().splitlines()) == 13
    assert toys.weights_hash(load_network(tmp_path / "trained.ckpt"))


@pytest.mark.processes
def test_model_parallel_saves_and_resumes_without_a_second_search(tmp_path: Path) -> None:
    run_two(SCRIPTS / "model_parallel.py", tmp_path)
    first, second = facts(tmp_path)
    assert first == second
    for kind in ("full", "sharded"):
        assert first[f"{kind}_searches"] == [True, False]
        assert first[f"{kind}_winner_1"] == first[f"{kind}_winner_2"]
        assert first[f"{kind}_step_2"] == 2 * first[f"{kind}_step_1"] > 0
    assert load_network(tmp_path / "full.ckpt")(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
    with pytest.raises(FileNotFoundError, match="consolidate_checkpoint"):
        load_network(tmp_path / "sharded.ckpt")


@pytest.mark.processes
def test_spawned_processes_train_the_winner_and_leave_the_parents_network_alone(tmp_path: Path) -> None:
    printed = run_one(SCRIPTS / "spawned.py", tmp_path)
    assert "With a spawning strategy the trained winner stays in the child processes" in printed
    (stored,) = tmp_path.glob("*.ckpt")
    assert load_network(stored)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_killed_search_goes_on_and_ends_with_the_same_winner(tmp_path: Path) -> None:
    run_one(SCRIPTS / "killed.py", tmp_path / "journal", 4, expect=-9)
    assert len((tmp_path / "journal").read_text().splitlines()) == 5
    resumed = zero_shot_search(toys.CELLS, toys.batch(), budget=10, journal=tmp_path / "journal", progress=False)
    straight = zero_shot_search(toys.CELLS, toys.batch(), budget=10, progress=False)
    assert resumed.funnel.resumed == 4
    assert [(row.key, row.score) for row in resumed.history] == [(row.key, row.score) for row in straight.history]
    assert resumed.best.name == straight.best.name


def undisturbed(batch: tuple[torch.Tensor, torch.Tensor], **settings: Any) -> SearchResult:
    return zero_shot_search(
        search_toys.Endless(60), batch, search_toys.Noise(), process_toys.by_eight(), 40, progress=False, **settings
    )


def history(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


@pytest.mark.processes
@pytest.mark.parametrize(("how", "rank"), [("spawn", 0), ("there", 0), ("trainer", 1)])
def test_a_process_that_dies_ends_the_search_and_another_goes_on(tmp_path: Path, how: str, rank: int) -> None:
    processes = (
        [Started(SCRIPTS / "shared_search.py", how, tmp_path, rank)]
        if how == "spawn"
        else start_two(SCRIPTS / "shared_search.py", how, tmp_path, rank)
    )
    said = [process.wait() for process in processes]
    if how != "spawn":
        assert processes[rank].returncode == -9, said[rank]
    survivor = 0 if how == "spawn" else 1 - rank
    assert processes[survivor].returncode == 3, said[survivor]
    last = said[survivor].strip().splitlines()[-1]
    assert re.match(
        r"SearchError: (A process of the search died|One of the processes died, or could not be reached)", last
    )
    assert last.endswith(f"What was scored is in {tmp_path}/journal; the same search goes on from there.")
    if how == "spawn":
        assert "(rank 0: SIGKILL, which the system sends where memory runs out)" in last
        assert "Traceback" not in said[0]

    # One process alone goes on from the journal, and ends with what an undisturbed search finds.
    batch = search_toys.batch()
    if how == "trainer":
        order = torch.randperm(32, generator=torch.Generator().manual_seed(derive_seed(0, "probe")))[:8]
        images, labels = toys.batch(32)
        batch = images[order], labels[order]
    settings = {"num_classes": 10} if how == "trainer" else {}
    kept = len((tmp_path / "journal").read_text().splitlines()) - 1
    assert kept == 8
    resumed = undisturbed(batch, journal=tmp_path / "journal", **settings)
    straight = undisturbed(batch, **settings)
    assert resumed.funnel.resumed == kept
    assert history(resumed) == history(straight)
    assert resumed.best.name == straight.best.name


@pytest.mark.processes
def test_processes_that_are_there_share_one_search_after_another(tmp_path: Path) -> None:
    run_two(SCRIPTS / "shared_search.py", "there", tmp_path, -1)
    first, second = facts(tmp_path)
    straight = undisturbed(search_toys.batch())
    assert first == second == {"history": [[row.key, row.score] for row in straight.history], "resumed": 24}


@pytest.mark.processes
def test_errors_and_ctrl_c_end_all_processes(tmp_path: Path) -> None:
    process = Started(SCRIPTS / "interrupted.py", tmp_path / "journal")
    lines = []
    for line in process.lines():
        lines.append(line)
        if line.startswith("scoring"):
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does
            break
    lines += process.wait(60).splitlines(keepends=True)
    said = "".join(lines)
    assert process.returncode == 4, said
    assert lines[0].startswith("8 of 8 candidates could not be scored"), said
    assert f"Interrupted. There are no scores in {tmp_path}/journal yet: the same search begins anew." in said
    assert "left: []" in said
    assert "Traceback" not in said
