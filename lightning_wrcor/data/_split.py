"""Which images are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.utilities import rank_zero_warn


def hold_out(labels: Sequence[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows that stay and rows that are held out: ``fraction`` of each class, or of all where a class has one image."""
    generator = torch.Generator().manual_seed(seed)
    by_class: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        by_class.setdefault(label, []).append(row)
    groups = list(by_class.values())
    singles = sum(len(rows) == 1 for rows in groups)
    if singles:
        rank_zero_warn(
            f"{singles} of {len(groups)} classes have one image only: images are held out from all classes alike, and "
            "some of those are then not in training."
        )
        groups = [list(range(len(labels)))]
    held_out: set[int] = set()
    for rows in groups:
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        order = torch.randperm(len(rows), generator=generator)[:count].tolist()
        held_out.update(rows[place] for place in order)
    return [row for row in range(len(labels)) if row not in held_out], sorted(held_out)
