"""What proxies cost: the table has every proxy, beside a training step."""

from __future__ import annotations

import pytest

from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark.cost import _all
from lightning_wrcor.proxies import get_proxy, list_proxies

SMALL = ["--image-size", "8", "--batch-size", "6", "--num-classes", "3", "--repeats", "1"]


def test_the_table_has_a_training_step_every_proxy_and_all_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--space", "timm", "--architecture", "test_resnet", "--proxies", "wrcor,snip", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and "seconds" not in line]
    assert [row[0].strip("| ") for row in rows] == ["training step", "wrcor", "snip", "all together"]
    assert all(float(row[1]) > 0 for row in rows)
    assert float(rows[0][2].strip(" |")) == 1.0


def test_all_are_each_proxy_once_and_no_vote() -> None:
    named = {get_proxy(name).name for name in list_proxies()}
    votes = {"consensus", "sjw", "spw", "az_nas", "vkdnw_aggregate", "tenas"}
    assert sorted(_all()) == sorted(named - votes)


def test_a_misspelt_proxy_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--proxies", "wrkor", *SMALL]) == 2
    assert "no proxy named 'wrkor'" in capsys.readouterr().err
