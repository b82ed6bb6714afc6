"""Weights as safetensors beside a description that this package builds the network from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.export._facts import Images
from lightning_wrcor.export._formats import DESCRIPTION
from lightning_wrcor.search import Winner
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import get_space

WEIGHTS = "model.safetensors"
FORMAT = "lightning_wrcor exported network"
VERSION = 1


def describe(winner: Winner, images: Images, files: Mapping[str, str]) -> str:
    """The text of ``winner.json``: strict JSON (numbers that are not finite are null).

    Args:
        winner: the winner.
        images: the images that it takes.
        files: names of the files, by format.
    """
    data = {
        "format": FORMAT,
        "version": VERSION,
        "winner": winner.to_dict(),
        "images": vars(images),
        "files": dict(files),
        "versions": library_versions(),
    }
    return json.dumps(_strict(data), allow_nan=False, indent=1) + "\n"


def write_weights(network: nn.Module, folder: Path, description: str) -> Path:
    """All parameters and buffers as safetensors, with the description among its metadata."""
    from safetensors.torch import save_file

    # Copies, because the format refuses tensors that share memory; loading them gives the same network.
    tensors = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
    path = folder / WEIGHTS
    save_file(tensors, path, metadata={"format": "pt", "lightning_wrcor": description})
    return path


def load_exported(folder: str | os.PathLike[str], space: Any = None) -> nn.Module:
    """Build the network of a folder that `export_network` wrote with the format ``weights`` (or ``timm``).

    Args:
        folder: the folder.
        space: the space that was searched, needed only where it held modules or functions that text cannot hold.

    Returns:
        The network with its trained weights, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: where there is no such folder.
        ValueError: for a folder of another kind, and one without weights.
    """
    from safetensors.torch import load_file

    place = Path(folder)
    winner = Winner.from_dict(read_description(place)["winner"])
    if not (place / WEIGHTS).exists():
        raise ValueError(f"{place} holds no {WEIGHTS}: export with the format weights as well.")
    given = get_space(space) if space is not None else None
    with own_random_numbers():
        network = winner.build(given)
    network.load_state_dict(load_file(place / WEIGHTS))
    return network.eval()


def read_description(folder: Path) -> dict[str, Any]:
    """What ``winner.json`` of a folder says.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: for a file of another kind or version.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        raise FileNotFoundError(f"There is no {DESCRIPTION} in {os.fspath(folder)!r}: export_network writes one.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        kind, version = data.get("format"), data.get("version")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if kind != FORMAT:
        raise ValueError(f"{path} is not of an exported network: it has format={kind!r}.")
    if version != VERSION:
        raise ValueError(f"{path} has version {version}; this package reads {VERSION}.")
    return dict(data)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(part) for key, part in value.items()}
    return [_strict(part) for part in value] if isinstance(value, (list, tuple)) else value
