"""What the Trainer's loggers are told of a search: values of the winner, the ranking, figures and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from lightning_wrcor import _trainer
from lightning_wrcor._outlets import COSTS, DPI, FOLDER, Outlet, Ranking, finite, outlet_of
from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.search import SearchResult, Winner

if TYPE_CHECKING:
    from lightning_wrcor._outlets import Pixels

_TOLD: WeakKeyDictionary[Logger, Winner] = WeakKeyDictionary()
"""The winner that each logger knows of already: a module may be fitted again."""


@rank_zero_only
def tell_loggers(
    trainer: Trainer, winner: Winner, result: SearchResult | None, files: Sequence[Path], log_figures: bool
) -> None:
    """Tell each of the Trainer's loggers once of a winner; one that fails is warned about and left.

    Args:
        trainer: the Trainer; ranks other than 0 tell nothing.
        winner: the winner.
        result: the search that found it; without one there are no table and no figures, and in a training that goes on
            from a checkpoint no metrics: they were logged when it began.
        files: what loggers that keep files shall keep.
        log_figures: draw the figures, where a logger takes some.
    """
    loggers = [one for one in trainer.loggers if not isinstance(one, DummyLogger) and not _knows(one, winner)]
    outlets = [outlet_of(one) for one in loggers]
    values = values_of(winner, result)
    resumed = result is None and _trainer.requested_checkpoint(trainer) is not None
    for outlet in outlets:
        if values and not resumed:
            _hand_over(outlet, "metrics", lambda to: to.logger.log_metrics(values, step=0))
        _hand_over(outlet, "hyper-parameters", lambda to: to.hyperparams({"winner": winner.name, **values}, trainer))
    if result is None:
        return
    ranking = Ranking.of(result)
    for outlet in outlets:
        _hand_over(outlet, "table", lambda to: to.ranking(ranking))
        _hand_over(outlet, "files", lambda to: to.files(files))
    takers = [outlet for outlet in outlets if outlet.takes_figures]
    figures = draw(result) if log_figures and takers else {}
    for outlet in takers:
        _hand_over(outlet, "figures", lambda to: to.figures(figures))


def values_of(winner: Winner, result: SearchResult | None) -> dict[str, float]:
    """Score, costs, the value of every proxy and the baselines, as far as they are known and finite."""
    summary = winner.summary
    values = {name: summary.get(name) for name in ("score", *COSTS, "seconds")}
    values |= {f"score_{name}": value for name, value in summary.get("scores", {}).items()}
    values |= {f"rank_correlation_{name}": value for name, value in summary.get("baselines", {}).items()}
    if result is not None:
        values["candidates"] = len(result.history)
    # MLflow refuses other characters in a key.
    found = {f"{FOLDER}/{re.sub(r'[^0-9A-Za-z_.-]', '_', name)}": finite(value) for name, value in values.items()}
    return {key: value for key, value in found.items() if value is not None}


def draw(result: SearchResult) -> dict[str, Pixels]:
    """The figures of a search as pictures, by name; none where they cannot be drawn, which is said once."""
    import numpy as np

    from lightning_wrcor.report import all_figures

    pictures: dict[str, Pixels] = {}
    try:
        with own_random_numbers():  # drawing the winner may build it
            figures = all_figures(result)
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws in memory, whatever the user's backend

        for name, figure in figures.items():
            figure.set_dpi(DPI)
            canvas: Any = FigureCanvasAgg(figure)
            canvas.draw()
            pictures[name] = np.array(canvas.buffer_rgba())[..., :3]
    except ImportError as error:
        rank_zero_info(f"The loggers get no figures of the search. {error}")
    except Exception as error:  # no figure is worth a training
        rank_zero_warn(f"The loggers get not all figures of the search ({type(error).__name__}: {error}).")
    return pictures


def _knows(logger: Logger, winner: Winner) -> bool:
    """Whether the logger was told of this winner; from now on it was."""
    try:
        known, _TOLD[logger] = _TOLD.get(logger), winner
    except TypeError:  # a logger of a kind that cannot be remembered
        return False
    return known == winner


def _hand_over(outlet: Outlet, what: str, hand: Callable[[Outlet], None]) -> None:
    try:
        hand(outlet)
    except Exception as error:  # a logger may be somebody else's, or a server that is away
        name = type(outlet.logger).__name__
        rank_zero_warn(f"{name} took no {what} of the search ({type(error).__name__}: {error}). Training goes on.")
