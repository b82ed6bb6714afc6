"""The devices and processes of a search without a Trainer, as Lightning Fabric finds them.

The one file of this folder that imports Lightning; it is imported where ``devices`` is given.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.accelerators.accelerator import Accelerator
from lightning.fabric.accelerators.cpu import CPUAccelerator
from lightning.fabric.accelerators.cuda import CUDAAccelerator
from lightning.fabric.accelerators.mps import MPSAccelerator
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch.distributed.rendezvous import rendezvous

from lightning_wrcor.search._asked import Asked
from lightning_wrcor.search._handing_over import check_script
from lightning_wrcor.search._ranks import Ranks, TorchRanks
from lightning_wrcor.search._spawn import Search, search_in_processes
from lightning_wrcor.search.result import SearchResult

_ACCELERATORS: dict[str, type[Accelerator]] = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "mps": MPSAccelerator}
_SCHEDULERS: tuple[type[ClusterEnvironment], ...] = (SLURMEnvironment, LSFEnvironment, MPIEnvironment)
_searches = itertools.count()
_meetings: dict[str, Any] = {}


def search_on_devices(
    asked: Asked,
    devices: int | str | list[int],
    accelerator: str,
    search: Search[SearchResult],
    check: Callable[[Asked], None],
) -> SearchResult:
    """Search on several devices of one machine, or with the processes that are there already.

    Args:
        asked: what is searched, and how.
        devices: as Fabric's: how many, their numbers, -1 or ``"auto"`` for all.
        accelerator: as Fabric's: ``"cpu"``, ``"gpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        search: called by each process, with the batch on its own device.
        check: called before a process is started; raises for settings that cannot work.

    Raises:
        ValueError: for devices that there are not, and settings that cannot work.
        RankLostError: where a process died.
    """
    started = _Started.find()
    if started is None:
        check_script()
    found = find_devices(devices, accelerator)
    if started is not None:
        with _current(started.device(found, devices)) as device, started.ranks() as ranks:
            # The same batch on all of them, also where each has drawn its own.
            return search(asked.on(device, ranks.broadcast(asked.on("cpu").batch)), ranks)
    if len(found) == 1:
        with _current(found[0]) as device:
            return search(asked.on(device), Ranks())
    return search_in_processes(asked, found, search, check)


def find_devices(devices: int | str | list[int], accelerator: str) -> list[torch.device]:
    """The devices that Fabric would take.

    Raises:
        ValueError: for those that there are not.
    """
    usable = [name for name in ("mps", "cuda", "cpu") if _ACCELERATORS[name].is_available()]
    name = accelerator
    if accelerator == "auto":
        name = usable[0]
    elif accelerator == "gpu":
        name = usable[0] if usable[0] != "cpu" else "cuda"
    if name not in usable:
        raise ValueError(
            f"accelerator={accelerator!r} cannot be used here; {', '.join(map(repr, ('auto', *usable)))} can."
        )
    kind = _ACCELERATORS[name]
    problem = ""
    try:
        wanted = kind.parse_devices(kind.auto_device_count() if devices == "auto" else devices)
        if wanted and not isinstance(devices, bool):
            return [torch.device(device) for device in kind.get_parallel_devices(wanted)]
    except Exception as error:  # whatever Lightning raises for a number, a list or a text that it cannot read
        problem = f" ({' '.join(str(error).split())})"
    few = "the number of processes" if name == "cpu" else "a number of devices, a list of their numbers, -1"
    raise ValueError(f"devices={devices!r} cannot be used with {name}{problem}. Give {few} or 'auto'.")


@contextmanager
def _current(device: torch.device) -> Iterator[torch.device]:
    """The device, which CUDA takes as the current one meanwhile."""
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield device


@dataclass(frozen=True)
class _Started:
    """Several processes that somebody else has started: torchrun, ``fabric run``, a scheduler, or a Trainer.

    Attributes:
        rank: number of this process.
        world_size: number of processes.
        local_rank: number of this process on its machine.
        meeting: address and port at which they meet; None where they have met, in a process group.
    """

    rank: int
    world_size: int
    local_rank: int
    meeting: tuple[str, int] | None

    @classmethod
    def find(cls) -> _Started | None:
        """The processes that there are already, or None where this one is alone."""
        environment = os.environ
        if dist.is_available() and dist.is_initialized():
            rank, size = dist.get_rank(), dist.get_world_size()
            local = int(environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", rank)))
            return cls(rank, size, local, None) if size > 1 else None
        # Both: a script of a Trainer's that is run again for its other processes finds WORLD_SIZE alone.
        if "RANK" in environment and int(environment.get("WORLD_SIZE", 1)) > 1:
            for name in ("MASTER_ADDR", "MASTER_PORT"):
                if name not in environment:
                    raise ValueError(
                        f"RANK and WORLD_SIZE are set in the environment, but {name}, where the processes meet, is not. "
                        "Start them with torchrun, or remove these variables."
                    )
            rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
            local = int(environment.get("LOCAL_RANK", rank))
            return cls(rank, size, local, (environment["MASTER_ADDR"], int(environment["MASTER_PORT"])))
        for kind in _SCHEDULERS:
            if kind.detect() and (one := kind()).world_size() > 1:
                before = dict(environment)
                meeting = one.main_address, one.main_port
                for name in set(environment) - set(before):  # that is how some of them remember it
                    del environment[name]
                return cls(one.global_rank(), one.world_size(), one.local_rank(), meeting)
        return None

    def device(self, found: list[torch.device], devices: int | str | list[int]) -> torch.device:
        """The device of this process."""
        if found[0].type == "cpu":
            return found[0]
        if self.local_rank >= len(found):
            raise ValueError(
                f"devices={devices!r} are {len(found)} on this machine, but this is process {self.local_rank} of it, "
                "counted from 0. Start as many processes as devices, or use devices='auto'."
            )
        return found[self.local_rank]

    @contextmanager
    def ranks(self) -> Iterator[TorchRanks]:
        """The processes as ranks; a process group that is made for them is gone afterwards."""
        if self.meeting is None:
            yield TorchRanks(self.rank, self.world_size)
            return
        # Names of its own, so that the next process group of these processes meets without those of this one.
        store = dist.PrefixStore(  # type: ignore[attr-defined, unused-ignore]
            f"lightning_wrcor/{next(_searches)}", self._store(*self.meeting)
        )
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        try:
            yield TorchRanks(self.rank, self.world_size)
        finally:
            dist.destroy_process_group()

    def _store(self, address: str, port: int) -> Any:
        """Where the processes meet. It is kept: others (a Trainer) may meet there later, and must not find it closing."""
        place = f"{address}:{port}"
        if place not in _meetings:
            url = f"tcp://{place}?rank={self.rank}&world_size={self.world_size}"
            _meetings[place] = next(iter(rendezvous(url)))[0]
        return _meetings[place]
