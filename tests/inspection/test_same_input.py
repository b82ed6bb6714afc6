"""Which calls received the very same tensor, and that its matrix, never a gradient's, stands for all of them."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_wrcor import score
from lightning_wrcor.inspection import Call, Tracer
from lightning_wrcor.proxies import _correlation


class Body(nn.Module):
    """Three maps of what one layer gives, each behind a non-linearity that ``forward`` of a subclass calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(27, 16)
        self.heads = nn.ModuleList(nn.Linear(16, 5, bias=False) for _ in range(3))

    def ends(self, one: Tensor, two: Tensor, three: Tensor) -> Tensor:
        first, second, third = self.heads
        logits: Tensor = first(one) + second(two) + third(three)
        return logits


class Three(Body):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return self.ends(F.relu(x), torch.tanh(x).relu() + x.relu(), F.silu(input=x))


def calls_of(network: nn.Module, given: Tensor | None = None, gates: bool = False) -> list[Call]:
    with Tracer(network, lambda call, tensor: tensor, gates) as tracer:
        network(torch.randn(4, 3, 3, 3) if given is None else given)
    return tracer.calls


def test_the_first_call_with_a_tensor_is_named() -> None:
    assert [call.same_as for call in calls_of(Three())] == [None, None, 0, 0]  # the second is that of tanh's output
    assert [call.same_as for call in calls_of(Three(), gates=True)] == [None, 0, None, 0, 0]


def test_modules_and_what_is_called_again() -> None:
    class Modules(Body):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.other = nn.ReLU(), nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x.flatten(1))
            y = x + 1
            return self.ends(self.act(x) + self.act(y), self.other(x), self.act(y))

    assert [call.same_as for call in calls_of(Modules())] == [None, None, 0, 1]


OVERWRITES: dict[str, Callable[[Tensor], object]] = {
    "by itself": lambda x: x.mul_(2),
    "by an operator": lambda x: x.__iadd__(1),
    "in part": lambda x: x.__setitem__((slice(None), 3), 0.0),
    "through a view": lambda x: x.view(-1)[5:].add_(1),
    "through an alias without a graph": lambda x: x.detach().neg_(),
    "by the non-linearity": lambda x: F.relu_(x),
    "by keyword": lambda x: F.silu(input=x, inplace=True),
}


@pytest.mark.parametrize("how", OVERWRITES)
@pytest.mark.parametrize("graph", [False, True])
def test_a_tensor_that_was_overwritten_is_another_one(how: str, graph: bool) -> None:
    class Overwritten(Body):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x.flatten(1))
            F.gelu(x)
            OVERWRITES[how](x)
            return self.ends(x, F.hardswish(x), F.hardswish(x))

    with torch.set_grad_enabled(graph):
        calls = calls_of(Overwritten())
    last = len(calls) - 1
    assert [call.same_as for call in calls if call.kind == "Hardswish"] == [None, last - 1]


def test_a_tensor_in_the_place_of_a_freed_one_is_another_one() -> None:
    ids = []

    class Freeing(Body):
        def forward(self, x: Tensor) -> Tensor:
            for step in range(2000):
                y = x.flatten(1) + step
                ids.append(id(y))
                F.relu(y)
                del y
            return x.flatten(1)

    with torch.no_grad():
        calls = calls_of(Freeing())
    assert len(ids) == 2000 > len(set(ids))  # or nothing was tested
    assert [call.same_as for call in calls] == [None] * 2000


def test_nothing_is_kept_of_tensors_that_calls_received() -> None:
    held = []

    class Freeing(Body):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            held.append(ref(y))
            F.relu(y)
            del y
            assert held[0]() is None
            return x.flatten(1)

    with torch.no_grad():
        calls_of(Freeing())
    assert len(held) == 1


def test_what_runs_once_more_and_what_does_not_count_its_versions_is_never_the_same() -> None:
    class Checkpointed(Body):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x.flatten(1))
            y = checkpoint(lambda z: F.relu(z) + F.gelu(z), x, use_reentrant=False)
            return self.ends(F.silu(x), y, y)

    seen: list[Call] = []

    def visit(call: Call, tensor: Tensor) -> Tensor:
        seen.append(call)
        return tensor

    network = Checkpointed()
    with Tracer(network, visit) as tracer:
        loss = network(torch.randn(4, 3, 3, 3)).sum()
        tracer.stop()
        edge = torch.autograd.graph.get_gradient_edge(loss)
        torch.autograd.backward([edge], [torch.ones_like(loss)])
    assert [call.again for call in seen] == [False] * 3 + [True] * 2
    assert [call.same_as for call in seen] == [None, 0, 0, None, None]
    with torch.inference_mode():
        assert [call.same_as for call in calls_of(Three())] == [None] * 4


# ---- what is made of it


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(7, 3, 3, 3, generator=torch.Generator().manual_seed(1)), torch.arange(7) % 5


def matrix(rows: Tensor) -> np.ndarray:
    return np.abs(np.corrcoef(rows.detach().double().flatten(1).numpy()))


def log_det(*matrices: np.ndarray) -> float:
    return float(np.linalg.slogdet(sum(matrices))[1])


class ReLUs(Body):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return self.ends(F.relu(x), F.relu(x), F.relu(x))


def test_one_product_stands_for_three_activations_and_each_gradient_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, (images, labels) = ReLUs(), batch()
    counted, multiply = [], _correlation.multiply
    monkeypatch.setattr(_correlation, "multiply", lambda rows: (counted.append(rows), multiply(rows))[1])
    report = score(network, (images, labels), ["acor", "gcor", "rcor"])
    assert len(counted) == 1 + 3
    assert report.responses_used == {"activations": 3, "gradients": 0}

    hidden = network.first(images.flatten(1))
    points = [hidden.detach().clone().requires_grad_() for _ in range(3)]
    F.cross_entropy(network.ends(*map(F.relu, points)), labels).backward()
    gradients = [matrix(point.grad) for point in points if point.grad is not None]
    assert np.abs(gradients[0] - gradients[1]).max() > 0.1  # so that it would be seen if one stood for another
    expected = {
        "acor": log_det(3 * matrix(hidden)),
        "gcor": log_det(*gradients),
        "rcor": log_det(3 * matrix(hidden), *gradients),
    }
    assert report.scores == pytest.approx(expected, rel=1e-5)


def test_gradients_have_their_own_matrices_in_whatever_order_they_come() -> None:
    calls = [Call(0, "ReLU", "", ()), Call(1, "ReLU", "", (), same_as=0)]
    for order in (calls, calls[::-1]):
        gradients = torch.randn(2, 7, 16)
        sums = _correlation.CorrelationSums(7)
        for call in order:
            sums.see(call, "gradient", gradients[call.index])
        found = sums.gather([0, 1]).sums
        for call in calls:
            assert found[call.index, "gradient"].numpy() == pytest.approx(matrix(gradients[call.index]), abs=1e-5)


def test_a_tensor_that_was_overwritten_gives_its_own_matrix() -> None:
    class Written(Body):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x.flatten(1))
            one = F.relu(x)
            x[:, :8] = x[:, :8].cos() * 3
            return self.ends(one, F.relu(x), F.relu(x))

    network, (images, labels) = Written(), batch()
    before = network.first(images.flatten(1)).detach()
    after = torch.cat([before[:, :8].cos() * 3, before[:, 8:]], 1)
    expected = log_det(matrix(before), 2 * matrix(after))
    assert abs(expected - log_det(3 * matrix(before))) > 0.1
    assert score(network, (images, labels), "acor").value == pytest.approx(expected, rel=1e-5)
