"""Which definition reproduces published values: the right one must stand out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark.variants import (
    INITIALISATIONS,
    compare_variants,
    initialise,
    l2_norm_variants,
    zen_variants,
)
from lightning_wrcor.proxies import Zen, score
from lightning_wrcor.spaces import NASBench201


def test_l2_norm_is_that_of_torchs_initialisation(data: Path) -> None:
    variants = {one.name: one for one in compare_variants(data / "nasbench201.csv.gz", "l2_norm", limit=12)}
    right = variants["torch's default: sum of norms"]
    assert right.pearson > 0.9999
    assert abs(right.mean - right.published) < 0.2
    assert all(abs(one.mean - one.published) > 1 for name, one in variants.items() if one is not right)


def test_the_variance_of_the_batch_is_the_definition_of_our_proxy() -> None:
    torch.manual_seed(0)
    space = NASBench201(width=4, cells=1)
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    batch = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    differences = []
    for seed in range(8):
        network = space.build(space.parse(cell), 10)
        initialise(network, INITIALISATIONS[1])
        # A sum over 16 channels of 8 x 8 places here, a mean there.
        variant = zen_variants(network)["log sum + batch variances"] - math.log(16 * 8 * 8)
        differences.append(variant - score(network, batch, Zen(), seed=seed).value)
    # Weights and noise are drawn apart, with a deviation of about 0.7 each.
    assert abs(sum(differences) / 8) < 0.5


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("arch,acc\na,1\n")
    assert main(["variants", "zen", "--published", str(tmp_path / "t.csv")]) == 2
    assert "no column 'published_zen'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="variants of zen and l2_norm; got 'snip'"):
        compare_variants(tmp_path / "t.csv", "snip")


def test_norms_by_hand() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.Flatten(), torch.nn.Linear(1, 2))
    torch.nn.init.constant_(network[0].weight, 3.0)
    torch.nn.init.constant_(network[2].weight, 1.0)
    assert l2_norm_variants(network) == pytest.approx({"sum of norms": 3.0 + 2**0.5, "of convolutions alone": 3.0})
