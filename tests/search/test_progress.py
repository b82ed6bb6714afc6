"""One progress bar, on the first rank only, that does not promise what will not come."""

from __future__ import annotations

import pytest
from search_toys import BATCH, Endless, Noise, Of, Team, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import Funnel, SearchError, _progress


def test_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    zero_shot_search(Widths(), BATCH, Of(lambda width: width), budget=5)
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "best=" in shown
    zero_shot_search(Widths(), BATCH, Noise(), budget=5, progress=False)
    assert capsys.readouterr().err == ""
    Team(2).run(lambda ranks: zero_shot_search(Endless(99), BATCH, Noise(), budget=4, ranks=ranks))
    assert capsys.readouterr().err.count("4/4") == 1


def test_what_is_rejected_is_not_expected(capsys: pytest.CaptureFixture[str]) -> None:
    zero_shot_search(Widths(), BATCH, Noise(), "exhaustive", constraints={"min_params": 7 * 4 + 3})
    shown = capsys.readouterr().err
    assert "9/9" in shown
    assert "/12" not in shown
    assert "rejected=3" in shown
    zero_shot_search(Widths(12, copies=2), BATCH, Noise(), budget=50)
    assert "12/12" in capsys.readouterr().err


def test_a_search_that_only_rejects_shows_that_it_lives(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "LOOK", -1.0)
    with pytest.raises(SearchError):
        zero_shot_search(Widths(), BATCH, Noise(), constraints={"min_depth": 2})
    assert "rejected=12, best=none" in capsys.readouterr().err


def test_the_best_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    with _progress.Progress(True) as bar:
        for score, name in ((float("nan"), "failed"), (float("-inf"), "dead"), (2.0, "good"), (1.0, "worse")):
            bar.update(Funnel(), score, name)
        bar.look(Funnel())
    assert "best=2, name=good" in capsys.readouterr().err
