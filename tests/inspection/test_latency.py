"""How latency is measured; how long anything takes is no matter here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_wrcor.inspection import Latency


class Watched(nn.Module):
    """Writes down what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen: list[tuple[Any, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        layout = x.is_contiguous(memory_format=torch.channels_last), self.conv.weight.is_contiguous()
        self.seen.append((tuple(x.shape), x.dtype, *layout, self.training, torch.is_inference_mode_enabled()))
        return self.conv(x).mean((2, 3))


def test_the_passes_are_as_the_settings_say() -> None:
    network = Watched().train()
    found = Latency(batch_size=5, dtype="bfloat16", channels_last=True, warmup=2, repeats=3).measure(
        network, (3, 8, 8), "cpu"
    )
    assert found > 0
    assert network.seen == [((5, 3, 8, 8), torch.bfloat16, True, False, False, True)] * 5
    assert network.training
    plain = Watched()
    Latency().measure(plain, (3, 8, 8), torch.device("cpu"))
    assert plain.seen == [((1, 3, 8, 8), torch.float32, False, True, False, True)] * 13


def test_the_median_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.001, 1.0, 1.5, 2.0, 2.003])
    monkeypatch.setattr("lightning_wrcor.inspection.latency.time.perf_counter", lambda: next(ticks))
    assert Latency(warmup=4, repeats=3).measure(Watched(), (3, 8, 8), "cpu") == pytest.approx(3.0)


def test_what_a_value_depends_on() -> None:
    said = Latency(batch_size=8).describe("cpu")
    assert said["batch_size"] == 8
    assert said["device"] == f"cpu, {torch.get_num_threads()} threads"
    assert said["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "batch_size of a latency is a whole number of at least 1; got 0"),
        ({"repeats": 2.5}, "repeats of a latency .* got 2.5"),
        ({"warmup": -1}, "warmup .* at least 0; got -1"),
        ({"dtype": "half"}, "one of float32, float16, bfloat16; got 'half'"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Latency(**given)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    network = Watched()
    assert Latency(dtype="float16", channels_last=True).measure(network, (3, 64, 64), "cuda") > 0
    assert network.seen[0][1] == torch.float16
    assert torch.cuda.get_device_name() in Latency().describe("cuda")["device"]
