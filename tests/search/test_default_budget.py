from __future__ import annotations

from lightning_wrcor import zero_shot_search
from lightning_wrcor.spaces import NetworkList

from toys import batch, with_dropout


def test_a_small_space_without_a_budget_ends_without_complaint() -> None:
    space = NetworkList({f"width{width}": with_dropout(width) for width in (2, 4)})
    result = zero_shot_search(space, batch(), progress=False)
    assert len(result.history) == 2
    assert result.notes == []
    (note,) = zero_shot_search(space, batch(), budget=5, progress=False).notes
    assert note == "The search ended after 2 of 5 candidates: the space has no others."
