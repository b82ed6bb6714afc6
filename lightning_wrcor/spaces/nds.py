"""The sisters of DARTS in NDS: ENAS, PNAS, NASNet and AmoebaNet, with one way of stacking cells for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lightning_wrcor.spaces._cell_network import Cell
from lightning_wrcor.spaces.darts import DARTS


class _Sister(DARTS):
    """DARTS's networks with five nodes a cell."""

    def __init__(
        self,
        form: Literal["imagenet", "cifar"] = "imagenet",
        width: int | Sequence[int] | None = None,
        depth: int | Sequence[int] | None = None,
        nodes: int = 5,
    ) -> None:
        super().__init__(form, width, depth, nodes)


class _LooseEnds(_Sister):
    """The same, and only nodes that no other node reads are concatenated."""

    def _concat(self, cell: Cell) -> tuple[int, ...]:
        read = {node for _, node in cell}
        return tuple(node for node in super()._concat(cell) if node not in read)


class ENAS(_LooseEnds):
    """The cells of ENAS (Pham et al., ICML 2018, arXiv 1802.03268), stacked as in NDS (arXiv 1905.13214).

    Everything is as in `DARTS`, with five operations and five nodes; a cell concatenates the nodes that none of its
    nodes reads. NDS measured random members of this space at several widths and depths, which are therefore the
    arguments here; the width and depth of the paper itself differ.

    Args:
        form: "imagenet" (a stem that divides the size by 8) or "cifar" (a stem that keeps the size).
        width: channels of the nodes before the first reduction, or a list to choose from; by default 48 for ImageNet
            and 36 for CIFAR.
        depth: cells in the network, or a list to choose from; by default 14 and 20.
        nodes: nodes of a cell between its inputs and its output.
    """

    kind = "enas"
    operations = ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")


class PNAS(_Sister):
    """The cells of PNAS (Liu et al., ECCV 2018, arXiv 1712.00559), stacked as in NDS (arXiv 1905.13214).

    Everything is as in `DARTS`, with eight operations and five nodes; a cell concatenates all of its nodes. NDS measured
    random members of this space at several widths and depths, which are therefore the arguments here; the width and
    depth of the paper itself differ.

    Args:
        form: "imagenet" (a stem that divides the size by 8) or "cifar" (a stem that keeps the size).
        width: channels of the nodes before the first reduction, or a list to choose from; by default 48 for ImageNet
            and 36 for CIFAR.
        depth: cells in the network, or a list to choose from; by default 14 and 20.
        nodes: nodes of a cell between its inputs and its output.
    """

    kind = "pnas"
    operations = (
        "sep_conv_3x3",
        "sep_conv_5x5",
        "sep_conv_7x7",
        "conv_7x1_1x7",
        "skip_connect",
        "avg_pool_3x3",
        "max_pool_3x3",
        "dil_conv_3x3",
    )


class NASNet(_LooseEnds):
    """The cells of NASNet (Zoph et al., CVPR 2018, arXiv 1707.07012), stacked as in NDS (arXiv 1905.13214).

    Everything is as in `DARTS`, with thirteen operations and five nodes; a cell concatenates the nodes that none of its
    nodes reads. NDS measured random members of this space at several widths and depths, which are therefore the
    arguments here; the width and depth of the paper itself differ.

    Args:
        form: "imagenet" (a stem that divides the size by 8) or "cifar" (a stem that keeps the size).
        width: channels of the nodes before the first reduction, or a list to choose from; by default 48 for ImageNet
            and 36 for CIFAR.
        depth: cells in the network, or a list to choose from; by default 14 and 20.
        nodes: nodes of a cell between its inputs and its output.
    """

    kind = "nasnet"
    operations = (
        "skip_connect",
        "conv_3x1_1x3",
        "conv_7x1_1x7",
        "dil_conv_3x3",
        "avg_pool_3x3",
        "max_pool_3x3",
        "max_pool_5x5",
        "max_pool_7x7",
        "conv_1x1",
        "conv_3x3",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "sep_conv_7x7",
    )


class AmoebaNet(_LooseEnds):
    """The cells of AmoebaNet (Real et al., AAAI 2019, arXiv 1802.01548), stacked as in NDS (arXiv 1905.13214).

    Everything is as in `DARTS`, with eight operations and five nodes; a cell concatenates the nodes that none of its
    nodes reads. NDS measured random members of this space at several widths and depths, which are therefore the
    arguments here; the width and depth of the paper itself differ.

    Args:
        form: "imagenet" (a stem that divides the size by 8) or "cifar" (a stem that keeps the size).
        width: channels of the nodes before the first reduction, or a list to choose from; by default 48 for ImageNet
            and 36 for CIFAR.
        depth: cells in the network, or a list to choose from; by default 14 and 20.
        nodes: nodes of a cell between its inputs and its output.
    """

    kind = "amoebanet"
    operations = (
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "sep_conv_7x7",
        "avg_pool_3x3",
        "max_pool_3x3",
        "dil_sep_conv_3x3",
        "conv_7x1_1x7",
    )
