"""What the spaces over timm share: its names, its models without weights, and counting without weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")


def create_untrained(name: str, num_classes: int, in_chans: int, **kwargs: Any) -> nn.Module:
    """`timm.create_model` without weights; errors name the model and what it was asked for.

    Raises:
        ValueError: if the model does not take the arguments, or has no classifier.
    """
    import timm

    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=in_chans, **kwargs
        )
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in {"in_chans": in_chans, **kwargs}.items())
        raise ValueError(f"timm cannot build {name!r} with {given}: {type(error).__name__}: {error}") from error
    if getattr(network, "num_classes", num_classes) != num_classes:
        raise ValueError(f"{name!r} of timm is an encoder without a classifier: it returns features, not logits.")
    return network


def check_timm_name(name: str) -> str:
    """Return the name of a model of timm; raises ValueError with the closest names for any other."""
    if name not in (names := _all_names()):
        raise ValueError(f"timm has no model {name!r}.{_tag_hint(name, names)} {closest(name, names)}")
    return name


def _all_names() -> list[str]:
    import timm

    return list(timm.list_models())


def matching(patterns: str | Sequence[str], argument: str) -> set[str]:
    import timm

    found: set[str] = set()
    names = _all_names()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = timm.list_models(pattern) if pattern else []
        if not matches:
            hints = f"{_tag_hint(pattern, names)} {closest(pattern, names)}"
            raise ValueError(f"{argument}: no model of timm matches {pattern!r}.{hints}")
        found.update(matches)
    return found


def closest(text: str, names: Iterable[str]) -> str:
    """The names most like a name, or like the beginning of a pattern, for a message."""
    stem = re.sub(r"[*?\[\]]", "", text)
    length = len(stem) if stem != text else None
    ratios = {name: difflib.SequenceMatcher(None, stem, name[:length]).ratio() for name in names}
    close = [name for name in sorted(ratios, key=lambda name: -ratios[name]) if ratios[name] > 0.5]
    return f"Closest: {', '.join(close[:5])}." if close else "timm.list_models() lists them all."


def _tag_hint(text: str, names: Iterable[str]) -> str:
    stem, dot, _ = text.partition(".")
    return f" The part after the dot names pretrained weights: write {stem!r}." if dot and stem in names else ""


def configuration(name: str) -> Any:
    """Timm's default configuration of a model: its input size, and whether that is fixed."""
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(name)


def family(name: str) -> str:
    import timm

    return str(timm.model_entrypoint(name).__module__)


def with_act_layer(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with a class in place of an activation's name: many models of timm fail with the name itself."""
    act_layer = kwargs.get("act_layer")
    if not isinstance(act_layer, str):
        return dict(kwargs)
    from timm.layers import create_act, get_act_layer

    try:
        return {**kwargs, "act_layer": get_act_layer(act_layer)}
    except KeyError:
        names = sorted(create_act._ACT_LAYER_DEFAULT)
        close = difflib.get_close_matches(act_layer, names, n=len(names), cutoff=0.0)
        raise ValueError(f"timm has no activation {act_layer!r}. There are: {', '.join(close)}.") from None
