"""From a checkpoint to a folder of files, each of which is read back and compared before anything is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_wrcor.checkpoint import load_network
from lightning_wrcor.export._card import Card
from lightning_wrcor.export._facts import Images, read_images, read_training
from lightning_wrcor.export._formats import (
    DESCRIPTION,
    FILES,
    READERS,
    WRITERS,
    Plain,
    check,
    check_formats,
    first_line,
)
from lightning_wrcor.export._timm import CONFIG, read_timm, write_timm
from lightning_wrcor.export._weights import WEIGHTS, describe, load_exported, read_description, write_weights
from lightning_wrcor.search import CHECKPOINT_KEY, SearchResult, Winner
from lightning_wrcor.spaces import Space, get_space

CARD = "README.md"
_OURS = (CARD, DESCRIPTION, CONFIG, WEIGHTS, *FILES.values(), f"{FILES['onnx']}.data")
"""All names of files that an export may write."""


@dataclass(frozen=True)
class Exported:
    """What `export_network` wrote.

    Attributes:
        folder: where the files are.
        files: the file of each format.
        differences: the largest difference of each file's logits from the network's, as a share of the largest logit.
    """

    folder: Path
    files: dict[str, Path]
    differences: dict[str, float]


def export_network(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    formats: Iterable[str] = ("weights", "program"),
    *,
    space: Any = None,
    data: Any = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    search: SearchResult | str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Exported:
    """Write the trained winner of a checkpoint as files for others, with a model card (``README.md``).

    The network is that of `load_network`: with weight averaging, the averaged weights. Every file is read back and
    compared with it on random images, in batches of 1 and 3, before the folder is touched; an error leaves the folder as it
    was. With several processes, call it on rank zero alone, after training.

    Formats (names in `FORMATS`):

    - ``weights``: ``model.safetensors`` and ``winner.json``, for `load_exported`;
    - ``timm``: the same weights with ``config.json``, for ``timm.create_model("local-dir:FOLDER", pretrained=True)``, where
      the winner is a model of timm by name (`TimmModels`, names in a `NetworkList`) or a `TimmViT`;
    - ``program``: ``model.pt2`` of ``torch.export``, for torch alone, with any number of images;
    - ``torchscript``: ``model.torchscript.pt`` of ``torch.jit.trace``, which torch has deprecated;
    - ``onnx``: ``model.onnx``, which needs ``pip install 'lightning_wrcor[onnx]'``.

    Args:
        checkpoint: a checkpoint written with `ZeroShotSearch` or `ZeroShotSearchModule`.
        folder: is made; an earlier export in it is replaced, other files stay.
        formats: what to write.
        space: the space that was searched, needed only where it held modules or functions that a checkpoint cannot hold.
        data: the data module (or a mapping), whose ``image_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct`` and
            ``classes`` are read where it has them. What is given below goes before it.
        image_size: height and width in pixels of the images; None takes them from the data, the checkpoint, or a network
            that has a size of its own. The files may take no other size.
        mean: mean of each channel that was subtracted from values between 0 and 1.
        std: standard deviation of each channel that they were divided by.
        class_names: names of the classes in the order of the logits.
        search: the search's result or its ``search.json``, for the card; a checkpoint holds the essentials.
        settings: settings of the training that a checkpoint does not hold, such as those of the Trainer, for the card.
        figures: accuracies for the card, such as ``{"test/top1": 0.76}``; the text under ``data`` says on what.

    Returns:
        The files, and how exactly they agree with the network.

    Raises:
        ValueError: for a checkpoint without a winner, an unknown format, a format that is not possible for this winner,
            a file that does not give the network's logits, and where the size of the images is not known.
        FileNotFoundError: where there is no such checkpoint.
        FileExistsError: where a file in the folder, not of an export, would be overwritten.
        ImportError: where the format onnx needs packages that are not installed.
    """
    names = check_formats(formats)
    target = Path(folder)
    _check_folder(target)
    given_space = get_space(space) if space is not None else None
    found = search if search is None or isinstance(search, SearchResult) else SearchResult.from_json(search)
    network = load_network(checkpoint, given_space)
    contents = _read(checkpoint)
    winner = Winner.from_dict(contents[CHECKPOINT_KEY])
    given = {"image_size": image_size, "mean": mean, "std": std, "class_names": class_names}
    images = read_images(contents, network, given_space, data, given)
    files = {name: FILES.get(name, WEIGHTS) for name in names}
    description = describe(winner, images, files)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as made:
        fresh = Path(made)
        (fresh / DESCRIPTION).write_text(description, encoding="utf-8")
        differences = _write(network, winner, given_space, images, names, fresh, description)
        card = Card(
            winner=winner,
            images=images,
            training=read_training(contents, checkpoint, settings),
            costs=_costs(network, images),
            search=found,
            figures=dict(figures or {}),
            files=files,
            differences=differences,
        )
        (fresh / CARD).write_text(card.text(), encoding="utf-8")
        _move(fresh, target)
    return Exported(target, {name: target / file for name, file in files.items()}, differences)


def _write(
    network: nn.Module,
    winner: Winner,
    space: Space | None,
    images: Images,
    names: list[str],
    folder: Path,
    description: str,
) -> dict[str, float]:
    """Write and check every format; the largest difference of each."""
    plain = Plain(network).eval()
    example = torch.randn(2, *images.input_size, generator=torch.Generator().manual_seed(1))
    try:
        with torch.no_grad():
            plain(example)
    except Exception as error:
        raise ValueError(
            f"{winner.name!r} does not take images of {tuple(images.input_size)}: {type(error).__name__}: "
            f"{first_line(error)}. Give another image_size (--image-size)."
        ) from error
    differences = {}
    if {"weights", "timm"} & set(names):
        write_weights(network, folder, description)
    if "weights" in names:
        differences["weights"] = check("weights", Plain(load_exported(folder, space)), plain, images.input_size)
    if "timm" in names:
        write_timm(network, winner, space, images, folder)
        differences["timm"] = check("timm", Plain(read_timm(folder)), plain, images.input_size)
    for name in names:
        if name in WRITERS:
            try:
                path = WRITERS[name](plain, example, folder, description)
            except Exception as error:
                raise ValueError(
                    f"{winner.name!r} cannot be written as {name}: {type(error).__name__}: {first_line(error)} Leave {name} "
                    "out of the formats; weights are always possible."
                ) from error
            differences[name] = check(name, READERS[name](path), plain, images.input_size)
    return differences


def _read(checkpoint: str | os.PathLike[str]) -> dict[str, Any]:
    from lightning_wrcor._trainer import read_checkpoint

    return read_checkpoint(checkpoint, device="cpu")


def _costs(network: nn.Module, images: Images) -> tuple[int, int | None]:
    """Parameters and MACs; None where these cannot be counted."""
    from lightning_wrcor.inspection import count_costs

    try:
        costs = count_costs(network, images.input_size)
    except Exception:  # a network of any kind: its files are good, and the card says that it was not counted
        return sum(parameter.numel() for parameter in network.parameters()), None
    return costs.params, costs.macs


def _check_folder(folder: Path) -> None:
    """Refuse to overwrite files that no export has written."""
    there = [name for name in _OURS if (folder / name).exists()]
    if not there:
        return
    try:
        read_description(folder)
    except (ValueError, FileNotFoundError):
        raise FileExistsError(
            f"{folder} holds {there[0]} but no export: name a new folder, or move the file away."
        ) from None


def _move(fresh: Path, folder: Path) -> None:
    """Put the files into the folder; those of an earlier export that are not among them go."""
    folder.mkdir(exist_ok=True)
    for name in _OURS:
        if (fresh / name).exists():
            shutil.move(fresh / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
