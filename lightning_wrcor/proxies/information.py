"""Proxies of how the logits depend on the weights: VKDNW and the neural tangent kernel."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_wrcor._random import derive_seed
from lightning_wrcor.inspection import LayerCall, Tracer
from lightning_wrcor.inspection.weights import Run
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Proxy
from lightning_wrcor.proxies._initialise import DrawnWeights, kaiming_fan_in
from lightning_wrcor.proxies._layers import Layers, place_of_samples
from lightning_wrcor.proxies._pass import take_logits
from lightning_wrcor.proxies._samples import puts_sequences_first
from lightning_wrcor.proxies._weights import require_weights


class NTK(Proxy):
    """Condition number of the neural tangent kernel, negated: ``-lambda_max / lambda_min``.

    The kernel is the Gram matrix between images of the gradient of the sum of an image's logits with respect to all
    weights of convolutions and linear maps, in training mode. One forward pass and one backward pass for each image, and
    memory for that many gradients; no labels.

    Args:
        samples: images, at least 2: the first ones of the probe batch, which go through the network as a batch of their
            own.

    Source: Chen et al., "Neural architecture search on ImageNet in four GPU hours" (TE-NAS), ICLR 2021, arXiv 2102.11535.
    """

    name = "ntk"

    def __init__(self, samples: int = 16) -> None:
        if samples < 2:
            raise ValueError(f"A kernel needs at least 2 images; got samples={samples}.")
        self.samples = samples

    def measure(self, context: Context) -> float | Measurement:
        """The negated condition number; -inf for a singular kernel."""
        images = context.images[: self.samples]
        layers = Layers(Needs(weights=1), (), len(images), puts_sequences_first(context.network))
        tracer = Tracer(context.network, lambda call, tensor: tensor, visit_layer=layers)
        with torch.enable_grad(), tracer:
            logits = take_logits(context.network(images.clone()), len(images))[0]
        context.record.weighted, context.record.hiding = tracer.layers, tracer.hiding
        require_weights(context, self.name)
        leaves = layers.leaves
        rows = []
        for row in logits.sum(1):
            gradients = (
                torch.autograd.grad(row, leaves, retain_graph=True, allow_unused=True) if row.requires_grad else ()
            )
            parts = [gradient.flatten() for gradient in gradients if gradient is not None]
            if not parts:
                return Measurement(-math.inf, "dead: no gradient reaches a weight")
            rows.append(torch.cat(parts))
        matrix = torch.stack(rows).double()
        eigenvalues = torch.linalg.eigvalsh(matrix @ matrix.T).cpu()
        smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
        if not smallest > torch.finfo(rows[0].dtype).eps * largest:
            return Measurement(-math.inf, "the kernel is singular: the images' gradients are linearly dependent")
        return -largest / smallest


class VKDNW(Proxy):
    """Variance of knowledge of deep network weights: number of layers, plus the entropy of the Fisher information.

    The Fisher information matrix is ``mean over images of J^T (diag(p) - p p^T) J``, J the derivative of the logits with
    respect to one weight (the first) of each of the first ``weights`` layers, p the network's own predictions. The nine
    deciles of its eigenvalues, divided by their sum, are taken as probabilities; their entropy (at most log 9) tells
    networks with the same number of layers apart. Layers are convolutions and linear maps, each weight once; weights are
    drawn by Kaiming's normal initialisation (fan in), biases 0, and batch normalisation stands as in evaluation mode
    before training, where it changes nothing. One forward pass and one backward pass for each class (more than ``draws``
    classes: for each of so many labels drawn from p for every image, which gives the same matrix on average); no labels.

    Args:
        weights: layers whose weight counts in the matrix.
        draws: classes up to which the matrix is exact.

    Source: Tybl and Neumann, "Training-free neural architecture search through variance of knowledge of deep network
    weights", CVPR 2025, arXiv 2502.04975.
    """

    name = "vkdnw"

    def __init__(self, weights: int = 128, draws: int = 16) -> None:
        if weights < 1 or draws < 1:
            raise ValueError(f"vkdnw needs weights >= 1 and draws >= 1; got {weights} and {draws}.")
        self.weights = weights
        self.draws = draws

    def measure(self, context: Context) -> float | Measurement:
        """The score; -inf where the logits depend on no weight, or all predictions are certain."""
        probes = _Probes(context, self.weights)

        def normalise(function: Any, images: Tensor) -> Tensor | None:
            return images if function in (F.batch_norm, torch.batch_norm) else None

        tracer = Tracer(context.network, lambda call, tensor: tensor, visit_layer=probes, normalise=normalise)
        with torch.enable_grad(), tracer:
            logits = take_logits(context.network(context.images.clone()), len(context.images))[0]
        context.record.weighted, context.record.hiding = tracer.layers, tracer.hiding
        require_weights(context, self.name)
        layers = len({call.owner for call in tracer.layers})
        if not probes.steps or not logits.requires_grad:
            return Measurement(-math.inf, "dead: the logits depend on no weight")
        fisher = self._fisher(logits, probes.steps, context)
        if not bool(torch.isfinite(fisher).all()):
            raise ValueError("vkdnw: the Fisher information is not finite.")
        eigenvalues = torch.linalg.eigvalsh(fisher).clamp_min(0.0)
        deciles = torch.quantile(eigenvalues, torch.arange(1, 10, dtype=torch.float64) / 10)
        if not float(eigenvalues[-1]) > 0:
            return Measurement(-math.inf, "the Fisher information is zero: no prediction moves with a weight")
        shares = deciles / deciles.sum().clamp_min(torch.finfo(torch.float64).tiny)
        return layers - float(torch.special.xlogy(shares, shares).sum())

    def _fisher(self, logits: Tensor, steps: list[Tensor], context: Context) -> Tensor:
        """``(weights, weights)`` in float64 on the CPU."""
        size, classes = logits.shape
        predictions = logits.detach().double().softmax(1).cpu()
        if classes <= self.draws:
            jacobian = torch.stack(
                [self._derivative(logits[:, label].sum(), steps) for label in range(classes)], 1
            )  # (B, classes, weights)
            mean = torch.einsum("bc,bcw->bw", predictions, jacobian)
            outer = torch.einsum("bc,bcv,bcw->vw", predictions, jacobian, jacobian)
            return (outer - mean.T @ mean) / size
        generator = torch.Generator().manual_seed(derive_seed(context.seed, "vkdnw"))
        labels = torch.multinomial(predictions, self.draws, replacement=True, generator=generator).to(logits.device)
        chosen = logits.log_softmax(1)
        scores = torch.cat(
            [self._derivative(chosen.gather(1, labels[:, [draw]]).sum(), steps) for draw in range(self.draws)]
        )
        return scores.T @ scores / len(scores)

    @staticmethod
    def _derivative(total: Tensor, steps: list[Tensor]) -> Tensor:
        """``(B, weights)``: the derivative of each image's part of ``total`` with respect to each weight."""
        gradients = torch.autograd.grad(total, steps, retain_graph=True, allow_unused=True)
        columns = [
            torch.zeros_like(step) if part is None else part for part, step in zip(gradients, steps, strict=True)
        ]
        return torch.stack(columns, 1).double().cpu()


