"""Why the winner won, in sentences: by what lead, by size or by shape, through which layers, against whom."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_wrcor.report._generations import first_generation, strategy_of
from lightning_wrcor.report._told import COSTS, counted, explained, ranking_proxy
from lightning_wrcor.search import Evaluation, SearchResult
from lightning_wrcor.search._messages import all_at_random
from lightning_wrcor.search.evaluation import TIE, tie_groups
from lightning_wrcor.search.result import ENOUGH

_MOST = 2 / 3
"""Share of the score that the layers which are named carry at least."""

_MAINLY = 0.8
"""Share of a lead from which on it is said to come from one term."""

_TERMS = (
    "The size term counts the network's non-linearities, each by the weight of its layer, and knows nothing of the images. The "
    "shape term says how well the responses tell the images apart. The score is the sum of both."
)


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
    """Whether the leads over the candidate in the middle and over the second are ones of size or of shape."""
    rows = result.leaderboard
    middle = rows[len(rows) // 2]
    parts = [_lead(result, middle, "the candidate in the middle of the ranking") if len(rows) > 3 else ""]
    parts += [_lead(result, rows[1], "the second") if len(rows) > 1 else ""]
    if said := [part for part in parts if part]:
        yield f"It is {', and '.join(said)}."
        yield _TERMS


def _lead(result: SearchResult, other: Evaluation, who: str) -> str:
    """By how much the winner is ahead of another, and by which term; empty where it is not ahead, or that is not known."""
    lead = result.best.score - other.score
    terms = _difference(result, other)
    # After a race, which has its own order, the winner need not be ahead; and a tie is none.
    if terms is None or lead <= 0 or math.isclose(result.best.score, other.score, rel_tol=TIE):
        return ""
    size, shape = terms
    if size >= _MAINLY * lead:
        by = "mainly by size"
    elif shape >= _MAINLY * lead:
        by = "mainly by shape"
    else:
        by = "by both"
    noise = TIE * abs(result.best.score)
    return f"{lead:.4g} ahead of {who}, {by} (size term {_signed(size, noise)}, shape term {_signed(shape, noise)})"


def _signed(number: float, noise: float) -> str:
    """With its sign; 0 for what is no more than rounding."""
    return "0" if abs(number) <= noise else f"{number:+.4g}"


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
        named, of = "All of its score comes from one layer", "the layer"
    else:
        chosen: list[int] = []
        while sum(of_layer[layer] for layer in chosen) < _MOST * whole:
            chosen.append(ordered[len(chosen)])
        share = sum(of_layer[layer] for layer in chosen) / whole
        layers = f"Layer {chosen[0]}" if len(chosen) == 1 else f"Layers {_and(sorted(chosen))}"
        carries = "carries" if len(chosen) == 1 else "carry"
        named = f"{layers} ({min(of_layer)} to {max(of_layer)}, from the input) {carries} {share:.0%} of its score"
        of = "all layers"
    if all("gradient" in row and "activation" in row for row in shares):
        activations = sum(row["activation"] for row in shares) / whole
        named += f"; the activations of {of} carry {activations:.0%} of it, and the gradients {1 - activations:.0%}"
    yield f"{named}."


def _and(numbers: list[int]) -> str:
    """``1, 2 and 3``; a run of more is ``1 to 4``."""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def of_size(result: SearchResult) -> str:
    """What the sentence on baselines comes to."""
    if not result.baselines:
        return ""
    if len(result.leaderboard) < ENOUGH:
        return (
            f"Nothing follows from that: fewer than {ENOUGH} candidates stand in the order of size by accident too often, so "
            "the card does not warn."
        )
    cost, rho = max(result.baselines.items(), key=lambda item: abs(item[1]))
    variance = f"{rho**2:.0%} of the variance of the ranks"
    if rho < 0:
        less = "less depth" if cost == "depth" else f"fewer {COSTS[cost]}"
        return (
            f"So if anything the score prefers {less}: a ranking by {COSTS[cost]}, largest first, would put the candidates the "
            f"other way round (turned over, it accounts for {variance})."
        )
    return f"So a ranking by {COSTS[cost]} alone accounts for {variance}."


def against_random(result: SearchResult) -> Iterator[str]:
    """Where the winner stands among candidates drawn at random, and what its score rests on."""
    rows, proxy = result.leaderboard, ranking_proxy(result)
    strategy = str(result.strategy.get("class_path", "")).rpartition(".")[2]
    drawn = first_generation(result)
    # As the search noted; a part of its candidates, ranked anew, does not tell how many there were.
    never_learned = all_at_random(strategy_of(result), len(result.history)) in result.notes
    middle = rows[len(rows) // 2].score
    if strategy == "RandomSearch":
        yield f"All candidates were drawn at random: it is the best of {len(rows):,}. The one in the middle has {middle:.4f}."
    elif strategy == "ExhaustiveSearch":
        yield f"It is the best of {len(rows):,}, whatever the space proposed; the one in the middle has {middle:.4f}."
    elif never_learned:
        yield (
            f"All candidates were drawn at random, as {strategy} never came to learn: it is the best of {len(rows):,}. The one "
            f"in the middle has {middle:.4f}."
        )
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
    if not result.race:
        yield (
            "Its score comes from one batch and one draw of its weights, and the best of many scores is partly a lucky one; "
            "racing would have scored the best again with fresh weights."
        )


def place_in_history(result: SearchResult) -> int:
    """As which candidate the winner was proposed, from 1."""
    return next(place for place, row in enumerate(result.history, start=1) if row is result.best)
