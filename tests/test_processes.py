from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_wrcor import ZeroShotSearch, load_network, zero_shot_search

import toys

SCRIPTS = Path(__file__).parent / "scripts"


def run(script: str, *arguments: object, expect: int = 0) -> str:
    """Run a script and return what it printed."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def facts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.processes
def test_two_processes_share_the_search_and_train_one_winner(tmp_path: Path) -> None:
    run("two_processes.py", tmp_path)
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
    run("model_parallel.py", tmp_path)
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
    printed = run("spawned.py", tmp_path)
    assert "With a spawning strategy the trained winner stays in the child processes" in printed
    (stored,) = tmp_path.glob("*.ckpt")
    assert load_network(stored)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_killed_search_goes_on_and_ends_with_the_same_winner(tmp_path: Path) -> None:
    run("killed.py", tmp_path / "journal", 4, expect=-9)
    assert len((tmp_path / "journal").read_text().splitlines()) == 5
    resumed = zero_shot_search(toys.CELLS, toys.batch(), budget=10, journal=tmp_path / "journal", progress=False)
    straight = zero_shot_search(toys.CELLS, toys.batch(), budget=10, progress=False)
    assert resumed.funnel.resumed == 4
    assert [(row.key, row.score) for row in resumed.history] == [(row.key, row.score) for row in straight.history]
    assert resumed.best.name == straight.best.name
