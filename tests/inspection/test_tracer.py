"""Every call of a non-linearity is seen once, in call order, with the modules that were running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import activations, activations_me
from torch import Tensor, nn

from lightning_wrcor.inspection import Call, Tracer
from lightning_wrcor.inspection.tracer import switch_off_randomness


class Calls(nn.Module):
    """Calls one function on the output of a convolution."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.conv(x))


def trace(network: nn.Module, gates: bool = False, shape: tuple[int, ...] = (2, 3, 4, 4)) -> Tracer:
    inputs: list[Tensor] = []

    def visit(call: Call, tensor: Tensor) -> Tensor:
        assert call.index == len(inputs)
        inputs.append(tensor)
        return tensor

    with Tracer(network, visit, gates) as tracer:
        network(torch.randn(shape))
    assert len(tracer.calls) == len(inputs)
    return tracer


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "relu in place by position": lambda x: F.relu(x, True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "by keyword": lambda x: F.relu(input=x, inplace=True),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0, inplace=True),
    "leaky": lambda x: F.leaky_relu_(x, 0.1),
    "prelu": lambda x: F.prelu(x, torch.ones(4)),
    "elu": lambda x: F.elu(x, 1.0, True),
    "celu": lambda x: torch.celu_(x),
    "selu": lambda x: F.selu(x, inplace=True),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "silu": lambda x: F.silu(x, inplace=True),
    "mish": lambda x: F.mish(x, inplace=True),
    "hardswish": lambda x: F.hardswish(x, inplace=True),
    "softplus": F.softplus,
    "threshold": lambda x: F.threshold(x, 0.1, 0.0, True),
    "rrelu": F.rrelu,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    network = Calls(FUNCTIONS[name])
    tracer = trace(network)
    assert len(tracer.calls) == 1
    call = tracer.calls[0]
    assert (call.module, call.stack, call.since) == ("", ("",), ("", "conv"))
    with torch.no_grad():
        tensor = torch.randn(2, 4, 4, 4)
        given = tensor.clone()
        FUNCTIONS[name](given)
        assert call.overwrites == (not torch.equal(given, tensor))
    with torch.no_grad():
        x = torch.randn(2, 3, 4, 4)
        expected = network(x)
        with Tracer(network, lambda _, tensor: tensor):
            assert torch.equal(network(x), expected)  # it computes the same


@pytest.mark.parametrize(
    "module",
    [
        *(nn.ReLU(inplace=flag) for flag in (False, True)),
        *(nn.ReLU6(inplace=flag) for flag in (False, True)),
        *(nn.SiLU(inplace=flag) for flag in (False, True)),
        *(nn.Hardswish(inplace=flag) for flag in (False, True)),
        *(nn.Mish(inplace=flag) for flag in (False, True)),
        *(nn.ELU(inplace=flag) for flag in (False, True)),
        *(nn.SELU(), nn.CELU(), nn.GELU(), nn.LeakyReLU(), nn.PReLU(), nn.RReLU(), nn.Softplus(), nn.Threshold(0.1, 0)),
        *(activations_me.SwishMe(), activations_me.MishMe(), activations_me.HardSwishMe(), activations_me.HardMishMe()),
        *(activations.Swish(), activations.Swish(inplace=True), activations.QuickGELU(), activations.GELUTanh()),
    ],
    ids=repr,
)
def test_modules(module: nn.Module) -> None:
    tracer = trace(nn.Sequential(nn.Conv2d(3, 4, 1), module))
    assert len(tracer.calls) == 1
    assert tracer.calls[0].module == "1"
    assert tracer.calls[0].stack == ("", "1")
    assert tracer.calls[0].overwrites == bool(getattr(module, "inplace", False))
    assert not tracer.gates_seen


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (torch.sigmoid, "Sigmoid"),
        (lambda x: x.sigmoid_(), "Sigmoid"),
        (torch.tanh, "Tanh"),
        (lambda x: x.softmax(1), "Softmax"),
        (lambda x: F.softmax(x, dim=1), "Softmax"),
        (F.hardsigmoid, "Hardsigmoid"),
        (F.hardtanh, "Hardtanh"),
        (lambda x: F.glu(x, 1), "GLU"),
        (activations_me.HardSigmoidMe(), "HardSigmoidMe"),
        (activations.Sigmoid(), "Sigmoid"),
        (nn.Hardsigmoid(inplace=True), "Hardsigmoid"),
    ],
)
def test_gates(function: Callable[[Tensor], Any], kind: str) -> None:
    network = Calls(function)
    tracer = trace(network)
    assert tracer.calls == []
    assert tracer.gates_seen == {kind: 1}
    tracer = trace(network, gates=True)
    assert [call.kind for call in tracer.calls] == [kind]
    assert not tracer.gates_seen


