"""Weights that a training begins with: timm's own, or those of a file."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor._random import own_random_numbers


@dataclass(frozen=True)
class LoadedWeights:
    """What became of the parameters and buffers of a network.

    Attributes:
        source: the file, or timm's name of the weights.
        taken: names of those that the source gave.
        left: names of those that kept their values: the classifier, where the source has another number of classes.
    """

    source: str
    taken: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        left = f"; {', '.join(self.left)} stay as they were" if self.left else ""
        return f"{len(self.taken)} of {len(self.taken) + len(self.left)} tensors are those of {self.source}{left}."


def load_pretrained(
    network: nn.Module, source: bool | str | os.PathLike[str], *, in_chans: int = 3, image_size: int | None = None
) -> LoadedWeights:
    """Load weights into a network, in place. The classifier keeps its own where the number of classes differs.

    Everything is checked before anything is loaded.

    Args:
        network: the network.
        source: True for timm's own weights of a network that timm built by a name (timm downloads them, or has them in its
            cache). A text is a file: ``.safetensors``, or what ``torch.save`` wrote (``.pth``, ``.pt``, ``.ckpt``), with the
            weights themselves or a training's checkpoint: of timm (the averaged weights where there are any), or of
            Lightning, where the network may be any attribute of the module. Files are read with ``weights_only=True``: no
            code in them runs.
        in_chans: channels of the images that the network was built for; timm converts its weights to them. Used with True.
        image_size: height and width in pixels that the network was built for, where timm gives it a fixed size; timm
            resizes position embeddings to it. None is the size in timm's configuration. Used with True.

    Returns:
        What was taken, and what was left.

    Raises:
        ValueError: where timm has no weights for the network, and where parameters are missing, are too many or have another
            shape; the message names the first.
        FileNotFoundError: for a file that does not exist.
    """
    if source is True:
        name, state = _weights_of_timm(network, in_chans, image_size)
        return _take(network, state, f"timm's {name}")
    if source is False:
        raise ValueError("load_pretrained was called with False: give True for timm's weights, or a file.")
    path = os.fspath(source)
    return _take(network, _below_prefix(_read_file(path), network), path)


def _weights_of_timm(network: nn.Module, in_chans: int, image_size: int | None) -> tuple[str, dict[str, Tensor]]:
    """Name and values of timm's weights for the architecture that the network is of."""
    import timm

    cfg = getattr(network, "pretrained_cfg", None) or {}
    name, tag = cfg.get("architecture") or "", cfg.get("tag")
    if not timm.is_model(name):
        raise ValueError(
            f"pretrained=True loads timm's weights, but {_name(network)} was not built by timm from a name: use "
            "pretrained=False, or a file."
        )
    if not any(cfg.get(key) for key in ("url", "file", "hf_hub_id", "state_dict")):
        raise ValueError(f"timm has no pretrained weights for {name!r}: use pretrained=False, or a file.")
    name = f"{name}.{tag}" if tag else name
    size = (image_size, image_size)
    resized = image_size is not None and cfg.get("fixed_input_size") and tuple(cfg["input_size"][1:]) != size
    # A second network takes them: what timm does to a file's weights belongs to how it builds.
    with own_random_numbers():
        same = timm.create_model(name, pretrained=True, in_chans=in_chans, **({"img_size": size} if resized else {}))
    return name, same.state_dict()


def _read_file(path: str) -> dict[str, Any]:
    """The weights in a file, by their names there."""
    from timm.models import load_state_dict

    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file of weights {path!r}.")
    # timm's checkpoints hold the settings of the training, which are no code either.
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = load_state_dict(path, weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a file of weights ({type(error).__name__}: {error}).") from error
    except Exception as error:  # safetensors has an error of its own
        if type(error).__name__ != "SafetensorError":
            raise
        raise ValueError(f"{path} cannot be read as a file of weights ({error}).") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no weights by their names, alone or under 'state_dict' or 'model'.")
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}


def _below_prefix(state: dict[str, Any], network: nn.Module) -> dict[str, Tensor]:
    """The part of a file that is of this network, without the prefix that its names have there."""
    own = network.state_dict().keys()
    prefixes: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        prefixes.update(
            ".".join([*parts[:length], ""]) for length in range(len(parts)) if ".".join(parts[length:]) in own
        )
    if not prefixes:
        return state
    prefix = max(prefixes, key=lambda known: (prefixes[known], -len(known)))
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _take(network: nn.Module, state: Mapping[str, Tensor], source: str) -> LoadedWeights:
    own = network.state_dict()
    classifier = {name for name in own if name.rpartition(".")[0] in _classifiers(network)}
    given = {name for name in classifier if name in state}
    # Another number of classes: the first dimension of all, or no classifier at all.
    differs = not given or any(_other_classes(own[name], state[name]) for name in given)
    left = classifier if differs else set()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # absent from older files
    missing = [name for name in own if name not in state and name not in left | counters]
    unexpected = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and name not in left and own[name].shape != state[name].shape]
    for names, what in (
        (missing, "has no values for {} of {name}"),
        (unexpected, "has values for {}, which {name} does not have"),
        (shapes, "has values of another shape for {} of {name}"),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            texts = [_with_shapes(name, own, state) for name in names[:3]]
            raise ValueError(f"{source} {what.format(', '.join(texts) + more, name=_name(network))}: it does not fit.")
    taken = {name: state[name] for name in own if name in state and name not in left}
    network.load_state_dict(taken, strict=False)
    return LoadedWeights(source, tuple(taken), tuple(name for name in own if name in left))


def _other_classes(own: Tensor, given: Tensor) -> bool:
    return own.shape[1:] == given.shape[1:] and own.shape[:1] != given.shape[:1]


def _with_shapes(name: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    if name not in own or name not in given:
        return name
    return f"{name} ({tuple(given[name].shape)} in place of {tuple(own[name].shape)})"


def _classifiers(network: nn.Module) -> set[str]:
    """Names of the linear maps to the classes: timm's own word for them, or the last module with parameters."""
    found = (getattr(network, "pretrained_cfg", None) or {}).get("classifier")
    if found:
        return {found} if isinstance(found, str) else set(found)
    named = [name for name, module in network.named_modules() if module._parameters]
    return {named[-1]} if named else set()


def _name(network: nn.Module) -> str:
    cfg = getattr(network, "pretrained_cfg", None) or {}
    return str(cfg.get("architecture") or f"{type(network).__module__}.{type(network).__name__}")
