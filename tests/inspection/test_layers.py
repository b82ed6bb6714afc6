"""Which layer a non-linearity belongs to."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from lightning_wrcor.inspection import Call, Tracer, assign_layers


def calls_of(network: nn.Module, size: int = 64) -> list[Call]:
    with torch.no_grad(), Tracer(network, lambda _, tensor: tensor) as tracer:
        network.eval()(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    return tracer.calls


def counts(layers: list[int]) -> list[int]:
    """How many calls each layer has; the layers must come in order."""
    assert layers == sorted(layers)
    return [layers.count(layer) for layer in range(max(layers) + 1)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", [1, 9, 12, 18, 9]),  # stem, four stages
        ("vit_tiny_patch16_224", [0] + [1] * 12),  # the patch embedding has none, then one a block
        ("test_efficientnet", [1, 1, 1, 1, 3, 4]),  # timm puts the head's convolution into the last stage
        ("mobilenetv3_small_050", [1, 2, 4, 9, 6, 9, 1, 1]),  # ... but not here: the last activation follows conv_head
        ("test_convnext", None),
    ],
)
def test_networks_of_timm_have_their_own_groups(name: str, expected: list[int] | None) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    layers = assign_layers(network, calls := calls_of(network, 224 if "vit" in name else 64))
    if expected is not None:
        assert counts(layers) == expected
    for call, layer in zip(calls, layers, strict=True):
        head, _, rest = call.module.partition(".")
        if head in ("blocks", "stages"):
            assert layer == int(rest.split(".")[0]) + 1, call
        elif head.startswith("layer"):
            assert layer == int(head[5:]), call


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("resnet50", 64, [1, 9, 12, 18, 9]),  # the chain is the network's own children
        ("vgg16", 64, [1] * 13 + [2]),  # each convolution of its features, then the classifier
        ("vit_b_16", 224, [1] * 12),
    ],
)
def test_torchvisions_networks_have_a_longest_chain(name: str, size: int, expected: list[int]) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    assert counts(assign_layers(network, calls_of(network, size))) == expected


class Block(nn.Module):
    def __init__(self, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1), act or nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.conv(x)) + self.act(-x)


class Chain(nn.Module):
    def __init__(self, blocks: int, stem: bool, between: bool, head: bool, shared: bool = False) -> None:
        super().__init__()
        act = nn.ReLU() if shared else None
        self.blocks = nn.ModuleList(Block(act) for _ in range(blocks))
        self.stem, self.between, self.head = stem, between, head

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(x) if self.stem else x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.between and index == 1:
                x = F.gelu(x)
        return F.relu(x) if self.head else x


@pytest.mark.parametrize("shared", [False, True])
def test_the_longest_chain(shared: bool) -> None:
    def layers(**kwargs: bool) -> list[int]:
        network = Chain(8, shared=shared, **kwargs)
        return counts(assign_layers(network, calls_of(network)))

    assert layers(stem=False, between=False, head=False) == [2] * 8
    assert layers(stem=True, between=False, head=True) == [1] + [2] * 8 + [1]
    assert layers(stem=False, between=True, head=False) == [2, 3] + [2] * 6


def test_a_network_without_a_chain_is_one_layer() -> None:
    one = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    assert assign_layers(one, calls_of(one)) == [0]
    assert assign_layers(one, []) == []

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(F.relu(self.conv(x))))

    assert assign_layers(Flat(), calls_of(Flat())) == [0, 0]


def test_the_outermost_of_equally_long_chains() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.ReLU())
    network = nn.Sequential(nn.Conv2d(3, 3, 1), inner, nn.Sequential(nn.ReLU()))
    assert assign_layers(network, calls_of(network)) == [0, 0, 1]


def test_a_map_from_the_caller() -> None:
    network = Chain(3, stem=True, between=True, head=True)
    calls = calls_of(network)
    layers = {"blocks.0": 0, "blocks.1": 4, "blocks.2": 2}
    # Before everything 0; after block 1 its own; innermost first.
    assert assign_layers(network, calls, layers) == [0, 0, 0, 4, 4, 4, 2, 2, 2]
    assert assign_layers(network, calls, {"blocks": 1, "blocks.1.act": 7}) == [0, 1, 1, 7, 7, 7, 1, 1, 1]
    assert assign_layers(network, calls, {"": 3}) == [3] * 9


def test_a_map_of_blocks_that_share_one_activation() -> None:
    network = Chain(3, stem=False, between=False, head=True, shared=True)
    layers = {f"blocks.{index}": index for index in range(3)}
    assert assign_layers(network, calls_of(network), layers) == [0, 0, 1, 1, 2, 2, 2]


def test_a_listed_module_without_non_linearities_is_still_entered() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.conv_head = Block(), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv_head(self.body(x)))

    network = Head()
    assert assign_layers(network, calls_of(network), {"body": 0, "conv_head": 1}) == [0, 0, 1]


def test_unknown_names_in_a_map_are_refused() -> None:
    network = Chain(3, stem=False, between=False, head=False)
    with pytest.raises(ValueError, match=r"names 'block\.7', which is no module of Chain"):
        assign_layers(network, calls_of(network), {"blocks.0": 0, "block.7": 1})
