"""The proxies of AZ-NAS, and the entropy of blocks, against slow sums over samples and positions."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from by_hand import NETWORKS, Behind, Perceptron, Plain, Tokens, batch, noises, use_own_weights, weights_of
from networks import Transformer
from torch import Tensor, nn

from lightning_wrcor.inspection import Tracer
from lightning_wrcor.inspection.layers import find_blocks
from lightning_wrcor.proxies import score
from lightning_wrcor.proxies.az_nas import _channels, _entropy, _jacobian

ALL = ["az_expressivity", "az_progressivity", "az_trainability"]


# ---- by hand


def training_norm(x: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()


def layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5).sqrt()


def entropy(features: np.ndarray) -> float:
    """Of ``(rows, channels)``."""
    covariance = np.cov(features, rowvar=False, bias=True)
    shares = np.linalg.eigvalsh(covariance).clip(min=0)
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def rows(features: Tensor, sequence: bool) -> np.ndarray:
    array = features.detach().numpy()
    return array.reshape(-1, array.shape[-1]) if sequence else np.moveaxis(array, 1, -1).reshape(-1, array.shape[1])


def trainability(blocks: list[Tensor], sequence: bool, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    values = []
    for before, after in pairwise(blocks):
        signs = torch.randint(0, 2, after.shape, generator=generator).double() * 2 - 1
        back = torch.autograd.grad((after * signs).sum(), before, retain_graph=True)[0].numpy()
        given = signs.numpy()
        total, count = np.zeros(1), 0
        if sequence:
            for sample, place in np.ndindex(given.shape[:2]):
                total, count = total + np.outer(back[sample, place], given[sample, place]), count + 1
        else:
            fold = back.shape[2] // given.shape[2]
            for sample, row, column in np.ndindex(given.shape[0], *given.shape[2:]):
                window = back[sample, :, row * fold : (row + 1) * fold, column * fold : (column + 1) * fold]
                total, count = total + np.outer(window, given[sample, :, row, column]), count + 1
        largest = np.linalg.svd(total / count)[1][0]
        values.append(2 - largest - 1 / (largest + 1e-6))
    return float(np.mean(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("build", [kind for kind in NETWORKS if kind is not Perceptron])
def test_by_hand(build: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_weights(monkeypatch)
    network, sequence = build(), build is Tokens
    noise = noises(6, 3, 6, 6)[0].requires_grad_()
    blocks = build.by_hand(weights_of(network), noise, layer_norm if sequence else training_norm)[0]
    entropies = [entropy(rows(block, sequence)) for block in blocks]
    expected = {
        "az_expressivity": sum(entropies),
        "az_progressivity": min(np.diff(entropies)),
        "az_trainability": trainability(blocks, sequence, seed=0),
        "block_entropy": np.mean(entropies),
    }
    images, labels = batch()
    report = score(copy.deepcopy(network).to(dtype), (images.to(dtype), labels), list(expected), layers=network.layers)
    tolerance = 2e-4 if dtype == torch.float32 else 1e-9
    assert report.scores == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert report.refused == {}


def test_entropy_of_a_known_covariance() -> None:
    """Independent channels with variances 1, 2 and 4, whichever way the features are turned."""
    signs = torch.tensor([[(i >> bit & 1) * 2.0 - 1 for bit in range(3)] for i in range(8)])  # orthogonal columns
    features = signs * torch.tensor([1.0, 2.0**0.5, 2.0])
    shares = np.array([1, 2, 4]) / 7
    expected = -(shares * np.log(shares)).sum()
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    for given in (features, features @ turn, features @ turn + 5, 3 * features):
        assert _entropy(given.reshape(2, 4, 3), 2) == pytest.approx(expected, rel=1e-5)
        assert _entropy(given.reshape(2, 2, 2, 3).permute(0, 3, 1, 2), 1) == pytest.approx(expected, rel=1e-5)
    assert _entropy(torch.ones(4, 3, 2, 2), 1) == -math.inf
    assert _entropy(features[:, :1].reshape(2, 1, 2, 2), 1) == 0.0


def test_entropy_of_more_channels_than_rows() -> None:
    features = torch.randn(2, 40, 3, 3, generator=torch.Generator().manual_seed(0))
    assert _entropy(features, 1) == pytest.approx(entropy(rows(features, sequence=False)), rel=1e-5)


class _Turning(nn.Module):
    """A 1x1 convolution by a matrix."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(len(matrix), len(matrix), 1)
        self.conv.weight.data = matrix[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def turning(matrix: Tensor) -> tuple[nn.Module, dict[str, int]]:
    ends = nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    return nn.Sequential(ends[0], _Turning(matrix), *ends[1:]), {"0": 0, "1": 1}


def test_trainability_of_linear_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tends to the transposed matrix: an orthogonal one has the largest singular value 1, twice that 2, half that 1/2."""
    use_own_weights(monkeypatch)
    turn = torch.linalg.qr(torch.randn(4, 4))[0]
    for factor, expected in ((1.0, 0.0), (2.0, -0.5), (0.5, -0.5)):
        network, layers = turning(factor * turn)
        found = score(network, batch(400), "az_trainability", layers=layers).value
        assert found == pytest.approx(expected, abs=0.05)
    network, layers = turning(torch.eye(4))
    report = score(network, batch(), "az_trainability", layers=layers)
    assert report.value == -math.inf
    assert report.reason == "the block '1' passes its input through unchanged"


def test_positions_are_folded_as_a_pixel_unshuffle_does() -> None:
    back, signs = torch.randn(2, 3, 6, 4), torch.randn(2, 5, 3, 2)
    folded = F.pixel_unshuffle(back, 2)
    expected = torch.einsum("bchw,bdhw->cd", folded, signs) / 12
    found = _jacobian(back, signs)
    assert found is not None
    torch.testing.assert_close(torch.linalg.svdvals(found), torch.linalg.svdvals(expected))
    assert _jacobian(torch.randn(2, 3, 5, 5), signs) is None
    # A map before a sequence of the same positions.
    flat = _jacobian(torch.randn(2, 3, 2, 3), torch.randn(2, 5, 6))
    assert flat is not None
    assert flat.shape == (3, 5)


# ---- which features


def test_channels_come_last_only_where_they_must() -> None:
    class Seen:
        def __init__(self, kind: str, width: int) -> None:
            self.layers = [type("Call", (), {"kind": kind, "weight": torch.zeros(width, 2)})()]

    assert _channels(torch.zeros(2, 9, 6), Seen("Linear", 9)) == 2  # type: ignore[arg-type]
    assert _channels(torch.zeros(2, 4, 4, 6), Seen("Linear", 6)) == 3  # type: ignore[arg-type]
    assert _channels(torch.zeros(2, 6, 4, 4), Seen("Linear", 6)) == 1  # type: ignore[arg-type]
    assert _channels(torch.zeros(2, 6, 4, 6), Seen("Conv", 6)) == 1  # type: ignore[arg-type]
    assert _channels(torch.zeros(2, 4, 4, 6), Seen("Conv", 6)) == 3  # type: ignore[arg-type]
    assert _channels(torch.zeros(2, 24, 6, 6), Seen("Conv", 6)) == 1  # type: ignore[arg-type]  # joined of four


class _Pairs(nn.Module):
    """A block that gives several things, and overwrites what it is given."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(4, 4, 1)

    def forward(self, x: Any) -> Any:
        x = x[0] if isinstance(x, self.kind) else x
        return self.kind([self.conv(x.relu_()), "other"])


@pytest.mark.parametrize("kind", [tuple, list])
def test_blocks_that_give_several_things(kind: type) -> None:
    class Network(nn.Module):
        def __init__(self, kind: type | None) -> None:
            super().__init__()
            blocks = [nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)) if kind is None else _Pairs(kind) for _ in range(3)]
            self.stem, self.blocks, self.head = nn.Conv2d(3, 4, 3), nn.Sequential(*blocks), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.blocks(self.stem(x))
            return self.head((x if isinstance(x, Tensor) else x[0]).mean((2, 3)))

    report, other = (score(Network(kind).double(), batch(), ALL) for kind in (kind, None))
    assert report.scores == other.scores


