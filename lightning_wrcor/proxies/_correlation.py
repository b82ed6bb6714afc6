"""Correlation between samples, and what is summed up of it during a pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies._base import Observer

CONSTANT = 1e-6
"""A row x is constant when norm(x - mean(x)) <= CONSTANT norm(x), or x = 0: it has no correlation."""

_SAMPLED = 32
IN_CACHE = 2**21
"""Bytes of a part of a response that is worked on at a time on a CPU."""
_WORTH_ONEDNN = 2**15
_AS_A_WHOLE = 2**24
"""Values of a response up to which one product of all is faster than products of parts, on a CPU."""
_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


@dataclass(frozen=True)
class Products:
    """Products of one response's rows with one another, before they are made correlations (`correlations`).

    Attributes:
        gram: ``(B, B)``; entry i, j is the sum over columns of ``(x_i - mean_i) s_i (x_j - mean_j) s_j``, with a power of
            two s for each row that brings it near 1.
        mean: ``(B,)``, each row's mean times s.
        columns: length of a row.
    """

    gram: Tensor
    mean: Tensor
    columns: int


def multiply(rows: Tensor) -> Products:
    """Centre the rows and multiply them with one another.

    They are centred first and multiplied afterwards, but for rows on a CPU whose means are small: there ``G - n m m'`` is
    as good (it is wrong by 7e-3 when the mean is a hundred deviations) and goes over the rows once less.

    Args:
        rows: ``(B, D)``, float32 or float64.
    """
    mean = rows.mean(1, keepdim=True)
    if rows.device.type == "cpu" and rows.numel() <= _AS_A_WHOLE and rows.is_contiguous():
        gram = times_own_transpose(rows)
        squares, squared_means = gram.diagonal(), rows.shape[1] * mean.square()
        # What is taken away is no more than what is left, and squares stay far from the ends of float32.
        small = (2 * squared_means[:, 0] <= squares) & (squares > 1e-25) & (squares < 1e30)
        if bool(small.all()):
            return Products(gram.addmm_(mean, mean.T, alpha=-rows.shape[1]), mean[:, 0], rows.shape[1])
    # Squares of very small or large numbers leave the range of float32: a power of two for each row, which rounds
    # nothing, brings it near 1. A few of the columns and the mean tell the size well enough (a factor of 1e8 is
    # harmless, and the mean is not smaller than that, be it by rounding). An odd step, so that not all are of one channel;
    # where they and the mean are zero, values that are not stay as they are.
    sample = rows[:, :: max(1, rows.shape[1] // _SAMPLED) | 1]
    size = torch.linalg.vector_norm(sample, ord=math.inf, dim=1, keepdim=True).maximum(mean.abs())
    tiny = torch.finfo(rows.dtype).tiny
    size = torch.where(size == 0, 1.0, size.clamp_(tiny, 1 / tiny))
    scale = size.log2_().round_().neg_().exp2_()
    return Products(_centred_gram(rows, mean, scale), (mean * scale)[:, 0], rows.shape[1])


def correlations(products: Sequence[Products]) -> tuple[Tensor, Tensor]:
    """Absolute Pearson correlations between the rows of several responses, and how far from constant the rows are.

    Args:
        products: of n responses.

    Returns:
        ``(n, B, B)`` correlations in [0, 1] (meaningless where a row is constant), and ``(n,)``: the smallest
        norm(x - mean(x)) / norm(x) of each response's rows; 0 with a row of zeros, NaN where a value is not finite.
    """
    like = max((one.gram for one in products), key=lambda gram: gram.element_size())
    grams = torch.stack([one.gram.to(like) for one in products])
    squares = grams.diagonal(dim1=1, dim2=2).clone()
    norms = squares.clamp_min(torch.finfo(grams.dtype).tiny).sqrt()
    correlation = grams.div_(norms[:, :, None]).div_(norms[:, None, :]).abs_().clamp_max_(1.0)
    correlation.diagonal(dim1=1, dim2=2).fill_(1.0)
    columns = torch.tensor([one.columns for one in products], dtype=grams.dtype, device=grams.device)
    totals = squares + columns[:, None] * torch.stack([one.mean.to(like) for one in products]).square()
    spread = torch.where(totals == 0, torch.zeros_like(totals), (squares / totals).sqrt())
    return correlation, spread.amin(1)


def _centred_gram(rows: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """``(B, B)`` products of the rows ``(x - mean) scale``."""
    columns = max(1, IN_CACHE // (len(rows) * rows.element_size()))
    if rows.device.type != "cpu" or rows.shape[1] <= columns:
        return times_own_transpose((rows - mean).mul_(scale))
    # Part by part, so that what is centred stays in the cache and takes no memory.
    memory = torch.empty(len(rows) * columns, dtype=rows.dtype)
    gram = torch.zeros(len(rows), len(rows), dtype=rows.dtype)
    for part in rows.split(columns, dim=1):
        centred = memory[: part.numel()].view(part.shape)
        torch.sub(part, mean, out=centred).mul_(scale)
        gram += times_own_transpose(centred)
    return gram


def times_own_transpose(rows: Tensor) -> Tensor:
    """``rows @ rows.T`` for few rows of many columns, ``(B, D)`` to ``(B, B)``.

    In one thread on x86 by oneDNN, in half the time: there the kernel that torch's BLAS has for two matrices that both lie
    along the sum reaches a third of the processor's rate. In several threads it takes another one, which is as good.
    """
    if (
        rows.dtype == torch.float32
        and rows.device.type == "cpu"
        and rows.is_contiguous()  # with gaps between the rows oneDNN takes a thousand times as long
        and rows.numel() >= _WORTH_ONEDNN
        and _prefers_onednn()
    ):
        # What F.linear becomes when torch compiles it for a CPU.
        found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, rows, None, "none", [], "")
        return found
    return rows @ rows.T


def _prefers_onednn() -> bool:
    return _ONEDNN and torch.get_num_threads() == 1 and bool(torch._C._get_mkldnn_enabled())


def as_rows(response: Tensor) -> Tensor:
    """``(B, ...)`` as ``(B, D)``, in the order of the memory: the order of the columns does not matter for a correlation."""
    strides = response.stride()
    order = [0, *sorted(range(1, response.dim()), key=lambda place: strides[place], reverse=True)]
    return response.permute(order).reshape(len(response), -1)  # channels-last needs no copy


class CorrelationSums(Observer):
    """Absolute correlation matrices on the responses' device, added up by layer and part in float64 at the end."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._seen: dict[tuple[int, str], Products] = {}
        self._precision = 0.0

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Multiply one response's rows; nothing leaves the device."""
        known = self._seen.get((call.same_as, part)) if part == "activation" and call.same_as is not None else None
        if known is None:
            rows = as_rows(response)
            if rows.dtype not in (torch.float32, torch.float64):
                rows = rows.float()
            self._precision = max(self._precision, torch.finfo(rows.dtype).eps)
            known = multiply(rows)
        self._seen[call.index, part] = known

    def gather(self, layers: list[int]) -> CorrelationParts:
        """Bring the sums to the CPU, in one transfer, summed up by layer.

        Args:
            layers: layer index of every call.
        """
        if not self._seen:
            return CorrelationParts(self.batch_size, {}, [], [], [], self._precision)
        device = next(iter(self._seen.values())).gram.device
        wide = torch.float32 if device.type == "mps" else torch.float64
        groups: dict[tuple[int, str], list[tuple[int, str]]] = {}
        for index, part in self._seen:
            groups.setdefault((layers[index], part), []).append((index, part))
        summed, spreads = [], []
        for members in groups.values():
            matrices, spread = correlations([self._seen[key] for key in members])
            summed.append(torch.where((spread > CONSTANT)[:, None, None], matrices, 0.0).to(device, wide).sum(0))
            spreads.append(spread.to(device, wide))
        sums = dict(zip(groups, torch.stack(summed).cpu().double(), strict=True))
        order = [key for members in groups.values() for key in members]
        found = dict(zip(order, torch.cat(spreads).tolist(), strict=True))
        used = [key for key in self._seen if found[key] > CONSTANT]
        constant = [key for key in self._seen if found[key] <= CONSTANT]
        broken = [key for key in self._seen if math.isnan(found[key])]
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
