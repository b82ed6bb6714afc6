"""The watch over the order of memory: what it refuses, and that it costs nothing where a network does not rely on it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lightning_wrcor.inspection import ReliesOnOrderError
from lightning_wrcor.inspection.order import OrderWatch


class Unread(Sequence[str]):
    """Names of modules that nobody may look at."""

    def __getitem__(self, place: object) -> str:  # type: ignore[override]
        raise AssertionError("the stack was read")

    def __len__(self) -> int:
        raise AssertionError("the stack was read")


def images() -> Tensor:
    return torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)


def test_names_are_made_only_where_something_is_refused() -> None:
    watch, x = OrderWatch(), images()
    watch.look(torch.relu, x, torch.relu(x), Unread())
    watch.look(torch.relu_, x, torch.relu_(x), Unread())  # nothing was reshaped
    flat = x.flatten(1)
    watch.look(Tensor.flatten, x, flat, Unread())
    watch.look(torch.relu, flat, torch.relu(flat), Unread())
    x.neg_()
    with pytest.raises(ReliesOnOrderError, match=r"^'stage\.block' overwrites a tensor that was reshaped\.$"):
        watch.look(Tensor.neg_, x, x, ["", "stage", "stage.block"])


def test_what_counts_places_in_memory_is_refused() -> None:
    x = images()
    with pytest.raises(ReliesOnOrderError, match=r"^'' counts places in memory \(as_strided\).$"):
        OrderWatch().look(Tensor.as_strided, x, x.as_strided((2, 3), (3, 1)), [])


def test_a_tensor_that_took_the_place_of_another_may_be_overwritten() -> None:
    watch, x = OrderWatch(), images()
    watch.look(Tensor.flatten, x, x.flatten(1), Unread())
    other = images()
    watch._reshaped[id(other)] = watch._reshaped[id(x)]  # as if the memory of x had been given to it
    other.neg_()
    watch.look(Tensor.neg_, other, other, Unread())
