"""Proxies of the channels: how different the channels of one layer are from each other."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lightning_wrcor.inspection import Call, LayerCall
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._correlation import CONSTANT
from lightning_wrcor.proxies._samples import require_calls
from lightning_wrcor.proxies._weights import require_weights


def _channels_of(call: LayerCall) -> int:
    """The dimension of the channels in what a layer gives, from the end."""
    return -1 if call.kind == "Linear" else 1 - call.weight.dim()


def _eigenvalues(matrices: Tensor) -> Tensor:
    """Eigenvalues of symmetric matrices; NaN where a value is not finite (they would not be found)."""
    found: Tensor = torch.linalg.eigvalsh(torch.nan_to_num(matrices, nan=0.0, posinf=0.0, neginf=0.0))
    return found + (matrices.sum((-2, -1)) * 0.0)[..., None]


class _SmallestEigenvalues(Observer):
    """Mean over samples of the smallest eigenvalue of the correlation between channels, by layer."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.values: list[Tensor] = []

    def see_layer(self, call: LayerCall, part: Literal["output", "gradient"], tensor: Tensor) -> None:
        """Keep one number of what one layer gives."""
        if part != "output" or call.again:
            return
        maps = tensor.movedim(_channels_of(call), 1)
        channels = maps.shape[1]
        maps = maps.reshape(len(maps), channels, -1)
        places = maps.shape[2]
        if places <= channels:  # centred rows of that length are linearly dependent: the smallest eigenvalue is 0
            self.values.append(torch.zeros((), dtype=torch.float64, device=tensor.device))
            return
        sizes = torch.linalg.vector_norm(maps, dim=2, keepdim=True)
        maps = maps - maps.mean(2, keepdim=True)
        norms = torch.linalg.vector_norm(maps, dim=2, keepdim=True)
        # A constant channel correlates with nothing, as in the published code, which sets undefined entries to 0.
        maps = torch.where(norms <= CONSTANT * sizes, torch.zeros_like(maps), maps / norms)
        self.values.append(_eigenvalues(maps @ maps.transpose(1, 2))[:, 0].clamp_min(0.0).double().mean())


class MeCo(Proxy):
    """Minimum eigenvalue of correlation: sum over layers of the smallest eigenvalue of the channels' Pearson correlation.

    For what one layer (convolution or linear map) gives for one image, the correlation is between channels, over
    positions; the smallest eigenvalues are averaged over the images of the probe batch (the paper looks at one random
    image). A layer with as many channels as positions or more adds 0, because its matrix is singular. One forward pass,
    no labels.

    Source: Jiang et al., "MeCo: zero-shot NAS with one data and single forward pass via minimum eigenvalue of
    correlation", NeurIPS 2023.
    """

    name = "meco"
    needs = Needs(outputs=True)
    observers = (_SmallestEigenvalues,)

    def measure(self, context: Context) -> float:
        """The sum over layers, at least 0."""
        require_weights(context, self.name)
        values = context.observer(_SmallestEigenvalues).values
        return float(torch.stack(values).sum()) if values else 0.0


class _EffectiveRanks(Observer):
    """Effective rank of what each non-linearity receives and gives, over channels."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.values: list[Tensor] = []
        self._layer: LayerCall | None = None

    def see_layer(self, call: LayerCall, part: Literal["output", "gradient"], tensor: Tensor) -> None:
        """Remember the layer that a non-linearity follows: it tells which dimension the channels are."""
        if part == "output" and not call.again:
            self._layer = call

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Keep one number of what a non-linearity receives."""
        if part == "activation":
            self.see_activated(call, response)

    def see_activated(self, call: Call, tensor: Tensor) -> None:
        """Keep one number."""
        rows = tensor.movedim(self._channels(tensor), -1).reshape(-1, tensor.shape[self._channels(tensor)]).double()
        gram = rows.T @ rows if rows.shape[0] >= rows.shape[1] else rows @ rows.T  # the same but for zeros
        values = _eigenvalues(gram).clamp_min(0.0).sqrt()  # the singular values of the rows
        shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
        self.values.append(torch.exp(-torch.special.xlogy(shares, shares).sum()) * (values.sum() > 0))

    def _channels(self, response: Tensor) -> int:
        if response.dim() == 2:
            return 1
        last = self._layer
        if last is not None and last.kind == "Linear" and response.shape[-1] == len(last.weight):
            return response.dim() - 1
        if last is None or last.kind == "Linear":
            return response.dim() - 1
        return max(1, response.dim() + 1 - last.weight.dim())  # 1, and 2 where windows of an image come before


class NEAR(Proxy):
    """Network expressivity by activation rank: sum over non-linearities of the effective ranks before and after them.

    The effective rank of a matrix with singular values s is the exponential of the entropy of ``s / sum(s)``, between 1
    and its smaller side. Columns are the channels; rows are all samples and positions (the paper draws as many rows as
    there are channels). One forward pass, no labels; the eigenvalues of wide layers cost more than the pass.

    Source: Husistein et al., "NEAR: a training-free pre-estimator of machine learning model performance", ICLR 2025,
    arXiv 2408.08776.
    """

    name = "near"
    needs = Needs(outputs=True, activated=True)
    observers = (_EffectiveRanks,)

    def measure(self, context: Context) -> float | Measurement:
        """The sum; -inf where no non-linearity depends on the images."""
        require_calls(context)
        values = context.observer(_EffectiveRanks).values
        if not values:
            return Measurement(-math.inf, "dead: no non-linearity depends on the images")
        return float(torch.stack(values).sum())
