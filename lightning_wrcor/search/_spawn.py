"""A search in processes that are started for it, and whose result comes back into the process that asked for it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, start_processes
from tqdm.auto import tqdm

from lightning_wrcor.search._asked import Asked
from lightning_wrcor.search._handing_over import pack, unpack
from lightning_wrcor.search._messages import SearchError
from lightning_wrcor.search._numerics import read_numerics, set_numerics
from lightning_wrcor.search._ranks import RankLostError, Ranks, TorchRanks

Result = TypeVar("Result")
Search = Callable[[Asked, Ranks], Result]
"""Searches with processes that are there; importable, because it is handed over by its name."""

_SENTENCES = (ValueError, OSError, SearchError, RankLostError, KeyboardInterrupt)
_PACKAGE = str(Path(__file__).resolve().parents[1])


def search_in_processes(
    asked: Asked, devices: Sequence[torch.device], search: Search[Result], check: Callable[[Asked], None]
) -> Result:
    """Start a process for each device, search in all of them together, and return what rank zero found.

    Each process gets an equal share of the threads of this one. Where one of them dies or fails, the others are ended at
    once; Ctrl-C ends all of them. This process's environment, random numbers and devices are not touched.

    Args:
        asked: what is searched, and how.
        devices: one for each process.
        search: called in every process, with the batch on its device.
        check: called before a process is started, with what the processes will get; raises for what cannot work.

    Raises:
        ValueError: for settings that cannot be handed over, and in a script that would start processes without end.
        RankLostError: where a process died.
        Exception: what the search raised, as in one process.
    """
    packed = pack(search, asked.on("cpu"))
    check(unpack(packed)[1])
    threads = max(1, torch.get_num_threads() // len(devices))
    task = _Task(packed, [str(device) for device in devices], threads, read_numerics(), os.getpid())
    with tempfile.TemporaryDirectory(prefix="lightning_wrcor-") as name:
        folder = Path(name)
        (folder / "task").write_bytes(pickle.dumps(task))
        died = _run(folder, len(devices))
        result: Result = _outcome(folder, len(devices), died)
        return result


@dataclass(frozen=True)
class _Task:
    """What the processes are to do.

    Attributes:
        packed: the search and its settings.
        devices: where each of them scores.
        threads: threads of torch in each of them.
        numerics: settings of torch that change results.
        parent: the process that waits for them.
    """

    packed: bytes
    devices: list[str]
    threads: int
    numerics: dict[str, Any]
    parent: int


@dataclass(frozen=True)
class _Failure:
    """An error in another process.

    Attributes:
        error: the error, where it can be handed over.
        text: its type and message.
        trace: the traceback of an error that this package did not foresee, else empty.
    """

    error: BaseException | None
    text: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        try:
            copy = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own)
            same = type(copy) is type(error) and str(copy) == str(error)
        except Exception:
            same = False
        frames = traceback.extract_tb(error.__traceback__)
        # Sentences of this package say all that there is to say.
        foreseen = isinstance(error, _SENTENCES) and (not frames or frames[-1].filename.startswith(_PACKAGE))
        trace = "" if foreseen else "".join(traceback.format_exception(error))
        return cls(error if same else None, f"{type(error).__name__}: {error}", trace)

    def raised(self) -> BaseException:
        error = RuntimeError(self.text) if self.error is None else self.error
        error.__cause__ = _OfProcessError(self.trace) if self.trace else None
        return error


class _OfProcessError(Exception):
    """The traceback that an error had in the process in which it was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# ---- in the process that asked


def _run(folder: Path, count: int) -> ProcessException | None:
    """Run the processes to their end; returns how one of them died, if one did."""
    before = set(multiprocessing.active_children())
    started: Sequence[Any] | None = None
    try:
        with _silent("torch.multiprocessing.spawn"):  # "Terminating process ...", which our own sentence replaces
            context = start_processes(_work, (str(folder),), nprocs=count, join=False, start_method="spawn")
            started = context.processes
            while not context.join():
                pass
    except ProcessException as error:
        return error
    finally:  # interrupted, by Ctrl-C for one
        for process in started or set(multiprocessing.active_children()) - before:
            if process.is_alive():
                process.terminate()
                process.join(5)
                process.kill()
            process.join()
    return None


def _outcome(folder: Path, count: int, died: ProcessException | None) -> Any:
    found = [_read(folder / f"outcome{rank}") for rank in range(count)]
    failures = [one for one in found if isinstance(one, _Failure)]
    for failure in failures:  # that a process was lost says less than why
        if not isinstance(failure.error, RankLostError):
            raise failure.raised()
    if found[0] is not None and not isinstance(found[0], _Failure):
        return found[0][0]
    if not any(folder.glob("began*")):
        raise RuntimeError(
            f"The processes of the search ended before it began ({_how(died)}); what they said is above. A script that "
            'starts processes does so below `if __name__ == "__main__":`, because each of them imports it first.'
        )
    raise RankLostError(f"A process of the search died ({_how(died)}).") from None


def _how(died: ProcessException | None) -> str:
    if not isinstance(died, ProcessExitedException):
        return "nothing is known of why" if died is None else str(died).strip().split("\n")[-1]
    ended = {None: f"exit code {died.exit_code}", "SIGKILL": "SIGKILL, which the system sends where memory runs out"}
    return f"rank {died.error_index}: {ended.get(died.signal_name, died.signal_name)}"


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read(path: Path) -> Any:
    return pickle.loads(path.read_bytes()) if path.exists() else None  # noqa: S301  (our own)


# ---- in the processes that were started


def _work(rank: int, name: str) -> None:
    """Search as one of several; the result of rank zero, or an error, is left in the folder."""
    folder = Path(name)
    try:
        task: _Task = _read(folder / "task")
        _leave_ctrl_c_to(task.parent)
        (folder / f"began{rank}").touch()
        result = _search(rank, task, folder)
        outcome = pickle.dumps((result,) if rank == 0 else None)
    except BaseException as error:
        _leave(folder, rank, pickle.dumps(_Failure.of(error)))
        sys.exit(1)  # upon which the others are ended
    _leave(folder, rank, outcome)


def _search(rank: int, task: _Task, folder: Path) -> Any:
    torch.set_num_threads(task.threads)
    set_numerics(task.numerics)
    device = torch.device(task.devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    search, asked = unpack(task.packed)
    tqdm.set_lock(threading.RLock())  # its own, for processes, is left behind by one that is ended
    # They meet in a file: a port that was free a moment ago may be another's.
    count = len(task.devices)
    meeting = dist.FileStore(str(folder / "meeting"), count)  # type: ignore[attr-defined, unused-ignore]
    dist.init_process_group("gloo", store=meeting, rank=rank, world_size=count)
    try:
        return search(asked.on(device), TorchRanks(rank, count))
    finally:
        dist.destroy_process_group()


def _leave(folder: Path, rank: int, outcome: bytes) -> None:
    fresh = folder / f"fresh{rank}"
    fresh.write_bytes(outcome)
    fresh.replace(folder / f"outcome{rank}")


def _leave_ctrl_c_to(parent: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the parent ends the others. If it has died, they end themselves."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:  # torch has the system send this signal when the parent dies
            os._exit(1)

    signal.signal(signal.SIGINT, interrupted)
