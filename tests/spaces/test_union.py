"""Several spaces as one: each genotype goes to its own space, and mistakes name what there is."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from lightning_wrcor import zero_shot_search
from lightning_wrcor.spaces import DARTS, NASBench201, UnionSpace, get_space

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


def union() -> UnionSpace:
    return UnionSpace(
        {
            "cells": NASBench201(width=4, cells=1),
            "darts": {"class_path": "DARTS", "init_args": {"form": "cifar", "width": 4, "depth": 2, "nodes": 2}},
        }
    )


def test_each_genotype_goes_to_its_own_space() -> None:
    space, alone = union(), NASBench201(width=4, cells=1)
    genotype = space.parse(f"cells: {CELL}")
    assert space.name(genotype) == f"cells: {CELL}"
    assert space.layers(genotype) == alone.layers(alone.parse(CELL))
    assert space.costs(genotype, (3, 16, 16), 5) == alone.costs(alone.parse(CELL), (3, 16, 16), 5)
    logits = space.build(genotype, num_classes=5)(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 5)
    assert space.mutate(genotype, random.Random(0))[0] == "cells"  # type: ignore[index]


def test_spaces_are_drawn_with_equal_chance() -> None:
    space, rng = union(), random.Random(0)
    drawn = Counter(space.sample(rng)[0] for _ in range(400))  # type: ignore[index]
    assert set(drawn) == {"cells", "darts"}
    assert abs(drawn["cells"] - 200) < 60  # six standard deviations


def test_plain_values_and_back() -> None:
    space = union()
    again = get_space(space.config())
    assert again.config() == space.config()
    genotype = space.sample(random.Random(3))
    assert again.key(genotype) == space.key(genotype)
    assert isinstance(again.spaces["darts"], DARTS)  # type: ignore[attr-defined]


def test_a_search_compares_members_of_both_normalised_by_depth() -> None:
    batch = torch.randn(6, 3, 16, 16), torch.arange(6) % 3
    result = zero_shot_search(union(), batch, budget=6, progress=False)
    assert {row.name.partition(":")[0] for row in result.history} == {"cells", "darts"}
    assert all(row.details["depth_normalised"] for row in result.leaderboard)
    assert result.network() is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [(CELL, "does not begin with a space of the union"), (f"cell: {CELL}", "it has, closest first: cells, darts")],
)
def test_text_of_no_member(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        union().parse(text)


def test_unions_of_nothing_and_names_that_cannot_be_read_back() -> None:
    with pytest.raises(ValueError, match="takes its spaces by name"):
        UnionSpace({})
    with pytest.raises(ValueError, match="text without ': '"):
        UnionSpace({"a: b": "nasbench201"})
    with pytest.raises(ValueError, match="There is no space 'sizes'"):
        union().build(("sizes", (8, 8, 8, 8, 8)))
