"""The speed benchmark: what it counts and compares is what it says; how long anything takes is no matter of tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lightning_wrcor.benchmark import _peak_memory, _speed_networks, speed
from lightning_wrcor.benchmark.__main__ import main
from lightning_wrcor.benchmark._growth import draw_growth, measure_growth
from lightning_wrcor.benchmark._speed_networks import (
    Subject,
    count_work,
    in_channels_last,
    numpy_correlation,
    published_score,
    scored,
    subject,
    timed,
    training_step,
)
from lightning_wrcor.benchmark._speed_report import NetworkSpeed, Speed, format_speed
from lightning_wrcor.spaces import get_space


def test_the_published_way_gives_the_unweighted_score() -> None:
    one = subject("nasbench201", batch_size=8, image_size=8, cells=1)
    theirs = published_score(one)
    assert theirs == pytest.approx(scored(subject("nasbench201", 8, 8, cells=1), ["rcor"]), rel=1e-5)


def test_numpy_correlation_leaves_out_what_is_constant() -> None:
    rows = torch.randn(4, 100)
    assert np.allclose(numpy_correlation(rows), np.abs(np.corrcoef(rows.numpy())))
    rows[1] = 0.0
    assert not np.isnan(numpy_correlation(rows)).any()


def test_work_is_that_of_the_passes_and_of_each_different_response() -> None:
    one = subject("nasbench201", batch_size=4, image_size=8, cells=1)
    work = count_work(one)
    # Forward, and back to what each non-linearity receives: all but the stem, whose input needs no gradient, twice.
    stem = 3 * 3 * 3 * 16 * 8 * 8
    assert work.passes == pytest.approx(4 * (2 * one.costs.macs - stem), rel=0.02)
    # Per cell six convolutions on three different inputs: 3 activations and 6 gradients of each stage's size.
    sides = ((16, 8), (32, 4), (64, 2))
    cells = sum(9 * channels * side * side for channels, side in sides)
    # A reduction block: its input before the stride, and its middle; the last activation: both parts.
    blocks = sum(
        2 * (before * size * size + after * (size // 2) ** 2) for before, size, after in ((16, 8, 32), (32, 4, 64))
    )
    assert work.products == (cells + blocks + 2 * 64 * 2 * 2) * 4 * 5 // 2


@pytest.mark.parametrize("name", _speed_networks.NAMES)
def test_networks_are_those_that_they_are_called(name: str) -> None:
    params = {
        "resnet50": 25_557_032,
        "efficientnet_b0": 5_288_548,
        "ea_600m": 10_807_432,
        "nasbench201": 1_531_546,
        "convnext_tiny": 28_589_128,
    }
    one = subject(name, batch_size=2)
    assert one.costs.params == params.get(name, sum(p.numel() for p in one.network.parameters()))
    assert tuple(one.batch[0].shape) == (2, 3, one.pixels, one.pixels)


@pytest.mark.parametrize("name", ["ea_600m", "efficientnet_b0"])
def test_images_are_taken_at_the_size_that_is_said(name: str) -> None:
    """A quarter of the pixels, about a quarter of the work; what comes after pooling, as the classifier, stays."""
    small, large = (count_work(subject(name, 2, size)) for size in (64, 128))
    assert 0.25 <= small.passes / large.passes < 0.35


def test_the_table_and_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = subject("nasbench201", 4, 8, cells=1)
    monkeypatch.setattr(speed, "subject", lambda *_, **__: small)
    monkeypatch.setattr(speed, "WIDE", 1000)
    rates = {"float32": 50.0, "bfloat16": 400.0}
    monkeypatch.setattr(speed, "machine_rate", lambda device, precision="float32": rates[precision])
    out = tmp_path / "folder" / "speed.json"
    asked = [
        "speed",
        "--networks",
        "nasbench201",
        "--aspects",
        "networks,published,proxies",
        "--repeats",
        "1",
        "--precision",
        "float32,bfloat16",
        "--out",
        str(out),
    ]
    assert main([*asked, "--batch-size", "4"]) == 0
    text = capsys.readouterr().out
    data = json.loads(out.read_text())
    assert "training step, ms | WRCor, ms" in text
    rows = [line for line in text.splitlines() if line.startswith("| nasbench201")]
    for row, stored, precision in zip(rows, data["networks"], rates, strict=True):
        name = "nasbench201" if precision == "float32" else "nasbench201, bfloat16"
        times = f"{1e3 * stored['step']:.1f} | {1e3 * stored['score']:.1f}"
        assert row.startswith(f"| {name} | 8 | {times} | {stored['over_step']:.2f} |")
        reached = stored["of_the_machine"] * rates[precision] * stored["score"]
        assert reached == pytest.approx(stored["gmacs"])
        assert stored["memory_over_step"] is None
    assert data["rate"] == 50.0
    assert [one["published_over_score"] is None for one in data["networks"]] == [False, True]
    assert data["wide_response"] > 0
    assert "one response of 4 x " in text


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_steps_and_scores_run_in_the_precision_that_is_said(precision: Any, dtype: torch.dtype) -> None:
    one = subject("nasbench201", 4, 8, cells=1)
    kinds: set[torch.dtype] = set()
    for module in one.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, args, output: kinds.add(output.dtype))
    for run in (lambda: training_step(one, precision=precision), lambda: scored(one, ["wrcor"], precision)):
        kinds.clear()
        run()
        assert kinds == {dtype}


def test_the_step_in_channels_last_has_weights_of_its_own() -> None:
    one = subject("nasbench201", 4, 8, cells=1)
    laid_out = in_channels_last(one)
    orders = []
    for subjected in (one, laid_out):
        convolution = next(part for part in subjected.network.modules() if isinstance(part, torch.nn.Conv2d))
        convolution.register_forward_hook(
            lambda module, args, output: orders.append(
                [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (module.weight, args[0], output)]
            )
        )
        training_step(subjected, subjected is laid_out)
    assert orders == [[False] * 3, [True] * 3]


def test_the_median_is_told() -> None:
    rows = [NetworkSpeed(str(value), 8, 1.0, value, value, value, 1.0, 0.1, 0.5) for value in (0.5, 0.75, 0.9)]
    found = Speed({"batch size": 4, "repetitions": 1, "device": "CPU", "versions": {}}, 10.0, rows)
    assert "Median of WRCor over a training step: 0.75." in format_speed(found)


def test_growth_is_drawn(tmp_path: Path) -> None:
    found = measure_growth(1, sizes={"images": (2, 4), "pixels": (8, 16), "candidates": (1, 2)})
    assert [one.what for one in found] == ["images", "pixels", "candidates"]
    assert found[1].gmacs[1] / found[1].gmacs[0] == pytest.approx(4, rel=0.1)
    draw_growth(found, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_help_lists_what_can_be_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # one line for each option
    with pytest.raises(SystemExit):
        main(["speed", "--help"])
    said = capsys.readouterr().out
    assert f"of {', '.join(_speed_networks.NAMES)}; by default all" in said
    assert f"of {', '.join(speed.ASPECTS)}; by default all" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--networks", "resnet"], "There is no network 'resnet' here"),
        (["--aspects", "colour"], "There is no aspect 'colour'"),
        (["--precision", "float32,fp8"], "precision is one of 'float32', 'bfloat16'; got 'fp8'."),
        (["--device", "mps"], "Times are taken on cpu or cuda, whose end can be waited for; got 'mps'."),
        (["--device", "cuda:1"], "There is no CUDA device here"),
    ],
)
def test_a_mistake_is_one_sentence(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["speed", *wrong]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_half_precision_ranks_as_full_precision_does() -> None:
    space = get_space("nasbench201", cells=1, width=4)
    assert speed.rank_agreement(candidates=8, batch_size=8, space=space) > 0.9


class _Clock:
    """Seconds that pass only where somebody says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def read(self, device: str = "cpu") -> float:
        return self.seconds


