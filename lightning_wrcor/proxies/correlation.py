"""ACor, GCor, RCor and WRCor: log-determinants of summed correlations between samples.

Source: Jing et al., "Zero-shot neural architecture search with weighted response correlation", arXiv 2507.08841,
Neurocomputing 2025.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lightning_wrcor.proxies._base import Context, Measurement, Needs, Proxy
from lightning_wrcor.proxies._correlation import CorrelationParts, CorrelationSums
from lightning_wrcor.proxies._samples import require_calls


class _ResponseCorrelation(Proxy):
    """What the four have in common: K is a weighted sum of correlation matrices, the score is log abs det K."""

    observers = (CorrelationSums,)
    _parts: ClassVar[tuple[str, ...]]

    def __init__(self, gates: bool = False) -> None:
        self.gates = gates

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Gradients and labels where gradient responses are in the sum."""
        gradients = "gradient" in self._parts
        return Needs(gradients=gradients, labels=gradients, gates=self.gates)

    def _log2_weight(self, layer: int) -> float:
        return 0.0

    def _log_norm(self, context: Context) -> float:
        """Log of what all weights are divided by."""
        return 0.0

    def measure(self, context: Context) -> Measurement:
        """The score and all that it rests on.

        Raises:
            ValueError: when responses are not finite.
        """
        record = context.record
        require_calls(context)
        sums = context.observer(CorrelationSums)
        parts = sums.gather(record.layers)
        broken = [key for key in parts.broken if key[1] in self._parts]
        if broken:
            index, part = broken[0]
            call = record.calls[index]
            raise ValueError(
                f"{len(broken)} of the responses are not finite; first the {part} at {call.kind} in {call.module!r}."
            )
        used = [key for key in parts.used if key[1] in self._parts]
        skipped = {
            "a row is constant": sum(part in self._parts for _, part in parts.constant),
            "does not reach the loss": len(record.unreached) if "gradient" in self._parts else 0,
            "does not depend on the images": len(record.independent) * len(self._parts),
            "samples cannot be told apart": sum(part in self._parts for _, part in record.without_samples),
        }
        details = {
            "activations_used": sum(part == "activation" for _, part in used),
            "gradients_used": sum(part == "gradient" for _, part in used),
            "skipped": {reason: count for reason, count in skipped.items() if count},
        }
        for part in self._parts:
            if not any(key[1] == part for key in used):
                why = f"every {part} response is constant" if part == "activation" else "no gradient reaches a response"
                return Measurement(-math.inf, f"dead: {why}", details)
        kernel = {key: matrix for key, matrix in parts.sums.items() if key[1] in self._parts}
        counts = dict.fromkeys(kernel, 0)
        for index, part in used:
            counts[record.layers[index], part] += 1
        return self._log_det(kernel, counts, parts, context, details)

    def _log_det(
        self,
        kernel: dict[tuple[int, str], Tensor],
        counts: dict[tuple[int, str], int],
        parts: CorrelationParts,
        context: Context,
        details: dict[str, object],
    ) -> Measurement:
        size = parts.batch_size
        # Weights relative to the largest, so that a hundred layers do not overflow; put back as a logarithm.
        top = max(self._log2_weight(layer) for layer, _ in kernel)
        weights = {key: 2.0 ** (self._log2_weight(key[0]) - top) for key in kernel}
        matrix = sum((weights[key] * kernel[key] for key in kernel), torch.zeros(size, size, dtype=torch.float64))
        shift = size * (top * math.log(2.0) - self._log_norm(context))
        sign, log_det = torch.linalg.slogdet(matrix)
        total = math.fsum(weights[key] * counts[key] for key in kernel)
        eigenvalues = torch.linalg.eigvalsh(matrix)
        # Rounding leaves a singular K with a determinant that is only noise.
        noise = parts.precision * float(eigenvalues.abs().max())
        if not math.isfinite(float(log_det)) or float(eigenvalues.abs().min()) <= noise:
            return Measurement(-math.inf, "K is singular: samples cannot be told apart by any response", details)
        inverse = torch.linalg.inv(matrix)
        shares = {key: float(weights[key] * (inverse * kernel[key]).sum()) for key in kernel}
        value = float(log_det) + shift
        size_term = size * math.log(total) + shift
        details |= {
            "size_term": size_term,
            "shape_term": value - size_term,
            "sign": int(sign),
            "smallest_eigenvalue": float(eigenvalues.min()) * 2.0**top if top < 1000 else math.inf,
            "shares": [
                {"layer": layer, **{part: shares.get((layer, part), 0.0) for part in self._parts}}
                for layer in sorted({layer for layer, _ in kernel})
            ],
        }
        return Measurement(value, None, details)


