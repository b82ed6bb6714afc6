"""Parameters, MACs and depth against published figures, and that counting leaves no trace."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_wrcor.inspection import Costs, count_costs


@pytest.mark.parametrize(
    ("name", "params", "gmacs", "depth"),
    [
        ("resnet18", 11_689_512, 1.814, 17),
        ("resnet50", 25_557_032, 4.089, 49),
        ("vgg16", 138_357_544, 15.47, 15),
        ("mobilenet_v2", 3_504_872, 0.301, 35),
        ("vit_b_16", 86_567_656, 17.56, 12),
    ],
)
def test_published_figures(name: str, params: int, gmacs: float, depth: int) -> None:
    with torch.device("meta"):
        costs = count_costs(getattr(torchvision.models, name)(), (3, 224, 224))
    assert costs.params == params
    assert costs.macs / 1e9 == pytest.approx(gmacs, rel=2e-3)
    assert costs.depth == depth


@pytest.mark.parametrize("name", ["pit_ti_224", "mobilevit_xxs"])
def test_macs_are_those_of_torchs_counter(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name).eval()
    costs = count_costs(network, (3, 224, 224))
    network.requires_grad_(False)  # torch's counter stops at some networks otherwise
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    assert costs.macs == counter.get_total_flops() // 2
    with torch.inference_mode():  # functions arrive before they are taken apart
        assert count_costs(network, (3, 224, 224)) == costs


def test_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    network.append(nn.Linear(4 * 16, 5))
    assert count_costs(network, (3, 8, 8)) == Costs(3 * 4 * 9 + 4 + 8 + 320 + 5, 16 * 4 * 27 + 320, 1)


def test_counting_leaves_no_trace() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten())
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state()
    count_costs(network, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())

    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("no")

    network.append(Failing())
    modes.append(True)
    with pytest.raises(KeyError, match="no"):
        count_costs(network, (3, 8, 8))
    assert [module.training for module in network.modules()] == modes


def test_other_types_and_networks_without_weights() -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(12, 5))
    expected = count_costs(network, (3, 2, 2))
    assert count_costs(network.double(), (3, 2, 2)) == expected

    class Indexed(nn.Module):
        """Its first buffer holds whole numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("index", torch.arange(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x[:, self.index])

    assert count_costs(Indexed(), (3, 2, 2)) == Costs(0, 0, 1)
