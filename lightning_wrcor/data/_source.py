"""timm's readers of images by their place, with what the data modules ask of them."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Any

from PIL import Image

from lightning_wrcor.data._unreadable import PROBLEMS


class Source:
    """Images and labels that can be read in any order, by any process.

    Args:
        reader: timm's reader.
        where: what messages call it.
    """

    def __init__(self, reader: Any, where: str) -> None:
        self.reader = reader
        self.where = where
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the labels; empty where the reader does not know them."""
        names = getattr(self.reader, "class_to_idx", None) or getattr(self.reader, "class_name_to_idx", None) or {}
        return sorted(names, key=lambda name: int(names[name]))

    def labels(self) -> list[int]:
        """The label of every image, without reading any."""
        if hasattr(self.reader, "targets"):  # a tar file
            return [int(label) for label in self.reader.targets]
        if hasattr(self.reader, "samples"):  # a folder
            return [int(label) for _, label in self.reader.samples]
        return [int(label) for label in self.reader.dataset[self.reader.label_key]]

    def name(self, row: int) -> str:
        """The image's file, as a message names it."""
        if hasattr(self.reader, "targets"):
            member, tar, inner = self.reader.samples[row]
            inside = posixpath.normpath(member.name)
            return "/".join(part for part in (tar or self.where.strip("'"), inner and inner.name, inside) if part)
        if hasattr(self.reader, "samples"):
            return str(self.reader.samples[row][0])
        return f"row {row} of {self.where}"

    def read(self, row: int) -> tuple[Image.Image, Any]:
        """The image, decoded and in RGB, and its label. Raises one of ``PROBLEMS`` where that cannot be done."""
        if self._process != os.getpid():  # a worker: it must not share the place in an open file with others
            self._close()
        file, label = self.reader[row]
        with file, Image.open(file) as image:
            return image.convert("RGB"), label

    def problem(self, row: int) -> str | None:
        """Why an image cannot be read; None where it can."""
        try:
            self.read(row)
        except PROBLEMS as error:
            return " ".join(f"{type(error).__name__}: {error}".split())
        return None

    def _close(self) -> None:
        """Forget the open tar files; the reader opens them again."""
        self._process = os.getpid()
        states = getattr(self.reader, "tar_state", None)
        if states is None:
            return
        for state in states.values() if isinstance(states, dict) else [states]:
            for each in (state, *state.children.values()):
                each.tf = None

    def __getstate__(self) -> dict[str, Any]:
        self._close()  # an open file cannot be sent to another process
        return self.__dict__


def find_split(root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder or tar file of a split in ``root``."""
    for name in names:
        for found in (root / name, root / f"{name}.tar"):
            if found.is_dir() or (found.suffix == ".tar" and found.is_file()):
                return found
    return None


def read_images(path: Path) -> Source:
    """The images of a folder of class folders, of a tar file, or of a folder of tar files.

    Raises:
        ValueError: for a file of another kind, where there are no images or no classes, and for a folder with both tar files
            and folders of images.
    """
    if path.is_file() and path.suffix != ".tar":
        raise ValueError(f"{str(path)!r} is a file of another kind: images are in folders or in .tar files.")
    if path.is_file():
        return _read_tar(path)
    tars = sorted(path.glob("*.tar"))
    if not tars:
        return _read_folder(path)
    loose = [folder.name for folder in sorted(path.iterdir()) if folder.is_dir() and _has_image(folder)]
    if loose:  # timm would read the tar files alone
        raise ValueError(
            f"{str(path)!r} has tar files ({_some([tar.name for tar in tars])}) and folders with images ({_some(loose)}): "
            "one of them would not be read. Unpack the tar files, pack the folders, or put one kind elsewhere."
        )
    return _read_tar(path)


def _has_image(folder: Path) -> bool:
    """Whether there is an image anywhere below; it stops at the first."""
    kinds = tuple(_endings())
    return any(name.lower().endswith(kinds) for _, _, names in os.walk(folder) for name in names)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", ... {len(names)} in all" if len(names) > 3 else "")


def _read_folder(folder: Path) -> Source:
    from timm.data import create_dataset

    try:
        reader = create_dataset("", root=str(folder), search_split=False).reader
    except RuntimeError as error:
        raise ValueError(f"There is no image ({_kinds()}) in the folders of {str(folder)!r}.") from error
    if "" in reader.class_to_idx:
        raise ValueError(f"There are images right in {str(folder)!r}: put those of each class in a folder of its own.")
    return Source(reader, repr(str(folder)))


def _read_tar(path: Path) -> Source:
    import tarfile

    from timm.data.readers.reader_image_in_tar import ReaderImageInTar
    from timm.utils.misc import natural_key

    for tar in [path] if path.is_file() else sorted(path.glob("*.tar")):
        if not tarfile.is_tarfile(tar):
            raise ValueError(f"{str(tar)!r} is named .tar but is no tar file, or a broken one.")
    try:
        try:
            reader = ReaderImageInTar(str(path))
        except PermissionError:  # above 10 GB timm keeps the list of files beside them, which may not be allowed
            reader = ReaderImageInTar(str(path), cache_tarinfo=False)
    except tarfile.TarError as error:
        raise ValueError(f"{str(path)!r} cannot be read as tar files: {error}.") from error
    except ValueError as error:  # timm's way to find no image
        raise ValueError(f"There is no image ({_kinds()}) in the tar files of {str(path)!r}.") from error
    if "." in reader.class_name_to_idx:
        _without_dots(reader)
    if "" in reader.class_name_to_idx:
        raise ValueError(f"There are images right in {str(path)!r}: put those of each class in a folder of its own.")

    # timm sorts by the path inside a tar file only: among tar files with equal names of files the order would be the file
    # system's, and processes on several machines would not agree which images are held out.
    def order(row: int) -> tuple[Any, ...]:
        member, tar, inner = reader.samples[row]
        return natural_key(tar or ""), natural_key(inner.name if inner else ""), natural_key(member.path), member.path

    rows = sorted(range(len(reader)), key=order)
    reader.samples, reader.targets = reader.samples[rows], reader.targets[rows]
    return Source(reader, repr(str(path)))


def _without_dots(reader: Any) -> None:
    """Name the classes of files that were packed as ``./file``, of which timm makes a class ``.``."""
    import numpy as np
    from timm.utils.misc import natural_key

    def named(sample: Any) -> str:
        member, tar, inner = sample
        packed_in = [os.path.splitext(os.path.basename(name))[0] for name in (tar, inner and inner.name) if name]
        folder = posixpath.normpath(posixpath.join(*packed_in, posixpath.dirname(member.path)))
        return "" if folder == "." else posixpath.basename(folder)

    names = [named(sample) for sample in reader.samples]
    labels = {name: label for label, name in enumerate(sorted(set(names), key=natural_key))}
    reader.targets = np.array([labels[name] for name in names])
    reader.class_name_to_idx = labels
    reader.class_idx_to_name = {label: name for name, label in labels.items()}


def _endings() -> list[str]:
    from timm.data.readers.img_extensions import get_img_extensions

    return list(get_img_extensions())


def _kinds() -> str:
    return ", ".join(_endings())
