"""The loss of a classifier, for classes and for mixed labels alike."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["cross_entropy", "bce"]


def classification_loss(
    logits: Tensor,
    targets: Tensor,
    kind: Loss = "cross_entropy",
    smoothing: float = 0.0,
    threshold: float | None = None,
) -> Tensor:
    """The mean loss of a batch, in float32 at least.

    With smoothing s, a label y becomes (1 - s) y + s / classes (Szegedy et al., CVPR 2016).

    Args:
        logits: ``(B, classes)``.
        targets: ``(B,)`` indices of classes, or ``(B, classes)`` with a distribution an image.
        kind: ``cross_entropy``, or ``bce``: one yes or no a class, the mean over classes (Wightman et al., ResNet strikes
            back, 2021).
        smoothing: 0 to 1.
        threshold: only for ``bce``: a class with a target above it counts as a full yes, the others as no, so that both of
            two mixed classes are right.

    Returns:
        A scalar.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if kind == "cross_entropy":
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    if targets.ndim == 1:
        targets = F.one_hot(targets, logits.shape[1])
    wanted = targets.to(logits.dtype) * (1 - smoothing) + smoothing / logits.shape[1]
    if threshold is not None:
        wanted = (wanted > threshold).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, wanted)
