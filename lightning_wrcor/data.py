"""LightningDataModules: folders of images, and real images that need no download."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset


class _ImageData(LightningDataModule):
    """What both data modules share: three data sets, made by ``_dataset``, and plain loaders."""

    def __init__(self, batch_size: int, num_workers: int) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            got = f"got {batch_size} and {num_workers}."
            raise ValueError(f"batch_size must be at least 1 and num_workers at least 0; {got}")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._datasets: dict[str, Dataset[Any]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Prepare the splits that ``stage`` (``fit``, ``validate``, ``test``; None for all) needs, once."""
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), None: ("train", "val", "test")}
        for split in splits.get(stage, ()):
            self._get(split)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; the last one is dropped if it is incomplete and not the only one of a process."""
        dataset = self._get("train")
        processes = self.trainer.world_size if self.trainer else 1
        images = math.ceil(len(dataset) / processes)  # type: ignore[arg-type]
        return self._loader(dataset, shuffle=True, drop_last=images > self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """All validation images in a fixed order."""
        return self._loader(self._get("val"))

    def test_dataloader(self) -> DataLoader[Any]:
        """All test images in a fixed order."""
        return self._loader(self._get("test"))

    def _get(self, split: str) -> Dataset[Any]:
        if split not in self._datasets:
            self._datasets[split] = self._dataset(split)
        return self._datasets[split]

    def _dataset(self, split: str) -> Dataset[Any]:
        raise NotImplementedError

    def _loader(self, dataset: Dataset[Any], shuffle: bool = False, drop_last: bool = False) -> DataLoader[Any]:
        # No sampler of our own: Lightning puts a DistributedSampler in where there are several processes.
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class DigitsData(_ImageData):
    """The 1,797 handwritten digits inside scikit-learn: real images of 10 classes, without a download.

    The 8x8 images are up-sampled (bilinear) and normalised with the mean and standard deviation of all digits. Each
    training image is shifted by up to a sixteenth of its side (at least one pixel) in each direction. The split is the
    same for the same seed and has the classes in equal shares. Batches are pairs of images
    ``(batch, channels, image_size, image_size)`` and labels ``(batch,)``.

    Args:
        image_size: Height and width in pixels of the images; 8 or more.
        channels: 3 repeats the grey value, so that any network for colour images can be trained; 1 keeps one channel.
        batch_size: Images in a batch.
        num_workers: Processes that load images; 0 loads them in the training process, which is fast enough here.
        seed: Seed of the split.
        val_fraction: Share of the images that are for validation.
        test_fraction: Share of the images that are for the test.
        augment: Whether training images are shifted.

    Raises:
        ValueError: for sizes and shares that leave nothing.
        ImportError: when the images are first needed, if scikit-learn is not installed.
    """

    num_classes: int = 10

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
        super().__init__(batch_size, num_workers)
        if image_size < 8 or channels not in (1, 3):
            raise ValueError(f"image_size must be 8 or more, channels 1 or 3; got {image_size} and {channels}.")
        if min(val_fraction, test_fraction) <= 0 or val_fraction + test_fraction >= 1:
            got = f"got {val_fraction} and {test_fraction}."
            raise ValueError(f"val_fraction and test_fraction must be above 0 and leave images for training; {got}")
        self.image_size = image_size
        self.channels = channels
        self.seed = seed
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.augment = augment

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
        rest, test = _split(labels.tolist(), self.test_fraction, self.seed)
        train, val = _split(labels[rest].tolist(), self.val_fraction / (1 - self.test_fraction), self.seed)
        rows = {"train": [rest[row] for row in train], "val": [rest[row] for row in val], "test": test}[split]
        shift = max(self.image_size // 16, 1) if self.augment and split == "train" else 0
        return _Digits(images[rows], labels[rows], self.input_size, shift)


class _Digits(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: Tensor, labels: Tensor, size: tuple[int, int, int], shift: int) -> None:
        self.images, self.labels, self.size, self.shift = images, labels, size, shift

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        channels, height, width = self.size
        image = F.interpolate(self.images[row : row + 1], (height, width), mode="bilinear", align_corners=False)[0]
        if self.shift:
            # The darkest value is the background of the digits.
            padded = F.pad(image, [self.shift] * 4, value=float(self.images.min()))
            top, left = torch.randint(2 * self.shift + 1, (2,)).tolist()
            image = padded[:, top : top + height, left : left + width]
        return image.expand(channels, -1, -1).contiguous(), int(self.labels[row])


class ImageFolderData(_ImageData):
    """Images in folders, one folder a class, read and transformed by timm.

    Two layouts are read. With a folder ``root/train``, training images come from there, validation images from
    ``root/val``, ``root/valid`` or ``root/validation``, and test images from ``root/test``. Otherwise the folders in
    ``root`` are the classes. Where there is no folder for validation, a share of the training images
    (``val_fraction``, drawn from each class by ``seed``) is held out. **Where there is no test folder, the validation
    images are the test images too**: their accuracy is then not that of unseen images if it chose the checkpoint.

    A class is the name of the folder that an image lies in; the labels count the classes in natural order. Images are
    files named .png, .jpg or .jpeg, as timm reads them. Batches are pairs of images ``(batch, 3, image_size,
    image_size)`` and labels ``(batch,)``.

    Args:
        root: Folder of the images.
        image_size: Height and width in pixels of the images that the network gets.
        batch_size: Images in a batch, on each process.
        num_workers: Processes that load images, for each process that trains.
        val_fraction: Share of the training images held out where there is no folder for validation.
        seed: Seed of that split.
        auto_augment: Augmentation policy for training in timm's notation, such as "rand-m9-mstd0.5" or "original".
        color_jitter: Strength of random brightness, contrast and saturation in training; not used beside auto_augment.
        hflip: Probability of a horizontal flip in training.
        re_prob: Probability of random erasing in training.
        scale: Smallest and largest share of the image's area that a training crop covers.
        ratio: Smallest and largest ratio of width to height of a training crop.
        interpolation: How images are resized; "random" takes bilinear or bicubic in training, bilinear otherwise.
        crop_pct: Share of the resized image's side that the centre crop keeps in validation and test.
        mean: Mean of each channel that normalisation subtracts, of values from 0 to 1.
        std: Standard deviation of each channel that normalisation divides by.

    Raises:
        ValueError: for settings out of range, and, when images are first needed, for folders without images, images
            outside of class folders, and classes that differ between the folders.
        FileNotFoundError: when images are first needed, if there is no folder ``root``.
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
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest", "random"] = "bicubic",
        crop_pct: float = 0.875,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__(batch_size, num_workers)
        if image_size < 1 or not 0 < val_fraction < 1 or not 0 < crop_pct <= 1:
            got = f"got {image_size}, {val_fraction} and {crop_pct}."
            raise ValueError(f"image_size must be positive, val_fraction and crop_pct must be shares above 0; {got}")
        self.root = os.fspath(root)
        self.image_size = image_size
        self.val_fraction = val_fraction
        self.seed = seed
        self.auto_augment = auto_augment
        self.color_jitter = color_jitter
        self.hflip = hflip
        self.re_prob = re_prob
        self.scale = scale
        self.ratio = ratio
        self.interpolation = interpolation
        self.crop_pct = crop_pct
        self.mean = mean
        self.std = std
        self._readers: dict[str, Any] = {}

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape ``(channels, height, width)`` of an image."""
        return (3, self.image_size, self.image_size)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the labels; the folders are read at the first use."""
        return list(self._reader("train").class_to_idx)

    @property
    def num_classes(self) -> int:
        """Number of classes; the folders are read at the first use."""
        return len(self.classes)

    def _dataset(self, split: str) -> Dataset[Any]:
        from timm.data import ImageDataset

        if split == "test" and self._folder("test") is None:
            return self._get("val")
        held_out = self._folder("val") is None and split != "test"
        reader = self._reader("train" if held_out else split)
        dataset: Dataset[Any] = ImageDataset(self.root, reader=reader, transform=self._transform(split == "train"))
        if not held_out:
            return dataset
        if len(reader) < 2:
            raise ValueError(f"{reader.root!r} has one image only: there must be one for training, one for validation.")
        train, val = _split([label for _, label in reader.samples], self.val_fraction, self.seed)
        return Subset(dataset, train if split == "train" else val)

    def _folder(self, split: str) -> Path | None:
        root = Path(self.root)
        if not root.is_dir():
            raise FileNotFoundError(f"There is no folder {self.root!r} (root of the images).")
        names = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
        found = {part: next((root / n for n in names[part] if (root / n).is_dir()), None) for part in names}
        if found["train"] is not None:
            return found[split]
        if found["val"] is not None:
            raise ValueError(f"{self.root!r} has a folder {found['val'].name!r} but no folder 'train'.")
        return root if split == "train" else None

    def _reader(self, split: str) -> Any:
        """The list (timm's) of the images and labels of one folder; its classes are those of the training folder."""
        if split not in self._readers:
            folder = self._folder(split)
            assert folder is not None
            reader = _read_folder(folder)
            if split != "train":
                _same_classes(self._reader("train").root, self.classes, str(folder), list(reader.class_to_idx))
            self._readers[split] = reader
        return self._readers[split]

    def _transform(self, training: bool) -> Any:
        from timm.data import create_transform

        names = ("scale", "ratio", "hflip", "color_jitter", "auto_augment", "mean", "std", "re_prob", "crop_pct")
        settings = {name: getattr(self, name) for name in names}
        interpolation = "bilinear" if self.interpolation == "random" and not training else self.interpolation
        try:
            return create_transform(self.image_size, training, interpolation=interpolation, **settings)
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(
                f"timm cannot make the transform with auto_augment={self.auto_augment!r}, interpolation="
                f"{self.interpolation!r}: {error!r}. Policies are such as 'rand-m9-mstd0.5', 'augmix-m5', 'original'."
            ) from error


def _read_folder(folder: Path) -> Any:
    from timm.data import create_dataset
    from timm.data.readers.img_extensions import get_img_extensions

    kinds = ", ".join(get_img_extensions())
    try:
        reader = create_dataset("", root=str(folder), search_split=False).reader
    except RuntimeError as error:
        raise ValueError(f"There is no image ({kinds}) in the folders of {str(folder)!r}.") from error
    if "" in reader.class_to_idx:
        raise ValueError(f"There are images right in {str(folder)!r}: put those of each class in a folder of its own.")
    return reader


def _same_classes(train: str, ours: list[str], other: str, theirs: list[str]) -> None:
    problems = []
    for folder, missing in ((train, set(theirs) - set(ours)), (other, set(ours) - set(theirs))):
        if missing:
            problems.append(f"{folder!r} has no images of {len(missing)}, such as {', '.join(sorted(missing)[:10])}")
    if problems:
        raise ValueError(f"The classes in {train!r} and {other!r} differ: {'; '.join(problems)}.")


def _split(labels: Sequence[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
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
