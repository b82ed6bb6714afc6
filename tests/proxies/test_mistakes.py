"""What a stranger types first."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from lightning_wrcor import score

import toys


def test_a_name_is_no_network_and_no_proxy_is_no_score() -> None:
    with pytest.raises(TypeError, match=r"takes a network .* got 'resnet18'\. timm\.create_model builds one"):
        score("resnet18", toys.batch())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="The list of proxies is empty"):
        score(timm.create_model("test_resnet", num_classes=10), toys.batch(size=32), proxy=[])


class Wrapped(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.network = kind, toys.with_dropout(4)(num_classes=10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        logits = self.network(images)
        return (logits, torch.zeros(3)) if self.kind == "tuple" else {"features": images, "logits": logits}


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_outputs_that_hold_the_logits_are_used_and_said(kind: str) -> None:
    torch.manual_seed(0)
    wrapped = Wrapped(kind)
    report = score(wrapped, toys.batch())
    assert report.value == score(wrapped.network, toys.batch()).value
    assert report.notes == [f"the network returns a {kind}: its first part (or 'logits') was taken as logits"]
