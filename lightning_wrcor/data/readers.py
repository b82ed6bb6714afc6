"""timm's readers by their names: tar files, Hugging Face datasets, WebDataset, TensorFlow datasets."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from lightning_wrcor.data._images import Stream
from lightning_wrcor.data._source import Source, find_split, read_images
from lightning_wrcor.data._transformed import TransformedData
from lightning_wrcor.data._transforms import Crop, Erase, Interpolation, TrainCrop

_NEEDS = {"hfds": "datasets", "hfids": "datasets", "wds": "webdataset", "tfds": "tensorflow-datasets"}
_STREAMS = ("hfids", "wds", "tfds")


class TimmData(TransformedData):
    """Images that one of timm's readers finds by its name, with timm's transforms.

    | name | reads | needs |
    |---|---|---|
    | `tar` | tar files: `root` is one, or a folder of them | |
    | `hfds/NAME` | a Hugging Face dataset, or a local folder of one, in any order | `datasets` |
    | `hfids/NAME` | the same as a stream | `datasets` |
    | `wds/` | WebDataset shards in the folder `root`, a stream | `webdataset` |
    | `tfds/NAME` | a TensorFlow dataset, a stream | `tensorflow-datasets` |

    `tar` and `hfds` are read like folders: order and augmentation depend on seed, epoch and image alone, and unreadable
    images are counted. A stream is shared over processes and workers by timm's reader: its order depends on how many they
    are, an evaluation on several processes may see some images twice or not at all, and resuming in the middle of an epoch
    reads the stream up to there.

    Args:
        name: The reader, and what it reads.
        root: Folder of the files; for Hugging Face and TensorFlow, where they are kept once they are downloaded.
        train_split: Split for training; of tar files, a file or folder of that name in root, or else root itself; of
            WebDataset, a name in its info file or shards with their number of images ("train-{000..099}.tar|100000").
        val_split: Split for validation; None holds out val_fraction of the training images.
        test_split: Split for the test; None: the validation images are the test images too.
        val_fraction: Share of the training images held out where there is no split for validation.
        num_classes: Number of classes; None: as the reader says.
        input_key: Name of the images' column or ending in the files; None: the reader's.
        target_key: Name of the labels' column; None: the reader's.
        num_samples: Images of a training epoch, for a stream that does not know how many it has; a dictionary says it of
            several splits, by their names.
        image_size: Height and width in pixels of the images that the network gets.
        batch_size: Images in a batch, on each process.
        num_workers: Processes that load images, for each process that trains.
        seed: Seed of the split, and of order and augmentation in training.
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
        repeats: How often an image that is drawn comes in an epoch, with different augmentation; not for streams.
        max_unreadable: Largest share of images that may be unreadable before training ends with an error that names some;
            one image may be, unless this is 0. Not for streams, of which timm's readers leave out what they cannot read.

    Raises:
        ValueError: for settings out of range or that a stream cannot have, and, when images are first needed, where there
            are none.
        ImportError: if the package that the reader needs is not installed.
        FileNotFoundError: when images are first needed, if there is no ``root``.
        RuntimeError: in training, if too many images cannot be read.
    """

    def __init__(
        self,
        name: str,
        root: str | os.PathLike[str] | None = None,
        train_split: str = "train",
        val_split: str | None = "validation",
        test_split: str | None = None,
        val_fraction: float = 0.1,
        num_classes: int | None = None,
        input_key: str | None = None,
        target_key: str | None = None,
        num_samples: int | dict[str, int] | None = None,
        image_size: int = 224,
        batch_size: int = 256,
        num_workers: int = 4,
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
    ) -> None:
        given = dict(locals())
        base = {key: given[key] for key in ("batch_size", "num_workers", "seed", "repeats")}
        super().__init__(val_fraction, max_unreadable, base, given)
        self._kind = _kind(name)
        if root is None and self._kind in ("tar", "wds"):
            raise ValueError(
                f"{name!r} reads files: root must be {'their folder' if self._kind == 'wds' else 'a tar file'}."
            )
        if self._kind in _STREAMS and (val_split is None or repeats > 1):
            wrong = "val_split=None, as nothing can be held out" if val_split is None else f"repeats={repeats}"
            raise ValueError(f"{name!r} is read as a stream, which cannot have {wrong}.")
        self.name = name
        self.root = os.fspath(root) if root is not None else None
        self.train_split = train_split
        self.val_split = val_split
        self.test_split = test_split
        self.input_key = input_key
        self.target_key = target_key
        self.num_samples = num_samples
        self._given_classes = num_classes

    @property
    def num_classes(self) -> int:
        """Number of classes, as given or as the reader says."""
        found = self._given_classes or len(self.classes)
        if not found:
            raise ValueError(f"{self.name!r} does not say how many classes there are: pass num_classes=...")
        return found

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the labels; empty where the reader does not know them."""
        if self._kind not in _STREAMS:
            return super().classes
        reader: Any = getattr(self._get("train"), "images").reader  # noqa: B009  (a Stream)
        names = getattr(reader, "class_to_idx", None) or {}
        return sorted(names, key=lambda name: int(names[name]))

    def check(self, num_workers: int | None = None, progress: bool = True) -> list[str]:
        """Read every image of every split once; see `ImageFolderData.check`. Not for streams."""
        if self._kind in _STREAMS:
            raise ValueError(
                f"{self.name!r} is read as a stream, of which timm's reader leaves out what it cannot read."
            )
        return super().check(num_workers, progress)

    def _split(self, split: str) -> str | None:
        return {"train": self.train_split, "val": self.val_split, "test": self.test_split}[split]

    def _has(self, split: str) -> bool:
        return self._split(split) is not None and (self._kind != "tar" or self._tar(split) is not None)

    def _tar(self, split: str) -> Path | None:
        assert self.root is not None
        root, name = Path(self.root), self._split(split)
        if not root.exists():
            raise FileNotFoundError(f"There is no file or folder {self.root!r} (root of the tar files).")
        found = find_split(root, (name,)) if root.is_dir() and name is not None else None
        return root if found is None and split == "train" else found

    def _open(self, split: str) -> Source:
        if self._kind == "tar":
            place = self._tar(split)
            assert place is not None
            if place.is_dir() and not any(place.glob("*.tar")):
                raise ValueError(f"There is no tar file in {str(place)!r}.")
            return read_images(place)
        name = self._split(split)
        reader = self._timm(split, False).reader
        if not len(reader):
            raise ValueError(f"There is no image in the split {name!r} of {self.name!r}.")
        return Source(reader, f"the split {name!r} of {self.name!r}")

    def _dataset(self, split: str) -> Dataset[Any]:
        if self._kind not in _STREAMS:
            return super()._dataset(split)
        if split == "test" and self.test_split is None:
            return self._get("val")
        images = self._timm(split, True)
        images.set_loader_cfg(num_workers=self.num_workers)
        return Stream(images, self._transform(split == "train"), self._training_seed(), self._share()[0] or 0)

    def _timm(self, split: str, stream: bool) -> Any:
        from timm.data import create_dataset

        name, counts = self._split(split), self.num_samples
        if not isinstance(counts, dict):
            counts = {self.train_split: counts} if counts is not None else {}
        streamed = {
            "is_training": split == "train",
            "batch_size": self.batch_size,
            "seed": self.seed,
            "num_samples": counts.get(name or ""),
        }
        return create_dataset(
            self.name,
            root=self.root,
            split=name,
            input_key=self.input_key,
            target_key=self.target_key,
            **(streamed if stream else {}),
        )


def _kind(name: str) -> str:
    """The reader of a name; its package must be installed."""
    kind = name.partition("/")[0].lower()
    if kind not in ("tar", *_NEEDS):
        kinds = ", ".join(["'tar'", *(f"'{kind}/...'" for kind in _NEEDS)])
        raise ValueError(f"name says which reader of timm's to take, {kinds}; got {name!r}. Folders: ImageFolderData.")
    package = _NEEDS.get(kind)
    if package is not None and find_spec(package.replace("-", "_")) is None:
        raise ImportError(f"{name!r} is read through {package}, which is not installed: pip install {package}")
    return kind
