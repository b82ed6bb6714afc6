"""Winners that timm builds by name: a folder that ``timm.create_model("local-dir:...", pretrained=True)`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.export._facts import Images
from lightning_wrcor.export._formats import first_line
from lightning_wrcor.search import Winner
from lightning_wrcor.spaces import Genotype, NetworkList, Space, TimmModels, TimmViT, UnionSpace, get_space

CONFIG = "config.json"
_VIT = "vit_base_patch16_224"
"""Timm's name for its VisionTransformer, whose measures all are arguments."""

_FROM_TIMM = ("first_conv", "classifier")
"""What stays of timm's own configuration of a model: names of its layers. All else describes timm's own weights."""


def architecture(space: Space, genotype: Genotype) -> tuple[str, dict[str, Any]]:
    """The registered name of timm, and the plain arguments, that build a network of a space.

    Raises:
        ValueError: where timm has no name for it; the message says what to do instead.
    """
    from timm.models import is_model

    if isinstance(space, UnionSpace):
        assert isinstance(genotype, tuple)
        return architecture(space.spaces[str(genotype[0])], genotype[1])
    if isinstance(space, TimmModels):
        return str(genotype), dict(space.kwargs)
    if isinstance(space, NetworkList):
        name = str(genotype)
        by_name = space.networks if isinstance(space.networks, Mapping) else {one: one for one in space.networks}
        entry = by_name.get(name)  # None for a function of that name
        if isinstance(entry, str) and is_model(entry):
            return entry, {}
    if isinstance(space, TimmViT):
        patch_size, embed_dim, depth, heads, mlp_ratio = space.parts(genotype)
        measures = {"patch_size": patch_size, "embed_dim": embed_dim, "depth": depth, "num_heads": heads}
        return _VIT, {**measures, "mlp_ratio": float(str(mlp_ratio)), "img_size": space.image_size, **space.kwargs}
    raise ValueError(
        f"timm has no registered name for {space.name(genotype)!r} of {type(space).__name__}, so that the format timm is "
        "not possible for it. The format program runs with torch alone; weights are for this package."
    )


def write_timm(network: nn.Module, winner: Winner, space: Space | None, images: Images, folder: Path) -> Path:
    """Write ``config.json`` beside ``model.safetensors``.

    Args:
        network: the trained winner, as timm built it.
        winner: its description.
        space: its space, where the winner's plain values do not say all.
        images: the images that it takes.
        folder: where the weights are already.

    Raises:
        ValueError: where timm has no name for the winner, and where the normalisation is not known: timm would take its
            own for it.
    """
    name, arguments = architecture(get_space(winner.space) if space is None else space, winner.genotype)
    if images.mean is None or images.std is None:
        raise ValueError(
            "timm's config.json says how images are normalised, and neither the checkpoint nor the data does: give mean=... "
            "and std=... (--mean, --std), for pixel values from 0 to 1."
        )
    own = getattr(network, "pretrained_cfg", None) or {}
    configuration = {
        "input_size": list(images.input_size),  # timm takes in_chans from it, and img_size where the size is fixed
        "fixed_input_size": bool(own.get("fixed_input_size", False)),
        "mean": images.mean,
        "std": images.std,
        "interpolation": images.interpolation or "bicubic",
        "crop_pct": images.crop_pct or 0.875,
        "crop_mode": "center",
        "custom_load": False,
        "num_classes": winner.num_classes,
        **{key: own[key] for key in _FROM_TIMM if own.get(key) is not None},
    }
    content: dict[str, Any] = {
        "architecture": name,
        "num_classes": winner.num_classes,
        "num_features": getattr(network, "num_features", None),
        "pretrained_cfg": configuration,
        "model_args": arguments,
    }
    if images.class_names is not None:
        content["label_names"] = images.class_names
    path = folder / CONFIG
    try:
        text = json.dumps(content, allow_nan=False, indent=2)
    except (TypeError, ValueError) as error:
        raise ValueError(f"timm's config.json cannot hold the arguments {arguments!r}: {error}. {_WAY_OUT}") from error
    path.write_text(text + "\n", encoding="utf-8")
    return path


_WAY_OUT = "Take the format program."


def read_timm(folder: Path) -> nn.Module:
    """The model that timm alone builds of a folder, with its weights, in evaluation mode.

    Raises:
        ValueError: where timm cannot build it.
    """
    import timm

    try:
        with own_random_numbers():
            network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:
        raise ValueError(
            f"timm cannot build the network from its config.json: {type(error).__name__}: {first_line(error)}. {_WAY_OUT}"
        ) from error
    return network.eval()