class _Probes:
    """Stands in place of every layer: one weight of each can be moved for each image alone."""

    def __init__(self, context: Context, weights: int) -> None:
        self._drawn = DrawnWeights(context, "vkdnw", kaiming_fan_in)
        self._batch_size = len(context.images)
        self._sequence_first = puts_sequences_first(context.network)
        self._limit = weights
        self._steps: dict[int, Tensor] = {}

    @property
    def steps(self) -> list[Tensor]:
        """For each layer ``(B,)`` zeros: how far its weight is moved for each image."""
        return list(self._steps.values())

    def __call__(self, call: LayerCall, run: Run, images: Tensor, weight: Tensor) -> Tensor:
        """Run the layer, with its first weight moved by nothing."""
        drawn = self._drawn.weight(call, weight)
        out = run(images, drawn, bias=False)
        place = place_of_samples(call, images, self._batch_size, self._sequence_first)
        if place is None or (call.owner not in self._steps and len(self._steps) >= self._limit):
            return out
        if call.owner not in self._steps:
            self._steps[call.owner] = torch.zeros(self._batch_size, dtype=out.dtype, device=out.device).requires_grad_()
        with torch.no_grad():
            first = torch.zeros_like(drawn)
            first[(0,) * first.dim()] = 1.0
            change = run(images.detach(), first, bias=False)
        channels = out.dim() - 1 if call.kind == "Linear" else out.dim() + 1 - drawn.dim()
        moved: Tensor = _Move.apply(out, self._steps[call.owner], change.narrow(channels, 0, 1), place, channels)
        return moved


class _Move(torch.autograd.Function):
    """A layer's output, unchanged: ``out + step * change`` in the first channel, at a step of zero for each image.

    Only the derivative with respect to the step is computed beside the layer's own; nothing is copied.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, step: Tensor, change: Tensor, place: int, channels: int) -> Tensor:
        ctx.save_for_backward(change)
        ctx.place, ctx.size, ctx.channels = place, len(step), channels
        ctx.mark_dirty(out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (change,) = ctx.saved_tensors
        product = gradient.narrow(ctx.channels, 0, 1) * change
        return gradient, product.movedim(ctx.place, 0).reshape(ctx.size, -1).sum(1), None, None, None
