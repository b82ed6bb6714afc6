"""The list of non-linearities, and what leaf modules are found to compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, LayerScale2d, activations, activations_me
from torch import Tensor, nn

from lightning_wrcor.inspection.nonlinearities import (
    FUNCTIONS,
    is_plain_leaf,
    judge_leaf,
    may_be_activation,
    recognise,
)

SPELLINGS = {
    "ReLU": [F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_],
    "ReLU6": [F.relu6],
    "LeakyReLU": [F.leaky_relu, F.leaky_relu_],
    "RReLU": [F.rrelu, F.rrelu_, torch.rrelu, torch.rrelu_],
    "PReLU": [F.prelu, torch.prelu, Tensor.prelu],
    "ELU": [F.elu, F.elu_],
    "CELU": [F.celu, F.celu_, torch.celu, torch.celu_],
    "SELU": [F.selu, F.selu_, torch.selu, torch.selu_],
    "GELU": [F.gelu],
    "SiLU": [F.silu],
    "Mish": [F.mish],
    "Hardswish": [F.hardswish],
    "Softplus": [F.softplus],
    "Threshold": [F.threshold, F.threshold_, torch.threshold, torch.threshold_],
}
GATES = {
    "Sigmoid": [F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_],
    "Hardsigmoid": [F.hardsigmoid],
    "LogSigmoid": [F.logsigmoid],
    "Tanh": [F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_],
    "Hardtanh": [F.hardtanh, F.hardtanh_],
    "Softsign": [F.softsign],
    "Softmax": [F.softmax, torch.softmax, Tensor.softmax, F.softmin],
    "GLU": [F.glu],
}


@pytest.mark.parametrize("gate", [False, True])
def test_every_spelling_is_listed(gate: bool) -> None:
    for kind, functions in (GATES if gate else SPELLINGS).items():
        for function in functions:
            found = FUNCTIONS[function]
            assert (found.kind, found.gate) == (kind, gate)
            assert found.in_place == function.__name__.endswith("_")


def test_other_functions_are_no_non_linearities() -> None:
    for function in (F.conv2d, torch.add, F.layer_norm, F.max_pool2d, torch.exp, Tensor.view, F.dropout, torch.clamp):
        assert recognise(function, (torch.ones(2),), {}) is None


def test_a_hardtanh_from_zero_is_a_relu6() -> None:
    x = torch.ones(2)
    for args, kwargs in (((x, 0.0, 6.0), {}), ((x,), {"min_val": 0, "max_val": 6}), ((x, 0.0, 6.0, True), {})):
        found = recognise(F.hardtanh, args, kwargs)
        assert found is not None
        assert (found.kind, found.gate) == ("ReLU6", False)
    for args, kwargs in (((x,), {}), ((x, -1.0), {}), ((x,), {"min_val": -2.0})):
        found = recognise(F.hardtanh, args, kwargs)
        assert found is not None
        assert (found.kind, found.gate) == ("Hardtanh", True)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (F.relu, (0,), {}, False),
        (F.relu, (0, True), {}, True),
        (F.relu, (0,), {"inplace": True}, True),
        (F.relu, (0, False), {}, False),
        (F.leaky_relu, (0, 0.1), {}, False),
        (F.leaky_relu, (0, 0.1, True), {}, True),
        (F.hardtanh, (0, 0.0, 6.0, True), {}, True),
        (F.silu, (), {"inplace": True}, True),
        (torch.relu_, (0,), {}, True),
        (Tensor.relu_, (0,), {}, True),
        (Tensor.relu, (0,), {}, False),
        (F.gelu, (0,), {"approximate": "tanh"}, False),
    ],
)
def test_which_calls_overwrite_their_input(function: Any, args: Any, kwargs: Any, expected: bool) -> None:
    assert FUNCTIONS[function].overwrites(args, kwargs) is expected


class Swish(nn.Module):
    """With a slope for each channel, or one for all."""

    def __init__(self, slopes: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(slopes))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x * self.slope.view(1, -1, *[1] * (x.dim() - 2)))


class Computes(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward_function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_function(x)


COUNTED = {
    "SwishMe": activations_me.SwishMe(),
    "MishMe": activations_me.MishMe(),
    "HardSwishMe": activations_me.HardSwishMe(),
    "HardMishMe": activations_me.HardMishMe(),
    "timm's Swish": activations.Swish(),
    "timm's HardMish": activations.HardMish(),
    "QuickGELU": activations.QuickGELU(),
    "one slope": Swish(1),
    "slopes of channels": Swish(6),
    "a square": Computes(torch.square),
    "an odd function": Computes(lambda x: x**3),
    "a rectifier by clamp": Computes(lambda x: x.clamp_min(0)),
}
GATING = {
    "HardSigmoidMe": activations_me.HardSigmoidMe(),
    "timm's Sigmoid": activations.Sigmoid(),
    "timm's Tanh": activations.Tanh(),
    "a clamp": Computes(lambda x: x.clamp(0, 1)),
}
NEITHER = {
    "drop path": DropPath(0.1).eval(),
    "a scaling": Computes(lambda x: 3 * x + 1),
    "layer scale": LayerScale2d(6, init_values=1e-5),
    "pooling": Computes(lambda x: F.avg_pool2d(x, 3, 1, 1) if x.dim() == 4 else x.mean(-1, True) + 0 * x),
    "softmax": Computes(lambda x: x.softmax(-1)),
    "a norm": LayerNorm2d(6),
    "a norm without weights": Computes(lambda x: F.layer_norm(x.movedim(1, -1), (6,)).movedim(-1, 1)),
    "mixing samples": Computes(lambda x: torch.relu(x - x.flip(0))),
    "another shape": Computes(lambda x: torch.relu(x).flatten()),
    "several outputs": Computes(lambda x: (torch.relu(x), x)),
    "an error": Computes(lambda x: torch.relu(x.view(-1, 17, 3))),
    "a logarithm": Computes(torch.log),  # undefined where activations run
}


@pytest.mark.parametrize("shape", [(2, 6, 5, 5), (2, 6, 3, 3), (3, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_leaf_modules_are_judged_by_what_they_compute(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    example = torch.randn(shape).to(dtype)
    for name, module in COUNTED.items():
        found = judge_leaf(module.to(dtype), example)
        assert found is not None, name
        assert (found.kind, found.gate, found.in_place) == (type(module).__name__, False, False), name
    for name, module in GATING.items():
        found = judge_leaf(module.to(dtype), example)
        assert found is not None, name
        assert found.gate, name
    for name, module in NEITHER.items():
        assert judge_leaf(module.to(dtype), example) is None, name


def test_leaf_modules_that_overwrite_their_input() -> None:
    for module in (activations.Swish(inplace=True), Computes(torch.relu_), Computes(lambda x: x.mul_(x.sigmoid()))):
        found = judge_leaf(module, torch.randn(2, 6))
        assert found is not None
        assert found.in_place


def test_judging_changes_nothing() -> None:
    module = Swish(6)
    example = torch.randn(2, 6, 4, 4)
    before = example.clone(), torch.get_rng_state()
    judge_leaf(module, example)
    assert torch.equal(example, before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert module.slope.grad is None


def test_which_modules_are_worth_trying() -> None:
    example = torch.randn(2, 6, 5, 5)
    assert may_be_activation(Swish(6), example)
    assert may_be_activation(activations_me.SwishMe(), example)
    assert not may_be_activation(nn.ReLU(), example)  # its function is seen
    assert not may_be_activation(nn.Sequential(Swish(6)), example)
    assert not may_be_activation(nn.BatchNorm2d(6), example)

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 6, 3, 3))

    assert not may_be_activation(Convolution(), example)


def test_plain_leaves() -> None:
    for module in (nn.ReLU(), nn.Dropout(), nn.MaxPool2d(2), DropPath(0.1), nn.Flatten()):
        assert is_plain_leaf(module)
    for module in (nn.PReLU(), nn.BatchNorm2d(3), nn.Sequential(nn.ReLU()), nn.BatchNorm2d(3, affine=False)):
        assert not is_plain_leaf(module)
