"""Zen and PNorm: how far a small perturbation of the image moves the features of a network with Gaussian weights."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_wrcor.inspection import Tracer
from lightning_wrcor.inspection.features import Features
from lightning_wrcor.inspection.tracer import _marked
from lightning_wrcor.inspection.weights import Normalise
from lightning_wrcor.proxies._base import Context, Measurement, Proxy
from lightning_wrcor.proxies._initialise import DrawnWeights, standard
from lightning_wrcor.proxies._weights import require_weights


class _Perturbation(Proxy):
    _strength: ClassVar[float] = 0.01

    def _moved(self, context: Context, dtype: torch.dtype, normalise: Normalise) -> float:
        """Mean absolute difference of the features of noise and of the same noise, perturbed.

        ``normalise`` is called in the first of the two passes for every normalisation, and in the second likewise.
        """
        network = context.network if dtype == context.images.dtype else context.copy().to(dtype)
        weights = DrawnWeights(context, "zen", standard)
        like = context.images.to(dtype)
        noise, other = (weights.noise(*like.shape, like=like) for _ in range(2))
        found = []
        with torch.no_grad():
            for images in (noise, noise + self._strength * other):
                tracer = Tracer(network, lambda call, tensor: tensor, visit_layer=weights, normalise=normalise)
                with tracer, Features(len(images)) as features:
                    network(images)
                context.record.weighted, context.record.hiding = tracer.layers, tracer.hiding
                require_weights(context, self.name)
                found.append(features.tensor.clone())
        moved = float((found[0].double() - found[1].double()).abs().mean())
        if not math.isfinite(moved):
            raise ValueError(f"The features of {type(network).__name__} leave the range of {dtype} for {self.name}.")
        return moved


class PNorm(_Perturbation):
    """Perturbation norm: log of the mean absolute change of the features, on the network without normalisation.

    All weights are Gaussian with deviation 1, biases 0, every normalisation is left out, and the image is Gaussian noise;
    the change is that under Gaussian noise of deviation 0.01 added to the image. Features are what the classifier sees
    pooled, before pooling. Two forward passes in float64 (values grow with depth); no data, no labels.

    Source: the Phi-score of Lin et al. (see `Zen`) with the 1-norm; named PNorm in arXiv 2507.08841, where it is a part
    of the vote SPW.
    """

    name = "pnorm"

    def measure(self, context: Context) -> float | Measurement:
        """The logarithm; -inf where the features do not move.

        Raises:
            ValueError: where the features leave the range of float64.
        """
        moved = self._moved(context, torch.float64, lambda function, images: images)
        return math.log(moved) if moved > 0 else Measurement(-math.inf, "dead: the features do not move with the image")


class Zen(_Perturbation):
    """Zen-score: as `PNorm`, with batch normalisation, whose scale is put back.

    ``log mean abs(f(x) - f(x + 0.01 e)) + sum over batch normalisations of log sqrt(mean over channels of the variance)``,
    with x, e and all weights Gaussian, biases 0, f the features before pooling, and the variances those of the batch x
    (normalisations of a constant, in branches that carry nothing, are left out).
    Two forward passes; no data, no labels. A network that normalises otherwise (layer or group normalisation) is refused,
    because the score does not put that scale back; one without any normalisation gets its `PNorm`.

    Source: Lin et al., "Zen-NAS: a zero-shot NAS for high-performance image recognition", ICCV 2021, arXiv 2102.01063.
    """

    name = "zen"

    def measure(self, context: Context) -> float | Measurement:
        """The score; -inf where the features do not move.

        Raises:
            ValueError: for other normalisations than over the batch.
        """
        scales: list[Tensor] = []
        others: list[str] = []

        def normalise(function: Any, images: Tensor) -> None:
            if not _marked(images):
                return  # a weight that is standardised: another one is drawn in its place
            if function is F.batch_norm or function is torch.batch_norm:
                dimensions = [0, *range(2, images.dim())]
                scales.append(images.double().var(dimensions, correction=0).mean().sqrt())
            else:
                others.append(getattr(function, "__name__", str(function)))

        moved = self._moved(context, context.images.dtype, normalise)
        if others:
            raise ValueError(
                f"zen puts back the scale of batch normalisation, but {type(context.network).__name__} normalises by "
                f"{others[0]}; pnorm leaves normalisation out."
            )
        first = scales[: len(scales) // 2]  # those of the unperturbed noise
        if not moved > 0:
            return Measurement(-math.inf, "dead: the features do not move with the image")
        # A normalisation of zeros (a branch that begins with nothing) lets nothing through and has no scale to put back.
        return math.log(moved) + math.fsum(math.log(float(scale)) for scale in first if float(scale) > 0)
