"""Why the winner won, in sentences: by what lead, by size or by shape, through which layers, against whom."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_wrcor.report._generations import first_generation
from lightning_wrcor.report._told import COSTS, counted, explained, ranking_proxy
from lightning_wrcor.search import Evaluation, SearchResult
from lightning_wrcor.search.evaluation import tie_groups
from lightning_wrcor.search.result import ENOUGH

_MOST = 2 / 3
"""Share of the score that the layers which are named carry at least."""

_MAINLY = 0.8
"""Share of a lead from which on it is said to come from one term."""


def sentences(result: SearchResult) -> str:
    """Why the winner won, in as few sentences as the search knows reasons."""
    return " ".join([_reason(result), *_terms(result), *_layers(result)])


def _reason(result: SearchResult) -> str:
    rows, proxy = result.leaderboard, ranking_proxy(result)
    if result.race:
        return f"It won a race of the best. {result.race}"
    if len(rows) == 1:
        return "It is the only candidate with a score."
    ties = tie_groups(result.history)[0]
    if len(ties) > 1:
        share = f"{len(ties)} candidates share the highest {proxy} of {len(rows):,}, {rows[0].score:,.4f}"
        return f"{share}; of these it is the cheapest (fewest MACs, then fewest parameters)."
    lead = rows[0].score - rows[1].score
    return f"It has the highest {proxy} of {counted(len(rows))}: {rows[0].score:,.4f}, {lead:.4g} above the second."


def _terms(result: SearchResult) -> Iterator[str]:
    """Whether the lead over the candidate in the middle is one of size or of shape."""
    rows = result.leaderboard
    middle = rows[len(rows) // 2]
    lead = rows[0].score - middle.score
    terms = _difference(result, middle)
    if len(rows) < 3 or terms is None or lead <= 0:  # after a race, which has its own order
        return
    size, shape = terms
    if size >= _MAINLY * lead:
        mainly = "mainly by size: more non-linearities, or deeper ones"
    elif shape >= _MAINLY * lead:
        mainly = "mainly by shape: its responses tell the images better apart"
    else:
        mainly = "by both"
    yield (
        f"It is {lead:.4g} ahead of the candidate in the middle of the ranking, {mainly} "
        f"(size term {size:+.4g}, shape term {shape:+.4g})."
    )


def _difference(result: SearchResult, other: Evaluation) -> tuple[float, float] | None:
    """By how much the winner is ahead in the size and in the shape term; None where these are not what ranks."""
    best, proxy = result.best, ranking_proxy(result)
    if explained(best) != proxy or explained(other) != proxy:
        return None
    size, shape = (best.details[f"{term}_term"] - other.details[f"{term}_term"] for term in ("size", "shape"))
    return size, shape


def _layers(result: SearchResult) -> Iterator[str]:
    """Which layers carry the score of the winner."""
    shares = result.best.details.get("shares")
    if not shares or explained(result.best) != ranking_proxy(result):
        return
    of_layer = {row["layer"]: row.get("activation", 0.0) + row.get("gradient", 0.0) for row in shares}
    ordered = sorted(of_layer, key=lambda layer: -of_layer[layer])
    whole = sum(of_layer.values())
    if min(of_layer.values()) < 0 or whole <= 0:  # K is not positive definite
        yield f"The largest share in its score has layer {ordered[0]}; some layers have negative ones."
        return
    if len(ordered) == 1:
        named, carried = "All of its score comes from one layer", ""
    else:
        chosen: list[int] = []
        while sum(of_layer[layer] for layer in chosen) < _MOST * whole:
            chosen.append(ordered[len(chosen)])
        share = sum(of_layer[layer] for layer in chosen) / whole
        layers = f"Layer {chosen[0]}" if len(chosen) == 1 else f"Layers {_and(sorted(chosen))}"
        carries = "carries" if len(chosen) == 1 else "carry"
        named, carried = (
            f"{layers} ({min(of_layer)} to {max(of_layer)}, from the input) {carries} {share:.0%} of its score",
            "",
        )
    if all("gradient" in row and "activation" in row for row in shares):
        activations = sum(row["activation"] for row in shares) / whole
        carried = f", activations {activations:.0%} and gradients {1 - activations:.0%}"
    yield f"{named}{carried}."


def _and(numbers: list[int]) -> str:
    """``1, 2 and 3``; a run of more is ``1 to 4``."""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def of_size(result: SearchResult) -> str:
    """What the sentence on baselines comes to."""
    if len(result.leaderboard) < ENOUGH or not result.baselines:
        return ""
    cost, rho = max(result.baselines.items(), key=lambda item: abs(item[1]))
    return f"So a ranking by {COSTS[cost]} alone accounts for {rho**2:.0%} of the variance of the ranks."


def against_random(result: SearchResult) -> Iterator[str]:
    """Where the winner stands among candidates drawn at random, and what its score rests on."""
    rows, proxy = result.leaderboard, ranking_proxy(result)
    strategy = str(result.strategy.get("class_path", "")).rpartition(".")[2]
    drawn = first_generation(result)
    middle = rows[len(rows) // 2].score
    if strategy == "RandomSearch":
        yield f"All candidates were drawn at random: it is the best of {len(rows):,}. The one in the middle has {middle:.4f}."
    elif strategy == "ExhaustiveSearch":
        yield f"It is the best of {len(rows):,}, whatever the space proposed; the one in the middle has {middle:.4f}."
    elif drawn:
        theirs = {id(row) for row in drawn}
        best = next((row for row in rows if id(row) in theirs), None)
        if best is None:
            yield f"None of the first {len(drawn):,} candidates, which were drawn at random, has a score."
        elif best is rows[0]:
            yield f"It is one of the first {len(drawn):,} candidates, drawn at random: the strategy found none better."
        else:
            place = next(place for place, row in enumerate(rows, start=1) if row is best)
            yield (
                f"The best of the first {len(drawn):,} candidates, which were drawn at random, has {best.score:.4f} and is "
                f"number {place:,} of {len(rows):,}; the winner was found as candidate {place_in_history(result):,}."
            )
    else:
        yield f"It is the best of {len(rows):,} by {proxy}; the one in the middle has {middle:.4f}."
    if len(rows) > 1 and (terms := _difference(result, rows[1])) is not None:
        yield f"Against the second it has {terms[0]:+.4g} in the size term and {terms[1]:+.4g} in the shape term."
    if not result.race:
        yield (
            "Its score comes from one batch and one draw of its weights, and the best of many scores is partly a lucky one; "
            "racing would have scored the best again with fresh weights."
        )


def place_in_history(result: SearchResult) -> int:
    """As which candidate the winner was proposed, from 1."""
    return next(place for place, row in enumerate(result.history, start=1) if row is result.best)
