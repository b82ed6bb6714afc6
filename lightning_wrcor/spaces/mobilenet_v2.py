"""The MobileNetV2 space: seven stages of residual inverted bottlenecks, of searched widths, depths and resolution."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

from torch import nn

from lightning_wrcor.inspection import Costs
from lightning_wrcor.spaces._base import Genotype, Space
from lightning_wrcor.spaces._drawing import Drawing
from lightning_wrcor.spaces._inverted_residual import (
    InvertedResidualNetwork,
    Network,
    Stage,
    draw_network,
    network_costs,
    read_network,
    write_network,
)

_STAGES = 7
_STEP = 8  # widths are multiples of this
_WIDTHS = ((16, 48), (16, 48), (16, 48), (32, 64), (48, 96), (80, 256), (80, 256), (128, 512))
_DEPTHS = ((1, 2), (2, 3), (2, 3), (2, 4), (2, 6), (2, 6), (1, 2))


class MobileNetV2(Space):
    """Networks of inverted bottlenecks as in MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381), for ImageNet.

    The space is that of Zen-NAS (Lin et al., ICCV 2021, arXiv 2102.01063) as WRCor searches it (arXiv 2507.08841): a
    3x3 stem of stride 2, seven stages, a 1x1 convolution, pooling and a linear classifier. Every block widens, filters
    each channel, squeezes and excites, narrows, adds a shortcut (a projection in the first block of a stage) and ends
    with ReLU. MobileNetV2 itself differs: no squeeze-and-excitation, no projections, no ReLU after the sum, ReLU6, and
    a first block that does not widen.

    A genotype is ``(resolution, stem, stages, head)``: pixels, the stem's width, seven times
    ``(expansion, kernel, width, stride, bottleneck, depth)``, and the width of the last convolution. The depthwise
    convolutions of a stage have ``bottleneck * expansion`` channels. As text::

        stem 48; E2K7(48,32,2,40,2) E2K7(32,32,2,48,3) ... E6K5(152,240,1,136,2); head 1264; resolution 224

    with ``E<expansion>K<kernel>(<in>,<out>,<stride>,<bottleneck>,<depth>)`` for a stage. The paper's networks go by
    their names in `published` as well.

    The resolution belongs to the network: images of another size are brought to it first, bilinearly, so that scores,
    costs and training all are at this resolution, whatever the size of the batch. Where the data pipeline decides
    instead, write ``resize=False, resolutions=224``: the network then takes images as they come, and the space must
    have one resolution only, because a network that does not resize cannot tell two of them apart.

    Args:
        expansions: what a stage's expansion can be.
        kernels: what a stage's depthwise kernel can be; odd numbers.
        widths: eight ranges ``(smallest, largest)`` in steps of 8, r1 to r8. The stem's width is in r1, the output of
            stage i in r(i+1), its bottleneck in r(i).
        depths: seven ranges ``(smallest, largest)``, the blocks of each stage.
        head: range of the width of the last convolution, in steps of 8.
        resolutions: heights (and widths) of the image in pixels, or one.
        halvings: how many of the seven stages have stride 2, in any places; a list allows several numbers.
        se: squeeze-and-excitation in every block.
        resize: whether a network resizes images of another size to its resolution.

    Raises:
        ValueError: for a range or a choice that holds nothing, and several resolutions with ``resize=False``.
    """

    kind = "mobilenet_v2"

    published: ClassVar[Mapping[str, str]] = {
        "ea_600m": "stem 48; E2K7(48,32,2,40,2) E2K7(32,32,2,48,3) E6K7(32,64,1,40,3) E6K7(64,88,2,40,4) "
        "E6K7(88,104,1,56,6) E6K5(104,152,2,192,6) E6K5(152,240,1,136,2); head 1264; resolution 224",
        "rl_600m": "stem 32; E6K3(32,32,1,16,1) E1K5(32,24,2,40,2) E1K7(24,48,2,48,3) E2K3(48,88,2,64,4) "
        "E6K5(88,152,2,48,6) E6K7(152,152,1,144,6) E4K5(152,240,1,152,2); head 1184; resolution 192",
        "random_600m": "stem 40; E4K5(40,32,2,24,2) E6K5(32,16,2,24,3) E2K7(16,48,2,40,3) E2K5(48,56,1,48,4) "
        "E2K7(56,224,2,72,5) E6K3(224,184,1,192,6) E6K7(184,128,1,144,2); head 1240; resolution 256",
    }
    """The paper's networks below 600M multiply-adds, as text: found by evolution, by reinforcement learning and by random
    search."""

    def __init__(
        self,
        expansions: Sequence[int] = (1, 2, 4, 6),
        kernels: Sequence[int] = (3, 5, 7),
        widths: Sequence[Sequence[int]] = _WIDTHS,
        depths: Sequence[Sequence[int]] = _DEPTHS,
        head: Sequence[int] = (128, 1536),
        resolutions: int | Sequence[int] = (192, 224, 256, 288, 320),
        halvings: int | Sequence[int] = 4,
        se: bool = True,
        resize: bool = True,
    ) -> None:
        self.expansions = _numbers("expansions", expansions)
        self.kernels = _numbers("kernels", kernels)
        self.widths = tuple(_pair("widths", pair) for pair in _sized("widths", widths, _STAGES + 1))
        self.depths = tuple(_pair("depths", pair) for pair in _sized("depths", depths, _STAGES))
        self.head = _pair("head", head)
        self.resolutions = _numbers("resolutions", resolutions)
        self.halvings = _numbers("halvings", halvings, smallest=0)
        self.se = se
        self.resize = resize
        even = [kernel for kernel in self.kernels if kernel % 2 == 0]
        if even:
            raise ValueError(f"kernels must be odd, so that a stage keeps its size; got {even[0]}.")
        if max(self.halvings) > _STAGES:
            raise ValueError(f"halvings counts stages with stride 2, of which there are 7; got {max(self.halvings)}.")
        if not resize and len(self.resolutions) > 1:
            raise ValueError(
                f"resize=False leaves the resolution to the data, so the space can have one only; got "
                f"{len(self.resolutions)}: {', '.join(map(str, self.resolutions))}. Write resolutions=224, or resize=True."
            )
        largest = 224 if 224 in self.resolutions else max(self.resolutions)
        self.input_size = (3, largest, largest)
        self._width_steps = [_steps(f"widths[{place}]", pair) for place, pair in enumerate(self.widths)]
        self._head_steps = _steps("head", self.head)
        self._stride_patterns = [
            tuple(2 if stage in halving else 1 for stage in range(_STAGES))
            for count in self.halvings
            for halving in combinations(range(_STAGES), count)
        ]

    @property
    def mixed_depth(self) -> bool:
        """Whether the networks differ in their number of blocks."""
        return any(low < high for low, high in self.depths)

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype; all genotypes of the space are equally likely.

        Every expansion, kernel, width, bottleneck, depth and the resolution is drawn uniformly from its choices, and
        so are the places of the strides. Large widths and depths are common among genotypes, so most draws cost far
        more than the paper's networks: constrain the search (``max_macs=600e6``).
        """
        strides = rng.choice(self._stride_patterns)
        drawn = [tuple(rng.choice(choices) for choices in self._stage_choices(stage)) for stage in range(_STAGES)]
        stages = tuple((*values[:3], stride, *values[3:]) for values, stride in zip(drawn, strides, strict=True))
        return (rng.choice(self.resolutions), rng.choice(self._width_steps[0]), stages, rng.choice(self._head_steps))

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change the expansion, kernel, width, bottleneck or depth of one stage, or one number of the whole network.

        The latter are the resolution and the widths of the stem and the head. What changes is drawn uniformly over all
        of these that have a choice, and its new value over the others. The strides stay where they are.

        Raises:
            ValueError: if nothing can change, or the genotype is not in this space.
        """
        network = self._read(genotype)
        stages = [list(stage) for stage in network.stages]
        places: list[tuple[list[int], int, Sequence[int]]] = []  # a list, a position in it, and what may stand there
        others = [network.resolution, network.stem, network.head]
        for position, choices in enumerate((self.resolutions, self._width_steps[0], self._head_steps)):
            places.append((others, position, choices))
        for index, stage in enumerate(stages):
            for position, choices in zip((0, 1, 2, 4, 5), self._stage_choices(index), strict=True):
                places.append((stage, position, choices))
        places = [place for place in places if len(place[2]) > 1]
        if not places:
            raise ValueError(
                f"This space has no choice but the strides: nothing of {self.name(genotype)!r} can change."
            )
        values, position, choices = rng.choice(places)
        values[position] = rng.choice([choice for choice in choices if choice != values[position]])
        return (others[0], others[1], tuple(tuple(stage) for stage in stages), others[2])

    def resolution(self, genotype: Genotype) -> int:
        """Height and width of the images in pixels, which are part of the genotype."""
        return self._read(genotype).resolution

    def places(self) -> tuple[tuple[Genotype, ...], ...]:
        """The resolution, the widths of stem and head, all strides at once, and five numbers of each stage."""
        whole = (self.resolutions, tuple(self._width_steps[0]), tuple(self._head_steps), tuple(self._stride_patterns))
        stages = (tuple(choices) for stage in range(_STAGES) for choices in self._stage_choices(stage))
        return (*whole, *stages)

    def parts(self, genotype: Genotype) -> tuple[Genotype, ...]:
        """The numbers of a genotype, in the order of `places`."""
        network = self._read(genotype)
        strides = tuple(stage.stride for stage in network.stages)
        others = (number for stage in network.stages for number in (*stage[:3], *stage[4:]))
        return (network.resolution, network.stem, network.head, strides, *others)

    def assemble(self, parts: Sequence[Genotype]) -> Genotype:
        """The genotype of these numbers."""
        resolution, stem, head, strides, *others = parts
        assert isinstance(strides, tuple)
        stages = tuple(
            (*others[5 * stage : 5 * stage + 3], stride, *others[5 * stage + 3 : 5 * stage + 5])
            for stage, stride in enumerate(strides)
        )
        genotype: Genotype = (resolution, stem, stages, head)
        self._read(genotype)
        return genotype

    def _stage_choices(self, stage: int) -> tuple[Sequence[int], ...]:
        """Choices for expansion, kernel, width, bottleneck and depth of the stage at this place, counted from 0."""
        low, high = self.depths[stage]
        widths, bottlenecks = self._width_steps[stage + 1], self._width_steps[stage]
        return self.expansions, self.kernels, widths, bottlenecks, range(low, high + 1)

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the untrained network, with torch's default initialisation.

        Args:
            genotype: a member of this space.
            num_classes: width of the logits, ``(batch, num_classes)``.
            in_chans: channels of the images; any height and width will do.

        Returns:
            The network, with its resolution in ``network.resolution``. In training it needs batches of at least two
            images, because the BN of squeeze-and-excitation sees one value a channel and image.

        Raises:
            ValueError: if the genotype is not in this space; the message shows the offending part.
        """
        return InvertedResidualNetwork(self._read(genotype), num_classes, in_chans, self.se, self.resize)

    def _drawing(self, genotype: Genotype) -> Drawing:
        return draw_network(self._read(genotype))

    def layers(self, genotype: Genotype) -> Mapping[str, int]:
        """The stem is layer 0, the stages are 1 to 7, and the last convolution is 8."""
        return {"stem": 0, **{f"stages.{stage}": stage + 1 for stage in range(_STAGES)}, "head": _STAGES + 1}

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and ReLU calls in closed form.

        Args:
            genotype: a member of this space.
            input_size: ``(channels, height, width)`` of one image. Height and width matter only with
                ``resize=False``: otherwise the network works at the genotype's resolution. By default 3 channels.
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two).
        """
        network = self._read(genotype)
        channels, *size = input_size or self.input_size
        high, wide = (network.resolution, network.resolution) if self.resize else size
        return network_costs(network, channels, (high, wide), num_classes, self.se)

    def parse(self, text: str) -> Genotype:
        """Read ``stem 48; E2K7(48,32,2,40,2) ...; head 1264; resolution 224``, or a name in `published`.

        Raises:
            ValueError: if the text cannot be read or is not in this space; the message shows the offending part.
        """
        network = read_network(self.published.get(re.sub(r"[-\s]", "_", text.strip().lower()), text), self.published)
        self._read(network)
        return (network.resolution, network.stem, tuple(tuple(stage) for stage in network.stages), network.head)

    def name(self, genotype: Genotype) -> str:
        """The network as text, stage by stage."""
        return write_network(self._read(genotype))

    def _read(self, genotype: Genotype) -> Network:
        """The genotype with its type checked; ValueError shows what does not belong."""
        if not isinstance(genotype, tuple) or len(genotype) != 4:
            raise ValueError(f"A genotype of MobileNetV2 is (resolution, stem, stages, head), got {genotype!r}.")
        if not isinstance(genotype[2], tuple) or len(genotype[2]) != _STAGES:
            written = len(genotype[2]) if isinstance(genotype[2], tuple) else repr(genotype[2])
            raise ValueError(f"A network of MobileNetV2 has 7 stages, got {written}.")
        stages = tuple(self._read_stage(place, stage) for place, stage in enumerate(genotype[2]))
        halvings = sum(stage.stride == 2 for stage in stages)
        if halvings not in self.halvings:
            allowed = " or ".join(map(str, self.halvings))
            raise ValueError(f"In this space {allowed} of the seven stages have stride 2; got {halvings}.")
        return Network(
            _one_of("resolution", genotype[0], self.resolutions),
            _one_of("width of the stem", genotype[1], self._width_steps[0]),
            stages,
            _one_of("width of the head", genotype[3], self._head_steps),
        )

    def _read_stage(self, place: int, stage: Genotype) -> Stage:
        if not isinstance(stage, tuple) or len(stage) != 6:
            raise ValueError(
                f"Stage {place + 1} is (expansion, kernel, width, stride, bottleneck, depth), got {stage!r}."
            )
        expansions, kernels, widths, bottlenecks, depths = self._stage_choices(place)
        choices = (expansions, kernels, widths, (1, 2), bottlenecks, depths)
        return Stage(
            *(
                _one_of(f"{field} of stage {place + 1}", value, allowed)
                for field, value, allowed in zip(Stage._fields, stage, choices, strict=True)
            )
        )


def _one_of(what: str, value: Genotype, choices: Sequence[int]) -> int:
    # A range that is asked for True would say yes.
    if isinstance(value, int) and not isinstance(value, bool) and value in choices:
        return value
    raise ValueError(f"The {what} is one of {', '.join(map(str, choices))} in this space; got {value!r}.")


def _numbers(argument: str, given: Any, smallest: int = 1) -> tuple[int, ...]:
    numbers = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    fitting = {number for number in numbers if isinstance(number, int) and number >= smallest}
    if not numbers or len(fitting) < len(numbers):
        raise ValueError(f"{argument} holds different whole numbers of at least {smallest}; got {given!r}.")
    return numbers


def _sized(argument: str, given: Any, length: int) -> Sequence[Any]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != length:
        raise ValueError(f"{argument} is a list of {length} ranges (smallest, largest); got {given!r}.")
    return given


def _pair(argument: str, given: Any) -> tuple[int, int]:
    pair = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if len(pair) != 2 or not all(isinstance(number, int) for number in pair) or not 1 <= pair[0] <= pair[1]:
        raise ValueError(f"A range of {argument} is (smallest, largest), two whole numbers; got {given!r}.")
    return pair


def _steps(argument: str, pair: tuple[int, int]) -> range:
    low, high = pair
    if low % _STEP or high % _STEP:
        raise ValueError(f"{argument} is a range of multiples of {_STEP}; got {pair}.")
    return range(low, high + 1, _STEP)
