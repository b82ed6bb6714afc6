"""Mixup and CutMix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from lightning_wrcor._config import plain, read_settings

Mode = Literal["batch", "pair", "elem"]


@dataclass(frozen=True)
class Mixing:
    """Training images and their labels are mixed, each with another of the batch; timm's ``Mixup`` does it.

    Mixup (Zhang et al., ICLR 2018) adds two images in the shares lambda and 1 - lambda, CutMix (Yun et al., ICCV 2019) puts
    a piece of one into the other; the labels are mixed in the same shares. Lambda is drawn from Beta(alpha, alpha).

    Args:
        mixup: alpha of mixup; 0 is none.
        cutmix: alpha of CutMix; 0 is none.
        prob: share of batches (or of images, as ``mode`` says) that are mixed, 0 to 1.
        switch_prob: where both are on, the share that CutMix has, 0 to 1.
        mode: one lambda a batch, a pair of images, or an image.
        off_epochs: epochs at the end of the training in which nothing is mixed.

    Raises:
        ValueError: for values out of these ranges, and where both alphas are 0.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5
    mode: Mode = "batch"
    off_epochs: int = 0

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or self.mixup == self.cutmix == 0:
            raise ValueError(
                f"Mixing needs mixup or cutmix above 0, and neither below; got mixup={self.mixup} and cutmix={self.cutmix}. "
                "Without mixing, give None."
            )
        for name in ("prob", "switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} of mixing is a share, 0 to 1; got {getattr(self, name)}.")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode of mixing is one of {', '.join(get_args(Mode))}; got {self.mode!r}.")
        if self.off_epochs < 0:
            raise ValueError(f"off_epochs of mixing is a number of epochs, 0 or more; got {self.off_epochs}.")

    def __call__(self, images: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Mixed images and their soft labels, drawn from NumPy's global random numbers.

        Args:
            images: ``(B, C, H, W)``; they are left as they are. Of an odd number the last is left out, because images are
                mixed in pairs.
            labels: ``(B,)`` indices of classes.
            num_classes: number of classes.

        Returns:
            Images of the same shape, and labels ``(B, num_classes)``, each row a distribution.

        Raises:
            ValueError: for labels that are no indices, and for a batch of one image.
        """
        from timm.data import Mixup

        if labels.ndim != 1:
            raise ValueError(f"Mixing needs one class an image; got labels of shape {tuple(labels.shape)}.")
        even = len(images) // 2 * 2
        if even == 0:
            raise ValueError("Mixing needs batches of at least two images; got one.")
        mixer = Mixup(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            prob=self.prob,
            switch_prob=self.switch_prob,
            mode=self.mode,
            label_smoothing=0.0,  # the loss smooths
            num_classes=num_classes,
        )
        mixed, targets = mixer(images[:even].clone(), labels[:even])
        return mixed, targets

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, given: Mixing | Mapping[str, Any] | None) -> Mixing | None:
        """Mixing from what a user gives: an object, a mapping of its arguments, or None for none.

        Raises:
            TypeError: for anything else.
            ValueError: for a setting that is not known; the message lists those there are, closest first.
        """
        return read_settings(cls, given, "mixing")
