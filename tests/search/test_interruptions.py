"""What happens when a search is interrupted anywhere, or its journal cannot be written: nothing that was scored is lost."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from search_toys import BATCH, Noise, Team, Widths

from lightning_wrcor import zero_shot_search
from lightning_wrcor.inspection import Costs
from lightning_wrcor.proxies import Context
from lightning_wrcor.proxies.votes import Vote
from lightning_wrcor.search import Journal, Racing, RegularisedEvolution, SearchResult
from lightning_wrcor.search._votes import Votes
from lightning_wrcor.spaces import Genotype


class Trap:
    """Raises when it is passed for the n-th time; safe until it is set."""

    def __init__(self) -> None:
        self.left = math.inf

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.left = math.inf
            raise KeyboardInterrupt


class Quick(Widths):
    """Costs in closed form, and steps into the trap where it builds or counts."""

    def __init__(self, trap: Trap, where: str = "") -> None:
        super().__init__(30)
        self.trap, self.where = trap, where

    def config(self) -> dict[str, Any]:
        return Widths(30).config()

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> Any:
        if self.where == "build":
            self.trap.step()
        return super().build(genotype, num_classes, in_chans)

    def costs(self, genotype: Any, *args: Any, **kwargs: Any) -> Costs:
        if self.where == "costs":
            self.trap.step()
        return Costs(7 * genotype[1] + 3, 51 * genotype[1], 1)

    def name(self, genotype: Any) -> str:
        if self.where == "name":
            self.trap.step()
        return super().name(genotype)


class Listening(Noise):
    """Steps into the trap when it has measured."""

    def __init__(self) -> None:
        super().__init__()
        self.trap = Trap()
        self.count = 0

    def config(self) -> dict[str, Any]:
        return Noise().config()

    def value(self, context: Context) -> float:
        self.count += 1
        value = super().value(context)
        self.trap.step()
        return value


class Slow(RegularisedEvolution):
    """Steps into the trap where it asks or tells."""

    def __init__(self, trap: Trap, where: str = "") -> None:
        super().__init__(population=5, tournament=2, children=3)
        self.trap, self.where = trap, where

    def config(self) -> dict[str, Any]:
        return RegularisedEvolution(5, 2, 3).config()

    def ask(self, n: int) -> list[Genotype]:
        if self.where == "ask":
            self.trap.step()
        return super().ask(n)

    def tell(self, evaluations: Any) -> None:
        if self.where == "tell":
            self.trap.step()
        super().tell(evaluations)


def search(
    path: Path | str | None, noise: Noise, trap: Trap | None = None, where: str = "", **more: Any
) -> SearchResult:
    trap = trap or Trap()
    return zero_shot_search(
        Quick(trap, where),
        BATCH,
        Vote([noise, "params"]),
        Slow(trap, where),
        journal=path,
        **{"budget": 14, "racing": Racing(3, 2), "progress": False, **more},
    )


def rows(result: SearchResult) -> list[dict[str, Any]]:
    return [row.to_dict() | {"seconds": 0, "proxy_seconds": {}} for row in result.history]


def whole_lines(path: Path) -> int:
    """Lines of candidates and repetitions, all of which can be read; a torn last one is left out."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return len([json.loads(line) for line in lines]) - 1


def goes_on(path: Path, undisturbed: SearchResult) -> None:
    """The same search from the journal: the undisturbed result, and nothing in it is scored again."""
    known, noise = max(whole_lines(path), 0), Listening()
    resumed = search(path, noise)
    assert noise.count == 14 + 6 - known
    assert rows(resumed) == rows(undisturbed)
    assert resumed.best.key == undisturbed.best.key
    assert resumed.race == undisturbed.race
    assert whole_lines(path) == 20
    assert path.read_bytes().endswith(b"\n")


@pytest.fixture(scope="module")
def undisturbed() -> SearchResult:
    return search(None, Noise())


# ---- Ctrl-C


@pytest.mark.parametrize("where", ["build", "costs", "name", "ask", "tell"])
@pytest.mark.parametrize("passes", [0, 2])
def test_ctrl_c_between_candidates(tmp_path: Path, where: str, passes: int, undisturbed: SearchResult) -> None:
    path, trap = tmp_path / "journal.jsonl", Trap()
    trap.left = passes
    with pytest.raises(KeyboardInterrupt):
        search(path, Noise(), trap, where)
    assert trap.left == math.inf
    assert whole_lines(path) < 14
    goes_on(path, undisturbed)


@pytest.mark.parametrize("after", [0, 1, 8, 13, 14, 17, 19])
def test_ctrl_c_in_a_proxy_and_in_the_race(
    tmp_path: Path, after: int, undisturbed: SearchResult, caplog: pytest.LogCaptureFixture
) -> None:
    path, noise = tmp_path / "journal.jsonl", Listening()
    noise.trap.left = after
    said = f"Interrupted. What was scored is in {path}; the same search goes on from there."
    if not after:
        said = f"Interrupted. There are no scores in {path} yet: the same search begins anew."
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt) as stop:
        search(path, noise)
    assert str(stop.value) == said
    assert said in caplog.text
    assert whole_lines(path) == after
    goes_on(path, undisturbed)


