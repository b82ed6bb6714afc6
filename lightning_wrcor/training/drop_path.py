"""Stochastic depth on networks that are built already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from lightning_wrcor._random import own_random_numbers


class _Place(NamedTuple):
    """An attribute that holds a drop path, or None or an identity where one can stand."""

    module: str  # name of the module that has the attribute
    attribute: str


def set_drop_path(network: nn.Module, rate: float) -> int:
    """Drop residual branches in training, each for whole samples, the deeper the more often.

    Stochastic depth (Huang et al., ECCV 2016, arXiv 1603.09382) as timm does it: the rate rises linearly with the depth
    from 0 at the first residual block to ``rate`` at the last, and what is kept is scaled up so that the mean stays. Nothing
    is dropped in evaluation mode. Parameters, buffers and their names stay as they are, so that this may be called before
    or after weights are loaded, and again with another rate.

    A network that timm builds by a name gets the rates that ``timm.create_model(name, drop_path_rate=rate)`` gives; in a few
    families they rise in another way (they are equal in CaiT, and end just below the rate in EfficientNet). Of any other
    network, every block that has a place for a drop path (an attribute ``drop_path``, ``drop_path1``, ... with None, an
    identity or timm's ``DropPath``) counts one. In the networks of this package these are:

    - cells of DARTS and its sisters: the outputs of operations that are no skip connections, as DARTS drops them;
    - NAS-Bench-201 and NATS-Bench's size space: in sums with a skip connection, the outputs of the other operations;
      and the residual blocks between the stages;
    - NAS-Bench-101: where a cell's output adds the cell's input, what is added to it;
    - NAS-Bench-Macro and the MobileNetV2 space: what is added to the shortcut.

    Args:
        network: the network, which is changed.
        rate: share of samples for which the last residual branch is dropped, at least 0 and less than 1.

    Returns:
        The number of places at which something is dropped now (none with a rate of 0).

    Raises:
        ValueError: for a rate out of this range, and for a rate above 0 where the network has no place for it.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path is a share of samples, at least 0 and less than 1; got {rate}.")
    places = list(_places(network))
    rates = dict.fromkeys(places, 0.0)
    if rate > 0:
        rates |= _rates_of_timm(network, places, rate) or _linear_rates(network, places, rate)
    dropping = [place for place, own in rates.items() if own > 0 and _is_residual(network.get_submodule(place.module))]
    if rate > 0 and not dropping:
        raise ValueError(
            f"{_name(network)} has no residual branch that could be dropped: drop_path={rate} would do nothing."
        )
    for place, own in rates.items():
        _put(network.get_submodule(place.module), place.attribute, own)
    return len(dropping)


def _places(network: nn.Module) -> Iterator[_Place]:
    """Every place, in the order of the modules."""
    from timm.layers import DropPath

    for name, module in network.named_modules():
        for attribute, value in (*vars(module).items(), *module._modules.items()):
            free = value is None or isinstance(value, (nn.Identity, DropPath))
            if free and re.fullmatch(r"(\w+_)?drop_path\d*", attribute):
                yield _Place(name, attribute)


def _rates_of_timm(network: nn.Module, places: list[_Place], rate: float) -> dict[_Place, float]:
    """What timm gives a network of its name; empty for a network that timm did not build, or builds without any."""
    import timm
    from timm.layers import DropPath

    name = (getattr(network, "pretrained_cfg", None) or {}).get("architecture")
    if not places or not name or not timm.is_model(name):
        return {}
    with own_random_numbers():
        try:
            with torch.device("meta"):
                same = timm.create_model(name, drop_path_rate=rate)
        except TypeError:  # it takes no such argument
            return {}
        except (NotImplementedError, RuntimeError):  # it reads a value while it is built
            same = timm.create_model(name, drop_path_rate=rate)
    # Another depth, by other arguments, has other blocks: then these rates are not those of this network.
    if set(_places(same)) != set(places):
        return {}
    found = {place: getattr(same.get_submodule(place.module), place.attribute) for place in places}
    return {place: value.drop_prob if isinstance(value, DropPath) else 0.0 for place, value in found.items()}


def _linear_rates(network: nn.Module, places: list[_Place], rate: float) -> dict[_Place, float]:
    """Rates that rise from block to block."""
    blocks = list(dict.fromkeys(place.module for place in places))
    # Timm's EfficientNets and MobileNets count so that only a block after the last would have the rate itself.
    beyond = any(type(module).__module__ == "timm.models._efficientnet_blocks" for module in network.modules())
    last = len(blocks) if beyond else len(blocks) - 1
    return {place: rate * blocks.index(place.module) / last if last else rate for place in places}


def _is_residual(module: nn.Module) -> bool:
    """Whether a block adds anything to what it drops; timm's blocks without a shortcut have the attribute all the same."""
    return getattr(module, "has_skip", True) is not False and getattr(module, "identity", module) is not None


def _put(module: nn.Module, attribute: str, rate: float) -> None:
    from timm.layers import DropPath

    held = getattr(module, attribute)
    if isinstance(held, DropPath):
        held.drop_prob = rate
    elif rate > 0:
        setattr(module, attribute, DropPath(rate).train(module.training))


def _name(network: nn.Module) -> str:
    cfg = getattr(network, "pretrained_cfg", None) or {}
    return str(cfg.get("architecture") or f"This network ({type(network).__module__}.{type(network).__name__})")
