"""scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from lightning_wrcor.data._base import ImageData
from lightning_wrcor.data._seeded import SeededDataset
from lightning_wrcor.data._split import hold_out


class DigitsData(ImageData):
    """The 1,797 handwritten digits inside scikit-learn: real images of 10 classes, without a download.

    The 8x8 images are up-sampled (bilinear) and normalised with the mean and standard deviation of all digits. Each
    training image is shifted by up to a sixteenth of its side (at least one pixel) in each direction. The split is the
    same for the same seed and has the classes in equal shares. Batches are pairs of images
    ``(batch, channels, image_size, image_size)`` and labels ``(batch,)``.

    Attributes:
        mean: what normalisation subtracts from each channel, of values from 0 to 1.
        std: what it divides each channel by.

    Args:
        image_size: Height and width in pixels of the images; 8 or more.
        channels: 3 repeats the grey value, so that any network for colour images can be trained; 1 keeps one channel.
        batch_size: Images in a batch.
        num_workers: Processes that load images; 0 loads them in the training process, which is fast enough here.
        seed: Seed of the split, the order and the shifts.
        val_fraction: Share of the images that are for validation.
        test_fraction: Share of the images that are for the test.
        augment: Whether training images are shifted.

    Raises:
        ValueError: for sizes and shares that leave nothing.
        ImportError: when the images are first needed, if scikit-learn is not installed.
    """

    num_classes: int = 10
    mean: tuple[float, ...] = (0.30526,)
    std: tuple[float, ...] = (0.37605,)

    def __init__(
        self,
        image_size: int = 16,
        channels: Literal[1, 3] = 3,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        augment: bool = True,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        if image_size < 8 or channels not in (1, 3):
            raise ValueError(f"image_size must be 8 or more, channels 1 or 3; got {image_size} and {channels}.")
        if min(val_fraction, test_fraction) <= 0 or val_fraction + test_fraction >= 1:
            got = f"got {val_fraction} and {test_fraction}."
            raise ValueError(f"val_fraction and test_fraction must be above 0 and leave images for training; {got}")
        self.image_size = image_size
        self.channels = channels
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.augment = augment
        self.mean, self.std = self.mean * channels, self.std * channels

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape ``(channels, height, width)`` of an image."""
        return (self.channels, self.image_size, self.image_size)

    def _dataset(self, split: str) -> Dataset[Any]:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            way_out = "pip install 'lightning_wrcor[recipes]'"
            raise ImportError(f"The digits are inside scikit-learn, which is not installed: {way_out}") from error
        images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
        images = images.float().view(-1, 1, 8, 8)
        images = (images - images.mean()) / images.std()
        rest, test = hold_out(labels.tolist(), self.test_fraction, self.seed)
        train, val = hold_out(labels[rest].tolist(), self.val_fraction / (1 - self.test_fraction), self.seed)
        rows = {"train": [rest[row] for row in train], "val": [rest[row] for row in val], "test": test}[split]
        shift = max(self.image_size // 16, 1) if self.augment and split == "train" else 0
        return _Digits(images[rows], labels[rows], self.input_size, shift)


class _Digits(SeededDataset[tuple[Tensor, int]]):
    def __init__(self, images: Tensor, labels: Tensor, size: tuple[int, int, int], shift: int) -> None:
        self.images, self.labels, self.size, self.shift = images, labels, size, shift

    def __len__(self) -> int:
        return len(self.labels)

    def make(self, place: int) -> tuple[Tensor, int]:
        channels, height, width = self.size
        image = F.interpolate(self.images[place : place + 1], (height, width), mode="bilinear", align_corners=False)[0]
        if self.shift:
            # The darkest value is the background of the digits.
            padded = F.pad(image, [self.shift] * 4, value=float(self.images.min()))
            top, left = torch.randint(2 * self.shift + 1, (2,)).tolist()
            image = padded[:, top : top + height, left : left + width]
        return image.expand(channels, -1, -1).contiguous(), int(self.labels[place])
