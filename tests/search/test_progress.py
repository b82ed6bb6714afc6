"""One progress bar, on the first rank only, that does not promise what will not come."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
from collections.abc import Callable

import pytest
from search_toys import BATCH, Endless, Noise, Of, Team, Widths

from lightning_wrcor import ZeroShotSearch, zero_shot_search
from lightning_wrcor.search import Funnel, SearchError, _progress

import toys


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


class Terminal(io.StringIO):
    """Standard error that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Puts a terminal in the place of standard error; not before the test runs, where pytest has put its own."""

    def put() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "110")
    return put


def last_line(terminal: Terminal) -> str:
    """What stands there in the end, without colours."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()][-1]


def test_rich_on_a_terminal(attach: Callable[[], Terminal], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    terminal = attach()
    before = sys.stdout
    result = zero_shot_search(
        Widths(), BATCH, Of(lambda width: width), "exhaustive", constraints={"min_params": 7 * 4 + 3}
    )
    line = last_line(terminal)
    # Done of how many, elapsed, left, rejected, the best and its name: the facts that the result has, too.
    assert re.match(r"scoring \S+ 9/9 0:00:\d\d left 0:00:00 rejected 3 best 12 ", line)
    assert line.split()[-1] == result.best.name
    assert terminal.getvalue().rstrip().endswith("\x1b[?25h"), "the cursor is back"
    assert terminal.getvalue().count("\x1b[?25h") == 2, "and was there all the time, for a process that is killed"
    assert (sys.stdout, sys.stderr) == (before, terminal)
    assert capsys.readouterr().out == ""


def test_names_are_no_markup_and_give_way_in_a_narrow_terminal(
    attach: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    terminal = attach()
    with _progress.Progress(True) as bar:
        bar.expect(2)
        bar.update(Funnel(rejected={"max_macs": 4, "max_params": 3}), 1.5, "[red]{task}[/red]")
    assert re.search(r" 1/2 .* rejected 7 best 1\.5 \[red\]\{task\}\[/red\]", last_line(terminal))
    monkeypatch.setenv("COLUMNS", "80")
    with _progress.Progress(True) as bar:
        bar.update(Funnel(), 1234.5678, "x" * 200)
    line = last_line(terminal)
    assert len(line.rstrip()) <= 80
    assert re.search(r" 1/\? 0:00:00 left .* best 1235 x+…", line)


def test_what_is_printed_meanwhile_stays_on_its_stream(
    attach: Callable[[], Terminal], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    terminal = attach()
    with _progress.Progress(True) as bar:
        print("a network's own words")
        bar.update(Funnel(), 1.0, "one")
    assert capsys.readouterr().out == "a network's own words\n"
    assert "own words" not in terminal.getvalue()


@pytest.mark.parametrize("why", ["no rich", "a dumb terminal", "no terminal"])
def test_tqdm_otherwise(attach: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    terminal = attach()
    if why == "no rich":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    elif why == "a dumb terminal":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    monkeypatch.setitem(sys.modules, "rich.progress", None)  # importing it fails
    zero_shot_search(Widths(), BATCH, Of(lambda width: width), budget=3)
    assert "3/3" in terminal.getvalue()
    assert "best=" in terminal.getvalue()
    assert "scoring ━" not in terminal.getvalue()


def test_nothing_where_it_is_switched_off(attach: Callable[[], Terminal]) -> None:
    terminal = attach()
    zero_shot_search(Widths(), BATCH, Noise(), budget=3, progress=False)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("enabled", [True, False])
def test_the_trainers_setting_is_the_searchs(attach: Callable[[], Terminal], enabled: bool) -> None:
    terminal = attach()
    search = ZeroShotSearch(toys.CELLS, budget=2, batch_size=8, seed=1)
    trainer = toys.trainer(enable_progress_bar=enabled, callbacks=[search], limit_train_batches=1)
    trainer.fit(toys.Lit(), toys.loader())
    assert search.result is not None
    assert ("scoring" in terminal.getvalue()) == enabled
    assert ("2/2" in terminal.getvalue()) == enabled
