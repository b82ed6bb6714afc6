"""Local search: from a candidate to the best of its neighbours, until none is better; then from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_wrcor.search.evaluation import Evaluation
from lightning_wrcor.search.strategies._base import TRIES, LearningStrategy, check_count, worth
from lightning_wrcor.spaces import Genotype, Space


class LocalSearch(LearningStrategy):
    """Hill climbing with restarts (White, Nolen and Savani, UAI 2021, arXiv 2005.02960).

    A climb begins at the best of a few random draws. All neighbours of a candidate are scored: the genotypes that differ
    from it at one of the space's `places`, or, where the space has none, 64 mutations of it. If the best of them is
    better, the climb goes on from there; otherwise a new one begins. Neighbours that were scored before are not scored
    again, but looked at.

    The paper searches its cell benchmarks with budgets of some hundreds. In spaces of many choices a neighbourhood alone
    can be as large: take a part of it (``neighbours=50``), or move as soon as there is a better one (``eager=True``).

    Args:
        starts: random draws at the beginning of each climb.
        neighbours: how many neighbours are looked at, drawn at random; None for all.
        eager: move after each generation that holds a better one, instead of looking at all neighbours first.
        children: neighbours that are proposed between one tell and the next.

    Raises:
        ValueError: for a number below 1.
    """

    kind = "local_search"
    learns_after = "starts"

    def __init__(self, starts: int = 10, neighbours: int | None = None, eager: bool = False, children: int = 8) -> None:
        self.starts = check_count("starts", starts)
        self.neighbours = None if neighbours is None else check_count("neighbours", neighbours)
        self.eager = bool(eager)
        self.children = check_count("children", children)

    def start(self, space: Space, seed: int) -> None:
        """Begin with no candidate."""
        super().start(space, seed)
        self.generation = self.starts
        self._places = space.places()
        self._scored: dict[str, Evaluation] = {}
        self._drawn: list[Evaluation] = []  # where the next climb can begin
        self._here: Evaluation | None = None
        self._near: list[str] = []  # keys of its neighbours
        self._queue: list[Genotype] = []  # those that were not proposed yet

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Climb as far as what is known allows."""
        self._scored |= {row.key: row for row in evaluations}
        # Random draws fill a generation where constraints reject neighbours.
        self._drawn += [row for row in evaluations if row.key not in self._near]
        while self._moves():
            pass
        left = len(self._queue) if self._here is not None else self.starts - len(self._drawn)
        self.generation = left if self._here is None else min(left, self.children)

    def _moves(self) -> bool:
        """One step, if there is one; False where other candidates must be scored first."""
        if self._here is None:
            if len(self._drawn) < self.starts:
                return False
            self._go(max(self._drawn, key=worth))
            self._drawn = []
            return True
        if self._queue and not self.eager:
            return False
        seen = (self._scored[key] for key in self._near if key in self._scored)
        best = max(seen, key=worth, default=self._here)
        if worth(best) > worth(self._here):
            self._go(best)
            return True
        if self._queue:
            return False
        self._here, self._near = None, []
        return True

    def _go(self, evaluation: Evaluation) -> None:
        self._here = evaluation
        near = {self._space.key(genotype): genotype for genotype in self._neighbours_of(evaluation.genotype)}
        near.pop(evaluation.key, None)
        self._near = list(near)
        self._queue = [genotype for key, genotype in near.items() if key not in self._known]

    def _neighbours_of(self, genotype: Genotype) -> Iterator[Genotype]:
        """In random order."""
        if self._places is None:
            mutations = (self._mutated(genotype) for _ in range(self.neighbours or TRIES))
            yield from (mutation for mutation in mutations if mutation is not None)
            return
        parts = self._space.parts(genotype)
        changes = [(place, option) for place, options in enumerate(self._places) for option in options]
        changes = [(place, option) for place, option in changes if option != parts[place]]
        self._rng.shuffle(changes)
        for place, option in changes[: self.neighbours]:
            try:
                yield self._space.assemble((*parts[:place], option, *parts[place + 1 :]))
            except ValueError:  # a combination that the space rejects
                continue

    @property
    def _begun(self) -> bool:
        return bool(self._queue)

    def _propose(self) -> Genotype | None:
        return self._queue.pop() if self._queue else None