def test_what_stands_behind_the_pooling_is_no_block() -> None:
    network = Behind()
    layers = {name: index for name, index in network.layers.items() if name != "wide"}
    with_wide, without = (score(network, batch(), ALL, layers=which) for which in (network.layers, layers))
    assert with_wide.scores == without.scores


class _Gated(nn.Module):
    """Five blocks of one ReLU each, and a head of six sigmoids: with gates counted, the blocks hold less than half."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [nn.Sequential(nn.Conv2d(3 if not place else 4, 4, 1), nn.ReLU()) for place in range(5)]
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x).mean((2, 3))
        for _ in range(6):
            x = torch.sigmoid(x)
        return self.head(x)


def test_what_other_proxies_count_makes_no_other_blocks() -> None:
    alone = score(_Gated(), batch(), ALL, seed=0)
    gates = {"class_path": "rcor", "init_args": {"gates": True}}
    together = score(_Gated(), batch(), [*ALL, gates], seed=0)  # type: ignore[list-item]
    assert len(alone.scores) == 3
    assert {name: together.scores[name] for name in ALL} == alone.scores


def test_blocks_that_run_again_count_once() -> None:
    class Again(Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.block(self.stem(x))
            return self.head(self.last(self.last(x)).mean((2, 3)))

    once, again = Plain(), Again()
    assert score(once, batch(), ALL, seed=0).scores == score(again, batch(), ALL, seed=0).scores


def test_a_class_token_that_is_added_leaves_the_other_blocks_comparable() -> None:
    """From the patches (4 positions) to the first block (5) there is no Jacobian position by position."""
    made = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=3, embed_dim=24, num_heads=3, num_classes=5, init_values=1.0
    )
    report = score(made, (torch.randn(4, 3, 32, 32), torch.arange(4)), "az_trainability")
    assert -10 < report.value <= 0
    assert report.refused == {}


# ---- what cannot be scored


def test_refusals() -> None:
    sentence = r"^az_\w+ compares the features of successive blocks, but \w+ has {}\.$"
    for name in ALL:
        with pytest.raises(ValueError, match=sentence.format("0 blocks whose features have positions")):
            score(Perceptron(), batch(), name)
        with pytest.raises(ValueError, match=sentence.format("1 block whose features have positions")):
            score(Plain(), batch(), name, layers={"stem": 0})
        with pytest.raises(ValueError, match=rf"^{name} needs every weight, but 'blocks.0.self_attn' is torch's own"):
            score(Transformer(), batch(), name)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1, padding=1), nn.Flatten(1), nn.Linear(144, 5))
    with pytest.raises(
        ValueError, match=r"^az_trainability: the positions before and after no block match, such as '1' \("
    ):
        score(network, batch(), "az_trainability", layers={"0": 0, "1": 1})


def test_dead_blocks() -> None:
    network = Plain()
    network.block = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.Threshold(1e30, 0.0))
    report = score(network, batch(), ALL)
    assert set(report.scores.values()) == {-math.inf}
    assert report.reason == "dead: a block's features are constant"
    report = score(network, batch(), "az_trainability")
    assert report.reason == "dead: no gradient passes through the block 'block'"
    assert all(map(math.isfinite, score(Plain(), batch(2), ALL).scores.values()))


def test_the_longest_chain_is_taken_without_a_map() -> None:
    network = Tokens()
    with torch.no_grad(), Tracer(network, lambda call, tensor: tensor) as tracer:
        network(batch()[0])
    assert find_blocks(network, tracer.calls) == ["blocks.0", "blocks.1"]
    assert score(network, batch(), ALL).scores == score(network, batch(), ALL, layers=network.layers).scores
