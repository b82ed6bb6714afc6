"""Where a strategy's generations begin."""

from __future__ import annotations

from lightning_wrcor.search import (
    NSGA2,
    Evaluation,
    RegularisedEvolution,
    Reinforce,
    SearchResult,
    Strategy,
    get_strategy,
)


def generations(result: SearchResult) -> list[int]:
    """Places in the history, from 0, at which the strategy's generations begin; none where that is not known.

    Strategies of other kinds have no generations (random, exhaustive), or some whose size depends on what was found.
    """
    strategy = strategy_of(result)
    if isinstance(strategy, RegularisedEvolution):
        first, following = strategy.population, strategy.children
    elif isinstance(strategy, NSGA2):
        first = following = strategy.population
    elif isinstance(strategy, Reinforce):
        first, following = strategy.first, strategy.draws
    else:
        return []
    return [0, *range(first, len(result.history), following)] if result.history else []


def first_generation(result: SearchResult) -> list[Evaluation]:
    """What a strategy that learns drew at random, before it had anything to learn from; empty where that is not known."""
    strategy = strategy_of(result)
    return result.history[: strategy.drawn_first] if strategy is not None else []


def strategy_of(result: SearchResult) -> Strategy | None:
    """The strategy, made again from its plain values; None where these do not make it."""
    try:
        return get_strategy(result.strategy)
    except (ValueError, TypeError):  # merged journals do not say it; a class that is not at hand
        return None
