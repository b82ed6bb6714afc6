"""What is said of names and files that are not there, wherever they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from search_toys import BATCH, Widths

from lightning_wrcor import ZeroShotSearch, ZeroShotSearchModule, zero_shot_search
from lightning_wrcor._config import meant
from lightning_wrcor.report.__main__ import main as report
from lightning_wrcor.search import Constraints

from toys import CELLS, loader, trainer


def test_what_was_probably_meant() -> None:
    assert meant("Budgt", ["budget", "seed"]) == " Did you mean budget?"
    assert meant("wrcor", ["WRCor", "params"]) == " Did you mean WRCor?"
    assert meant("rooot", ["root", "image_size"], "data.") == " Did you mean data.root?"
    assert meant("zzz", ["budget", "seed"]) == ""
    assert meant(3, []) == ""


@pytest.mark.parametrize("command", [["card", "nope.json", "--out=card.html"], ["figures", "nope.json", "--out=f"]])
def test_a_file_that_is_not_there(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        report(command)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: No such file or directory: 'nope.json'\n"


def test_a_result_is_not_written_over_a_folder(tmp_path: Path) -> None:
    result = zero_shot_search(Widths(), BATCH, "params", budget=2, progress=False)
    for folder in (".", tmp_path):
        with pytest.raises(IsADirectoryError, match=r"is a folder; name the file in it, such as .*search\.json\.$"):
            result.to_json(folder)
    assert not list(tmp_path.iterdir())


def test_a_constraint_that_does_not_exist() -> None:
    with pytest.raises(
        ValueError, match=r"no constraint named 'max_mac'\. Did you mean max_macs\? Constraints: max_macs, "
    ):
        Constraints.read({"max_mac": 3})
    with pytest.raises(ValueError, match=r"no constraint named 'colour'\. Constraints: "):
        Constraints.read({"colour": 3})


def test_growing_images_are_checked_before_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a search that cannot be followed by its training")

    module = ZeroShotSearchModule(CELLS, num_classes=10, probe_size=8, journal=None, progressive={"start": 9})
    monkeypatch.setattr(ZeroShotSearch, "search", forbidden)
    with pytest.raises(
        ValueError, match="images of 9 pixels, but those of the data have only 8: start must be at most 8"
    ):
        trainer(max_steps=1).fit(module, loader())
