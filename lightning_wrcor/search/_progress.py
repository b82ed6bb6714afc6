"""One progress bar for a search."""

from __future__ import annotations

import math
import time
from types import TracebackType

from lightning_wrcor.search._bars import open_bar
from lightning_wrcor.search.result import Funnel

LOOK = 1.0
"""Seconds between two looks at a search that only rejects candidates."""


class Progress:
    """Candidates done, rejected, the best so far and the time left, on one line; silent where it is switched off."""

    def __init__(self, enabled: bool) -> None:
        self._bar = open_bar(enabled)
        self._best = -math.inf
        self._name = ""
        self._looked = time.monotonic()

    def expect(self, total: int | None) -> None:
        """Say how many candidates will be scored at most, as far as is known by now."""
        self._bar.expect(total)

    def look(self, funnel: Funnel) -> None:
        """Show that candidates are being rejected, now and then."""
        if time.monotonic() - self._looked > LOOK:
            self._show(funnel)
            self._bar.refresh()
            self._looked = time.monotonic()

    def update(self, funnel: Funnel, score: float, name: str) -> None:
        """Show that one more candidate is scored."""
        if score > self._best:
            self._best, self._name = score, name
        self._show(funnel)
        self._bar.step()

    def _show(self, funnel: Funnel) -> None:
        best = f"{self._best:.4g}" if math.isfinite(self._best) else "none"
        self._bar.show(sum(funnel.rejected.values()), best, self._name[:40])

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
