"""The correlation matrices of one network's responses, taken in the pass that its score is taken in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor.proxies import ACor, Context, GCor, Needs, Proxy, RCor, WRCor, get_proxy, score
from lightning_wrcor.proxies._correlation import CorrelationSums
from lightning_wrcor.proxies._score import Batch, check_batch
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import SearchResult
from lightning_wrcor.search._evaluate import Setting, count, evaluate
from lightning_wrcor.spaces import Space

Correlation = ACor | GCor | RCor | WRCor
PARTS = ("activation", "gradient")


@dataclass(frozen=True)
class Responses:
    """Mean absolute correlations between samples.

    Attributes:
        name: of the network; empty where it has none.
        proxy: what K is of.
        means: ``(layer, part) -> (B, B)`` float64 with ones on the diagonal: the mean over that layer's responses.
        kernel: ``(B, B)``: K divided by the sum of its weights, with ones on the diagonal; None where K is of parts of which
            there is no response.
        value: the proxy's score on this batch; None where it refused.
        stored: its score in the search, where that is known.
    """

    name: str
    proxy: Correlation
    means: dict[tuple[int, str], Tensor]
    kernel: Tensor | None
    value: float | None
    stored: float | None = None

    @property
    def layers(self) -> list[int]:
        """Layers that have a response, from the input."""
        return sorted({layer for layer, _ in self.means})

    @property
    def as_stored(self) -> bool:
        """Whether the score is the search's, but for the rounding of another device."""
        return self.value is None or self.stored is None or math.isclose(self.value, self.stored, rel_tol=1e-4)


def responses_of(
    source: SearchResult | nn.Module,
    batch: Batch,
    proxy: str | Proxy | None,
    layers: Mapping[str, int] | None,
    space: Space | None,
) -> Responses:
    """The matrices of a search's winner, with the weights that it was scored with, or of a network as it is.

    Raises:
        TypeError: for another source.
        ValueError: for a batch, a proxy or a network that does not go.
    """
    check_batch(batch)
    if isinstance(source, SearchResult):
        return _of_winner(source, batch, _chosen(proxy, source.proxies), space)
    if not isinstance(source, nn.Module):
        raise TypeError(f"draw_correlations takes a SearchResult or a network (nn.Module); got {source!r}.")
    used = _chosen(proxy, [])
    keeper = _Keeper(used.gates)
    report = score(source, batch, [keeper, used], layers=layers)
    return keeper.responses("", used, report.scores.get(used.name), None)


def _of_winner(result: SearchResult, batch: Batch, used: Correlation, space: Space | None) -> Responses:
    best = result.best
    keeper = _Keeper(used.gates)
    setting = Setting(result._space(space), [keeper, used], batch, result.seed, result.num_classes)
    evaluation = evaluate(setting, count(setting, best.genotype, best.key))
    if evaluation.status == "failed":
        raise ValueError(f"The winner {best.name} cannot be scored on this batch: {evaluation.reason}")
    stored = best.scores.get(used.name)
    return keeper.responses(best.name, used, evaluation.scores.get(used.name), stored)


class _Keeper(Proxy):
    """Takes no score: it keeps the sums of correlations that the proxies beside it make their scores of."""

    name = "responses"
    observers = (CorrelationSums,)

    def __init__(self, gates: bool) -> None:
        self.gates = gates
        self._sums: dict[tuple[int, str], Tensor] = {}
        self._counts: dict[tuple[int, str], int] = {}

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        return Needs(gradients=True, labels=True, gates=self.gates)

    def measure(self, context: Context) -> float:
        layers = context.record.layers
        parts = context.observer(CorrelationSums).gather(layers)
        for index, part in parts.used:
            key = layers[index], part
            self._counts[key] = self._counts.get(key, 0) + 1
        self._sums = {key: parts.sums[key] for key in self._counts}
        return 0.0

    def responses(self, name: str, used: Correlation, value: float | None, stored: float | None) -> Responses:
        if not self._sums:
            raise ValueError(
                "No response of the network has a correlation: it has no non-linearity, or all are constant."
            )
        means = {key: self._sums[key] / self._counts[key] for key in self._sums}
        kept = [key for key in means if key[1] in parts_of(used)]
        # Relative to the last layer's: 2^l of hundreds of layers is no number.
        last = max((layer for layer, _ in kept), default=0)
        weights = {key: 2.0 ** (key[0] - last) if isinstance(used, WRCor) else 1.0 for key in kept}
        whole = math.fsum(weights[key] * self._counts[key] for key in kept)
        kernel = torch.stack([weights[key] * self._sums[key] for key in kept]).sum(0) / whole if kept else None
        return Responses(name, used, means, kernel, value, stored)


def parts_of(proxy: Correlation) -> tuple[str, ...]:
    """The kinds of responses that are in the proxy's K."""
    return PARTS[:1] if isinstance(proxy, ACor) else PARTS[1:] if isinstance(proxy, GCor) else PARTS


def _chosen(proxy: str | Proxy | None, stored: Sequence[Mapping[str, Any]]) -> Correlation:
    """The proxy that K is of: the one asked for, or the first of the search that has a K."""
    if proxy is not None:
        given = get_proxy(proxy)
        if not isinstance(given, Correlation):
            raise ValueError(f"The matrices are those of wrcor, rcor, acor or gcor; got {given.name}.")
        return given
    for config in stored:
        try:
            known = get_proxy(config)
        except (ValueError, TypeError):  # its class is not at hand
            continue
        for one in known.proxies if isinstance(known, Vote) else [known]:
            if isinstance(one, Correlation):
                return one
    return WRCor()
