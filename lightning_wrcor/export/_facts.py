"""What is known of a trained winner: from its checkpoint, from its data, and from who exports it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lightning_wrcor._config import plain
from lightning_wrcor.search import CHECKPOINT_KEY, Winner
from lightning_wrcor.spaces import Space, get_space

_OF_THE_SEARCH = (
    *("space", "genotype", "proxy", "strategy", "budget", "constraints", "probe_size", "seed", "journal", "racing"),
    *("precision", "log_figures", "num_classes", "in_chans", "image_size"),
)
"""Hyper-parameters of ZeroShotSearchModule that say nothing of the training."""


@dataclass(frozen=True)
class Images:
    """The images that a network takes.

    Attributes:
        input_size: ``(channels, height, width)`` of one image.
        mean: of each channel, subtracted from values between 0 and 1; None where it is not known.
        std: of each channel, divided by afterwards; likewise.
        interpolation: how images are resized; likewise.
        crop_pct: share of the resized image's side that the centre crop keeps; likewise.
        class_names: in the order of the logits; likewise.
    """

    input_size: tuple[int, int, int]
    mean: list[float] | None
    std: list[float] | None
    interpolation: str | None
    crop_pct: float | None
    class_names: list[str] | None


@dataclass(frozen=True)
class Training:
    """What a checkpoint says of the training.

    Attributes:
        settings: hyper-parameters of module and data, as plain values.
        epoch: in which the checkpoint was written, counted from 1; None where the checkpoint does not say it.
        step: optimiser steps until then; likewise.
        weights: one sentence: whether the weights are averaged.
        monitored: ``(name, mode, value)`` of what chose this checkpoint, where that is known.
        lightning: version of Lightning that wrote it, or None.
    """

    settings: dict[str, Any]
    epoch: int | None
    step: int | None
    weights: str
    monitored: list[tuple[str, str, float]]
    lightning: str | None


def read_images(
    checkpoint: Mapping[str, Any], network: nn.Module, space: Space | None, data: Any, given: Mapping[str, Any]
) -> Images:
    """The images that the network takes: as given, else the data module's, else the checkpoint's, else the network's.

    Args:
        checkpoint: its contents.
        network: the winner.
        space: its search space, where there is need of one that a checkpoint cannot hold.
        data: the data module or a mapping with the same names, or None.
        given: what the user gave, with the names of `Images` and ``image_size``; None for what is not given.

    Raises:
        ValueError: where nobody says how large the images are, and for values that do not fit the winner.
    """
    winner = Winner.from_dict(checkpoint[CHECKPOINT_KEY])
    stored = [checkpoint.get("hyper_parameters") or {}, checkpoint.get("datamodule_hyper_parameters") or {}]
    sources = [given, _attributes(data), *stored]

    def first(*names: str) -> Any:
        values = (source.get(name) for source in sources for name in names)
        return next((value for value in values if value is not None), None)

    size = first("eval_size", "image_size")
    if size is None:
        size = _own_size(winner, network, get_space(winner.space) if space is None else space)
    if size is None:
        raise ValueError(
            "The checkpoint does not say how large the images are: give image_size=... (--image-size), or the data module."
        )
    if isinstance(size, (list, tuple)) and len(set(size)) == 1:
        size = size[0]
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ValueError(f"image_size is a whole number of pixels; got {size!r}.")
    mean, std, names = first("mean"), first("std"), first("class_names", "classes")
    if given["class_names"] is None and names is not None and len(names) != winner.num_classes:
        names = None  # of a reader that does not know them, or not all
    kind: str | None = first("interpolation")
    for what, values, count in (
        ("mean", mean, winner.in_chans),
        ("std", std, winner.in_chans),
        ("class_names", names, winner.num_classes),
    ):
        if values is not None and len(values) != count:
            raise ValueError(f"{what} has {len(values)} values; the network needs {count}.")
    return Images(
        (winner.in_chans, size, size),
        [float(value) for value in mean] if mean is not None else None,
        [float(value) for value in std] if std is not None else None,
        "bilinear" if kind == "random" else kind,  # timm's "random" is of training: it evaluates with bilinear
        first("crop_pct"),
        [str(name) for name in names] if names is not None else None,
    )


def read_training(checkpoint: Mapping[str, Any], path: str | os.PathLike[str], settings: Any) -> Training:
    """What the checkpoint says of the training.

    Args:
        checkpoint: its contents.
        path: where it lies: its name tells which of the monitored values is its own.
        settings: further settings that a checkpoint does not hold, or None.
    """
    of_module = dict(checkpoint.get("hyper_parameters") or {})
    if {"space", "genotype"} <= set(of_module):
        of_module = {name: value for name, value in of_module.items() if name not in _OF_THE_SEARCH}
    parts = {
        "module": of_module,
        "data": dict(checkpoint.get("datamodule_hyper_parameters") or {}),
        "settings": dict(settings or {}),
    }
    epoch, step = checkpoint.get("epoch"), checkpoint.get("global_step")
    return Training(
        settings={name: plain(part) for name, part in parts.items() if part},
        epoch=None if epoch is None else int(epoch) + 1,
        step=None if step is None else int(step),
        weights=which_weights(checkpoint),
        monitored=list(_monitored(checkpoint, Path(path))),
        lightning=checkpoint.get("pytorch-lightning_version"),
    )


def which_weights(checkpoint: Mapping[str, Any]) -> str:
    """One sentence: whether the weights of a checkpoint's ``state_dict`` are averaged."""
    if "averaging_state" in checkpoint:
        updates = checkpoint["averaging_state"].get("n_averaged")
        if updates is not None and int(updates) == 0:
            return "Those that weight averaging began with: it had made no update when the checkpoint was written."
        made = f" ({int(updates):,} updates)" if updates is not None else ""
        return f"The averaged weights{made}, not those of the last step."
    if "callbacks" not in checkpoint:
        return "As the checkpoint holds them; a checkpoint of weights only does not say whether they are averaged."
    names = [str(name) for name in checkpoint["callbacks"]]
    if any("StochasticWeightAveraging" in name for name in names):
        return "Averaged if training had ended when the checkpoint was written (stochastic weight averaging), else not."
    if any("WeightAveraging" in name for name in names):
        return "The averaged weights: the checkpoint was written after training."
    return "Those of the step at which the checkpoint was written, not averaged."


