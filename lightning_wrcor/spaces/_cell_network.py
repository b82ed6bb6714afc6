"""Networks of stacked normal and reduction cells (NASNet's scheme, as DARTS and NDS use it), and their costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._cells import (
    FactorisedReduction,
    Size,
    Zero,
    build_operation,
    factorised_reduction_costs,
    operation_costs,
    relu_conv_bn,
    relu_conv_bn_costs,
    strided_size,
    total,
)
from lightning_wrcor.spaces._training import LayerPatterns, layer_patterns, maybe_dropped, set_dropped

Form: TypeAlias = Literal["imagenet", "cifar"]

Cell: TypeAlias = "tuple[tuple[str, int], ...]"
"""Operation and input node of each addition, two additions a node. Nodes 0 and 1 are the cell's two inputs."""


class CellGenotype(NamedTuple):
    """A genotype whose type has been checked; equal to the plain nested tuple."""

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]
    width: int
    depth: int


class _Place(NamedTuple):
    """One cell's place in the network."""

    cell: Cell
    concat: tuple[int, ...]
    reduction: bool  # whether this cell halves the size
    first_larger: bool  # whether its first input comes from before a reduction, so that it has twice the size
    c_first: int  # channels of the input from two cells ago
    c_second: int  # channels of the input from the cell before
    channels: int  # channels of every node; the output has as many times more as it concatenates nodes

    @property
    def c_out(self) -> int:
        return self.channels * len(self.concat)

    def stride(self, node: int) -> int:
        """Stride of an operation on ``node``: in a reduction cell the inputs of the cell are halved."""
        return 2 if self.reduction and node < 2 else 1


