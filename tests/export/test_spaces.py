"""The formats ``program`` and ``timm`` over every space."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from export_toys import images, save_checkpoint, trained

from lightning_wrcor.export import export_network
from lightning_wrcor.export._formats import Plain, traced
from lightning_wrcor.export._timm import architecture
from lightning_wrcor.spaces import NetworkList, TimmModels, TimmResNet, TimmViT, UnionSpace, get_space, list_spaces

# Arguments that make a space's networks small; a new space needs an entry.
CELLS: dict[str, Any] = {"form": "cifar", "width": (4,), "depth": (1,), "nodes": 2}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "nasbench101": {"width": 8, "cells": 1},
    "nasbench201": {"width": 4, "cells": 1},
    "nasbench_macro": {"width": 4, "head": 16},
    "natsbench_size": {"widths": [2, 3]},
    "darts": CELLS,
    "enas": CELLS,
    "pnas": CELLS,
    "nasnet": CELLS,
    "amoebanet": CELLS,
    "timm": {"include": ["test_byobnet"], "image_size": 32},
    "list": {"networks": ["test_resnet"]},
    "union": {"spaces": {"cells": {"class_path": "NASBench201", "init_args": {"width": 4, "cells": 1}}}},
    "choices": {
        "choices": {"depth": [1], "embed_dim": [12, 24], "num_heads": [2, 3], "patch_size": [16], "img_size": [32]},
        "factory": "timm.models.vision_transformer.VisionTransformer",
        "input_size": (3, 32, 32),
    },
    "timm_resnet": {"stems": [8], "widths": [[16], [16, 32]], "depths": [1], "bottlenecks": [0.5], "groups": [0, 8]},
    "timm_efficientnet": {
        "stems": [8],
        "widths": [[8], [16]],
        "depths": [1],
        "heads": [16],
        "strides": [1, 2],
    },
    "timm_vit": {"patch_sizes": [16], "embed_dims": [12, 24], "depths": [1], "heads": [2, 3], "image_size": 32},
    "mobilenet_v2": {
        "widths": [(8, 8)] * 8,
        "depths": [(1, 1)] * 7,
        "head": (16, 16),
        "resolutions": [24],
        "halvings": [1],
    },
}


@pytest.mark.parametrize("kind", list_spaces())
def test_networks_of_every_space_become_programs(kind: str) -> None:
    assert kind in ARGUMENTS, "a new space: add arguments that make its networks small"
    space = get_space(kind, **ARGUMENTS[kind])
    network = Plain(trained(space.build(space.sample(random.Random(1)), num_classes=4))).eval()
    program = traced(network, images(2, 3, 32, 32)).module()  # its way through a file is in test_export.py
    for count in (1, 5):
        shown = images(count, 3, 32, 32)
        with torch.no_grad():
            expected, got = network(shown), program(shown)
        assert expected.std() > 1e-4
        assert got.shape == (count, 4)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


TIMM = {
    "name": (TimmModels("test_resnet"), "test_resnet", 3),
    "grey": (TimmModels("test_efficientnet"), "test_efficientnet", 1),
    "arguments": (TimmModels("test_vit*", image_size=32, kwargs={"drop_path_rate": 0.1}), "test_vit2", 3),
    "list": (NetworkList(["test_byobnet", "test_resnet"]), "test_byobnet", 3),
    "named list": (NetworkList({"mine": "test_convnext"}), "mine", 3),
    "vit": (
        TimmViT(
            [8, 16], [24], [2], [2, 3], [3.5, 4.0], image_size=32, kwargs={"class_token": False, "global_pool": "avg"}
        ),
        (8, 24, 2, 3, "3.5"),
        3,
    ),
    "union": (UnionSpace({"a": TimmModels("test_resnet"), "b": "nasbench201"}), ("a", "test_resnet"), 3),
}


@pytest.mark.parametrize("case", TIMM)
def test_timm_builds_what_it_has_a_name_for(case: str, tmp_path: Path) -> None:
    space, genotype, in_chans = TIMM[case]
    network = save_checkpoint(tmp_path / "one.ckpt", space, genotype, in_chans=in_chans)
    mean, std = [0.4, 0.5, 0.6][:in_chans], [0.2, 0.25, 0.3][:in_chans]
    export_network(tmp_path / "one.ckpt", tmp_path / "out", ["timm"], image_size=32, mean=mean, std=std)
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert type(again) is type(network)
    assert again.num_classes == 5
    shown = images(3, in_chans, 32, 32)
    assert torch.equal(again(shown), network(shown))
    found = timm.data.resolve_data_config({}, model=again)
    assert (tuple(found["input_size"]), list(found["mean"]), list(found["std"])) == ((in_chans, 32, 32), mean, std)
    tuned = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=9, in_chans=4).eval()
    assert tuned(images(1, 4, 32, 32)).shape == (1, 9), "a start for other classes and channels, as timm's own weights"


def resnet18() -> torch.nn.Module:
    """A network of the user's, with a name that timm has too."""
    return torch.nn.Linear(1, 1)


def test_what_timm_has_no_name_for_is_refused_with_a_way_out(tmp_path: Path) -> None:
    spaces = [
        get_space("nasbench201"),
        get_space("mobilenet_v2"),
        TimmResNet(),
        get_space("timm_efficientnet"),
        NetworkList({"resnet18": lambda: torch.nn.Linear(1, 1)}),
        NetworkList([resnet18]),
    ]
    for space in spaces:
        with pytest.raises(ValueError, match=f"no registered name .*{type(space).__name__}.* program"):
            architecture(space, space.sample(random.Random(0)))
    space = get_space("nasbench201", width=4, cells=1)
    save_checkpoint(tmp_path / "one.ckpt", space, space.sample(random.Random(0)))
    with pytest.raises(ValueError, match="no registered name"):
        export_network(tmp_path / "one.ckpt", tmp_path / "out", ["weights", "timm"], image_size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["one.ckpt"], "nothing half written"
