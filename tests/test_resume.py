"""A training that is killed and goes on ends as one that was left alone, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from warm_python import run_two

SCRIPT = Path(__file__).parent / "scripts" / "crash_and_resume.py"


@pytest.mark.processes
def test_crash_and_resume_equals_the_uninterrupted_run(tmp_path: Path) -> None:
    """With averaged weights, mixing, drop path, accumulated batches and two processes; the checkpoint is from mid-epoch."""
    pytest.importorskip("lightning", minversion="2.6", reason="averaged weights are in Lightning since 2.6")
    broken = tmp_path / "broken"
    run_two(SCRIPT, "crash", tmp_path, 1, expect=-9)
    left = sorted(path.name for path in broken.glob("*.ckpt"))
    assert "step=6.ckpt" in left
    assert "step=12.ckpt" not in left
    for path in broken.glob("step=*.ckpt"):
        if path.name != "step=6.ckpt":
            path.unlink()
    run_two(SCRIPT, "resume,whole", tmp_path, 1)  # one after the other in the same processes, which is quicker
    for rank in (0, 1):
        whole = json.loads((tmp_path / f"whole{rank}.json").read_text())
        resumed = json.loads((tmp_path / f"resume{rank}.json").read_text())
        assert whole.pop("searched")
        assert not resumed.pop("searched")
        assert resumed == whole
        assert whole["averaged"] != whole["last"]