def _places(genotype: CellGenotype, form: Form) -> Iterator[_Place]:
    """The cells in order: the two reductions stand at one and two thirds of the depth."""
    channels = genotype.width
    c_first = c_second = channels if form == "imagenet" else 3 * channels
    first_larger = form == "imagenet"  # the ImageNet stem's second part halves the size too
    for index in range(genotype.depth):
        reduction = index in (genotype.depth // 3, 2 * genotype.depth // 3)
        if reduction:
            channels *= 2
        cell, concat = genotype[2:4] if reduction else genotype[:2]
        place = _Place(cell, concat, reduction, first_larger, c_first, c_second, channels)
        yield place
        c_first, c_second, first_larger = c_second, place.c_out, reduction


class _CellModule(nn.Module):
    """One cell: ``(first, second)``, the outputs of two cells ago and of the cell before, to this cell's output."""

    def __init__(self, place: _Place) -> None:
        super().__init__()
        if place.first_larger:
            self.first: nn.Module = FactorisedReduction(place.c_first, place.channels)
        else:
            self.first = relu_conv_bn(place.c_first, place.channels, 1)
        self.second = relu_conv_bn(place.c_second, place.channels, 1)
        self.operations = nn.ModuleList(
            build_operation(operation, place.channels, place.stride(node)) for operation, node in place.cell
        )
        self.inputs = [node for _, node in place.cell]
        self.concat = place.concat
        # An input that no addition reads still has parameters before it: a zero connects them (see Zero).
        self.unused = [node for node in (0, 1) if node not in self.inputs]
        self.zero = Zero(place.stride(0))
        self.drop_path: nn.Module | None = None

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        nodes = [self.first(first), self.second(second)]
        for addition in range(0, len(self.inputs), 2):
            left, right = (
                maybe_dropped(operation(nodes[node]), None if isinstance(operation, nn.Identity) else self.drop_path)
                for operation, node in zip(
                    self.operations[addition : addition + 2], self.inputs[addition : addition + 2], strict=True
                )
            )
            nodes.append(left + right)
        for node in self.unused:
            nodes[self.concat[0]] = nodes[self.concat[0]] + self.zero(nodes[node])
        return torch.cat([nodes[node] for node in self.concat], dim=1)


class AuxiliaryClassifier(nn.Module):
    """DARTS's second classifier: ``(batch, c_in, height, width)`` to logits.

    It pools to 2 x 2 what a stem and two reductions leave of images of the form's own size (7 x 7 and 8 x 8 pixels). Of
    larger images more is left, and the mean is taken at the end.
    """

    def __init__(self, c_in: int, form: Form, num_classes: int) -> None:
        super().__init__()
        stride = 2 if form == "imagenet" else 3
        self.smallest = 5 + stride
        wide = [nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768)]
        self.features = nn.Sequential(
            nn.ReLU(inplace=False),
            nn.AvgPool2d(5, stride=stride, count_include_pad=False),
            nn.Conv2d(c_in, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=False),
            *(wide[:1] if form == "imagenet" else wide),  # the paper's ImageNet networks have no BN here
            nn.ReLU(inplace=False),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < self.smallest:
            raise ValueError(
                f"The auxiliary classifier needs a feature map of at least {self.smallest} x {self.smallest} pixels after "
                f"the second reduction, got {x.shape[-2]} x {x.shape[-1]}: use larger images, or auxiliary=False."
            )
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return logits


class CellNetwork(nn.Module):
    """Images ``(batch, in_chans, height, width)`` to logits ``(batch, num_classes)``.

    The last two arguments are of the papers' training recipes; networks that are scored have neither.

    Args:
        genotype: the cells.
        form: which stem.
        num_classes: width of the logits.
        in_chans: channels of the images.
        auxiliary: add a second classifier after the second reduction. In training mode (and only then) the network
            returns ``(logits, auxiliary logits)``.
        drop_path: probability that, in training mode, an operation's output (unless it is the identity) is zero for a
            sample. The attribute of this name may be set while training goes on, as DARTS does (from 0 upwards). It is
            the same in all cells; `lightning_wrcor.training.set_drop_path` lets it rise from cell to cell.
    """

    def __init__(
        self,
        genotype: CellGenotype,
        form: Form,
        num_classes: int,
        in_chans: int,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = _stem(genotype.width, form, in_chans)
        places = list(_places(genotype, form))
        self.cells = nn.ModuleList(_CellModule(place) for place in places)
        self.drop_path = drop_path
        self.classifier = nn.Linear(places[-1].c_out, num_classes)
        self.second_reduction = 2 * genotype.depth // 3
        self.auxiliary = (
            AuxiliaryClassifier(places[self.second_reduction].c_out, form, num_classes) if auxiliary else None
        )

    @property
    def drop_path(self) -> float:
        """The largest probability that a cell has."""
        return max(float(getattr(cell.drop_path, "drop_prob", 0.0)) for cell in self.cells)

    @drop_path.setter
    def drop_path(self, probability: float) -> None:
        if not 0 <= probability < 1:
            raise ValueError(f"drop_path is a probability, at least 0 and less than 1; got {probability}.")
        for cell in self.cells:
            set_dropped(cell, probability)

    def group_matcher(self, coarse: bool = False) -> LayerPatterns:
        """The stem, every cell and the head are one layer each; the convention is timm's."""
        return layer_patterns(coarse, r"^cells\.(\d+)")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last cell's output, ``(batch, channels, height, width)``."""
        return self._run(x)[1]

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the second reduction and of the last cell."""
        first: Tensor = self.stem[0](x)
        second = first
        for part in self.stem[1:]:
            second = part(second)
        reduced = second
        for index, cell in enumerate(self.cells):
            first, second = second, cell(first, second)
            reduced = second if index == self.second_reduction else reduced
        return reduced, second

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        reduced, last = self._run(x)
        x = F.adaptive_avg_pool2d(last, 1).flatten(1)
        x = self.classifier(x)
        if self.auxiliary is not None and self.training:
            return x, self.auxiliary(reduced)
        return x


def _stem(width: int, form: Form, in_chans: int) -> nn.ModuleList:
    """The stem's parts; the first cell reads the first and the last of them."""

    def conv(c_in: int, c_out: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(c_out)]

    if form == "cifar":
        return nn.ModuleList([nn.Sequential(*conv(in_chans, 3 * width, 1))])
    first = nn.Sequential(*conv(in_chans, width // 2, 2), nn.ReLU(inplace=False), *conv(width // 2, width, 2))
    return nn.ModuleList([first, relu_conv_bn(width, width, 3, stride=2)])


def _stem_costs(width: int, form: Form, in_chans: int, size: Size) -> tuple[Costs, Size]:
    if form == "cifar":
        return _conv_bn_costs(in_chans, 3 * width, size), size
    half, quarter, eighth = (_halved(size, times) for times in (1, 2, 3))
    parts = [
        _conv_bn_costs(in_chans, width // 2, half),
        relu_conv_bn_costs(width // 2, width, 3, half, stride=2),
        relu_conv_bn_costs(width, width, 3, quarter, stride=2),
    ]
    return total(parts), eighth


def _conv_bn_costs(c_in: int, c_out: int, out_size: Size) -> Costs:
    """Costs of a 3x3 convolution and BN."""
    weights = 9 * c_in * c_out
    return Costs(weights + 2 * c_out, weights * out_size[0] * out_size[1], depth=0)


def _halved(size: Size, times: int = 1) -> Size:
    return strided_size(size[0], 2**times), strided_size(size[1], 2**times)


def cell_network_costs(genotype: CellGenotype, form: Form, input_size: tuple[int, int, int], num_classes: int) -> Costs:
    """Costs of `CellNetwork` on one image of ``input_size`` (channels, height, width), in closed form."""
    stem, size = _stem_costs(genotype.width, form, input_size[0], (input_size[1], input_size[2]))
    first_size = _halved((input_size[1], input_size[2]), 2) if form == "imagenet" else size
    parts = [stem]
    for place in _places(genotype, form):
        if place.first_larger:
            parts.append(factorised_reduction_costs(place.c_first, place.channels, first_size))
        else:
            parts.append(relu_conv_bn_costs(place.c_first, place.channels, 1, size))
        parts.append(relu_conv_bn_costs(place.c_second, place.channels, 1, size))
        out_size = _halved(size) if place.reduction else size
        parts += [
            operation_costs(operation, place.channels, place.stride(node), size if node < 2 else out_size)
            for operation, node in place.cell
        ]
        first_size, size = size, out_size
    parts.append(Costs((place.c_out + 1) * num_classes, place.c_out * num_classes, depth=0))
    return total(parts)