def test_what_is_not_scoring_is_counted_and_the_space_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, searches = _Clock(), []
    space = get_space("nasbench201", cells=1, width=4)

    def build(self: Any, genotype: Any, **kwargs: Any) -> torch.nn.Module:
        clock.seconds += 2
        return torch.nn.Identity()

    def search(space: Any, batch: Any, *, budget: int, journal: str | None = None, **others: Any) -> Any:
        """Half a second before each candidate, 2 to build it, 4 to score it; 3 for the ranking."""
        searches.append((budget, journal is not None, tuple(batch[0].shape)))
        rows = []
        for _ in range(budget):
            clock.seconds += 0.5
            begun = clock.seconds
            space.build(None, num_classes=10)
            clock.seconds += 4
            rows.append(SimpleNamespace(seconds=clock.seconds - begun))
        clock.seconds += 3
        return SimpleNamespace(history=rows)

    monkeypatch.setattr(type(space), "build", build)
    monkeypatch.setattr(speed, "zero_shot_search", search)
    monkeypatch.setattr(speed, "now", clock.read)
    # Of 5 candidates: 20 seconds of scores, 10 of building, 2.5 before them, and 3.
    assert speed.measure_overhead(space, 4, 8, budget=5) == pytest.approx((10 + 2.5 + 3) / 20)
    assert searches == [(2, False, (4, 3, 8, 8)), (5, True, (4, 3, 8, 8))], "the first is not counted"
    assert "build" not in vars(space)


