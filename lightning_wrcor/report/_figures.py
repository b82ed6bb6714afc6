"""The public functions: each draws one figure of a search."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

from torch import nn

from lightning_wrcor._matplotlib import check_drawing
from lightning_wrcor.proxies import Proxy
from lightning_wrcor.proxies._score import Batch, check_batch
from lightning_wrcor.search import SearchResult
from lightning_wrcor.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cost = Literal["macs", "params", "latency_ms", "memory_mb", "depth"]

_LOG = logging.getLogger(__name__)


def draw_costs(result: SearchResult, cost: Cost = "macs", *, width: float = 7.0) -> Figure:
    """Draw the score of every candidate against what it costs, with the Pareto front and the winner.

    Dead candidates stand on the lower edge, and so do the few whose scores are far below all others. Costs that span
    decades, and positive scores that do, go on a logarithmic axis.

    Args:
        result: the search.
        cost: what is on the horizontal axis: ``"macs"``, ``"params"``, ``"latency_ms"``, ``"memory_mb"`` or ``"depth"``.
        width: inches; 3.5 or 7 for a paper, 13 for a slide. Text has 7 to 8 points from 3.5 to 7 inches, and keeps its
            proportion above and below that.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: for a cost that there is not or that was not measured in this search, and where no candidate has a
            finite score.
    """
    check_drawing(width)
    if cost not in get_args(Cost):
        raise ValueError(f"cost is one of {', '.join(map(repr, get_args(Cost)))}; got {cost!r}.")
    result.best  # noqa: B018  (says where there is none)
    from lightning_wrcor.report._costs import draw

    return draw(result, cost, width)


def draw_progress(result: SearchResult, *, width: float = 7.0) -> Figure:
    """Draw every candidate in the order of proposal, and the best score so far.

    Generations are shaded where the strategy has some of a known size (evolution, NSGA-II, REINFORCE). Dead and failed
    candidates stand on the lower edge, and so do the few whose scores are far below all others. Values of a vote are those
    among all candidates of the result. A journal that several processes wrote has another order.

    Args:
        result: the search; it may have no candidate yet.
        width: as for `draw_costs`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    check_drawing(width)
    from lightning_wrcor.report._progress import draw

    return draw(result, width)


def draw_funnel(result: SearchResult, *, width: float = 7.0) -> Figure:
    """Draw what became of the candidates: repeated, rejected by each constraint, failed, dead and scored, with counts.

    A journal holds none that was repeated or rejected.

    Args:
        result: the search.
        width: as for `draw_costs`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    check_drawing(width)
    from lightning_wrcor.report._funnel import draw

    return draw(result, width)


def draw_shares(result: SearchResult, *, width: float = 7.0) -> Figure:
    """Draw the shares of the winner's layers in its score, those of activations beside those of gradients.

    A share is the derivative of the score with respect to the logarithm of that layer's weight
    (`lightning_wrcor.ScoreReport`); all shares together are the number of images.

    Args:
        result: a search that WRCor, RCor, ACor or GCor ranked.
        width: as for `draw_costs`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: where the search kept no shares, or no candidate has a finite score.
    """
    check_drawing(width)
    from lightning_wrcor.report._shares import draw

    return draw(result, width)


def draw_correlations(
    source: SearchResult | nn.Module,
    batch: Batch,
    *,
    proxy: str | Proxy | None = None,
    layers: Mapping[str, int] | None = None,
    space: Space | None = None,
    width: float = 7.0,
) -> Figure:
    """Draw the correlation matrices of responses: the mean of each layer's, and K, of which the score is made.

    Each matrix has a row and a column for every sample, sorted by class, and ones on its diagonal. Above are the
    activations of a layer, below them the gradients: the mean of the absolute correlations of all non-linearities of that
    layer. K is divided by the sum of its weights.

    The winner of a search is built again with the weights that it was scored with, and goes through one forward and one
    backward pass in float32. The figure says so where its score is not that of the search: this is another batch, or the
    search ran in bfloat16.

    Args:
        source: a search, of which the winner is drawn, or a network, with the weights that it has.
        batch: ``(images, labels)`` as for `lightning_wrcor.score`: the search's probe batch, which a result does not hold.
        proxy: what K is of: ``"wrcor"``, ``"rcor"``, ``"acor"``, ``"gcor"`` or such an object; by default the first of
            these in the search, else WRCor.
        layers: layer map of a network, as for `lightning_wrcor.score`; that of a winner is known.
        space: as for `lightning_wrcor.SearchResult.network`.
        width: as for `draw_costs`.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: for a source that is neither a search nor a network.
        ValueError: for another proxy, and for a batch or a network that cannot be scored.
    """
    check_drawing(width)
    from lightning_wrcor.report._correlations import draw
    from lightning_wrcor.report._responses import responses_of

    return draw(responses_of(source, batch, proxy, layers, space), batch[1], width)


def all_figures(
    result: SearchResult, batch: Batch | None = None, *, space: Space | None = None, width: float = 7.0
) -> dict[str, Figure]:
    """Draw all figures that this search has, by name.

    ``winner`` (`SearchResult.draw`), ``score_macs``, ``score_params``, ``score_latency_ms`` and ``score_memory_mb``
    (where they were measured), ``progress``, ``funnel``, ``shares``, and ``correlations`` where a batch is given. What is
    not defined for the search is left out, and logged at level INFO with the reason.

    Args:
        result: the search, which may be under way: `SearchResult.from_journal`.
        batch: the search's probe batch.
        space: as for `lightning_wrcor.SearchResult.network`.
        width: as for `draw_costs`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: for a batch that nothing can be scored on.
    """
    check_drawing(width)
    if batch is not None:
        check_batch(batch)
    figures: dict[str, Figure] = {}
    if result.leaderboard:
        try:
            figures["winner"] = result.draw(width=width, space=space)
        except (ValueError, TypeError) as error:  # a space of objects, which plain values do not make again
            _LOG.info("No figure of the winner: %s", error)
        for cost in ("macs", "params", "latency_ms", "memory_mb"):
            if all(getattr(row, cost) is not None for row in result.leaderboard):
                figures[f"score_{cost}"] = draw_costs(result, cost, width=width)
    figures["progress"] = draw_progress(result, width=width)
    figures["funnel"] = draw_funnel(result, width=width)
    if result.leaderboard and result.best.details.get("shares"):
        figures["shares"] = draw_shares(result, width=width)
    if result.leaderboard and batch is not None:
        try:
            figures["correlations"] = draw_correlations(result, batch, space=space, width=width)
        except (ValueError, TypeError) as error:
            _LOG.info("No figure of the correlations: %s", error)
    return figures
