"""Tasks shared over processes, so that none waits long for another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from lightning_wrcor.search._ranks import Ranks

Task = TypeVar("Task")
Result = TypeVar("Result")

PAUSE = 2.0
"""Seconds that processes work on their own at least before they exchange what they have."""

TASKS = 8
"""Tasks that each of them does in that time, or more; at the end of it all wait for the last."""


def share(
    ranks: Ranks, tasks: Sequence[Task], work: Callable[[Task], Result], seconds: float = 0.0
) -> Iterator[list[Result]]:
    """Do tasks with all processes, and yield what is new after each exchange: the same on every process.

    Whoever is free takes the next task, so it does not matter that some take longer, or that a device is slower. The
    processes exchange results now and then: often enough that little is lost with a process that dies and that this is
    noticed soon, and seldom enough that waiting for each other's last task costs little. One process alone yields each
    result as it comes.

    Args:
        ranks: the processes; all of them call this together, with the same tasks.
        tasks: the tasks; the longest should come first, so that the last one does not keep all waiting.
        work: does one of them.
        seconds: how long a task takes, as far as is known.

    Yields:
        The new results, in the order of their tasks.
    """
    turns = ranks.turns(len(tasks))
    left, spent = len(tasks), 0.0
    while left:
        pause = max(PAUSE, TASKS * seconds) if ranks.world_size > 1 else 0.0
        mine: list[tuple[int, float, Result]] = []
        began = now = time.perf_counter()
        for turn in turns:
            result = work(tasks[turn])
            before, now = now, time.perf_counter()
            mine.append((turn, now - before, result))
            if now - began >= pause:
                break
        new = [one for rank in ranks.gather(mine) for one in rank]
        if not new:
            raise RuntimeError(f"{type(ranks).__name__}.turns left out {left} of {len(tasks)} tasks.")
        left -= len(new)
        spent += sum(took for _, took, _ in new)
        seconds = spent / (len(tasks) - left)
        yield [result for _, _, result in sorted(new, key=lambda one: one[0])]
