"""The model card: true figures, code that runs, and plain words for what is not known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from export_toys import save_checkpoint
from torch import nn

from lightning_wrcor import Constraints, zero_shot_search
from lightning_wrcor.export import FORMATS, export_network
from lightning_wrcor.export._facts import which_weights
from lightning_wrcor.spaces import NetworkList, TimmModels

import toys
from toys import CELLS


class Small(nn.Module):
    """A network that is counted by hand: a 3x3 convolution with stride 2, pooling, a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3, stride=2, padding=1, bias=False)
        self.head = nn.Linear(7, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


SPACE = NetworkList({"small": Small})


def card_of(formats: Any = ("weights",), space: Any = SPACE, genotype: Any = "small", **arguments: Any) -> str:
    stored = {name: arguments.pop(name) for name in ("callbacks", "hyper_parameters", "epoch") if name in arguments}
    save_checkpoint(Path("one.ckpt"), space, genotype, **stored)
    given = space if space is SPACE else None
    export_network("one.ckpt", "out", formats, space=given, **{"image_size": 32, **arguments})
    return Path("out/README.md").read_text(encoding="utf-8")


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    read: dict[str, Any] = yaml.safe_load(front)
    return read


def section(card: str, name: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


def test_figures_of_the_network_are_those_of_a_count_by_hand() -> None:
    network = section(card_of(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], class_names=list("abcde")), "Network")
    assert f"Parameters: {7 * 3 * 9 + 7 * 5 + 5}\n" in network
    assert f"Multiply-adds: {16 * 16 * 7 * 3 * 9 + 7 * 5:,} for one image of 32 x 32" in network
    assert "less the mean `[0.1, 0.2, 0.3]`, divided by `[0.4, 0.5, 0.6]`" in network
    assert "Input: images `(batch, 3, 32, 32)`" in network
    assert "Output: logits `(batch, 5)`" in network
    assert "Classes: a, b, c, d, e\n" in network


def test_what_is_not_known_is_said() -> None:
    card = card_of(epoch=None)
    for name, sentence in {
        "Network": "Normalisation: not known to this card",
        "Search": "Versions: not in the checkpoint",
        "Training": "in an epoch not known here",
        "Accuracy": "None was given when this card was written",
        "Licence": "Not stated yet",
    }.items():
        assert sentence in section(card, name)
    assert "Resizing and cropping: not known" in card
    assert "their names are not known" in card
    assert "Chosen by: not known" in card
    assert "the checkpoint holds no hyper-parameters" in card
    resized = card_of(data={"interpolation": "random", "crop_pct": 0.9, "classes": []})
    assert "their names are not known" in resized
    assert "Resizing: bilinear, of which the centre crop keeps 0.9" in resized
    assert "On which images they were measured was not said." in card_of(figures={"test/top1": 0.5})


def test_the_search_as_the_checkpoint_has_it() -> None:
    search = section(card_of(), "Search")
    for line in (
        "Proxy: WRCor",
        "Strategy: RandomSearch",
        "Candidates: 9 sampled, 2 repeated, 7 scored",
        "Score of the winner: 12.5",
        "with params +0.61, macs -0.20",
        "Duration: 3.2 seconds",
        "Seed: 11",
    ):
        assert line in search


def test_the_search_as_its_result_has_it() -> None:
    bounds = Constraints(max_params=10**6)
    result = zero_shot_search(CELLS, toys.batch(8, classes=5), budget=3, seed=4, num_classes=5, constraints=bounds)
    result.to_json("search.json")
    for given in (result, "search.json", Path("search.json")):
        search = section(card_of(space=CELLS, genotype=result.best.genotype, search=given), "Search")
        assert (
            f"Versions: lightning_wrcor {result.versions['lightning_wrcor']}, torch {result.versions['torch']}"
            in search
        )
        assert "Images of the search: (3, 8, 8), 5 classes" in search
        assert "Constraints: max_params 1,000,000" in search


def test_accuracies_and_on_what() -> None:
    figures = {"test/top1": 0.7654, "test/loss": 1.25, "robustness": "not measured", "data": "ImageNet V2"}
    accuracy = section(card_of(figures=figures), "Accuracy")
    assert "`test/top1`: 76.54%" in accuracy
    assert "`test/loss`: 1.25\n" in accuracy
    assert "`robustness`: not measured" in accuracy
    assert accuracy.count("ImageNet V2") == 1
    assert "Measured on: ImageNet V2" in accuracy


def test_the_training() -> None:
    def saved(path: str, value: float) -> dict[str, Any]:
        state = {"monitor": "val/top1", "best_k_models": {path: torch.tensor(value)}}
        return {"ModelCheckpoint{'monitor': 'val/top1', 'mode': 'max'}": state}

    text = section(
        card_of(callbacks=saved("/elsewhere/one.ckpt", 0.75), hyper_parameters={"lr": 0.5, "seed": 3}), "Training"
    )
    assert "Chosen by: `val/top1` = 0.75 (the largest was kept)" in text
    assert "written in epoch 7 (counted from 1), after 1,234 optimiser steps" in text
    assert '"seed": 3' in text, "a module of the user's own: all its hyper-parameters are of the training"
    assert "Chosen by: not known" in card_of(callbacks=saved("/elsewhere/other.ckpt", 0.75))


@pytest.mark.parametrize(
    ("checkpoint", "sentence"),
    [
        ({"averaging_state": {"n_averaged": torch.tensor(40)}, "callbacks": {}}, "The averaged weights (40 updates)"),
        ({"averaging_state": {"n_averaged": torch.tensor(0)}, "callbacks": {}}, "had made no update"),
        ({"callbacks": {"EMAWeightAveraging": {}}}, "The averaged weights: the checkpoint was written after training"),
        ({"callbacks": {"StochasticWeightAveraging": {}}}, "Averaged if training had ended"),
        ({"callbacks": {"ModelCheckpoint": {}}}, "not averaged"),
        ({}, "does not say whether they are averaged"),
    ],
)
def test_which_weights(checkpoint: dict[str, Any], sentence: str) -> None:
    assert sentence in which_weights(checkpoint)


def test_front_matter() -> None:
    front = front_matter(card_of())
    assert front["pipeline_tag"] == "image-classification"
    assert front["library_name"] == "pytorch"
    assert "license" not in front, "the licence is the user's to name"
    card = card_of(["timm"], TimmModels("test_resnet"), "test_resnet", mean=[0.5] * 3, std=[0.5] * 3)
    assert front_matter(card)["library_name"] == "timm"
    assert "# test_resnet, 5 classes\n" in card
    assert "`config.json` has timm's usual values there (bicubic, 0.875)" in card


def test_the_code_for_every_file_runs_in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    space = TimmModels("test_byobnet")
    card = card_of(FORMATS, space, "test_byobnet", mean=[0.5] * 3, std=[0.5] * 3)
    files = section(card, "Files")
    blocks = dict(re.findall(r"^### (\w+)\n.*?^```python\n(.*?)^```$", files, re.MULTILINE | re.DOTALL))
    assert list(blocks) == list(FORMATS)
    monkeypatch.chdir("out")
    for name, code in blocks.items():
        names: dict[str, Any] = {}
        exec(compile(code, name, "exec"), names)  # noqa: S102  (our own card)
        assert tuple(names["logits"].shape) == (1, 5), name


def test_a_card_names_only_the_files_that_are_there() -> None:
    card = card_of(["torchscript"])
    assert set(re.findall(r"model\.[\w.]+\w", card)) == {"model.torchscript.pt"}
    assert "load_exported" not in card
    assert "create_model" not in card
