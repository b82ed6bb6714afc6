"""The probe batch of a benchmark: images from an ``.npz`` file, or from a folder of folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, for folders of images."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Probe:
    """A probe batch and where it is from.

    Attributes:
        images: ``(batch, channels, height, width)``, normalised.
        labels: ``(batch,)``.
        classes: one more than the largest label of all images there are.
        source: in words, for the report.
    """

    images: Tensor
    labels: Tensor
    classes: int
    source: str


def read_probe(path: Path, batch_size: int, seed: int, image_size: int | None, own_size: int) -> Probe:
    """Draw a probe batch.

    Args:
        path: an ``.npz`` file with ``x_train`` ``(n, height, width, channels)`` uint8 and ``y_train`` ``(n,)``, normalised
            with the mean and deviation of all its images; or a folder with one folder of images a class, in the order of
            their names, normalised with ImageNet's.
        batch_size: images, drawn without replacement; all where there are fewer.
        seed: of the draw.
        image_size: pixels a side: the shorter side is resized and the middle cut out. None leaves the images of a file
            as they are, and takes ``own_size`` for a folder.
        own_size: pixels a side that the space's networks are meant for.

    Raises:
        ValueError: for images of another form, and a folder without images; the message says what was found.
        OSError: for a file that cannot be read.
    """
    if batch_size < 2:
        raise ValueError(f"A probe batch has at least 2 images (64 is usual); got batch_size={batch_size}.")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is in pixels, at least 1; got {image_size}.")
    if path.is_dir():
        return _from_folder(path, batch_size, seed, image_size or own_size)
    return _from_file(path, batch_size, seed, image_size)


def _draw(n: int, batch_size: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:batch_size]


def _from_file(path: Path, batch_size: int, seed: int, image_size: int | None) -> Probe:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as data:
            images, labels = torch.from_numpy(data["x_train"]), torch.from_numpy(data["y_train"]).long()
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        # Also what NumPy says to a file of another kind.
        raise ValueError(f"{path} is no .npz file with x_train and y_train: {error}") from error
    if images.dim() != 4 or images.shape[-1] not in (1, 3) or images.dtype != torch.uint8:
        raise ValueError(
            f"x_train of {path} must be uint8 of shape (n, height, width, channels) with 1 or 3 channels; it is "
            f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}."
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(f"y_train of {path} has shape {tuple(labels.shape)}, but there are {len(images)} images.")
    pixels = images.float().permute(0, 3, 1, 2) / 255
    pixels = (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True)
    chosen = _draw(len(pixels), batch_size, seed)
    batch = _resized(pixels[chosen], image_size).contiguous()
    return Probe(batch, labels[chosen], int(labels.max()) + 1, _words(batch, path))


def _resized(images: Tensor, size: int | None) -> Tensor:
    height, width = images.shape[-2:]
    if size is None or (height, width) == (size, size):
        return images
    shorter = min(height, width)
    shape = (max(size, round(height * size / shorter)), max(size, round(width * size / shorter)))
    images = F.interpolate(images, shape, mode="bilinear", antialias=True, align_corners=False)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return images[..., top : top + size, left : left + size]


def _from_folder(path: Path, batch_size: int, seed: int, size: int) -> Probe:
    import numpy as np
    from PIL import Image

    classes = sorted(folder for folder in path.iterdir() if folder.is_dir())
    files = [
        (file, label)
        for label, folder in enumerate(classes)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not files and any(file.suffix.lower() in SUFFIXES for file in path.iterdir()):
        raise ValueError(
            f"{path} holds images, but no folders of them: it needs one folder a class. Name the folder above it, if that "
            "holds the folders of the classes."
        )
    if not files:
        raise ValueError(f"{path} holds no images: it needs one folder a class, with images ({', '.join(SUFFIXES)}).")
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    images, labels = [], []
    for place in _draw(len(files), batch_size, seed).tolist():
        file, label = files[place]
        with Image.open(file) as picture:
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
        images.append((_resized(pixels[None], size)[0] - mean) / deviation)
        labels.append(label)
    batch = torch.stack(images)
    return Probe(batch, torch.tensor(labels), len(classes), _words(batch, path))


def _words(batch: Tensor, path: Path) -> str:
    n, channels, height, width = batch.shape
    return f"{n} images of {path.name} ({channels} x {height} x {width})"
