"""NAS-Bench-Macro: one of three blocks at each of eight places, 6,561 networks for small images."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._base import FiniteSpace, Genotype
from lightning_wrcor.spaces._cells import Size, strided_size, total
from lightning_wrcor.spaces._drawing import Drawing, Table
from lightning_wrcor.spaces._training import LayerPatterns, layer_patterns, maybe_dropped

STAGES = (2, 3, 3)
"""Places in each stage; the first of them halves the size and doubles the channels."""

CHOICES = (0, 1, 2)
"""0: identity; 1: inverted residual block, 3x3, expansion 3; 2: inverted residual block, 5x5, expansion 6."""

_KERNEL_AND_EXPANSION = {1: (3, 3), 2: (5, 6)}
_PLACES = sum(STAGES)
_FIRST = tuple(sum(STAGES[:stage]) for stage in range(len(STAGES)))


class NASBenchMacro(FiniteSpace):
    """The 6,561 networks of NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922).

    A network is a 3x3 stem, three stages of two, three and three places, a 1x1 convolution, pooling and a linear
    classifier. Each place holds an identity (0), an inverted residual block with kernel 3 and expansion 3 (1), or one
    with kernel 5 and expansion 6 (2). The first place of a stage has stride 2 and doubles the channels; an identity there
    is a 1x1 convolution and BN.

    A genotype is a tuple of eight numbers, 0, 1 or 2.

    Args:
        width: channels of the stem; the stages have twice, four and eight times as many. The benchmark's networks have 32.
        head: channels of the last convolution; the benchmark's networks have 1,280.
    """

    kind = "nasbench_macro"
    input_size = (3, 32, 32)

    def __init__(self, width: int = 32, head: int = 1280) -> None:
        for argument, value in (("width", width), ("head", head)):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}.")
        self.width = width
        self.head = head

    def __len__(self) -> int:
        return int(len(CHOICES) ** _PLACES)

    def __iter__(self) -> Iterator[Genotype]:
        return iter(product(CHOICES, repeat=_PLACES))

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype; each of the 6,561 is equally likely (networks with several genotypes are not)."""
        return tuple(rng.choice(CHOICES) for _ in range(_PLACES))

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change the choice at one place to another one, both drawn uniformly."""
        choices = list(_read(genotype))
        place = rng.randrange(_PLACES)
        choices[place] = rng.choice([choice for choice in CHOICES if choice != choices[place]])
        return tuple(choices)

    def places(self) -> tuple[tuple[Genotype, ...], ...]:
        """The three blocks, at each of the eight places."""
        return (CHOICES,) * _PLACES

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """The genotype itself: eight numbers."""
        return _read(genotype)

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """Eight numbers as a genotype."""
        return _read(tuple(parts))

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained network, with torch's default initialisation.

        Args:
            genotype: eight numbers, 0, 1 or 2.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images; any height and width will do.

        Raises:
            ValueError: if the genotype is not in this space; the message shows the offending part.
        """
        return _Network(_read(genotype), self.width, self.head, num_classes, in_chans)

    def parse(self, text: str) -> Genotype:
        """Read eight digits, such as ``00000221``.

        Raises:
            ValueError: if they are not; the message shows the part that cannot be read.
        """
        digits = text.strip()
        for digit in digits:
            if digit not in "012":
                raise ValueError(f"A network of NAS-Bench-Macro is written with the digits 0, 1 and 2, got {digit!r}.")
        if len(digits) != _PLACES:
            raise ValueError(
                f"A network of NAS-Bench-Macro is written as {_PLACES} digits (leading zeros count), got {len(digits)}: "
                f"{digits[:100]!r}."
            )
        return tuple(int(digit) for digit in digits)

    def name(self, genotype: Genotype) -> str:
        """The eight digits, as the benchmark's users write them."""
        return "".join(map(str, _read(genotype)))

    def key(self, genotype: Genotype) -> str:
        """The name of one genotype that stands for all genotypes of one network: 3,969 in all.

        An identity does nothing but in the first place of a stage, so that it may stand anywhere after it; here it
        stands last.
        """
        choices = _read(genotype)
        parts = []
        for first, places in zip(_FIRST, STAGES, strict=True):
            # Sorting is stable: the blocks keep their order.
            rest = sorted(choices[first + 1 : first + places], key=lambda choice: choice == 0)
            parts += [choices[first], *rest]
        return self.name(tuple(parts))

    def _drawing(self, genotype: Genotype) -> Drawing:
        rows = [("stem", "conv", "3", "", "1", str(self.width))]
        for place, choice in enumerate(_read(genotype)):
            stage, first = sum(start <= place for start in _FIRST), place in _FIRST
            kernel, expansion = _KERNEL_AND_EXPANSION.get(choice, ("1" if first else "", ""))
            block = "inverted residual" if choice else "conv" if first else "identity"
            stride, width = "2" if first else "1", str(self.width * 2**stage)
            rows.append((str(stage) if first else "", block, str(kernel), str(expansion), stride, width))
        rows.append(("head", "conv", "1", "", "1", str(self.head)))
        return Drawing((Table(tuple(rows), ("stage", "block", "kernel", "expansion", "stride", "width")),))

    def layers(self, genotype: Genotype) -> Mapping[str, int]:
        """The stem is 0, every place counts one (an identity too), and the last convolution comes after them."""
        return {"stem": 0, **{f"blocks.{place}": place + 1 for place in range(_PLACES)}, "head": _PLACES + 1}

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs (which the benchmark calls FLOPs) and ReLU calls in closed form.

        Args:
            genotype: eight numbers, 0, 1 or 2.
            input_size: ``(channels, height, width)`` of one image, by default (3, 32, 32).
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two).
        """
        in_chans, high, wide = input_size or self.input_size
        size = high, wide
        parts = [_conv_costs(9 * in_chans * self.width, self.width, size, relu=True)]
        c_in = self.width
        for place, choice in enumerate(_read(genotype)):
            c_out, stride = _shape(c_in, place)
            parts.append(_block_costs(choice, c_in, c_out, stride, size))
            c_in, size = c_out, (strided_size(size[0], stride), strided_size(size[1], stride))
        parts.append(_conv_costs(c_in * self.head, self.head, size, relu=True))
        parts.append(Costs((self.head + 1) * num_classes, self.head * num_classes, depth=0))
        return total(parts)


def _shape(c_in: int, place: int) -> tuple[int, int]:
    """Output channels and stride of the block at ``place``."""
    return (2 * c_in, 2) if place in _FIRST else (c_in, 1)


def _conv_costs(weights: int, c_out: int, out_size: Size, relu: bool) -> Costs:
    """Costs of a convolution of so many weights, BN and possibly ReLU."""
    return Costs(weights + 2 * c_out, weights * out_size[0] * out_size[1], depth=int(relu))


@lru_cache(maxsize=4096)
def _block_costs(choice: int, c_in: int, c_out: int, stride: int, size: Size) -> Costs:
    out_size = strided_size(size[0], stride), strided_size(size[1], stride)
    if choice == 0:
        return Costs(0, 0, 0) if stride == 1 else _conv_costs(c_in * c_out, c_out, out_size, relu=False)
    kernel, expansion = _KERNEL_AND_EXPANSION[choice]
    inner = c_in * expansion
    return total(
        [
            _conv_costs(c_in * inner, inner, size, relu=True),
            _conv_costs(kernel * kernel * inner, inner, out_size, relu=True),
            _conv_costs(inner * c_out, c_out, out_size, relu=False),
        ]
    )


def _conv_bn(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> list[nn.Module]:
    groups = c_in if depthwise else 1
    conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out)]


class _InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise convolution, 1x1 convolution; with a shortcut where it fits."""

    def __init__(self, c_in: int, c_out: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        inner = c_in * expansion
        self.convs = nn.Sequential(
            *_conv_bn(c_in, inner),
            nn.ReLU(inplace=False),
            *_conv_bn(inner, inner, kernel, stride, depthwise=True),
            nn.ReLU(inplace=False),
            *_conv_bn(inner, c_out),
        )
        self.shortcut = stride == 1
        if self.shortcut:
            self.drop_path: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convs(x)
        return maybe_dropped(out, self.drop_path) + x if self.shortcut else out


def _block(choice: int, c_in: int, c_out: int, stride: int) -> nn.Module:
    if choice == 0:
        return nn.Identity() if stride == 1 else nn.Sequential(*_conv_bn(c_in, c_out, stride=stride))
    return _InvertedResidual(c_in, c_out, stride, *_KERNEL_AND_EXPANSION[choice])


class _Network(nn.Module):
    """Images ``(batch, in_chans, height, width)`` to logits ``(batch, num_classes)``."""

    def __init__(self, choices: tuple[int, ...], width: int, head: int, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(*_conv_bn(in_chans, width, 3), nn.ReLU(inplace=False))
        blocks = []
        c_in = width
        for place, choice in enumerate(choices):
            c_out, stride = _shape(c_in, place)
            blocks.append(_block(choice, c_in, c_out, stride))
            c_in = c_out
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(*_conv_bn(c_in, head), nn.ReLU(inplace=False))
        self.classifier = nn.Linear(head, num_classes)

    def group_matcher(self, coarse: bool = False) -> LayerPatterns:
        """The stem, every block with weights, and the head are one layer each; the convention is timm's."""
        return layer_patterns(coarse, r"^blocks\.(\d+)", after=r"^head")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, ``(batch, head, height / 8, width / 8)``."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.head(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.forward_features(x), 1).flatten(1)
        x = self.classifier(x)
        return x


def _read(genotype: Genotype) -> tuple[int, ...]:
    """The genotype with its type checked; ValueError shows what does not belong."""
    if not isinstance(genotype, tuple) or len(genotype) != _PLACES:
        raise ValueError(f"A genotype of NASBenchMacro is a tuple of {_PLACES} numbers, got {genotype!r}.")
    choices = []
    for choice in genotype:
        if isinstance(choice, bool) or not isinstance(choice, int) or choice not in CHOICES:
            raise ValueError(f"A choice of NASBenchMacro is 0, 1 or 2, got {choice!r} in {genotype!r}.")
        choices.append(choice)
    return tuple(choices)
