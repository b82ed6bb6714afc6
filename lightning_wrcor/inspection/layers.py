"""The layer index of a non-linearity in any network: which block, counted from the input.

The rule, in this order:

1. the map that the search space or the caller gives (``{module name: index}``); a call belongs to the innermost running
   module that is listed, a call outside every listed module to the layer that was entered last;
2. for a network of timm's kind, its own ``group_matcher(coarse=True)``: the stem is 0, then its stages or blocks;
3. otherwise the longest chain of siblings that holds the network: of all containers whose children run more than four
   fifths of the non-linearities, the one with the most such children (the outermost of equals). The children are
   numbered in call order. Calls before the chain are a layer of their own, and so are calls after it; a call between two
   children belongs to the earlier one. A network without any such chain is one layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import nn

from lightning_wrcor.inspection.nonlinearities import is_plain_leaf
from lightning_wrcor.inspection.tracer import Call


def assign_layers(network: nn.Module, calls: Sequence[Call], layers: Mapping[str, int] | None = None) -> list[int]:
    """Layer index of every call.

    Args:
        network: the network that was traced.
        calls: its non-linearities, in call order.
        layers: ``{module name: index}``, indices from 0 at the input; None applies the rule above.

    Returns:
        One index for each call.

    Raises:
        ValueError: when ``layers`` names a module that the network does not have.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    if layers is None:
        layers = _timm_groups(network)
    if layers is None:
        return _longest_chain(calls)
    unknown = [name for name in layers if name not in modules]
    if unknown:
        raise ValueError(f"The layer map names {unknown[0]!r}, which is no module of {type(network).__name__}.")
    plain = {name for name, module in modules.items() if is_plain_leaf(module)}
    result: list[int] = []
    last = 0
    for call in calls:
        for name in call.since:
            entered = None if name in plain else _listed(name, layers)
            last = last if entered is None else entered
        found = None
        for position, name in enumerate(reversed(call.stack)):
            # One activation object may serve several blocks; where it is called counts, not where it was registered.
            serves = position == 0 and name in plain and name not in layers
            found = None if serves else _listed(name, layers)
            if found is not None:
                break
        last = last if found is None else found
        result.append(last)
    return result


def _listed(name: str, layers: Mapping[str, int]) -> int | None:
    """Index of a module that is listed, itself or through an ancestor in its name."""
    while name and name not in layers:
        name = name.rpartition(".")[0]
    return layers.get(name)


def _timm_groups(network: nn.Module) -> dict[str, int] | None:
    """Timm's coarse parameter groups, as a layer map of every module whose parameters are of one group."""
    if not callable(getattr(network, "group_matcher", None)):
        return None
    from timm.models import group_modules  # such a network comes from timm, so timm is loaded already

    try:
        owners = group_modules(network, network.group_matcher(coarse=True), reverse=True)  # type: ignore[operator]
    except (TypeError, AssertionError, NotImplementedError):  # a few of timm's networks refuse coarse groups
        return None
    inside: dict[str, set[int]] = {}
    for owner, group in owners.items():
        while owner:
            inside.setdefault(owner, set()).add(group)
            owner = owner.rpartition(".")[0]
    layers = {name: groups.pop() for name, groups in inside.items() if len(groups) == 1}
    return layers if len(set(layers.values())) > 1 else None


def _chain(calls: Sequence[Call]) -> dict[str, set[int]]:
    """The children of the longest chain of siblings, in call order, with the calls inside each; empty where there is none."""
    members: dict[str, dict[str, set[int]]] = {}  # container -> child -> calls inside it
    for call in calls:
        for name in call.stack:
            # Containers such as ModuleList are never called themselves: they are prefixes of the names that are.
            parts = name.split(".") if name else []
            for length in range(len(parts)):
                parent, child = ".".join(parts[:length]), ".".join(parts[: length + 1])
                members.setdefault(parent, {}).setdefault(child, set()).add(call.index)
    best: dict[str, set[int]] = {}
    for _, children in sorted(members.items(), key=lambda item: item[0].count(".") + bool(item[0])):
        covered = set().union(*children.values())
        if len(covered) > 0.8 * len(calls) and len(children) > len(best):
            best = children
    return best if len(best) > 1 else {}


def _longest_chain(calls: Sequence[Call]) -> list[int]:
    """Rule 3 of this module's page: one index for each call."""
    best = _chain(calls)
    if not best:
        return [0] * len(calls)
    home = {index: child for child, indices in best.items() for index in indices}
    order = {child: number for number, child in enumerate(best)}  # dictionaries keep the order of the first call
    first, final = min(home), max(home)
    start = 0 if first == 0 else 1
    result: list[int] = []
    for call in calls:
        if call.index < first:
            result.append(0)
        elif call.index > final:
            result.append(start + len(order))
        else:
            inside = home.get(call.index)
            result.append(result[-1] if inside is None else start + order[inside])
    return result


def _is_called(module: nn.Module) -> bool:
    """Whether a module can be called: containers such as ModuleList give nothing themselves, their children do."""
    return type(module).forward is not nn.Module.forward


def find_blocks(network: nn.Module, calls: Sequence[Call], layers: Mapping[str, int] | None = None) -> list[str]:
    """The modules whose outputs stand between the layers, from the input on: cells, stages or blocks.

    By the rules of `assign_layers`. With a map or timm's groups: for each layer index, of the outermost modules that
    belong to it alone, the one that runs most non-linearities (then the one with most parameters); a last one without
    weights (the activation before the pooling) is no block. Otherwise the children of the longest chain. The last ones may
    lie behind the pooling (a classifier that is a layer of its own).

    Args:
        network: the network that was traced.
        calls: its non-linearities, in call order.
        layers: ``{module name: index}``; None applies the rule.
    """
    modules = dict(network.named_modules())
    if layers is None:
        layers = _timm_groups(network)
    if layers is None:
        return [name for name in _chain(calls) if name in modules]
    running = Counter(name for call in calls for name in call.stack)
    best: dict[int, tuple[int, int, str]] = {}
    for name, module in modules.items():
        outside = name
        while (outside := outside.rpartition(".")[0]) and not _is_called(modules[outside]):
            pass
        found = _listed(name, layers)
        if found is None or not _is_called(module) or (outside and _listed(outside, layers) == found):
            continue
        size = sum(parameter.numel() for parameter in module.parameters())
        if found not in best or (running[name], size) >= best[found][:2]:
            best[found] = (running[name], size, name)
    blocks = [best[index][2] for index in sorted(best)]
    if blocks and all(parameter.dim() < 2 for parameter in modules[blocks[-1]].parameters()):
        blocks.pop()
    return blocks