def _attributes(data: Any) -> Mapping[str, Any]:
    if data is None or isinstance(data, Mapping):
        return data or {}
    names = ("eval_size", "image_size", "mean", "std", "interpolation", "crop_pct", "classes")
    found = {name: getattr(data, name, None) for name in names}
    size: Sequence[int] | None = getattr(data, "input_size", None)
    if found["image_size"] is None and size is not None:
        found["image_size"] = size[-1]
    return found


def _own_size(winner: Winner, network: nn.Module, space: Space) -> int | None:
    """The size that the network was built for, where it takes no other or brings all images to it."""
    configuration = getattr(network, "pretrained_cfg", None) or {}
    if configuration.get("fixed_input_size"):
        embedding = getattr(network, "patch_embed", None)
        size = getattr(embedding, "img_size", None) or configuration["input_size"][1:]
        return int(size[0])
    return space.resolution(winner.genotype)


def _monitored(checkpoint: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str, float]]:
    """What the callbacks that wrote the checkpoints monitor, and its value for the checkpoint at this path."""
    for key, state in (checkpoint.get("callbacks") or {}).items():
        if not isinstance(state, Mapping) or not state.get("monitor"):
            continue
        scores = {Path(str(saved)).name: value for saved, value in (state.get("best_k_models") or {}).items()}
        value = scores.get(path.resolve().name, scores.get(path.name))
        if value is not None:  # last.ckpt: its own value is not in it
            mode = "largest" if "'mode': 'max'" in str(key) else "smallest"
            yield str(state["monitor"]), mode, float(value)
