"""What training asks of a network of a space: places where branches can be dropped, and its layers."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor, nn

LayerPatterns: TypeAlias = "dict[str, Any]"
"""Patterns of parameter names, as timm's ``group_parameters`` reads them; what none matches is the last layer."""

_WITH_THE_LAST_BLOCK = (99999,)  # timm's mark for a group that belongs to the one before it


def layer_patterns(coarse: bool, blocks: str, after: str | None = None) -> LayerPatterns:
    """Layers of a network for timm's layer-wise learning rates: the stem, every block, and the head.

    Args:
        coarse: must be False.
        blocks: pattern of the blocks' parameters, with a group for each number that counts blocks.
        after: pattern of what comes after the blocks and before the classifier. It is of one layer with the last block, as
            timm has it.

    Raises:
        NotImplementedError: for coarse layers.
    """
    if coarse:
        # `lightning_wrcor.inspection` would score by them, where no space says what the layers are.
        raise NotImplementedError("The networks of this package have no coarse layers: use coarse=False.")
    patterns: list[tuple[str, tuple[int, ...] | None]] = [(blocks, None)]
    if after is not None:
        patterns.append((after, _WITH_THE_LAST_BLOCK))
    return {"stem": r"^stem", "blocks": patterns}


def maybe_dropped(x: Tensor, drop_path: nn.Module | None) -> Tensor:
    """``x``, or what a drop path leaves of it."""
    if drop_path is None:
        return x
    kept: Tensor = drop_path(x)
    return kept


def set_dropped(module: nn.Module, probability: float) -> None:
    """Put timm's drop path into a module's attribute ``drop_path``, or None for a probability of 0."""
    if not probability:
        module.drop_path = None  # type: ignore[assignment]
        return
    from timm.layers import DropPath

    module.drop_path = DropPath(probability).train(module.training)
