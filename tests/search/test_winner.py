"""The winner as plain values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from search_toys import BATCH, CELLS, Noise, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import Winner
from lightning_wrcor.spaces import NetworkList


def test_a_winner_survives_a_checkpoint(tmp_path: Path) -> None:
    result = zero_shot_search(CELLS, BATCH, ["params", "macs"], budget=4, progress=False)
    winner = Winner.of(result, num_classes=5, in_chans=1, attribute="net")
    torch.save({"lightning_wrcor": winner.to_dict()}, tmp_path / "model.ckpt")
    loaded = torch.load(tmp_path / "model.ckpt", weights_only=True)["lightning_wrcor"]
    assert Winner.from_dict(loaded) == winner
    assert Winner.from_dict(json.loads(json.dumps(winner.to_dict()))) == winner, "lists become tuples again"
    assert winner.genotype == result.best.genotype
    assert winner.name == CELLS.name(winner.genotype)
    assert winner.summary["score"] == result.best.score
    assert winner.summary["scores"] == result.best.scores
    assert winner.summary["funnel"] == "4 sampled, 4 scored"
    assert winner.summary["baselines"] == result.baselines
    network = Winner.from_dict(loaded).build()
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 5)


def test_the_space_itself_is_never_counted() -> None:
    class Huge(Widths):
        def __len__(self) -> int:
            raise AssertionError("counted")

    winner = Winner({}, (0, 4), "0.4", 3, 3, "net")
    assert winner.build(Huge()).width == 4


def test_a_winner_that_was_an_object_needs_its_space() -> None:
    def mine(num_classes: int) -> torch.nn.Module:
        return Widths().build((0, 3), num_classes)

    space = NetworkList([mine])
    winner = Winner.of(zero_shot_search(space, BATCH, Noise(), progress=False), 3, 3, "net")
    with pytest.raises(ValueError, match="pass the object again"):
        winner.build()
    assert winner.build(space).width == 3
