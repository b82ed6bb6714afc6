"""The blocks of real architectures and of search spaces, from the input on."""

from __future__ import annotations

import random
from typing import Any

import pytest
import timm
import torch
from by_hand import batch
from torch import Tensor, nn

from lightning_wrcor.inspection import Tracer
from lightning_wrcor.inspection.layers import find_blocks
from lightning_wrcor.spaces import DARTS, NASBench101, NASBench201

SMALL = {"img_size": 64}


def blocks(network: nn.Module, size: int = 64, layers: Any = None) -> list[str]:
    """Those whose outputs have positions; all must have run, in this order."""
    ran: list[str] = []
    shapes = {}

    def ended(name: str, output: Any) -> None:
        ran.append(name)
        shapes[name] = output.shape if isinstance(output, Tensor) else None

    hooks = [
        module.register_forward_hook(lambda module, args, output, name=name: ended(name, output))
        for name, module in network.named_modules()
    ]
    with torch.no_grad(), Tracer(network, lambda call, tensor: tensor) as tracer:
        network(batch(2, size)[0])
    for hook in hooks:
        hook.remove()
    found = find_blocks(network, tracer.calls, layers)
    assert [name for name in ran if name in found] == found
    return [name for name in found if shapes[name] is None or shapes[name][2:].numel() > 1]


def numbered(name: str, count: int) -> list[str]:
    return [f"{name}.{place}" for place in range(count)]


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("resnet18", {}, ["conv1", "layer1", "layer2", "layer3", "layer4"]),
        ("mobilenetv3_small_050", {}, ["bn1", *numbered("blocks", 6)]),
        ("efficientnet_b0", {}, ["bn1", *numbered("blocks", 7)]),
        ("convnext_atto", {}, ["stem", *numbered("stages", 4)]),
        ("test_vit", SMALL, ["patch_embed", *numbered("blocks", 6)]),
        (
            "swin_s3_tiny_224",
            {**SMALL, "window_size": 2, "embed_dim": 24},
            ["patch_embed", *numbered("layers", 4)],
        ),
        ("mixer_s32_224", SMALL, ["stem", *numbered("blocks", 8)]),
        ("densenet121", {}, ["features.norm0", *(f"features.denseblock{place}" for place in range(1, 5))]),
    ],
)
def test_stages_and_blocks_of_timm(name: str, kwargs: dict[str, Any], expected: list[str]) -> None:
    assert blocks(timm.create_model(name, num_classes=5, **kwargs)) == expected


def test_cells_of_nasbench201() -> None:
    space = NASBench201(width=4, cells=2)
    for seed in range(4):
        genotype = ("nor_conv_3x3", *space.sample(random.Random(seed))[1:])
        assert blocks(space.build(genotype, 5), 8, space.layers(genotype)) == numbered("cells", 8)
    # Without a convolution in the first cell its layer is the stem, which shares its index.
    genotype = ("skip_connect",) * 6
    assert blocks(space.build(genotype, 5), 8, space.layers(genotype)) == ["stem", *numbered("cells", 8)[1:]]


def test_cells_of_nasbench101() -> None:
    space = NASBench101(width=8, cells=1)
    genotype = space.sample(random.Random(0))
    assert blocks(space.build(genotype, 5), 8, space.layers(genotype)) == ["stem", *numbered("cells", 5)]


@pytest.mark.parametrize(("form", "stem", "size"), [("cifar", "stem.0", 8), ("imagenet", "stem.1", 64)])
def test_cells_of_darts(form: Any, stem: str, size: int) -> None:
    """The stem is a list of modules, which nothing calls: the last of them gives its output."""
    space = DARTS(form=form, width=4, depth=4)
    genotype = space.sample(random.Random(0))
    assert blocks(space.build(genotype, 5), size, space.layers(genotype)) == [stem, *numbered("cells", 4)]


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


class _Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({name: nn.ModuleList([_Block(), _Block()]) for name in "ab"})
        self.last, self.head = nn.ReLU(), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages.values():
            for block in stage:
                x = block(x)
        return self.head(self.last(x).mean((2, 3)))


def test_lists_of_modules_stand_for_what_is_in_them() -> None:
    network = _Stages()
    assert blocks(network, 8, {"stages.a": 0, "stages.b": 1}) == ["stages.a.1", "stages.b.1"]
    # A list inside a block is a part of it, and a last layer without weights is no block.
    layers = {"stages.a": 0, "stages.b.0": 1, "stages.b.1": 2, "last": 3}
    assert blocks(network, 8, layers) == ["stages.a.1", "stages.b.0", "stages.b.1"]


class _Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)]), _Block()

    def forward(self, x: Tensor) -> Tensor:
        for part in self.stem:
            x = part(x)
        return self.block(x).mean((2, 3))


def test_a_list_gives_nothing_however_large_it_is() -> None:
    assert blocks(_Stem(), 8, {"stem": 0, "block": 1}) == ["stem.1", "block"]


def test_of_modules_of_one_layer_the_one_with_most_non_linearities() -> None:
    network = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Sequential(nn.Conv2d(64, 2, 1), nn.ReLU()), nn.Conv2d(2, 3, 1))
    network.extend([nn.Flatten(), nn.Linear(3 * 64, 5)])
    assert blocks(network, 8, {"0": 0, "1": 0, "2": 1}) == ["1", "2"]
