"""Correlation between samples, and what is summed up of it during a pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies._base import Observer

CONSTANT = 1e-6
"""A row x is constant when norm(x - mean(x)) <= CONSTANT norm(x), or x = 0: it has no correlation."""


def abs_correlation(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute Pearson correlation between the rows, and how far from constant the rows are.

    The rows are centred first and multiplied afterwards (one pass, ``G - n m m'``, is wrong by 7e-3 when the mean is a
    hundred deviations).

    Args:
        rows: ``(B, D)``, float32 or float64.

    Returns:
        ``(B, B)`` correlations in [0, 1] (meaningless where a row is constant), and a scalar: the smallest
        norm(x - mean(x)) / norm(x) of the rows; 0 for a row of zeros, NaN where a value is not finite.
    """
    mean = rows.mean(1, keepdim=True)
    # Squares of very small or large numbers leave the range of float32: a power of two for each row, which rounds
    # nothing, brings it near 1. A part of the columns and the mean tell the size well enough (a factor of 1e8 is
    # harmless, and the mean is not smaller than that, be it by rounding).
    sample = rows[:, :: max(1, rows.shape[1] // 256)]
    size = torch.linalg.vector_norm(sample, ord=math.inf, dim=1, keepdim=True).maximum(mean.abs())
    usable = (size > 0) & torch.isfinite(size)
    scale = torch.where(usable, torch.exp2(-torch.log2(size).round()), torch.ones_like(size))
    centred = torch.addcmul(mean * -scale, rows, scale)
    gram = centred @ centred.T
    squares = gram.diagonal()
    norms = squares.clamp_min(torch.finfo(rows.dtype).tiny).sqrt()
    correlation = (gram / norms[:, None] / norms).abs_().clamp_max_(1.0)
    correlation.fill_diagonal_(1.0)
    totals = squares + rows.shape[1] * (mean * scale).square()[:, 0]
    spread = torch.where(totals == 0, torch.zeros_like(totals), (squares / totals).sqrt())
    return correlation, spread.min()


def as_rows(response: Tensor) -> Tensor:
    """``(B, ...)`` as ``(B, D)``, in the order of the memory: the order of the columns does not matter for a correlation."""
    strides = response.stride()
    order = [0, *sorted(range(1, response.dim()), key=lambda place: strides[place], reverse=True)]
    return response.permute(order).reshape(len(response), -1)  # channels-last needs no copy


class CorrelationSums(Observer):
    """Absolute correlation matrices on the responses' device, added up by layer and part in float64 at the end."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._matrices: dict[tuple[int, str], Tensor] = {}
        self._seen: list[tuple[int, str]] = []
        self._spreads: list[Tensor] = []
        self._precision = 0.0

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Add one response to the sum of its call; nothing leaves the device."""
        rows = as_rows(response)
        if rows.dtype not in (torch.float32, torch.float64):
            rows = rows.float()
        self._precision = max(self._precision, torch.finfo(rows.dtype).eps)
        correlation, spread = abs_correlation(rows)
        used = torch.where(spread > CONSTANT, correlation, torch.zeros_like(correlation))
        self._matrices[call.index, part] = used
        self._seen.append((call.index, part))
        self._spreads.append(spread)

    def gather(self, layers: list[int]) -> CorrelationParts:
        """Bring the sums to the CPU, in one transfer, summed up by layer.

        Args:
            layers: layer index of every call.
        """
        if not self._seen:
            return CorrelationParts(self.batch_size, {}, [], [], [], self._precision)
        device = self._spreads[0].device
        spreads = torch.stack([spread.to(device, torch.float32) for spread in self._spreads]).tolist()
        groups: dict[tuple[int, str], Tensor] = {}
        wide = torch.float32 if device.type == "mps" else torch.float64
        for (index, part), matrix in self._matrices.items():
            key, matrix = (layers[index], part), matrix.to(device, wide)
            groups[key] = groups[key] + matrix if key in groups else matrix
        stacked = torch.stack(list(groups.values())).cpu().double()
        used = [key for key, spread in zip(self._seen, spreads, strict=True) if spread > CONSTANT]
        constant = [key for key, spread in zip(self._seen, spreads, strict=True) if spread <= CONSTANT]
        broken = [key for key, spread in zip(self._seen, spreads, strict=True) if math.isnan(spread)]
        sums = dict(zip(groups, stacked, strict=True))
        return CorrelationParts(self.batch_size, sums, used, constant, broken, self._precision)


@dataclass(frozen=True)
class CorrelationParts:
    """The sums on the CPU.

    Attributes:
        batch_size: B.
        sums: ``(layer, part) -> (B, B)`` float64.
        used: ``(call, part)`` of the responses that are in the sums.
        constant: those left out because a row is constant.
        broken: those left out because a value is not finite.
        precision: relative rounding of the correlations (that of float32, mostly).
    """

    batch_size: int
    sums: dict[tuple[int, str], Tensor]
    used: list[tuple[int, str]]
    constant: list[tuple[int, str]]
    broken: list[tuple[int, str]]
    precision: float
