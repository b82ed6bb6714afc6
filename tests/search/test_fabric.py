"""A search on several devices without a Trainer gives what one process gives, and leaves that process as it was."""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from process_toys import Unlucky, by_eight
from search_toys import BATCH, CELLS, Endless, Noise, Of, Widths
from torch import nn

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import ExhaustiveSearch, Ranks, SearchError, SearchResult
from lightning_wrcor.search._asked import Asked
from lightning_wrcor.search._fabric import _Started, find_devices
from lightning_wrcor.search._handing_over import check_script, pack, unpack
from lightning_wrcor.search._numerics import read_numerics, set_numerics
from lightning_wrcor.search._spawn import _Failure

TWO: dict[str, Any] = {"devices": 2, "accelerator": "cpu"}


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("lightning_wrcor.search._spawn.start_processes", start)


@pytest.mark.processes
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "budget": 21,
        "constraints": {"max_params": 7 * 50 + 3},
        "racing": {"finalists": 3, "seeds": 2},
        "progress": False,
    }
    space = Endless(60, copies=2)
    proxies = [Unlucky(width=20), "params"]
    alone = zero_shot_search(space, BATCH, proxies, by_eight(), **settings)
    assert [row.reason for row in alone.history if row.status == "failed"] == ["ValueError: an unlucky width"]
    random.seed(1)
    torch.manual_seed(1)
    before = (dict(os.environ), random.getstate(), torch.get_rng_state().tolist(), torch.get_num_threads(), os.getcwd())
    strategy, journal = by_eight(), tmp_path / "journal"
    shared = zero_shot_search(space, BATCH, proxies, strategy, journal=journal, **settings, **TWO)
    after = (dict(os.environ), random.getstate(), torch.get_rng_state().tolist(), torch.get_num_threads(), os.getcwd())
    assert after == before
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()
    assert not hasattr(strategy, "_rng"), "the strategy that was given is not the one that searched"

    assert rows(shared) == rows(alone)
    assert (shared.funnel, shared.notes, shared.race) == (alone.funnel, alone.notes, alone.race)
    assert [row.key for row in shared.leaderboard] == [row.key for row in alone.leaderboard]
    assert shared.searched_space is space
    skipped = {"history", "seconds"}
    assert {k: v for k, v in shared.to_dict().items() if k not in skipped} == {
        k: v for k, v in alone.to_dict().items() if k not in skipped
    }
    # Rank zero has written the journal, from which this process alone takes all but what failed.
    again = zero_shot_search(space, BATCH, proxies, by_eight(), journal=journal, **settings)
    assert again.funnel.resumed == 20
    assert rows(again) == rows(alone)


def test_one_device_is_this_process(no_process: None) -> None:
    proxy = Noise()
    found = zero_shot_search(Widths(), BATCH, proxy, devices=1, accelerator="cpu", progress=False)
    assert len(proxy.seen) == 12
    assert rows(found) == rows(zero_shot_search(Widths(), BATCH, Noise(), progress=False))
    assert len(zero_shot_search(Widths(), BATCH, Noise(), devices="auto", accelerator="cpu", progress=False).history)


@pytest.mark.parametrize(
    ("devices", "accelerator", "message"),
    [
        (0, "cpu", r"devices=0 cannot be used with cpu .*Give the number of processes or 'auto'"),
        ("two", "cpu", r"devices='two' cannot be used with cpu"),
        ([0, 1], "cpu", r"devices=\[0, 1\] cannot be used with cpu"),
        (True, "cpu", r"devices=True cannot be used with cpu"),
        (2, "tpu", r"accelerator='tpu' cannot be used here; 'auto'.*'cpu' can"),
        (None, "cpu", r"accelerator='cpu' says of which kind the devices are: give devices"),
    ],
)
def test_devices_that_there_are_not(devices: Any, accelerator: str, message: str, no_process: None) -> None:
    with pytest.raises(ValueError, match=message):
        zero_shot_search(Widths(), BATCH, Noise(), devices=devices, accelerator=accelerator, progress=False)


def test_gpus_are_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.accelerators.cuda import CUDAAccelerator

    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="accelerator='gpu' cannot be used here"):
            find_devices(1, "gpu")
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: 4)
    monkeypatch.setattr("lightning.fabric.utilities.device_parser._get_all_available_gpus", lambda **kind: [0, 1, 2, 3])
    cuda = [torch.device("cuda", number) for number in range(4)]
    assert find_devices("auto", "auto") == find_devices(-1, "gpu") == cuda
    assert find_devices([3, 1], "cuda") == find_devices("3,1", "auto") == [cuda[3], cuda[1]]
    with pytest.raises(ValueError, match=r"devices=5 cannot be used with cuda .*0, 1, 2, 3.*or 'auto'"):
        find_devices(5, "cuda")


