from __future__ import annotations

import math

import pytest
import torch

from lightning_wrcor.training import classification_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
MIXED = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]])


def by_hand(targets: torch.Tensor, kind: str, smoothing: float, threshold: float | None) -> float:
    """One image and one class after another."""
    total = 0.0
    for logits, target in zip(LOGITS.tolist(), targets.tolist(), strict=True):
        wanted = [t * (1 - smoothing) + smoothing / 3 for t in target]
        if kind == "cross_entropy":
            norm = math.log(sum(map(math.exp, logits)))
            total -= sum(w * (one - norm) for w, one in zip(wanted, logits, strict=True)) / 2
            continue
        if threshold is not None:
            wanted = [float(w > threshold) for w in wanted]
        for w, one in zip(wanted, logits, strict=True):
            yes = 1 / (1 + math.exp(-one))
            total -= (w * math.log(yes) + (1 - w) * math.log(1 - yes)) / 6
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "threshold"), [("cross_entropy", None), ("bce", None), ("bce", 0.35)])
def test_against_a_slow_formula(kind: str, smoothing: float, threshold: float | None) -> None:
    for targets, dense in ((MIXED, MIXED), (torch.tensor([0, 2]), torch.eye(3)[[0, 2]])):
        loss = classification_loss(LOGITS, targets, kind, smoothing, threshold)  # type: ignore[arg-type]
        assert float(loss) == pytest.approx(by_hand(dense, kind, smoothing, threshold), rel=1e-5)


def test_half_precision_is_summed_in_single() -> None:
    half = classification_loss(LOGITS.bfloat16(), torch.tensor([0, 2]))
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(classification_loss(LOGITS.bfloat16().float(), torch.tensor([0, 2]))))
