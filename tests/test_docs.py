"""What README and docs show: their Python runs, their command lines are understood, their links lead somewhere."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_wrcor import SearchResult, ZeroShotSearchModule
from lightning_wrcor.__main__ import main as any_command
from lightning_wrcor.cli import main
from lightning_wrcor.commands import COMMANDS
from lightning_wrcor.spaces import get_space

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FOLDERS = ("proxies", "spaces", "search", "inspection", "training", "data", "export", "report")
ROOMS = ("lightning_wrcor", *(f"lightning_wrcor.{room}" for room in _FOLDERS))


class Block(NamedTuple):
    """A fenced block: its language, its title (a file's name) or "", the line of its first line, and its text."""

    language: str
    title: str
    line: int
    text: str


def blocks(page: Path, language: str) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        if found[1] == language:
            yield Block(found[1], found[2] or "", text.count("\n", 0, found.start(3)) + 1, found[3])


def lines(page: Path) -> Iterator[str]:
    """A page's command lines, without what starts a command on several processes or in the background."""
    for block in blocks(page, "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            yield re.sub(r"^srun python |^torchrun( --\S+)+ +", "python ", line).removesuffix(" &")


def commands(prefix: str) -> list[Any]:
    """The command lines of all pages that begin with ``prefix``, without it."""
    return [
        pytest.param(page, line.removeprefix(prefix).strip(), id=f"{page.stem}: {line}")
        for page in PAGES
        for line in lines(page)
        if line.startswith(prefix)
    ]


def with_python() -> list[Any]:
    return [pytest.param(page, id=page.stem) for page in PAGES if next(blocks(page, "python"), None)]


def plain(case: Any) -> bool:
    """Whether a command names configurations and nothing else, so that it shows what they are for."""
    return set(shlex.split(case.values[1])[::2]) == {"--config"}


def quick(case: Any) -> bool:
    """Whether a command needs no configuration, and is none of the Lightning CLI."""
    return case.values[1].partition(" ")[0] in COMMANDS


def write_photos() -> None:
    """Forty small images in the folders of four classes."""
    for label, kind in enumerate(("ant", "bee", "cat", "dog")):
        Path(f"photos/{kind}").mkdir(parents=True)
        for number in range(10):
            pixels = np.random.default_rng(10 * label + number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{kind}/{number}.png")


def write_files(page: Path) -> None:
    """The files that a page shows, the recipes, and photos where it speaks of some, into the working folder."""
    Path("recipes").symlink_to(ROOT / "recipes")
    if "photos" in page.read_text(encoding="utf-8"):
        write_photos()
    for language in ("yaml", "python"):
        for block in blocks(page, language):
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules that a page shows can be imported while its test runs, and are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", with_python())
def test_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Defaults of the Trainer, which a page's own arguments override: short, on the CPU, without bars and event files.
    short = {"limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1, "max_epochs": 1, "devices": 1}
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    for name, value in {**short, **quiet}.items():
        monkeypatch.setenv(f"PL_TRAINER_{name.upper()}", str(value))
    write_files(page)
    names: dict[str, Any] = {"__name__": "__main__"}
    found = list(blocks(page, "python"))
    assert len(found) == page.read_text(encoding="utf-8").count("```python"), "a block that is written in another way"
    for block in found:
        if not block.title:  # a titled block is a file that other blocks import
            source = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's own line
            exec(compile(source, str(page), "exec"), names)  # noqa: S102  (our own pages)


@pytest.mark.parametrize(("page", "line"), [c for c in commands("python -m lightning_wrcor ") if not quick(c)])
def test_command_lines_are_understood(page: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(page)
    arguments = shlex.split(line)
    with pytest.raises(SystemExit) as stop:
        main(arguments if {"--help", "--print_config"} & set(arguments) else [*arguments, "--print_config"])
    printed = capsys.readouterr()
    assert stop.value.code == 0, printed.err
    assert "trainer" in printed.out


@pytest.mark.parametrize(("page", "line"), [case for case in commands("python -m lightning_wrcor ") if quick(case)])
def test_quick_commands_run(page: Path, line: str) -> None:
    arguments = shlex.split(line)
    if arguments[0] == "score":  # of timm, only small ones, few images, and small ones
        arguments = ["test_resnet" if word in ("resnet50", "efficientnet_b0") else word for word in arguments]
        arguments = [word for word in arguments if word != "mobilenetv3_large_100"]
        arguments += ["--batch-size=8", "--image-size=32", "--num-classes=4"]
    if "photos" in arguments:
        write_photos()
    assert any_command(arguments) == 0


@pytest.mark.parametrize(("page", "line"), [case for case in commands("python -m lightning_wrcor fit") if plain(case)])
def test_configurations_train(page: Path, line: str) -> None:
    write_files(page)
    quick = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.devices=1"]
    cli = main(["fit", *shlex.split(line), *quick, "--trainer.enable_progress_bar=false"])
    assert cli.trainer.global_step == 1


@pytest.mark.parametrize(("page", "line"), commands("python recipes/imagenet.py"))
def test_recipe_lines_are_understood(page: Path, line: str) -> None:
    write_files(page)
    words = shlex.split(line)
    for file in [Path(word) for word in words if "=" not in word and not Path(word).exists()]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}\n", encoding="utf-8")  # what an earlier run leaves
    config = runpy.run_path("recipes/imagenet.py")["read_config"](words)
    assert ("root" in config["data"]) == ("data.root" in line)


def test_a_search_on_ones_own_images_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command of the section, on the CPU, as it is but for fewer networks and no figures."""
    monkeypatch.setattr("lightning_wrcor.report._card.all_figures", lambda *_, **__: {})
    write_files(ROOT / "docs" / "index.md")
    (line,) = [line for line in lines(ROOT / "docs" / "index.md") if "small.yaml" in line and "budget=4" in line]
    quick = ["model.space.init_args.include=[lcnet_*, mobilenetv3_small_050, vit_tiny_patch16_224]"]
    quick += ["data.num_workers=0", "model.log_figures=false", "trainer.enable_progress_bar=false"]
    figures = runpy.run_path("recipes/imagenet.py")["main"]([*shlex.split(line)[2:], *quick])
    assert figures["winner"]["num_classes"] == 4
    assert figures["winner"]["space"]["init_args"]["image_size"] == 96
    found = SearchResult.from_json(next(Path("runs/small/winner").glob("*/search.json")))
    assert found.funnel.scored == 4
    assert all(row.params <= 4_000_000 for row in found.history)
    assert found.input_size == (3, 96, 96)
    assert not found.funnel.failed


def test_a_function_with_choices_from_a_file() -> None:
    page = ROOT / "docs" / "own_space.md"
    write_files(page)
    config = runpy.run_path("recipes/imagenet.py")["read_config"](["choices.yaml"])
    space = get_space(config["model"]["space"])
    assert len(space) == 14
    assert space.input_size == (3, 32, 32)
    logits = space.build(space.parse("depth=3,width=24"), num_classes=5)(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 5)
    ZeroShotSearchModule(**config["model"])  # which reads the constraints


class ParsedError(Exception):
    """A command line was understood, and nothing was done."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_of_other_commands_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse_args(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parse(parser, *arguments)
        raise ParsedError

    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    for line in lines(page):
        if " ... " in line:  # stands for what was said before
            continue
        if found := re.match(r"python -m (lightning_wrcor\.\w+) (.*)", line):
            run = importlib.import_module(f"{found[1]}.__main__").main
            with pytest.raises(ParsedError):
                run(shlex.split(found[2]))
        elif line.startswith("python -c "):
            ast.parse(shlex.split(line)[2])


def test_every_line_of_a_guide_is_read_by_a_test() -> None:
    guide = ROOT / "docs" / "imagenet.md"
    (script,) = [block.text for block in blocks(guide, "bash") if block.title == "imagenet.sbatch"]
    read = ("python recipes/imagenet.py", "python -m lightning_wrcor", "python -c ", "#")
    others = [line for line in lines(guide) if line and not line.startswith(read)]
    assert [line for line in others if line not in script.splitlines()] == []


@pytest.mark.parametrize(("ends_with", "signalled"), [(0, False), (3, False), (0, True), (5, True)])
def test_the_script_for_slurm_ends_as_the_training_does(ends_with: int, signalled: bool) -> None:
    """With a stand-in for srun, which signals the script where the time is nearly up."""
    (script,) = [
        block.text for block in blocks(ROOT / "docs" / "imagenet.md", "bash") if block.title == "imagenet.sbatch"
    ]
    signal = "kill -USR1 $PPID; until [ -e requeued ]; do sleep 0.05; done; sleep 0.2" if signalled else ":"
    stand_ins = {
        "srun": f"echo $SRUN_CPUS_PER_TASK $* > started; {signal}; exit {ends_with}",
        "scontrol": "echo $* > requeued",
    }
    for name, text in stand_ins.items():
        path = Path(name)
        path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    settings = {"PATH": f"{Path.cwd()}:{os.environ['PATH']}", "SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "12"}
    ended = subprocess.run(["bash", "-c", script], env=settings, timeout=60, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (ends_with, "")
    assert Path("started").read_text().startswith("12 python recipes/imagenet.py modern one_node")
    assert Path("requeued").exists() == signalled
    assert not signalled or Path("requeued").read_text() == "requeue 17\n"


def test_navigation_calls_pages_what_they_call_themselves() -> None:
    found = re.findall(r"^ +- (.+): (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) > 20
    for title, page in found:
        if page not in ("index.md", "changelog.md"):  # the start, and a page made of another file
            first = (ROOT / "docs" / page).read_text(encoding="utf-8").partition("\n")[0]
            assert first.removeprefix("# ").partition(": ")[0] == title, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text):
        path = "".join(target).partition("#")[0]
        assert not path or "://" in path or (page.parent / path).exists(), f"{page.name} links to {path}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room: str) -> None:
    module = importlib.import_module(room)
    public = {name for name in dir(module) if not name.startswith("_") and not inspect.ismodule(getattr(module, name))}
    listed = re.findall(r"^::: ([\w.]+)\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert public <= {name for _, name in listed}, "names that docs/api.md lacks"
    assert {name for home, name in listed if home == room} <= public, "names that do not exist"


def test_citation_names_the_version_and_the_authors() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    package = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert [citation["version"]] == re.findall(r'^version = "(.+)"', package, re.MULTILINE)
    (paper,) = citation["references"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    for page in ("README.md", "docs/citing.md"):
        assert f"author  = {{{authors}}}" in (ROOT / page).read_text(encoding="utf-8")


def test_python_version_of_the_readme_is_that_of_the_package() -> None:
    stated = re.findall(r"Python (\d+\.\d+) or newer", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert stated == re.findall(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
