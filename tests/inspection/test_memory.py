"""Memory of activations: by hand, and against what torch's profiler saw allocated in the same pass."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lightning_wrcor.inspection import peak_activation_bytes
from lightning_wrcor.spaces import ChoiceSpace, MobileNetV2, NASBench201, UnionSpace


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.back = nn.Linear(4, 6, bias=False), nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.wide(x))


class Kept(nn.Module):
    """Everything that is made stays referred to until the end."""

    def forward(self, x: Tensor) -> Tensor:
        kept = [x * 2 for _ in range(5)]
        return torch.stack([one.mean() for one in kept]).sum()[None, None]


IMAGE = 3 * 8 * 8 * 4


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        # The image, what goes into the ReLU, and what comes out.
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)), (3, 8, 8), IMAGE + 2 * 8 * 64 * 4),
        # In place and views: nothing more.
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(True), nn.Flatten()), (3, 8, 8), IMAGE + 8 * 64 * 4),
        # The input of a residual block, what is wide, and what comes back.
        (Residual(), (3, 8, 4), 4 * 24 * (4 + 6 + 4)),
        # float64 takes twice as much.
        (Residual().double(), (3, 8, 4), 8 * 24 * (4 + 6 + 4)),
        (nn.Identity(), (3, 8, 8), IMAGE),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_by_hand(network: nn.Module, size: tuple[int, int, int], expected: int, device: str) -> None:
    assert peak_activation_bytes(network.to(device), size) == expected


def test_what_is_kept_counts() -> None:
    # The image, five of its size, and five means at the end, of which stack makes one tensor more.
    assert 6 * IMAGE <= peak_activation_bytes(Kept(), (3, 8, 8)) <= 6 * IMAGE + 64


def profiled_peak(network: nn.Module, size: tuple[int, int, int]) -> int:
    """The largest sum of allocations minus frees that the CPU allocator reports, the image made within."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        network(torch.zeros(1, *size))
    now = peak = 0
    events = (event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_the_allocator_agrees() -> None:
    mlp = nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 64), Residual64(), nn.Linear(64, 10)).eval()
    expected = profiled_peak(mlp, (3, 40, 64))
    # A linear map may use its input's transpose as workspace: the allocator sees at most that more.
    assert expected == pytest.approx(peak_activation_bytes(mlp, (3, 40, 64)), rel=0.02)


class Residual64(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def test_a_network_of_timm_without_weights_and_with() -> None:
    with torch.device("meta"):
        meta = timm.create_model("test_resnet")
    real = timm.create_model("test_resnet").train()
    found = peak_activation_bytes(meta, (3, 64, 64))
    assert found == pytest.approx(peak_activation_bytes(real, (3, 64, 64)), rel=1e-3)
    assert all(module.training for module in real.modules())
    assert peak_activation_bytes(meta, (3, 128, 128)) == pytest.approx(4 * found, rel=0.01)


def test_spaces() -> None:
    cells = NASBench201(width=4, cells=1)
    small = cells.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    large = cells.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    assert cells.peak_memory(small, (3, 32, 32), 10) < cells.peak_memory(large, (3, 32, 32), 10)
    union = UnionSpace({"cells": cells, "mobile": MobileNetV2()})
    assert union.peak_memory(("cells", large), (3, 32, 32), 10) == cells.peak_memory(large, (3, 32, 32), 10)
    assert union.resolution(("cells", large)) is None

    def build(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    own = ChoiceSpace({"width": [4, 8]}, build, input_size=(3, 8, 8))
    assert own.peak_memory(own.parse("width=8")) == IMAGE + 2 * 8 * 64 * 4


def test_resolution_is_part_of_mobilenets() -> None:
    space = MobileNetV2()
    found = {name: space.resolution(space.parse(name)) for name in space.published}
    # arXiv 2507.08841, table of the published networks; the text of each ends in its resolution.
    assert found == {name: int(text.rsplit(maxsplit=1)[1]) for name, text in space.published.items()}
    assert set(found.values()) == {192, 224, 256}
