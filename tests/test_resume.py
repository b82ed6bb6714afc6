"""A training that is killed and goes on ends as one that was left alone, to the bit."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "scripts" / "crash_and_resume.py"


def two(how: str, folder: Path, expect: int = 0) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), how, str(folder), "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                **there,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": "lo",
            },
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [expect, expect], said[0][-3000:] + said[1][-3000:]


@pytest.mark.processes
def test_crash_and_resume_equals_the_uninterrupted_run(tmp_path: Path) -> None:
    """With averaged weights, mixing, drop path, accumulated batches and two processes; the checkpoint is from mid-epoch."""
    pytest.importorskip("lightning", minversion="2.6", reason="averaged weights are in Lightning since 2.6")
    broken = tmp_path / "broken"
    two("crash", tmp_path, expect=-9)
    left = sorted(path.name for path in broken.glob("*.ckpt"))
    assert "step=6.ckpt" in left
    assert "step=12.ckpt" not in left
    for path in broken.glob("step=*.ckpt"):
        if path.name != "step=6.ckpt":
            path.unlink()
    two("resume,whole", tmp_path)  # one after the other in the same processes, which is quicker
    for rank in (0, 1):
        whole = json.loads((tmp_path / f"whole{rank}.json").read_text())
        resumed = json.loads((tmp_path / f"resume{rank}.json").read_text())
        assert whole.pop("searched")
        assert not resumed.pop("searched")
        assert resumed == whole
        assert whole["averaged"] != whole["last"]
