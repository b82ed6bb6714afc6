"""Networks scored through the search, and their scores by column."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_wrcor.benchmark._networks import Network
from lightning_wrcor.benchmark._probe import Probe
from lightning_wrcor.proxies import get_proxy
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import Evaluation, Strategy, zero_shot_search
from lightning_wrcor.spaces import Genotype, Space

COSTS = ("params", "macs", "depth")
PARTS = ("size_term", "shape_term")


class Listed(Strategy):
    """Proposes the candidates of a list, in its order."""

    kind = "listed"
    default_budget = None
    generation = 16

    def __init__(self, candidates: Sequence[str]) -> None:
        self.candidates = candidates

    def start(self, space: Space, seed: int) -> None:
        """Begin with the first."""
        self._rest: list[Genotype] = [space.parse(text) for text in self.candidates]
        self.total = len(self._rest)

    def ask(self, n: int) -> list[Genotype]:
        """The next ``n``."""
        asked, self._rest = self._rest[:n], self._rest[n:]
        return asked


@dataclass
class Scored:
    """The networks that were scored, and with what came of each.

    Attributes:
        networks: those with an evaluation, in the table's order.
        evaluations: one a network; networks with one key share it.
        missing: networks of the list that have none yet.
        versions: of the libraries that computed the scores.
    """

    networks: list[Network]
    evaluations: list[Evaluation]
    missing: int = 0
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One quantity of all networks.

    Attributes:
        name: a proxy, a vote, a part of a proxy, or a cost.
        values: one a network: a number, -inf for a dead network, None where there is none.
        refusals: why the proxy did not take a network, one a network, None where it did.
        seconds: its mean wall time for one network, where it was measured.
    """

    name: str
    values: list[float | None]
    refusals: list[str | None]
    seconds: float | None = None


def score_networks(
    space: Space,
    networks: Sequence[Network],
    probe: Probe,
    proxies: Sequence[Any],
    seed: int,
    num_classes: int,
    journal: Path,
    only_report: bool = False,
) -> Scored:
    """Score networks, going on from the journal; with ``only_report``, take what the journal has and score nothing.

    Raises:
        ValueError: for a journal of another search, and, with ``only_report``, where it has none of these networks.
        SearchError: where most networks fail, or none gets a finite score.
    """

    def search(candidates: Sequence[Network], journal: Path, progress: bool) -> Any:
        return zero_shot_search(
            space,
            (probe.images, probe.labels),
            proxy=list(proxies),
            strategy=Listed([network.name for network in candidates]),
            seed=seed,
            num_classes=num_classes,
            journal=journal,
            progress=progress,
        )

    failed: dict[str, Evaluation] = {}
    if only_report:
        found = _read_journal(journal)
        failed = {key: row for key, row in found.items() if row.status == "failed"}
        ready = [network for network in networks if network.key in found and network.key not in failed]
        if not ready:
            raise ValueError(
                f"There is nothing to report yet: {journal} has no score of these {len(networks)} networks."
            )
        with tempfile.TemporaryDirectory() as folder:
            # A copy: another process may be writing the journal, and a search opens it to write.
            result = search(ready, Path(shutil.copy(journal, folder)), progress=False)
    else:
        result = search(networks, journal, progress=True)
    by_key = {**failed, **{row.key: row for row in result.history}}
    known = [network for network in networks if network.key in by_key]
    return Scored(known, [by_key[one.key] for one in known], len(networks) - len(known), dict(result.versions))


def _read_journal(path: Path) -> dict[str, Evaluation]:
    """The evaluations in a journal; whether it is of this search, the search itself checks."""
    if not path.is_file():
        raise ValueError(f"There is nothing to report yet: {path} does not exist.")
    whole = path.read_bytes().rpartition(b"\n")[0].split(b"\n")[1:]
    try:
        rows = [Evaluation.from_dict(json.loads(line)) for line in whole]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no journal, or a damaged one: {error}") from error
    return {row.key: row for row in rows}


def read_columns(rows: Sequence[Evaluation], proxies: Sequence[Any]) -> list[Column]:
    """Every proxy and vote, the parts of the first proxy, and the costs.

    Args:
        rows: evaluations.
        proxies: what was asked for, in this order; members that a vote brought along come after them.
    """
    asked = [get_proxy(one) for one in proxies]
    found = (name for row in rows for name in (*row.scores, *_refused(row)))
    names = dict.fromkeys([*(one.name for one in asked), *found])
    # What an evaluation's details say is of the first that is measured, and a vote is not.
    single = [one for one in asked if not isinstance(one, Vote)]
    first = single[0].name if single else next(member.name for one in asked for member in getattr(one, "proxies", ()))
    columns = []
    for name in names:
        columns.append(_column(rows, name, lambda row, name=name: row.scores.get(name)))  # type: ignore[misc]
        if name == first and any("size_term" in row.details for row in rows):
            columns += [_column(rows, f"{name}:{part}", _part(part)) for part in PARTS]
    columns += [_column(rows, cost, _cost(cost)) for cost in COSTS if cost not in names]
    return columns


def _part(part: str) -> Callable[[Evaluation], float | None]:
    return lambda row: row.details.get(part, -math.inf if row.status == "dead" else None)


def _cost(name: str) -> Callable[[Evaluation], float | None]:
    # A network that could not even be counted has no parameters, which is no number of parameters.
    return lambda row: float(getattr(row, name)) if row.params or row.status != "failed" else None


def _refused(row: Evaluation) -> dict[str, str]:
    return dict(row.details.get("refused") or {})


def _column(rows: Sequence[Evaluation], name: str, get: Callable[[Evaluation], float | None]) -> Column:
    values: list[float | None] = []
    for row in rows:
        value = get(row)
        values.append(None if value is None or math.isnan(value) else float(value))
    times = [row.proxy_seconds.get(name) for row in rows]
    known = [float(time) for time in times if time is not None]
    refusals = [_refused(row).get(name) for row in rows]
    return Column(name, values, refusals, sum(known) / len(known) if known else None)
