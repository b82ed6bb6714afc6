"""Scripts in processes of their own that start warm: forked from one that has imported torch, Lightning and timm already.

Importing them takes seconds of every process, which is most of what a test with processes costs. What a script sees is what
it would see under ``python script.py``: its own arguments, environment, working folder, session and modules that nothing has
used yet. Processes that a script starts itself, as Lightning's launcher does, start cold; so do tests of what is imported.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

_CONTEXT = multiprocessing.get_context("forkserver")
# Imported and not run: threads would not survive a fork. Names that a plain interpreter finds, because the server skips
# without a word what it cannot import, and before Python 3.13 it does not know this process's sys.path.
_CONTEXT.set_forkserver_preload(
    [
        "lightning.pytorch",
        "timm",
        "torchmetrics",
        *(f"lightning_wrcor.{part}" for part in ("callback", "cli", "data", "module", "report", "search", "spaces")),
    ]
)
ALONE = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONUNBUFFERED": "1"}


class Started:
    """A script that runs; what it prints and its errors go into one pipe."""

    def __init__(self, script: Path, *arguments: object, environment: Mapping[str, object] | None = None) -> None:
        reading, writing = _CONTEXT.Pipe(duplex=False)
        given = {name: str(value) for name, value in (environment or {}).items()}
        setting = {**os.environ, **ALONE, **given}
        self._process = _CONTEXT.Process(
            target=_run, args=(str(script), [str(one) for one in arguments], setting, os.getcwd(), writing)
        )
        self._process.start()
        writing.close()
        self._reading = os.fdopen(os.dup(reading.fileno()), encoding="utf-8", errors="replace")
        reading.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def lines(self) -> Iterator[str]:
        """What it prints, as it comes."""
        while line := self._reading.readline():  # looping over the file would close it where the caller stops early
            yield line

    def wait(self, timeout: float = 300) -> str:
        """What it printed (and `lines` has not given yet), once it has ended."""
        said: list[str] = []
        reader = Thread(target=lambda: said.append(self._reading.read()))  # a full pipe would hold the process up
        reader.start()
        self._process.join(timeout)
        late = self._process.exitcode is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # it, or what it left behind: that would keep the pipe open
        reader.join()
        assert not late, f"has not ended after {timeout} s: {''.join(said)[-3000:]}"
        return "".join(said)

    @property
    def returncode(self) -> int | None:
        """As subprocess has it: minus the number of the signal that ended it."""
        return self._process.exitcode


def start_two(script: Path, *arguments: object, environment: Mapping[str, object] | None = None) -> list[Started]:
    """Two processes that meet, as torchrun or a scheduler starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2, "NODE_RANK": 0, **(environment or {})}
    return [Started(script, *arguments, environment={**there, "RANK": rank, "LOCAL_RANK": rank}) for rank in (0, 1)]


def run_two(
    script: Path, *arguments: object, expect: int = 0, environment: Mapping[str, object] | None = None
) -> list[str]:
    """Run a script in two processes that meet; both must end with the status that is expected. What each of them printed."""
    processes = start_two(script, *arguments, environment=environment)
    said = [process.wait() for process in processes]
    assert [process.returncode for process in processes] == [expect, expect], said[0][-3000:] + said[1][-3000:]
    return said


def run_one(script: Path, *arguments: object, expect: int = 0) -> str:
    """Run a script, which must end with the status that is expected. What it printed."""
    process = Started(script, *arguments)
    said = process.wait()
    assert process.returncode == expect, said[-6000:]
    return said


def _run(script: str, arguments: list[str], environment: dict[str, str], folder: str, output: Connection) -> None:
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the usual one, as in a process that was not forked by a server
    # Ctrl-C counts, also where the tests run in the background of a shell, which switches it off.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which a forked process would skip
        sys.stdout.flush()
        sys.stderr.flush()