def test_bad_settings_are_found_before_a_process_starts(no_process: None, tmp_path: Path) -> None:
    def refused(**settings: Any) -> str:
        given: dict[str, Any] = {"space": Widths(), "batch": BATCH, "proxy": Noise(), "progress": False, **settings}
        with pytest.raises((ValueError, OSError)) as alone:
            zero_shot_search(**given)
        with pytest.raises(type(alone.value)) as shared:
            zero_shot_search(**given, **TWO)
        assert str(shared.value) == str(alone.value)
        return str(shared.value)

    notes = tmp_path / "notes.txt"
    notes.write_text("my notes\n")
    assert "at least 1; got 0" in refused(budget=0)
    assert "cannot be enumerated" in refused(space=Endless(), strategy="exhaustive")
    assert "allows labels from 0 to 1" in refused(num_classes=2)
    assert "is no journal" in refused(journal=notes)
    assert "cannot be written" in refused(journal=notes / "journal")
    with pytest.raises(ValueError, match="leave out devices"):
        zero_shot_search(Widths(), BATCH, Noise(), ranks=Ranks(), **TWO)


def local_network(num_classes: int, in_chans: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes), nn.ReLU())


def test_what_cannot_be_handed_over_is_named(no_process: None) -> None:
    class Inner(Noise):
        pass

    def inner(num_classes: int, in_chans: int = 3) -> nn.Module:
        return nn.Flatten()

    def refusal(space: Any = None, proxy: Any = None) -> str:
        with pytest.raises(
            ValueError, match=r"Use a function or class from the top level .*leave out devices"
        ) as error:
            zero_shot_search(space or Widths(), BATCH, proxy or Noise(), progress=False, **TWO)
        return str(error.value)

    made = refusal([local_network, lambda num_classes, in_chans=3: nn.Flatten()])
    assert made.startswith("space.")
    assert "[1] is a lambda, which cannot be handed to other processes" in made
    assert "is inner, which is defined inside test_what_cannot_be_handed_over_is_named() and" in refusal([inner])
    assert refusal(proxy=Of(lambda width: width)).startswith("proxy[0].function is a lambda")
    assert refusal(proxy=["params", Inner()]).startswith(
        "proxy[1] is of the class Inner, which is defined inside test_"
    )
    proxy = Noise()
    proxy.seen = (width for width in [1])  # type: ignore[assignment]
    assert refusal(proxy=proxy).startswith("proxy[0].seen is a generator, which")


def asked(**settings: Any) -> Asked:
    from lightning_wrcor.search import Constraints

    given = {"space": CELLS, "batch": BATCH, "proxy": [Noise()], "strategy": ExhaustiveSearch(), "budget": 3}
    given |= {"constraints": Constraints(), "seed": 0, "num_classes": None, "journal": None, "racing": None}
    return Asked(**{**given, "progress": False, **settings})


def test_a_strategy_that_has_searched_is_handed_over_afresh() -> None:
    used = ExhaustiveSearch()
    zero_shot_search(Widths(), BATCH, Noise(), used, budget=3, progress=False)
    function, found = unpack(pack(zero_shot_search, asked(strategy=used)))
    assert function is zero_shot_search
    found.strategy.start(Widths(), 0)
    assert found.strategy.ask(1) == [(0, 1)]


def test_tensors_are_handed_over_by_value() -> None:
    networks = [nn.Linear(3, 3)]
    handed = unpack(pack(zero_shot_search, asked(proxy=networks)))[1].proxy
    assert torch.equal(handed[0].weight, networks[0].weight)  # type: ignore[attr-defined]
    assert not networks[0].weight.is_shared()


def test_things_of_a_notebook_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    exec("from search_toys import Noise\nclass Mine(Noise): pass", vars(notebook))  # noqa: S102  (our own)
    pack(zero_shot_search, asked())
    with pytest.raises(
        ValueError, match=r"proxy is made of things that are defined in this notebook .*Write them into a file"
    ):
        pack(zero_shot_search, asked(proxy=[notebook.Mine()]))
    notebook.__file__ = "script.py"
    packed = pack(zero_shot_search, asked(proxy=[notebook.Mine()]))
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    with pytest.raises(
        ValueError, match=r"cannot be read in the processes .*'Mine'.*above `if __name__ == \"__main__\":`"
    ):
        unpack(packed)


