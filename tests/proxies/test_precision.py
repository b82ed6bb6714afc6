"""What the user set for training does not reach into the score."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import timm
import torch

from lightning_wrcor.proxies import score
from lightning_wrcor.proxies._prepare import exact_products

import toys


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_are_exact_and_the_setting_is_put_back(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    with exact_products():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == precision


@pytest.mark.usefixtures("restored")
def test_the_setting_for_one_backend_is_put_back() -> None:
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has one setting for all backends")
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with exact_products():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_scores_under_no_grad_and_inference_mode_are_the_same() -> None:
    network, batch = timm.create_model("test_resnet", num_classes=10), toys.batch(8, size=32)
    value = score(network, batch).value
    with torch.no_grad():
        assert score(network, batch).value == value
    with torch.inference_mode():
        assert score(network, batch).value == pytest.approx(value)
