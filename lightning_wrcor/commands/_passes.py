"""What a proxy needs: what it says as data, or, where it runs passes of its own, what it is seen to do."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies import Proxy, Vote
from lightning_wrcor.proxies._score import score_prepared


class What(NamedTuple):
    """Passes in words, and whether labels are needed: ``yes``, ``no``, or "" where that is not known."""

    passes: str
    labels: str


def what_it_needs(proxy: Proxy) -> What:
    """What a proxy needs of the network and the batch."""
    if isinstance(proxy, Vote):
        labels = {what_it_needs(member).labels for member in proxy.proxies}
        return What(f"its members: {', '.join(proxy.names)}", "yes" if "yes" in labels else "no")
    if not proxy.observers:
        return _seen(proxy)
    needs = proxy.needs
    passes = ["forward", *["backward"] * needs.backward, *["gradients of weights"] * bool(needs.weights)]
    return What(", ".join(passes), "yes" if needs.labels else "no")


def _seen(proxy: Proxy) -> What:
    """What a proxy without observers does with a small network: how often it runs, and whether labels matter."""
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    runs = _Runs()
    try:
        value = runs.watch(proxy, images, labels)
        other = _Runs().watch(proxy, images, labels.roll(1))
    except ValueError:  # a proxy of a user's own may not be defined for it
        return What("passes of its own", "")
    counts = {"forward": runs.forward, "backward": len(runs.backward)}
    said = [_times(count, kind) for kind, count in counts.items() if count]
    return What(f"its own: {', '.join(said)}" if said else "no pass", "no" if value == other else "yes")


def _times(count: int, kind: str) -> str:
    return kind if count == 1 else f"two {kind}" if count == 2 else f"several {kind}"


class _Runs:
    """Counts runs of a small network and of its copies.

    Attributes:
        forward: how often it ran.
        backward: the runs of autograd that came by.
    """

    def __init__(self) -> None:
        self.forward = 0
        self.backward: set[int] = set()

    def watch(self, proxy: Proxy, images: Tensor, labels: Tensor) -> float:
        """The value of the proxy, with what it does counted."""
        with own_random_numbers(0):
            network = _small()
            network.register_forward_hook(self._ran)
            for part in network.modules():
                if isinstance(part, (_Block, nn.Linear)):
                    part.register_forward_hook(self._gave)
            costs = Costs(params=0, macs=0, depth=0)
            return score_prepared(network, (images, labels), [proxy], seed=0, costs=costs).value

    def _ran(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.forward += 1

    def _gave(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: self.backward.add(torch._C._current_graph_task_id()))

    def __deepcopy__(self, memo: dict[int, Any]) -> _Runs:  # a copy of the network has the same hooks
        return self


def _small() -> nn.Sequential:
    """Four blocks, so that what is done once for each of them, or between them, is done several times."""
    return nn.Sequential(
        nn.Sequential(_Block(3, 6), _Block(6, 8), _Block(8, 8), _Block(8, 8)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, padding=1)
        self.norm = nn.BatchNorm2d(after)
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.norm(self.convolution(images)))
        return activated
