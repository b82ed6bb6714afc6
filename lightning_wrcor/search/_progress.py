"""One progress bar for a search."""

from __future__ import annotations

import math
from types import TracebackType

from lightning_wrcor.search.result import Funnel


class Progress:
    """Candidates done, rejected, the best so far and the time left, on one line; silent where it is switched off."""

    def __init__(self, total: int | None, enabled: bool) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, disable=not enabled, desc="scoring", unit="net", dynamic_ncols=True)
        self._best = -math.inf
        self._name = ""

    def update(self, done: int, funnel: Funnel, score: float, name: str) -> None:
        """Show that ``done`` more candidates are scored; ``score`` and ``name`` are of the last."""
        if score > self._best:
            self._best, self._name = score, name
        rejected = sum(funnel.rejected.values())
        shown = {"rejected": rejected, "best": f"{self._best:.2f}", "name": self._name[:40]}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(done)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