class Nested(nn.Module):
    """One activation object in two blocks, a block called twice, calls between modules."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.ReLU()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 1), act)
        self.second = nn.Sequential(nn.Conv2d(3, 3, 1), act, nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(self.second(x.relu()))
        return F.gelu(x)


def test_call_order_and_running_modules() -> None:
    calls = trace(Nested()).calls
    assert [call.kind for call in calls] == ["ReLU", "ReLU", "ReLU", "SiLU", "ReLU", "SiLU", "GELU"]
    assert [call.stack[1:] for call in calls] == [
        ("first", "first.1"),
        (),
        ("second", "first.1"),
        ("second", "second.2"),
        ("second", "first.1"),
        ("second", "second.2"),
        (),
    ]
    assert calls[0].since == ("", "first", "first.0", "first.1")
    assert calls[1].since == ()
    assert calls[2].since == ("second", "second.0", "first.1")


def test_a_leaf_activation_counts_once_with_its_parts_inside() -> None:
    class Strange(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(x) * torch.sigmoid(x) + F.relu(x)

    tracer = trace(nn.Sequential(nn.Conv2d(3, 4, 1), Strange()))
    assert [call.kind for call in tracer.calls] == ["Strange"]
    assert not tracer.gates_seen

    class NoActivation(nn.Module):  # a pooling that rectifies: its function is what counts
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x).mean((2, 3))

    tracer = trace(nn.Sequential(nn.Conv2d(3, 4, 1), NoActivation()))
    assert [(call.kind, call.module) for call in tracer.calls] == [("ReLU", "1")]


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() / 2)


class Custom(nn.Module):
    """A custom autograd function, which no function call shows."""

    def forward(self, x: Tensor) -> Tensor:
        return Halved.apply(x.flatten(1))


class Positions(nn.Module):
    """Some non-linearities see the images, others do not."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 4))
        self.register_buffer("last", torch.zeros(3))
        self.custom, self.mlp = Custom(), nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        bias = self.mlp(self.table)
        self.last.copy_(x.mean((0, 2, 3)))
        F.softplus(torch.arange(3.0, device=x.device) * len(x))
        kept = torch.zeros(2, 48)
        kept[:] = x.flatten(1)
        first, second = torch.cat([self.custom(x), kept], 1).chunk(2, 1)
        F.gelu(torch.stack([first, second]).sum(0))
        F.silu(kept)
        F.mish(torch.cat([bias, bias]))
        return F.selu(self.custom(x)) + F.elu((0 * x).sum() + bias).sum()


def test_what_depends_on_the_input() -> None:
    network = Positions()
    with torch.no_grad():
        calls = trace(network).calls
    depends = {call.kind: call.depends for call in calls}
    seeing, blind = ("GELU", "SiLU", "SELU", "ELU"), ("ReLU", "Softplus", "Mish")
    assert depends == {**dict.fromkeys(seeing, True), **dict.fromkeys(blind, False)}
    assert not vars(network.last)  # nothing stays behind


def test_whole_numbers_are_no_responses() -> None:
    assert trace(Calls(lambda x: F.relu((10 * x).long()))).calls == []


def test_what_visit_returns_is_used() -> None:
    x = torch.randn(2, 3, 4, 4)
    for network in (Calls(F.relu), Calls(activations.QuickGELU()), Calls(lambda y: F.gelu(input=y))):
        with Tracer(network, lambda _, tensor: torch.zeros_like(tensor)):
            assert not network(x).any()


def test_nothing_stays_behind() -> None:
    network = Nested()
    trace(network)

    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("no")

    network.first.append(Failing())
    with pytest.raises(KeyError, match="no"):
        trace(network)
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert torch._C._len_torch_function_stack() == 0
    F.relu(torch.ones(2))  # seen by nobody


def test_calls_without_autograd_are_told() -> None:
    def quiet(x: Tensor) -> Tensor:
        with torch.no_grad():
            return F.relu(x)

    assert trace(Calls(quiet)).hidden == [""]
    assert trace(Calls(F.relu)).hidden == []


def test_the_meta_device() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 4, 1), activations_me.SwishMe(), nn.ReLU(), activations_me.HardSigmoidMe())
        with Tracer(network, lambda _, tensor: tensor) as tracer:
            network(torch.zeros(1, 3, 4, 4))
    assert [call.kind for call in tracer.calls] == ["SwishMe", "ReLU"]
    assert tracer.gates_seen == {"HardSigmoidMe": 1}


def test_switching_off_randomness() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.Dropout(0.3), nn.MultiheadAttention(4, 2, dropout=0.5), nn.LSTM(4, 4, 2, dropout=0.4)
    ).eval()
    switch_off_randomness(network)
    assert [module.training for module in network] == [True, False, True, True]
    assert network[2].dropout == network[3].dropout == 0.0


@pytest.mark.parametrize("batch_first", [False, True])
def test_torchs_transformer_layers_in_evaluation_mode(batch_first: bool) -> None:
    """Their fused fast path has no non-linearities that can be seen; it is not taken."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=batch_first)
    network = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    with torch.no_grad(), Tracer(network, lambda _, tensor: tensor) as tracer:
        network(torch.randn(2, 5, 8))
    assert [call.kind for call in tracer.calls] == ["GELU"] * 3
