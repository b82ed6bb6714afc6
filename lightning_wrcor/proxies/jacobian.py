"""Proxies of the Jacobian: how alike the images look from the logits, by the gradient with respect to each image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_wrcor.proxies._base import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._correlation import CONSTANT

_K = 1e-5
"""The papers' small number beside eigenvalues and correlations."""


class _ImageGradients(Observer):
    """The gradient with respect to the images."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.rows: Tensor | None = None

    def see_images(self, gradient: Tensor) -> None:
        """Keep it, one row for each image."""
        self.rows = gradient.flatten(1).double().cpu()


def _correlation(rows: Tensor) -> Tensor:
    """``(n, n)`` Pearson correlation, with its sign, between rows of which none is constant."""
    centred = rows - rows.mean(1, keepdim=True)
    centred = centred / torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    correlation: Tensor = (centred @ centred.T).clamp(-1.0, 1.0)
    return correlation


class _Jacobian(Proxy):
    needs = Needs(images=True, target="logits")
    observers = (_ImageGradients,)

    def _rows(self, context: Context) -> Tensor | None:
        """Gradients, or None where the logits do not depend on some image."""
        rows = context.observer(_ImageGradients).rows
        if rows is None:
            return None
        if not bool(torch.isfinite(rows).all()):
            raise ValueError(f"The gradient with respect to the images is not finite, so there is no {self.name}.")
        centred = rows - rows.mean(1, keepdim=True)
        norms = torch.linalg.vector_norm(rows, dim=1)
        constant = torch.linalg.vector_norm(centred, dim=1) <= CONSTANT * norms
        return None if bool(constant.any()) else rows

    @staticmethod
    def _dead() -> Measurement:
        return Measurement(-math.inf, "dead: the logits do not depend on every image")


class JacobCor(_Jacobian):
    """Jacobian correlation (jacov, jacob_cov): ``-sum_i log(v_i + k) + 1 / (v_i + k)``, k = 1e-5.

    v are the eigenvalues of the Pearson correlation between images of the gradient of the sum of all logits with respect
    to each image; the sum is largest when the gradients are uncorrelated. One forward and one backward pass (no gradients
    of weights), no labels. At most one eigenvalue for each value of an image can differ from zero.

    Source: Mellor et al., "Neural architecture search without training", first version, arXiv 2006.04647v1.
    """

    name = "jacob_cor"

    def measure(self, context: Context) -> float | Measurement:
        """The score; -inf where the logits do not depend on an image."""
        rows = self._rows(context)
        if rows is None:
            return self._dead()
        # The matrix is symmetric and positive semi-definite: rounding may leave tiny negative eigenvalues.
        shifted = torch.linalg.eigvalsh(_correlation(rows)).clamp_min(0.0) + _K
        return -float((shifted.log() + shifted.reciprocal()).sum())


class EPENAS(_Jacobian):
    """EPE-NAS: correlation of the Jacobian's rows among images of one class.

    For each class in the batch ``s_c = sum_ij log(abs(C_ij) + k)``, C the Pearson correlation between its images of the
    gradient of the sum of all logits with respect to each image, k = 1e-5. Up to 100 logits the score is ``sum_c
    abs(s_c)``; beyond, each s_c is divided by the number of its images, and the score is the sum of ``abs(s_c - s_d)``
    over all ordered pairs of classes, divided by the number of classes. One forward and one backward pass (no gradients
    of weights); needs labels, and a class with at least two images.

    Source: Lopes et al., "EPE-NAS: efficient performance estimation without training for neural architecture search",
    ICANN 2021, arXiv 2102.08099, and its code for what differs beyond 100 classes.
    """

    name = "epe_nas"
    needs = Needs(images=True, labels=True, target="logits")

    def measure(self, context: Context) -> float | Measurement:
        """The score; -inf where the logits do not depend on an image.

        Raises:
            ValueError: where no class has two images, or labels are probabilities.
        """
        if context.labels.is_floating_point():
            raise ValueError("epe_nas groups the images by class, so it needs labels that are whole numbers.")
        rows = self._rows(context)
        if rows is None:
            return self._dead()
        labels = context.labels.cpu()
        groups = [rows[labels == label] for label in labels.unique()]
        if all(len(group) < 2 for group in groups):
            raise ValueError("epe_nas compares images of one class, but no class has two images in this batch.")
        sums = [float((_correlation(group).abs() + _K).log().sum()) for group in groups]
        if context.record.classes <= 100:
            return math.fsum(map(abs, sums))
        means = [value / len(group) for value, group in zip(sums, groups, strict=True)]
        return math.fsum(abs(one - other) for one in means for other in means) / len(means)
