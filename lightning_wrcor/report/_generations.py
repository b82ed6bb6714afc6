"""Where a strategy's generations begin."""

from __future__ import annotations

from lightning_wrcor.search import NSGA2, Evaluation, RegularisedEvolution, Reinforce, SearchResult, get_strategy


def generations(result: SearchResult) -> list[int]:
    """Places in the history, from 0, at which the strategy's generations begin; none where that is not known.

    Strategies of other kinds have no generations (random, exhaustive), or some whose size depends on what was found.
    """
    try:
        strategy = get_strategy(result.strategy)
    except (ValueError, TypeError):  # merged journals do not say it; a class that is not at hand
        return []
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
    """What such a strategy drew at random, before it had anything to learn from; empty where it has no generations."""
    starts = generations(result)
    return result.history[: starts[1] if len(starts) > 1 else None] if starts else []
