"""Residual networks that timm builds from descriptions of their blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

from torch import nn

from lightning_wrcor.spaces._choices import Choice, read_stages
from lightning_wrcor.spaces._timm_blocks import StagedBlocks, count_stages, ratios, whole, whole_stages

_BLOCKS = ("basic", "bottle")
_WIDTHS = ((64, 128, 256), (128, 256, 512), (256, 512, 1024), (512, 1024, 2048))
_DEPTHS = ((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5, 6), (1, 2, 3))
_ROUND = 8  # timm rounds channels to multiples of this


class TimmResNet(StagedBlocks):
    """ResNets, ResNeXts and what lies between, as models of `timm.models.ByobNet`.

    A 7x7 stem and pooling, stages of residual blocks (each but the first halves the size), pooling and a linear
    classifier. The choices of a stage are its block (``basic``: two 3x3 convolutions; ``bottle``: 1x1, 3x3 and 1x1),
    its depth, its width, the ratio of the channels inside a block to that width, and the channels of a group of the
    last 3x3 convolution of a block, 0 for no groups. ResNet-18, ResNet-50 and ResNeXt-50 are members, with the
    parameters and MACs of timm's own. ResNet-18 is written::

        stem64 basic_d2_w64_r1.0_g0 basic_d2_w128_r1.0_g0 basic_d2_w256_r1.0_g0 basic_d2_w512_r1.0_g0

    A genotype is a tuple with these values in this order. Combinations belong to the space where the channels inside
    every block are a multiple of 8 (timm would round them) and make at least two groups.

    Args:
        stems: widths of the stem, multiples of 8.
        widths: for each stage a list of widths, multiples of 8; there are as many stages as lists.
        depths: numbers of blocks, as one list for all stages or one for each.
        blocks: "basic" and "bottle", or one of them; likewise.
        bottlenecks: ratios of the channels inside a block to its width; likewise.
        groups: channels of a group; likewise.
        image_size: height and width in pixels of the images; other sizes work as well.
        kwargs: further arguments of `timm.models.ByobNet`, and fields of its ``ByoModelCfg``, for all models, such as
            ``{"drop_path_rate": 0.1, "attn_layer": "se", "act_layer": "silu"}``.

    Raises:
        ValueError: for values that timm has no blocks for, and arguments that the space sets itself.
    """

    kind = "timm_resnet"
    _restricted = True
    _data: ClassVar[Mapping[str, Any]] = {"first_conv": "stem.conv1.conv", "classifier": "head.fc"}

    def __init__(
        self,
        stems: Sequence[int] = (32, 64),
        widths: Sequence[Sequence[int]] = _WIDTHS,
        depths: Sequence[Any] = _DEPTHS,
        blocks: Sequence[Any] = _BLOCKS,
        bottlenecks: Sequence[Any] = (0.25, 0.5, 1.0),
        groups: Sequence[Any] = (0, 16, 32),
        image_size: int = 224,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._stages = count_stages(widths=widths)
        if self._stages < 2:
            raise ValueError(f"timm builds these networks of at least two stages; got {self._stages} in widths.")
        self.stems = whole("stems", stems, multiple=_ROUND)
        self.widths = whole_stages("widths", widths, self._stages, multiple=_ROUND)
        self.depths = whole_stages("depths", depths, self._stages)
        self.blocks = read_stages("blocks", blocks, self._stages)
        self.bottlenecks = tuple(
            ratios("bottlenecks", part) for part in read_stages("bottlenecks", bottlenecks, self._stages)
        )
        self.groups = whole_stages("groups", groups, self._stages, smallest=0)
        for block in chain(*self.blocks):
            if block not in _BLOCKS:
                raise ValueError(f"blocks are 'basic' and 'bottle'; got {block!r}.")
        choices = [
            [
                Choice(f"block{stage + 1}", self.blocks[stage], " "),
                Choice(f"depth{stage + 1}", self.depths[stage], "_d"),
                Choice(f"width{stage + 1}", self.widths[stage], "_w"),
                Choice(f"bottleneck{stage + 1}", self.bottlenecks[stage], "_r"),
                Choice(f"group{stage + 1}", self.groups[stage], "_g"),
            ]
            for stage in range(self._stages)
        ]
        super().__init__(Choice("stem", self.stems, "stem"), choices, [], image_size, kwargs)

    def _allows(self, values: Mapping[str, Any]) -> bool:
        for stage in range(1, self._stages + 1):
            inside, group = values[f"width{stage}"] * values[f"bottleneck{stage}"], values[f"group{stage}"]
            if inside % _ROUND or (group and (inside % group or inside == group)):
                return False
        return True

    @property
    def _why_not(self) -> str:
        return "TimmResNet (which needs channels inside a block in multiples of 8, and in at least two whole groups)"

    def _model(self, values: Mapping[str, Any], name: str) -> tuple[type[nn.Module], dict[str, Any]]:
        from timm.models import ByoBlockCfg, ByobNet, ByoModelCfg

        blocks = tuple(
            ByoBlockCfg(
                type=values[f"block{stage}"],
                d=values[f"depth{stage}"],
                c=values[f"width{stage}"],
                s=1 if stage == 1 else 2,
                gs=values[f"group{stage}"],
                br=values[f"bottleneck{stage}"],
            )
            for stage in range(1, self._stages + 1)
        )
        return ByobNet, {"model_cfg": ByoModelCfg(blocks=blocks, stem_type="7x7", stem_chs=values["stem"])}

    def _fixed(self, stage: int) -> dict[str, str]:
        return {"stride": "2" if stage else "1"}

    def _modules(self, model: Any) -> tuple[nn.Module, Sequence[nn.Sequential], nn.Module]:
        return model.stem, model.stages, nn.Sequential(model.final_conv, model.head)
