"""Images in folders, or in tar files, one folder a class."""

from __future__ import annotations

import os
from pathlib import Path

from lightning_wrcor.data._source import Source, find_split, read_images
from lightning_wrcor.data._transformed import TransformedData
from lightning_wrcor.data._transforms import Crop, Erase, Interpolation, TrainCrop

_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class ImageFolderData(TransformedData):
    """Images in folders, one folder a class, read and transformed by timm.

    Two layouts are read. With a folder ``root/train``, training images come from there, validation images from
    ``root/val``, ``root/valid`` or ``root/validation``, and test images from ``root/test``. Otherwise the folders in
    ``root`` are the classes. Where there is no folder for validation, a share of the training images
    (``val_fraction``, drawn from each class by ``seed``) is held out. **Where there is no test folder, the validation
    images are the test images too**: their accuracy is then not that of unseen images if it chose the checkpoint.

    Each of these folders may be a tar file of class folders instead (``root/train.tar``, or ``root`` itself), or a folder of
    tar files, one a class.

    A class is the name of the folder that an image lies in; the labels count the classes in natural order. Images are
    files named .png, .jpg or .jpeg, as timm reads them. Batches are pairs of images ``(batch, 3, image_size,
    image_size)`` and labels ``(batch,)``. Order and augmentation of the training images depend on ``seed``, the seed of
    ``seed_everything``, the epoch and the image alone, not on the number of workers.

    Args:
        root: Folder of the images, or a tar file.
        image_size: Height and width in pixels of the images that the network gets.
        batch_size: Images in a batch, on each process.
        num_workers: Processes that load images, for each process that trains.
        val_fraction: Share of the training images held out where there is no folder for validation.
        seed: Seed of that split, and of order and augmentation in training.
        auto_augment: Augmentation policy for training in timm's notation, such as "rand-m9-mstd0.5", "3a" or "original".
        color_jitter: Strength of random brightness, contrast and saturation in training; of auto_augment's policies only
            "3a" leaves it in place.
        hflip: Probability of a horizontal flip in training.
        re_prob: Probability of random erasing in training.
        scale: Smallest and largest share of the image's area that a training crop covers; None: timm's for the crop.
        ratio: Smallest and largest ratio of width to height of a training crop; None: timm's for the crop.
        interpolation: How images are resized; "random" takes bilinear or bicubic in training, bilinear otherwise.
        crop_pct: Share of the resized image's side that the crop keeps in validation and test.
        mean: Mean of each channel that normalisation subtracts, of values from 0 to 1.
        std: Standard deviation of each channel that normalisation divides by.
        eval_size: Height and width in pixels in validation and test; None: image_size.
        vflip: Probability of a vertical flip in training.
        color_jitter_prob: Probability that an image is jittered at all; None: always.
        grayscale_prob: Probability that a training image becomes grey.
        gaussian_blur_prob: Probability that a training image is blurred.
        re_mode: What erased places become; the mean colour, one random colour, or a random colour for each pixel.
        re_count: Most places in one image that random erasing erases.
        train_crop_mode: Training crop; "rrc" takes a random part of any size and shape, "rkrc" and "rkrr" resize nearly in
            proportion and crop at the centre or anywhere (with these, None suits scale and ratio).
        crop_mode: Crop in validation and test; at the centre, "squash" into a square first, or "border", with a border
            around what is not square.
        repeats: How often an image that is drawn comes in an epoch, with different augmentation; the epoch keeps its length.
        max_unreadable: Largest share of images that may be unreadable before training ends with an error that names some;
            one image may be, unless this is 0.
        hold_out_val: Hold the validation images out of those for training even where there is a folder for validation: the
            images of that folder then are the test images, which have no say in the choice of the checkpoint. ImageNet's
            validation images are usually reported as its test.

    Raises:
        ValueError: for settings out of range, and, when images are first needed, for folders without images, images
            outside of class folders, classes that differ between the folders, and files of another kind.
        FileNotFoundError: when images are first needed, if there is no ``root``.
        RuntimeError: in training, if too many images cannot be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_size: int = 224,
        batch_size: int = 256,
        num_workers: int = 4,
        val_fraction: float = 0.1,
        seed: int = 0,
        auto_augment: str | None = None,
        color_jitter: float = 0.4,
        hflip: float = 0.5,
        re_prob: float = 0.0,
        scale: tuple[float, float] | None = (0.08, 1.0),
        ratio: tuple[float, float] | None = (3 / 4, 4 / 3),
        interpolation: Interpolation = "bicubic",
        crop_pct: float = 0.875,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
        eval_size: int | None = None,
        vflip: float = 0.0,
        color_jitter_prob: float | None = None,
        grayscale_prob: float = 0.0,
        gaussian_blur_prob: float = 0.0,
        re_mode: Erase = "const",
        re_count: int = 1,
        train_crop_mode: TrainCrop = "rrc",
        crop_mode: Crop = "center",
        repeats: int = 1,
        max_unreadable: float = 0.01,
        hold_out_val: bool = False,
    ) -> None:
        given = dict(locals())
        base = {name: given[name] for name in ("batch_size", "num_workers", "seed", "repeats")}
        super().__init__(val_fraction, max_unreadable, base, given)
        self.root = os.fspath(root)
        self.hold_out_val = hold_out_val

    @property
    def num_classes(self) -> int:
        """Number of classes; the files are listed at the first use."""
        return len(self.classes)

    def _has(self, split: str) -> bool:
        return self._find(split) is not None

    def _find(self, split: str) -> Path | None:
        """Folder or tar file of a split; None where it has none."""
        root = Path(self.root)
        if not root.exists():
            raise FileNotFoundError(f"There is no folder {self.root!r} (root of the images).")
        found = {part: find_split(root, names) for part, names in _NAMES.items()} if root.is_dir() else {}
        if found.get("train") is not None:
            if self.hold_out_val:
                found = {**found, "val": None, "test": found["test"] or found["val"]}
            return found[split]
        val = found.get("val")
        if val is not None:
            raise ValueError(f"{self.root!r} has a folder {val.name!r} but no folder 'train'.")
        return root if split == "train" else None

    def _open(self, split: str) -> Source:
        place = self._find(split)
        assert place is not None
        return read_images(place)
