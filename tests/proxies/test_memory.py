"""Nothing of a scored network is left behind: a search scores thousands of them."""

from __future__ import annotations

import gc
import warnings

import pytest
import torch
from weighted_networks import ConvNorm, batch

from lightning_wrcor.proxies import Vote, get_proxy, list_proxies
from lightning_wrcor.proxies._score import score_prepared


def tensors() -> int:
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what some objects say when they are asked for their type
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
def test_no_tensor_survives_a_score(together: bool) -> None:
    names = sorted({get_proxy(name).name for name in list_proxies() if not isinstance(get_proxy(name), Vote)})
    given = batch()
    calls = [names] if together else [[name] for name in names]

    def score_all() -> None:
        for call in calls:
            try:
                score_prepared(ConvNorm(), given, [get_proxy(name) for name in call], seed=0)
            except ValueError:  # one that is not defined for this network
                assert len(call) == 1

    score_all()  # what is kept once and for all (tables of functions, judged modules)
    before = tensors()
    score_all()
    assert tensors() == before
