"""Training images that grow with the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lightning_wrcor._config import plain, read_settings


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Images ``(B, C, H, W)`` of another height and width, bilinearly and with anti-aliasing.

    Args:
        images: floating point images; those that have the size are given back as they are.
        size: height and width in pixels, or one number for both.
    """
    wanted = (size, size) if isinstance(size, int) else tuple(size)
    if tuple(images.shape[-2:]) == wanted:
        return images
    # Half precision lacks this operation on the CPU, and gains nothing by it elsewhere.
    return F.interpolate(images.float(), wanted, mode="bilinear", antialias=True, align_corners=False).to(images.dtype)


@dataclass(frozen=True)
class ProgressiveResolution:
    """Small training images at first, of the full size in the end: the early epochs then cost less.

    The size grows linearly with the epochs, as in EfficientNetV2 (Tan and Le, ICML 2021, arXiv 2104.00298). Networks that
    saw small images last would meet objects of another apparent size at validation (Touvron et al., FixRes, NeurIPS 2019,
    arXiv 1906.06423): the last epochs therefore have the full size.

    Args:
        start: height and width in pixels in the first epoch.
        until: share of the epochs after which the full size is reached, above 0 and at most 1. With 1 only the last epoch
            has it.
        multiple: sizes are rounded to a multiple of this (32: what most networks divide an image's size by). The full
            size is never rounded.

    Raises:
        ValueError: for values out of these ranges.
    """

    start: int
    until: float = 1.0
    multiple: int = 32

    def __post_init__(self) -> None:
        for name in ("start", "multiple"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of progressive is a number of pixels, at least 1; got {getattr(self, name)}.")
        if not 0 < self.until <= 1:
            raise ValueError(f"until of progressive is a share of the epochs, above 0 and at most 1; got {self.until}.")

    def size(self, epoch: int, epochs: float, full: int) -> int:
        """Height and width in pixels of the training images of one epoch.

        Args:
            epoch: counted from 0.
            epochs: of the whole training; infinite where there is no end, and then the images stay small.
            full: the size that the images have.

        Raises:
            ValueError: where ``start`` is larger than ``full``.
        """
        if self.start > full:
            raise ValueError(
                f"progressive starts with images of {self.start} pixels, but those of the data have only {full}: "
                f"start must be at most {full}; without progressive (None, in YAML null) all have {full}."
            )
        # The last epoch has the full size even where `until` leaves none after it.
        grown = min(self.until * epochs, epochs - 1)
        if epoch >= grown:
            return full
        steps = (self.start + (full - self.start) * epoch / grown) / self.multiple
        return min(full, self.multiple * max(1, int(steps + 0.5)))

    def resize(self, images: Tensor, size: int) -> Tensor:
        """Images ``(B, C, H, W)`` of height and width ``size``; see `resize`."""
        return resize(images, size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, given: ProgressiveResolution | Mapping[str, Any] | None) -> ProgressiveResolution | None:
        """Settings from what a user gives: an object, a mapping of its arguments, or None for images of one size.

        Raises:
            TypeError: for anything else.
            ValueError: for a setting that is not known; the message lists those there are, closest first.
        """
        return read_settings(cls, given, "progressive")