def test_a_real_search_is_asked_for_what_it_knows() -> None:
    space = get_space("nasbench201", cells=1, width=4)
    assert speed.measure_overhead(space, 4, 8, budget=2) > 0
    assert "build" not in vars(space)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says how much memory a process has")
def test_resident_memory_is_what_the_system_says() -> None:
    def pages() -> float:
        """What ``_resident`` does not read: pages, the second number of another file."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    near = 2**24  # what Python and other threads take meanwhile, and how exact the system is
    before, peak = _peak_memory._resident(peak=False), _peak_memory._resident(peak=True)
    assert before == pytest.approx(pages(), abs=near)
    size = int(peak - before) + 2**26  # more than there ever was in this process
    held = np.ones(size // 8)  # written to, or it takes no memory
    now = _peak_memory._resident(peak=False)
    assert now - before == pytest.approx(size, abs=near)
    assert now == pytest.approx(pages(), abs=near)
    assert _peak_memory._resident(peak=True) - peak == pytest.approx(2**26, abs=near)
    del held
    assert _peak_memory._resident(peak=False) == pytest.approx(before, abs=near), "it is given back"
    assert _peak_memory._resident(peak=True) - peak == pytest.approx(2**26, abs=near), "the most so far stays"


# ---- on a GPU


def test_a_gpu_is_waited_for_before_the_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited = _Clock(), []

    def wait(device: str) -> None:
        waited.append(device)
        clock.seconds += 5 * begun.pop() if begun else 0

    begun: list[int] = []
    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(_speed_networks.time, "perf_counter", clock.read)
    # An action returns at once, and takes 5 seconds on the device.
    assert timed({"score": lambda: begun.append(1)}, 2, "cuda:1") == {"score": [5.0, 5.0]}
    assert set(waited) == {"cuda:1"}
    waited.clear()
    assert timed({"score": lambda: None}, 2, "cpu") == {"score": [0.0, 0.0]}
    assert not waited


@pytest.mark.parametrize("what", ["score", "step"])
def test_memory_of_a_gpu_is_what_torch_allocates_beyond_the_network(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bookkeeping of torch.cuda, played: 1,000 bytes are held, a pass of n images takes 10 n more."""
    most, asked, steps = 0.0, [], []

    def built(name: str, batch_size: int, image_size: int | None, device: str) -> Subject:
        asked.append((name, batch_size, image_size, device))
        return Subject(name, torch.nn.Identity(), None, None, (torch.empty(batch_size), torch.empty(0)))  # type: ignore[arg-type]

    def run(kind: str) -> Any:
        def taken(one: Subject, *given: Any, precision: str = "float32") -> None:
            nonlocal most
            most = max(most, 1000 + 10 * len(one.batch[0]))
            steps.append((kind, len(one.batch[0]), given[-1] if given else precision))

        return taken

    def forget(device: str) -> None:
        nonlocal most
        most = 1000

    monkeypatch.setattr(_peak_memory, "subject", built)
    monkeypatch.setattr(_peak_memory, "training_step", run("step"))
    monkeypatch.setattr(_peak_memory, "scored", run("score"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", forget)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: most)
    assert _peak_memory._measure("ea_600m", what, 64, "cuda:1", 1, 224, "bfloat16") == 640
    assert asked == [("ea_600m", 64, 224, "cuda:1"), ("ea_600m", 2, 224, "cuda:1")]
    assert steps == [("step", 2, "bfloat16"), ("score", 2, "bfloat16"), (what, 64, "bfloat16")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_aspects_on_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    asked = ["speed", "--device=cuda", "--networks=nasbench201", "--batch-size=8", "--repeats=2", f"--out={out}"]
    assert main([*asked, "--precision=float32,bfloat16", "--aspects=networks,proxies,memory,published,overhead"]) == 0
    data = json.loads(out.read_text())
    assert data["setting"]["device"] == torch.cuda.get_device_name()
    assert [row["precision"] for row in data["networks"]] == ["float32", "bfloat16"]
    for row in data["networks"]:
        assert 0 < row["score"] < 60
        assert 0 < row["of_the_machine"] < 1
        # Both keep activations, the step gradients of weights too: neither takes many times what the other does.
        assert 0.1 < row["memory_over_step"] < 3
    assert all(0 < share < 100 for share in data["overheads"].values())
