"""The features that a classifier sees pooled, of real architectures and of hand-written ones."""

from __future__ import annotations

import random
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from by_hand import NETWORKS, batch
from torch import Tensor, nn

from lightning_wrcor.inspection.features import Features
from lightning_wrcor.spaces import DARTS, NASBench101, NASBench201, Space


def features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), Features(len(images)) as found:
        network(images.clone())
    return found.tensor.clone()


SMALL = {"img_size": 64}


@pytest.mark.parametrize(
    ("name", "kwargs", "shape"),
    [
        ("resnet18", {}, (512, 2, 2)),
        ("mobilenetv3_small_050", {}, (288, 2, 2)),  # a convolution and an activation behind the pooling
        ("mobilenetv4_conv_small_035", {}, (336, 2, 2)),  # and batch normalisation
        ("efficientnet_b0", {}, (1280, 2, 2)),
        ("convnext_atto", {}, (320, 2, 2)),
        ("test_nfnet", {}, (192, 2, 2)),  # weights are standardised
        ("test_vit", SMALL, (17, 64)),
        ("swin_s3_tiny_224", {**SMALL, "window_size": 2, "embed_dim": 24}, (2, 2, 192)),  # positions before channels
        ("mixer_s32_224", SMALL, (4, 512)),
        ("levit_128s", SMALL, (1, 384)),
    ],
)
def test_the_map_before_the_pooling(name: str, kwargs: dict[str, Any], shape: tuple[int, ...]) -> None:
    network = timm.create_model(name, num_classes=5, **kwargs).eval()
    images = batch(3, 64)[0]
    found = features(network, images)
    assert found.shape == (3, *shape)
    torch.testing.assert_close(found, network.forward_features(images))


# The cells of the last two join their nodes.
@pytest.mark.parametrize(
    "space", [NASBench201(width=4, cells=1), NASBench101(width=8, cells=1), DARTS(form="cifar", width=4, depth=3)]
)
def test_spaces(space: Space) -> None:
    for seed in range(3):
        network = space.build(space.sample(random.Random(seed)), num_classes=5).eval()
        images = batch(3, 16)[0]
        with torch.no_grad():
            expected = network.forward_features(images)  # type: ignore[operator]
        found = features(network, images)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("build", NETWORKS)
def test_hand_written_networks(build: Any) -> None:
    """The classifier of each is a linear map of the pooled features, by what it receives."""
    network, images = build().double().eval(), batch()[0].double()
    received = []
    head = network.wide if hasattr(network, "wide") else network.head
    head.register_forward_pre_hook(lambda module, args: received.append(args[0].clone()))
    found = features(network, images)
    pooled = received[0].flatten(1)
    if found.dim() == 2 or build.__name__ == "Flat":
        torch.testing.assert_close(found.flatten(1), pooled)
    else:
        torch.testing.assert_close(found.mean(1) if found.dim() == 3 else found.mean((2, 3)), pooled)


# ---- ways to pool


class _Pooled(nn.Module):
    def __init__(self, pool: Any, head: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(3, 4, 3), pool, head or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(F.relu(self.conv(x))))


HEAD = {
    "convolution": lambda: nn.Conv2d(4, 7, 1),
    "normalised": lambda: nn.Sequential(nn.Conv2d(4, 7, 1), nn.BatchNorm2d(7), nn.Hardswish(inplace=True)),
    "group": lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 7, 1), nn.ReLU()),
}
POOLS = {
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "function": lambda x: torch.mean(x, (2, 3), keepdim=True),
    "sum": lambda x: x.sum((2, 3), keepdim=True) / 16,
    "amax": lambda x: torch.amax(x, (2, 3), keepdim=True),
    "max by dimension": lambda x: x.max(2, keepdim=True)[0].max(3, keepdim=True).values,
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive max": nn.AdaptiveMaxPool2d(1),
    "whole map": nn.AvgPool2d(4),
    "both": lambda x: torch.cat([F.adaptive_avg_pool2d(x[:, :2], 1), F.adaptive_max_pool2d(x[:, 2:], 1)], 1),
    "in two steps": lambda x: x.mean(3, keepdim=True).mean(2, keepdim=True),
    "generalised": lambda x: x.clamp(min=1e-3).pow(3).mean((2, 3), keepdim=True).pow(1 / 3),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("head", HEAD)
def test_what_is_made_of_pooled_tensors_does_not_count(pool: str, head: str) -> None:
    """Whatever the pooling's own last step before it is, the features have more than one position."""
    network, images = _Pooled(POOLS[pool], HEAD[head]()).eval(), batch()[0]
    found = features(network, images)
    if pool in ("both", "generalised", "in two steps", "max by dimension"):  # what the pooling's last step receives
        assert found.shape[:1] == (6,)
        assert found[0, 0].numel() > 1
    else:
        with torch.no_grad():
            torch.testing.assert_close(found, F.relu(network.conv(images)))


def test_classifiers_of_pooled_vectors_with_normalisation() -> None:
    """A vector that gets its positions back is still pooled."""
    head = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 8), nn.Unflatten(1, (8, 1, 1)), nn.Conv2d(8, 5, 1)
    )
    assert features(_Pooled(POOLS["mean"], head), batch()[0]).shape == (6, 4, 4, 4)


def test_gates_of_every_kind_do_not_count_but_what_they_scale_does() -> None:
    class Gated(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.conv, self.gate, self.in_place = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 1), in_place

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            scale, shift = self.gate(x.mean((2, 3), keepdim=True)).sigmoid().chunk(2, 1)
            if self.in_place:
                x *= scale
                x += shift
            else:
                x = shift + x * scale
            return x.mean((2, 3))

    network, other, images = Gated(False).double(), Gated(True).double(), batch()[0].double()
    other.load_state_dict(network.state_dict())
    found = features(network, images)
    torch.testing.assert_close(found.mean((2, 3)), network(images))
    torch.testing.assert_close(features(other, images), found)


def test_windows_that_are_folded_into_the_batch() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.unfold(x, 2, stride=2).transpose(1, 2)  # 6 images of 9 patches of 12 numbers
            x = self.linear(x.reshape(18, 3, 12))
            return x.reshape(6, 9, 4).mean(1)

    assert features(Windows(), batch()[0]).shape == (6, 9, 4)


def test_networks_without_features() -> None:
    with pytest.raises(ValueError, match=r"^The network has no features: it calls no convolution and no linear map\.$"):
        features(nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), batch()[0])
    flat = nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.ReLU(), nn.Linear(4, 5))
    assert features(flat, batch()[0]).shape == (6, 4)


def test_nothing_is_left_on_the_network() -> None:
    network = timm.create_model("test_resnet", num_classes=5)
    features(network, batch(2, 32)[0])
    held = [*network.parameters(), *network.buffers()]
    assert not any("pooled" in name for tensor in held for name in tensor.__dict__)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