class ACor(_ResponseCorrelation):
    """Correlation of activations: ``K = sum_i abs(C_i)``, score log abs det K.

    C_i is the ``(B, B)`` Pearson correlation between samples of what non-linearity i receives. Needs one forward pass
    and no labels.

    Args:
        gates: bounded functions (sigmoid, tanh, softmax) count too.

    Source: arXiv 2507.08841.
    """

    name = "acor"
    _parts = ("activation",)


class GCor(_ResponseCorrelation):
    """Correlation of gradients: as `ACor`, with the loss's gradient with respect to what each non-linearity receives.

    Needs one forward and one backward pass (no weight gradients) and labels.

    Args:
        gates: bounded functions (sigmoid, tanh, softmax) count too.

    Source: arXiv 2507.08841.
    """

    name = "gcor"
    _parts = ("gradient",)


class RCor(_ResponseCorrelation):
    """Correlation of responses: the sum of `ACor`'s and `GCor`'s matrices, score log abs det K.

    Needs one forward and one backward pass (no weight gradients) and labels.

    Args:
        gates: bounded functions (sigmoid, tanh, softmax) count too.

    Source: arXiv 2507.08841.
    """

    name = "rcor"
    _parts = ("activation", "gradient")


class WRCor(_ResponseCorrelation):
    """Weighted response correlation: ``K = sum_l 2^l sum_i (abs(C^A_i) + abs(C^G_i))``, score log abs det K.

    l is the layer (cell, block or stage) of non-linearity i, counted from the input. Each matrix has a unit diagonal, so
    the score is ``B log(sum of weights)``, which only counts (weighted) non-linearities, plus the log-determinant of the
    normalised K: the report gives both as ``size_term`` and ``shape_term``. Needs one forward and one backward pass (no
    weight gradients) and labels.

    Args:
        depth_normalised: divide the weights by the sum of 2^l over all layers up to the last. It keeps every ranking
            within one depth and takes out the ``B log 2`` that one layer more adds whatever it does. None: only where
            the candidates differ in depth by nature (timm models, lists of networks).
        gates: bounded functions (sigmoid, tanh, softmax) count too.

    Source: arXiv 2507.08841.
    """

    name = "wrcor"
    _parts = ("activation", "gradient")

    def __init__(self, depth_normalised: bool | None = None, gates: bool = False) -> None:
        super().__init__(gates)
        self.depth_normalised = depth_normalised

    def _log2_weight(self, layer: int) -> float:
        return float(layer)

    def _log_norm(self, context: Context) -> float:
        normalised = context.mixed_depth if self.depth_normalised is None else self.depth_normalised
        levels = max(context.record.layers) + 1
        # log(2^levels - 1), exact also where 2^levels overflows
        return levels * math.log(2.0) + math.log1p(-(2.0**-levels)) if normalised else 0.0

    def measure(self, context: Context) -> Measurement:
        """The score and all that it rests on."""
        measurement = super().measure(context)
        normalised = context.mixed_depth if self.depth_normalised is None else self.depth_normalised
        measurement.details["depth_normalised"] = normalised
        return measurement
