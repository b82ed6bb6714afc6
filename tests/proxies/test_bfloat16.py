"""Scores in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from lightning_wrcor import SearchResult, ZeroShotSearch, ZeroShotSearchModule, score, zero_shot_search
from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies._base import Needs, Observer
from lightning_wrcor.proxies._pass import run_pass
from lightning_wrcor.proxies._prepare import prepare

IMAGES = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = IMAGES, torch.arange(12) % 10


class Types(Observer):
    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.found: set[tuple[str, torch.dtype]] = set()

    def see(self, call: Call, part: str, response: torch.Tensor) -> None:
        self.found.add((part, response.dtype))
        assert not torch.is_autocast_enabled(response.device.type)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_responses_are_of_the_precision_asked_for(precision: str, dtype: torch.dtype) -> None:
    network = timm.create_model("test_efficientnet", num_classes=10)
    prepare(network)
    types = Types(12)
    run_pass(network, *BATCH, Needs(gradients=True, labels=True), [types], precision=precision)  # type: ignore[arg-type]
    assert types.found == {("activation", dtype), ("gradient", dtype)}


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_a_score_in_bfloat16_is_close_and_another(name: str) -> None:
    network = timm.create_model(name, num_classes=10)
    full, half = (score(network, BATCH, precision=one).value for one in ("float32", "bfloat16"))  # type: ignore[arg-type]
    assert half != full
    assert half == pytest.approx(full, abs=2e-2 * max(abs(full), 12))


def test_another_precision_is_refused_and_named() -> None:
    network = timm.create_model("test_resnet", num_classes=10)
    for ask in (
        lambda: score(network, BATCH, precision="fp8"),  # type: ignore[arg-type]
        lambda: zero_shot_search(["test_resnet"], BATCH, precision="fp8"),  # type: ignore[arg-type]
        lambda: ZeroShotSearch(["test_resnet"], precision="fp8"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="'float32', 'bfloat16'; got 'fp8'"):
            ask()


def test_a_journal_is_of_one_precision(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    first = zero_shot_search(["test_resnet"], BATCH, journal=journal, progress=False)
    with pytest.raises(ValueError, match="precision"):
        zero_shot_search(["test_resnet"], BATCH, journal=journal, progress=False, precision="bfloat16")
    again = zero_shot_search(["test_resnet"], BATCH, journal=journal, progress=False)
    assert again.funnel.resumed == 1
    assert again.best.score == first.best.score


def test_a_result_says_its_precision_wherever_it_is_kept(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.jsonl" for name in ("float32", "bfloat16")}
    full, half = (
        zero_shot_search(["test_resnet"], BATCH, journal=file, progress=False, precision=name)  # type: ignore[arg-type]
        for name, file in files.items()
    )
    half.to_json(tmp_path / "half.json")
    for one in (
        half,
        SearchResult.from_json(tmp_path / "half.json"),
        SearchResult.from_journal(files["bfloat16"]),
        half.rerank("wrcor"),
        half.rerank("wrcor").rerank(),
    ):
        assert one.precision == "bfloat16"
        assert [note for note in one.notes if "float" in note] == ["Scored in bfloat16."]
        assert "Scored in bfloat16." in one.table()
    for one in (full, SearchResult.from_journal(files["float32"]), full.rerank("wrcor")):
        assert one.precision == "float32"
        assert "float" not in one.table()
    # A result that was written before there was another says nothing of it.
    older = full.to_dict()
    del older["precision"]
    assert SearchResult.from_dict(older) == full


def test_the_module_hands_it_on() -> None:
    module = ZeroShotSearchModule(["test_resnet"], precision="bfloat16")
    assert module.search_settings.precision == "bfloat16"
    assert module.hparams["precision"] == "bfloat16"
