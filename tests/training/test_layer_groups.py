from __future__ import annotations

import random

import pytest
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, param_groups_layer_decay

from lightning_wrcor.proxies import score
from lightning_wrcor.spaces import DARTS, NASBench101, NASBench201, NASBenchMacro, NATSBenchSize, get_space

from toys import batch

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
SKIPS = "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
MOBILE = (
    "stem 16; E2K3(16,16,2,16,1) E2K3(16,16,1,16,2) E2K3(16,16,2,16,2) E2K3(16,32,1,16,2) E2K3(32,48,2,32,2) "
    "E2K3(48,80,1,48,2) E2K3(80,80,2,80,1); head 128; resolution 32"
)

# The layers by hand: prefixes of the parameters' names, from the stem to the head.
CELLS = [f"cells.{place}." for place in range(5)]
LAYERS = {
    "nasbench201": (
        NASBench201(4, 1),
        CELL,
        [("stem.",), *((c,) for c in CELLS[:4]), ("cells.4.", "last_act."), ("classifier.",)],
    ),
    # Cells without weights are no layers: the two reduction blocks are left, and the second takes the last norm.
    "skips": (NASBench201(4, 1), SKIPS, [("stem.",), ("cells.1.",), ("cells.3.", "last_act."), ("classifier.",)]),
    # Every second of the places is a pooling.
    "nasbench101": (NASBench101(8, 1), "111;I-c3-O", [("stem.",), *((c,) for c in CELLS[::2]), ("classifier.",)]),
    "size": (
        NATSBenchSize([2, 3]),
        "2:3:2:2:3",
        [("stem.",), *((c,) for c in CELLS[:4]), ("cells.4.", "last_act."), ("classifier.",)],
    ),
    # The identities 3 and 7 are no layers; the one at the beginning of a stage is a convolution.
    "macro": (
        NASBenchMacro(4, 16),
        "11002210",
        [("stem.",), *((f"blocks.{place}.",) for place in (0, 1, 2, 4, 5)), ("blocks.6.", "head."), ("classifier.",)],
    ),
    "darts": (DARTS("cifar", 4, 5, 2), None, [("stem.",), *((c,) for c in CELLS), ("classifier.",)]),
    "mobilenet": (
        get_space("mobilenet_v2", resolutions=[32], widths=[(16, 256)] * 8, head=(128, 128)),
        MOBILE,
        [
            ("stem.",),
            *((f"stages.{s}.{b}.",) for s, depth in enumerate((1, 2, 2, 2, 2, 2)) for b in range(depth)),
            ("stages.6.0.", "head."),
            ("classifier.",),
        ],
    ),
}


def build(case):
    space, text, layers = LAYERS[case]
    torch.manual_seed(0)
    genotype = space.parse(text) if text else space.sample(random.Random(0))
    return space.build(genotype, num_classes=3), layers


@pytest.mark.parametrize("case", LAYERS)
def test_every_parameter_is_in_its_layer_counted_by_hand(case):
    network, layers = build(case)
    found = group_parameters(network, network.group_matcher(), reverse=True)
    names = [name for name, _ in network.named_parameters()]
    wanted = {name: place for place, prefixes in enumerate(layers) for name in names if name.startswith(prefixes)}
    assert set(wanted) == set(names)
    assert found == wanted
    assert set(wanted.values()) == set(range(len(layers)))


@pytest.mark.parametrize("case", LAYERS)
def test_layer_decay_scales_by_the_distance_from_the_head(case):
    network, layers = build(case)
    named = {id(parameter): name for name, parameter in network.named_parameters()}
    seen = set()
    for group in param_groups_layer_decay(network, weight_decay=0.1, layer_decay=0.5):
        for parameter in group["params"]:
            name = named[id(parameter)]
            (place,) = [place for place, prefixes in enumerate(layers) if name.startswith(prefixes)]
            assert group["lr_scale"] == 0.5 ** (len(layers) - 1 - place)
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
            seen.add(name)
    assert seen == set(named.values())
    optimizer = create_optimizer_v2(network, "sgd", lr=0.1, layer_decay=0.5)
    assert {group["lr_scale"] for group in optimizer.param_groups} == {0.5**d for d in range(len(layers))}


@pytest.mark.parametrize("case", LAYERS)
def test_scores_without_a_space_see_no_such_layers(case, monkeypatch):
    """Where nobody says what the layers are, a network of ours is scored by the general rule, as before it had groups."""
    network, _ = build(case)
    data = batch(8, 16)
    with pytest.raises(NotImplementedError, match="coarse=False"):
        network.group_matcher(coarse=True)
    with_groups = score(network, (data[0], data[1] % 3), proxy="wrcor")
    monkeypatch.delattr(type(network), "group_matcher")
    without = score(network, (data[0], data[1] % 3), proxy="wrcor")
    assert with_groups.value == without.value
    assert torch.isfinite(torch.tensor(without.value))