def test_a_script_without_a_guard_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(text: str) -> None:
        script = tmp_path / "script.py"
        head = "from lightning_wrcor.search._handing_over import check_script\n\ndef main():\n    check_script()\n\n"
        script.write_text(head + text)
        runpy.run_path(str(script), run_name="__main__")

    for guarded in (
        'if __name__ == "__main__":\n    main()',
        'if "__main__" == __name__ and True:\n    print()\n    main()',
    ):
        run(guarded)
    for bare in ("main()", "if True:\n    main()", 'if __name__ != "main":\n    pass\nfor _ in range(2):\n    main()'):
        with pytest.raises(
            ValueError, match=r"Put the call below `if __name__ == \"__main__\":`, or leave out devices"
        ):
            run(bare)
    check_script()
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ValueError, match="imports this script first"):
        check_script()


def test_settings_of_torch_are_taken_along() -> None:
    before = read_numerics()
    try:
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.backends.cuda.matmul.allow_tf32 = True
        changed = read_numerics()
        assert sum(changed[name] != value for name, value in before.items()) == 4
        set_numerics(before)
        assert read_numerics() == before
        set_numerics(changed)
        assert read_numerics() == changed
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        set_numerics(before)


class OddError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def test_errors_travel_as_they_are() -> None:
    def raised(error: BaseException) -> BaseException:
        try:
            raise error
        except BaseException as caught:
            return _Failure.of(caught).raised()

    for error in (KeyboardInterrupt(), OSError(28, "No space left on device"), SearchError("nothing")):
        travelled = raised(error)
        assert (type(travelled), str(travelled)) == (type(error), str(error))
    unforeseen = raised(ZeroDivisionError("in a space of somebody's"))
    assert "in raised" in str(unforeseen.__cause__), "with the place where it was raised"
    with pytest.raises(ValueError, match="devices=0") as ours:
        find_devices(0, "cpu")
    assert _Failure.of(ours.value).raised().__cause__ is None, "a sentence of ours says all"
    odd = raised(OddError(1, 2))
    assert (type(odd), str(odd)) == (RuntimeError, "OddError: 1 and 2")


def test_processes_that_are_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in os.environ if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    ]:
        monkeypatch.delenv(name)

    def found(**environment: object) -> _Started | None:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, str(value))
            before = dict(os.environ)
            started = _Started.find()
            assert dict(os.environ) == before
            return started

    assert found() is None
    assert found(WORLD_SIZE=2, LOCAL_RANK=1, MASTER_ADDR="a", MASTER_PORT=1) is None, "another process of a Trainer's"
    assert found(RANK=0, WORLD_SIZE=1) is None
    meeting = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": 29500}
    assert found(RANK=5, WORLD_SIZE=8, LOCAL_RANK=1, **meeting) == _Started(5, 8, 1, ("10.0.0.1", 29500))
    with pytest.raises(ValueError, match="MASTER_PORT, where the processes meet, is not"):
        found(RANK=0, WORLD_SIZE=2, MASTER_ADDR="10.0.0.1")
    slurm = {
        "SLURM_NTASKS": 4,
        "SLURM_NTASKS_PER_NODE": 2,
        "SLURM_PROCID": 3,
        "SLURM_LOCALID": 1,
        "SLURM_JOB_NAME": "search",
    }
    slurm |= {"SLURM_NODELIST": "node[07-08]", "SLURM_JOB_ID": 12345, "SLURM_NODEID": 1}
    assert found(**slurm) == _Started(3, 4, 1, ("node07", 17345))
    assert found(**{**slurm, "SLURM_NTASKS": 1}) is None, "one task, which starts processes itself"

    cuda = [torch.device("cuda", number) for number in (2, 3)]
    assert _Started(5, 8, 1, None).device(cuda, [2, 3]) == cuda[1]
    with pytest.raises(ValueError, match=r"devices=\[2, 3\] are 2 on this machine, but this is process 2 of it"):
        _Started(2, 8, 2, None).device(cuda, [2, 3])
    assert _Started(2, 8, 2, None).device([torch.device("cpu")], "auto") == torch.device("cpu")


def test_lightning_is_imported_only_where_devices_are_given() -> None:
    code = "import sys, lightning_wrcor.search._search; sys.exit('lightning' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
