"""ACor, GCor, RCor and WRCor again: slow, in NumPy and float64, written from the definition and sharing no code.

Responses are taken by hand: either by hooks on named modules of a network that does nothing in place, or by a function
that computes the network once more and marks what each non-linearity receives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Marks:
    """What was marked in one forward pass: ``at(layer, x)`` stands where a non-linearity receives x."""

    def __init__(self) -> None:
        self.points: list[tuple[int, Tensor, int]] = []

    def at(self, layer: int, x: Tensor, samples: int = 0) -> Tensor:
        """A copy with a gradient of its own; ``samples`` is the dimension of the samples."""
        point = x.clone()
        if not point.requires_grad:
            point.requires_grad_()
        point.retain_grad()
        self.points.append((layer, point, samples))
        return point


def correlation(rows: np.ndarray) -> np.ndarray | None:
    """Absolute Pearson correlation between rows, or None where a row is constant."""
    rows = rows.astype(np.float64)
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    if np.any(norms <= 1e-6 * np.linalg.norm(rows, axis=1)):
        return None
    centred /= norms[:, None]
    return np.abs(centred @ centred.T)


def scores(marks: Marks, logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The four scores, raw."""
    F.cross_entropy(logits, labels).backward()
    size = len(labels)
    sums = {name: np.zeros((size, size)) for name in ("acor", "gcor", "rcor", "wrcor")}
    for layer, point, samples in marks.points:
        for name, response in (("acor", point.detach()), ("gcor", point.grad)):
            if response is None:
                continue
            rows = np.moveaxis(response.numpy(), samples, 0).reshape(size, -1)
            matrix = correlation(rows)
            if matrix is not None:
                sums[name] += matrix
                sums["rcor"] += matrix
                sums["wrcor"] += 2.0**layer * matrix
    return {name: float(np.linalg.slogdet(matrix)[1]) for name, matrix in sums.items()}


def by_hand(
    forward: Callable[[Tensor, Callable[..., Tensor]], Tensor], images: Tensor, labels: Tensor
) -> dict[str, float]:
    """Scores of a network that ``forward(images, at)`` computes, marking its non-linearities with ``at``."""
    marks = Marks()
    return scores(marks, forward(images, marks.at), labels)


def by_hooks(network: nn.Module, layers: Mapping[str, int], images: Tensor, labels: Tensor) -> dict[str, float]:
    """Scores of a network whose non-linearities are the modules in ``layers``, by name, with their layer index.

    The network is changed: training mode, nothing in place, no dropout.
    """
    marks = Marks()
    network.train()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    for name, layer in layers.items():

        def mark(_: nn.Module, args: tuple[Tensor, ...], layer: int = layer) -> tuple[Tensor]:
            return (marks.at(layer, args[0]),)

        network.get_submodule(name).register_forward_pre_hook(mark)
    return scores(marks, network(images), labels)


def close(value: float, expected: float, batch_size: int) -> bool:
    """Equal to 1e-4 of the score, or of B where the score is near zero."""
    return math.isfinite(value) and abs(value - expected) <= 1e-4 * max(abs(expected), batch_size)


def largest_difference(found: torch.Tensor, rows: np.ndarray) -> float:
    """Between correlations that were found and the reference's."""
    expected = correlation(rows)
    assert expected is not None
    return float(np.abs(found.double().numpy() - expected).max())
