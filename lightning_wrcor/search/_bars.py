"""What draws the progress of a search: rich where it is installed and looks at a terminal, tqdm otherwise."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

TITLE = "scoring"
PAUSE = 0.1
"""Seconds between two drawings on a terminal."""

LOG_PAUSE = 10.0
"""The same in a file: a log gets a line now and then, not ten a second."""


class Bar(Protocol):
    """One line that is drawn again and again."""

    def expect(self, total: int | None) -> None:
        """Say how many there will be; None where that is not known."""

    def show(self, rejected: int, best: str, name: str) -> None:
        """Set what stands beside the bar; drawn with the next `step` or `refresh`."""

    def step(self) -> None:
        """One more is done."""

    def refresh(self) -> None:
        """Draw now."""

    def close(self) -> None:
        """Draw for the last time, and leave it standing."""


def open_bar(enabled: bool) -> Bar:
    """The bar that fits what standard error is."""
    if enabled and _has_rich():
        return _Rich()
    return _Tqdm(enabled)


def _has_rich() -> bool:
    """Whether rich is there, and a terminal that it can draw on."""
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return sys.stderr.isatty() and not dumb and importlib.util.find_spec("rich") is not None


class _Tqdm:
    def __init__(self, enabled: bool) -> None:
        from tqdm.auto import tqdm

        pause = PAUSE if sys.stderr.isatty() else LOG_PAUSE
        self._bar = tqdm(disable=not enabled, desc=TITLE, unit="net", dynamic_ncols=True, mininterval=pause)

    def expect(self, total: int | None) -> None:
        self._bar.total = total

    def show(self, rejected: int, best: str, name: str) -> None:
        self._bar.set_postfix({"rejected": rejected, "best": best, "name": name}, refresh=False)

    def step(self) -> None:
        self._bar.update(1)

    def refresh(self) -> None:
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class _Rich:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(
            *_rich_columns(),
            console=console,
            expand=True,
            # Drawn by this thread only, so that a process that is forked meanwhile inherits no lock of another one.
            auto_refresh=False,
            # What a network prints on standard output stays there.
            redirect_stdout=False,
            speed_estimate_period=3600.0,  # seconds: a large network may take minutes
        )
        self._task = self._progress.add_task(TITLE, total=None, rejected=0, best="none", name="")
        self._drawn = 0.0
        self._progress.start()
        console.show_cursor(True)  # a process that is killed could not bring it back

    def expect(self, total: int | None) -> None:
        self._progress.update(self._task, total=total)

    def show(self, rejected: int, best: str, name: str) -> None:
        self._progress.update(self._task, rejected=rejected, best=best, name=name)

    def step(self) -> None:
        self._progress.advance(self._task)
        now = self._progress.get_time()
        if now - self._drawn >= PAUSE:
            self._drawn = now
            self.refresh()

    def refresh(self) -> None:
        self._progress.refresh()

    def close(self) -> None:
        self._progress.stop()


def _rich_columns() -> list[ProgressColumn]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    def text(template: str, style: str = "none", ratio: int | None = None) -> TextColumn:
        # No markup: a name may hold brackets.
        return TextColumn(template, style, markup=False, table_column=Column(no_wrap=True, ratio=ratio))

    return [
        text("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        text("left", "dim"),
        TimeRemainingColumn(),
        text("rejected {task.fields[rejected]}", "dim"),
        text("best {task.fields[best]}", "bold"),
        text("{task.fields[name]}", ratio=1),  # which gives way in a narrow terminal
    ]