@pytest.mark.parametrize("line", [0, 1, 6, 14, 17, 20])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0], ids=["before", "in the middle of", "after"])
def test_ctrl_c_in_a_write(
    tmp_path: Path, line: int, share: float, undisturbed: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write, written = tmp_path / "journal.jsonl", Journal._write, []

    def interrupted(journal: Journal, data: bytes) -> None:
        if len(written) == line:
            journal._file.write(data[: int(share * len(data))])
            raise KeyboardInterrupt
        written.append(data)
        write(journal, data)

    monkeypatch.setattr(Journal, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(path, Noise())
    monkeypatch.undo()
    assert whole_lines(path) == line - 1 + (share == 1.0)
    goes_on(path, undisturbed)


def test_ctrl_c_while_votes_are_counted(
    tmp_path: Path, undisturbed: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count, counted = tmp_path / "journal.jsonl", Votes.count, []

    def interrupted(votes: Votes, evaluations: Any) -> None:
        counted.append(evaluations)
        if len(counted) == 3:
            raise KeyboardInterrupt
        count(votes, evaluations)

    monkeypatch.setattr(Votes, "count", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(path, Noise())
    monkeypatch.undo()
    assert whole_lines(path) == 5 + 3 + 3
    goes_on(path, undisturbed)


def test_ctrl_c_again_and_again(tmp_path: Path, undisturbed: SearchResult) -> None:
    path = tmp_path / "journal.jsonl"
    for _ in range(5):
        noise = Listening()
        noise.trap.left = 3
        with pytest.raises(KeyboardInterrupt):
            search(path, noise)
    assert whole_lines(path) == 15
    goes_on(path, undisturbed)


# ---- places that cannot be written


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files may not grow beyond so many bytes: the system cuts the write that would, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 1], ids=["header", "early", "late", "race", "last line"])
def test_a_disk_that_runs_full(tmp_path: Path, share: float, undisturbed: SearchResult) -> None:
    search(tmp_path / "whole.jsonl", Noise())
    path, whole = tmp_path / "journal.jsonl", (tmp_path / "whole.jsonl").read_bytes()
    # Seconds have more digits in one run than in another, so that files differ in size by some bytes.
    room = int(share * len(whole)) if share < 1 else len(whole) - len(whole.splitlines()[-1]) // 2
    with room_for(room), pytest.raises(OSError, match=r"The journal .*journal.jsonl cannot be written: "):
        search(path, Noise())
    assert 0 < path.stat().st_size <= room
    assert not path.read_bytes().endswith(b"\n"), "the last line is torn"
    goes_on(path, undisturbed)


def test_all_processes_stop_when_the_disk_is_full(tmp_path: Path) -> None:
    search(tmp_path / "whole.jsonl", Noise())
    size = (tmp_path / "whole.jsonl").stat().st_size
    with room_for(size // 3):
        outcomes = Team(3).run(lambda ranks: search(tmp_path / "journal.jsonl", Noise(), ranks=ranks))
    assert [type(outcome) for outcome in outcomes] == [OSError] * 3
    assert len({str(outcome) for outcome in outcomes}) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_device() -> None:
    noise = Noise()
    with pytest.raises(OSError, match=r"The journal /dev/full cannot be written: .*No space left on device"):
        search("/dev/full", noise)
    assert noise.seen == [], "before anything is scored"


@pytest.fixture
def read_only() -> Iterator[Callable[[], Any]]:
    """A folder that this process can read and not write, in a block; the administrator's own rights are laid down there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "journal.jsonl").write_text("")

        @contextmanager
        def entered() -> Iterator[Path]:
            (folder / "journal.jsonl").chmod(0o444)
            folder.chmod(0o555)
            administrator = os.geteuid() == 0
            if administrator:
                try:
                    os.seteuid(65534)
                except OSError:
                    pytest.skip("the administrator's rights cannot be laid down here")
            try:
                yield folder
            finally:
                if administrator:
                    os.seteuid(0)
                folder.chmod(stat.S_IRWXU)

        yield entered


def test_a_read_only_folder(read_only: Callable[[], Any]) -> None:
    noise = Noise()
    with read_only() as folder:
        for path in (folder / "new.jsonl", folder / "deeper" / "new.jsonl", folder / "journal.jsonl"):
            with pytest.raises(
                OSError, match=r"The journal .*jsonl cannot be written: .*Name another file with journal="
            ):
                search(path, noise)
    assert noise.seen == [], "before anything is scored"


# ---- candidates


def test_failures_are_in_the_journal_and_the_search_goes_on(tmp_path: Path) -> None:
    class Third(Noise):
        """Fails for every third candidate."""

        def value(self, context: Context) -> float:
            if len(self.seen) % 3 == 0:
                raise MemoryError(f"candidate {len(self.seen)}")
            return super().value(context)

    path = tmp_path / "journal.jsonl"
    result = zero_shot_search(Widths(30), BATCH, Third(), budget=9, journal=path, progress=False)
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert [line["status"] for line in lines] == ["ok", "ok", "failed"] * 3
    assert lines[2]["reason"] == "MemoryError: candidate 3"
    assert (result.funnel.scored, result.funnel.failed) == (6, 3)
