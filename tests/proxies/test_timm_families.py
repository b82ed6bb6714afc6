"""Small networks of timm: everything in them is captured, and nearly every response is in the score."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_wrcor.benchmark import families
from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark.families import FamilyResult, measure_family, summary, table

MODELS = {
    # in-place ReLU with squeeze and excitation, RepVGG and other blocks; zero-initialised last norms
    "byobnet": "test_byobnet",
    "maxxvit": "test_coatnet",
    "convnext": "test_convnext2",  # layer scales
    "efficientnet": "test_efficientnet_evos",  # norms that are activations as well
    "mambaout": "test_mambaout",
    "nfnet": "test_nfnet",  # zero gains, scaled activations
    "resnet": "test_resnet",
    "vision_transformer": "test_vit4",
    "vision_transformer_relpos": "test_vit_relpos",  # an MLP of relative positions
    "mobilenetv3": "mobilenetv3_small_050",  # in-place Hardswish, Hardsigmoid gates
    "ghostnet": "ghostnet_050",
    "levit": "levit_128s",
    "pvt_v2": "pvt_v2_b0",
    "starnet": "starnet_s050",
    "mlp_mixer": "gmlp_ti16_224",  # a classifier of zeros, gates that start near one
}


@pytest.mark.parametrize("family", MODELS)
def test_small_networks(family: str) -> None:
    result = measure_family(family, MODELS[family])
    assert result.problems == []
    assert result.modules_seen == result.module_calls > 0
    assert result.calls >= result.modules_seen
    assert result.activations == result.gradients
    reasons = {"does not depend on the images"} if family == "vision_transformer_relpos" else set()
    assert set(result.skipped) == reasons


def test_the_smallest_model_of_a_family() -> None:
    assert families.smallest_model("pit") == "pit_ti_224"
    assert families.smallest_model("visformer") == "visformer_tiny"


def test_families_that_fall_short_are_listed_with_the_reason() -> None:
    broken = measure_family("resnetv2", "resnetv2_no_such")
    assert broken.problems == [broken.error]
    assert broken.error.startswith("RuntimeError: Unknown model")
    few = FamilyResult("few", calls=10, activations=9, gradients=7, module_calls=10, modules_seen=9, value=1.0, mixed=1)
    assert few.problems == [
        "only 90% captured",
        "9 activations but 7 gradients",
        "20% of the responses left out",
        "samples mixed up in 1 responses",
    ]
    good = FamilyResult("good", "model", 64, 10**6, 1.5, 4, 4, 5, activations=5, gradients=5, seconds=0.1)
    assert summary([good]).endswith("Every family meets the requirement.")
    assert summary([good, few, broken]).startswith("2 of 3 families have a finite score. 13 of 14 calls")
    assert "| good | model | 64 | 1.0 | 1.50 | 4/4 | 5 | 5 | 5 |  | 0.1 |  |" in table([good, few], "command")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["families", "--families", "visformer", "--output", str(tmp_path / "families.md"), "--threads", "1"]) == 0
    )
    assert "visformer: visformer_tiny" in capsys.readouterr().out
    page = (tmp_path / "families.md").read_text()
    assert "| visformer | visformer_tiny | 224 |" in page
    assert "Every family meets the requirement." in page
