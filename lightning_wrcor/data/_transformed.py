"""What the data modules with timm's transforms share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch.utils.data import Dataset

from lightning_wrcor.data._base import ImageData
from lightning_wrcor.data._check import find_problems
from lightning_wrcor.data._images import Images
from lightning_wrcor.data._source import Source
from lightning_wrcor.data._split import hold_out
from lightning_wrcor.data._transforms import SETTINGS, check_settings, make_transform
from lightning_wrcor.data._unreadable import Unreadable


class TransformedData(ImageData):
    """Images of sources, one for each split, with timm's transforms; where validation has none, some are held out."""

    image_size: int
    eval_size: int | None
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_crop_mode: str
    scale: tuple[float, float] | None
    ratio: tuple[float, float] | None
    hflip: float
    vflip: float
    color_jitter: float
    color_jitter_prob: float | None
    grayscale_prob: float
    gaussian_blur_prob: float
    auto_augment: str | None
    re_prob: float
    re_mode: str
    re_count: int
    crop_pct: float
    crop_mode: str

    def __init__(
        self, val_fraction: float, max_unreadable: float, base: dict[str, int], settings: dict[str, Any]
    ) -> None:
        super().__init__(**base)
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction must be a share above 0 and below 1; got {val_fraction}.")
        if not 0 <= max_unreadable <= 1:
            raise ValueError(f"max_unreadable must be a share from 0 to 1; got {max_unreadable}.")
        self.val_fraction = val_fraction
        self.max_unreadable = max_unreadable
        check_settings(settings)
        for name in SETTINGS:
            setattr(self, name, settings[name])
        self._sources: dict[str, Source] = {}

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape ``(channels, height, width)`` of a training image."""
        return (3, self.image_size, self.image_size)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the labels; the files are listed at the first use."""
        return self._source("train").classes

    def check(self, num_workers: int | None = None, progress: bool = True) -> list[str]:
        """Read every image of every split once, before a training that should not find out at hour ten.

        Args:
            num_workers: processes that read; None: as many as the loaders have.
            progress: whether to show a bar.

        Returns:
            One line for each image that cannot be read: its file, and why. They are in ``unreadable`` as well.
        """
        workers = self.num_workers if num_workers is None else num_workers
        lines = []
        for split in ("train", "val", "test"):
            if not self._has(split):
                continue
            source = self._source(split)
            for row, problem in find_problems(source, workers, f"reading {split}" if progress else None):
                self._unreadable(split).marks[row] = 1
                lines.append(f"{source.name(row)}: {problem}")
        return lines

    @abstractmethod
    def _has(self, split: str) -> bool:
        """Whether a split has images of its own."""

    @abstractmethod
    def _open(self, split: str) -> Source:
        """List the images of a split that has its own."""

    def _source(self, split: str) -> Source:
        if split not in self._sources:
            source = self._open(split)
            if split != "train" and source.classes:
                _same_classes(self._source("train"), source)
            self._sources[split] = source
        return self._sources[split]

    def _unreadable(self, split: str) -> Unreadable:
        if split not in self._marks:
            self._marks[split] = Unreadable(self._source(split), self.max_unreadable)
        return self._marks[split]

    def _dataset(self, split: str) -> Dataset[Any]:
        if split == "test" and not self._has("test"):
            return self._get("val")
        held_out = split != "test" and not self._has("val")
        home = "train" if held_out else split
        source = self._source(home)
        rows = list(range(len(source)))
        if held_out:
            if len(source) < 2:
                raise ValueError(
                    f"{source.where} has one image only: there must be one for training, one for validation."
                )
            kept, held = hold_out(source.labels(), self.val_fraction, self.seed)
            rows = kept if split == "train" else held
        training = split == "train"
        return Images(source, rows, self._transform(training), self._unreadable(home), replace=training)

    def _transform(self, training: bool) -> Any:
        return make_transform({name: getattr(self, name) for name in SETTINGS}, training)


def _same_classes(train: Source, other: Source) -> None:
    problems = []
    for source, missing in (
        (train, set(other.classes) - set(train.classes)),
        (other, set(train.classes) - set(other.classes)),
    ):
        if missing:
            problems.append(
                f"{source.where} has no images of {len(missing)}, such as {', '.join(sorted(missing)[:10])}"
            )
    if problems:
        raise ValueError(f"The classes in {train.where} and {other.where} differ: {'; '.join(problems)}.")
