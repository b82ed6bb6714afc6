"""``proxies`` and ``spaces`` list what the registries hold; the commands stand in the help of the Lightning CLI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_wrcor.__main__ import main
from lightning_wrcor.cli import main as lightning_cli
from lightning_wrcor.commands import COMMANDS
from lightning_wrcor.commands._passes import what_it_needs
from lightning_wrcor.proxies import Context, Proxy, get_proxy, list_proxies, register_proxy
from lightning_wrcor.proxies._registry import _PROXIES
from lightning_wrcor.spaces import NASBench201, get_space, list_spaces

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHARED = {
    "F": "forward",
    "F B": "forward, backward",
    "F B W": "forward, backward, gradients of weights",
    "none": "no pass",
}
OWN = {
    "F": "its own: forward",
    "F F": "its own: two forward",
    "F B B": "its own: forward, two backward",
    "F B W of one image": "its own: forward, backward",
    "F, B for each class": "its own: forward, several backward",
    "F, B for each of 16 images": "its own: forward, several backward",
}


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def documented() -> list[tuple[str, list[str], str, str, str]]:
    """Name, other names, passes, who shares them, and labels, from the table that people read."""
    found = []
    for line in (DOCS / "proxies.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and cells[0].startswith("`"):
            for name, others in re.findall(r"`(\w+)`(?: \(([^)]*)\))?", cells[0]):
                found.append((name, re.findall(r"`(\w+)`", others), *cells[3:]))
    return found


def test_the_whole_table_of_the_documentation_is_read() -> None:
    listed = {name for entry in documented() for name in (entry[0], *entry[1])}
    assert set(list_proxies()) - listed == {"consensus", "sjw", "spw", "az_nas", "vkdnw_aggregate", "tenas"}
    assert listed <= set(list_proxies())


@pytest.mark.parametrize(("name", "others", "passes", "shares", "labels"), documented())
def test_what_a_proxy_needs_is_what_the_documentation_says(
    name: str, others: list[str], passes: str, shares: str, labels: str
) -> None:
    said = what_it_needs(get_proxy(name))
    assert said.labels == labels
    assert all(type(get_proxy(other)) is type(get_proxy(name)) for other in others)
    if shares == "c":  # the three of AZ-NAS, of which the table tells what they take together
        assert said.passes.startswith("its own: two forward")
        assert ("backward" in said.passes) == (name == "az_trainability")
    else:
        assert said.passes == (OWN if shares == "own" else SHARED)[passes]


def test_every_proxy_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "proxies").splitlines()
    titles = [line for line in lines if re.match(r"\w+( \([\w, ]+\))?  ", line) and not line.startswith("name ")]
    found = {name: re.findall(r"\w+", title.partition("  ")[0]) for title in titles for name in [title.split()[0]]}
    assert sorted(name for names in found.values() for name in names) == list_proxies()
    assert found["jacob_cor"] == ["jacob_cor", "jacob_cov", "jacov"]
    assert found["macs"] == ["macs", "flops"]
    assert "35 proxies" in lines
    assert any(line.startswith("sjw ") and "its members: synflow, jacob_cor, wrcor" in line for line in lines)
    place = next(place for place, line in enumerate(lines) if line.startswith("zico "))
    assert lines[place + 1].startswith("    Zero-shot inverse coefficient of variation: ")
    assert lines[place + 2].startswith(
        '    Source: Li et al., "ZiCo: zero-shot NAS via inverse coefficient of variation'
    )


def test_one_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "proxies", "WRCor")
    assert text.startswith("wrcor: lightning_wrcor.proxies.WRCor\n")
    assert "    depth_normalised: divide the weights by the sum of 2^l" in text
    assert "Parameters: depth_normalised = None, gates = False" in text
    assert "Needs: forward, backward; labels: yes" in text
    assert "``" not in text
    assert shown(capsys, "proxies", "nwot").startswith("naswot (nwot): ")
    assert main(["proxies", "wrcr"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no proxy named 'wrcr'. Proxies, closest first: wrcor,")


class NeedsAnArgument(Proxy):
    """The first sentence."""

    name = "needs_an_argument"

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def measure(self, context: Context) -> float:
        return self.factor


class NotDefined(Proxy):
    """Refuses everything."""

    name = "not_defined"

    def measure(self, context: Context) -> float:
        raise ValueError("not this one")


def test_proxies_of_ones_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_PROXIES, "_classes", dict(_PROXIES._classes))
    register_proxy(NeedsAnArgument)
    register_proxy(NotDefined)
    lines = shown(capsys, "proxies").splitlines()
    assert "37 proxies" in lines
    assert any(re.match(r"needs_an_argument +depends on its arguments$", line) for line in lines)
    assert any(re.match(r"not_defined +passes of its own$", line) for line in lines)
    assert "Parameters: factor" in shown(capsys, "proxies", "needs_an_argument")


def test_every_space_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "spaces").splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if re.match(r"\w+  ", line)}
    rows.pop("name")
    assert sorted(rows) == list_spaces()
    # The sizes that the benchmarks' papers name.
    assert rows["nasbench201"] == ["15,625", "3", "x", "32", "x", "32"]
    assert rows["natsbench_size"][0] == "32,768"
    assert rows["nasbench_macro"][0] == "6,561"
    assert rows["darts"] == ["-", "3", "x", "224", "x", "224"]
    assert " ".join(rows["choices"]) == "as you say as you say"
    assert "    The 15,625 networks of NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv 2001.00326)." in lines


def test_one_space(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "spaces", "nasbench201", "--seed", "5", "--num-classes", "10")
    assert text.startswith("nasbench201: lightning_wrcor.spaces.NASBench201\n")
    assert "Parameters: width = 16, cells = 5\n" in text
    name = next(line.strip() for line in text.splitlines() if line.startswith("    |"))
    space = NASBench201()
    costs = space.costs(space.parse(name), num_classes=10)
    assert f"{costs.params:,} parameters, {costs.macs:,} MACs, depth {costs.depth}" in text
    assert name != next(
        line.strip() for line in shown(capsys, "spaces", "nasbench201").splitlines() if line.startswith("    |")
    )


@pytest.mark.parametrize("name", [name for name in list_spaces() if name != "nasbench201"])
def test_a_sampled_genotype_can_be_read_back(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = shown(capsys, "spaces", name)
    if "No example: it needs " in text:
        assert name in ("choices", "list", "union")
        return
    written = text.splitlines()[-2].strip()
    space = get_space(name)
    assert space.name(space.parse(written)) == written
    assert re.search(r"    [\d,]+ parameters, [\d,]+ MACs, depth \d+ \(images of 3 x \d+ x \d+", text.splitlines()[-1])


def test_mistakes_in_names_of_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spaces", "nasbench21"]) == 2
    said = "error: There is no search space 'nasbench21'. Did you mean nasbench201? There are: nasbench201,"
    assert capsys.readouterr().err.startswith(said)
    assert main(["spaces", "nasbench201", "--num-classes=0"]) == 2
    assert capsys.readouterr().err == "error: A network has at least 1 class; got --num-classes 0.\n"


def test_the_help_names_both_kinds_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        lightning_cli(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "search", *COMMANDS):
        assert command in text
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"usage: python -m lightning_wrcor {command} " in capsys.readouterr().out


def test_a_command_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["scores"])
    assert stop.value.code == 2
    assert "or, for a quick look, score, proxies, spaces" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["score"])
    assert stop.value.code == 2
    assert "the following arguments are required: NAME" in capsys.readouterr().err


STARTS = """
import sys
from lightning_wrcor.commands._arguments import read_arguments
read_arguments(["score", "test_resnet"])
assert "torch" not in sys.modules
sys.argv[1:] = ["score", "test_resnet", "--batch-size=2", "--image-size=32", "--num-classes=4"]
import runpy
try:
    runpy.run_module("lightning_wrcor", run_name="__main__")
except SystemExit as stop:
    assert stop.code == 0, stop.code
heavy = {"lightning", "jsonargparse", "torchmetrics", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_quick_command_starts_without_lightning() -> None:
    done = subprocess.run([sys.executable, "-c", STARTS], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "test_resnet" in done.stdout
