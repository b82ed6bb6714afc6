"""`export_network`: its files give the trained network's logits, to whoever reads them, or there is an error."""

from __future__ import annotations

import copy
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from export_toys import Branching, TwoOutputs, images, save_checkpoint
from torch import Tensor, nn

from lightning_wrcor import DigitsData, ZeroShotSearch, ZeroShotSearchModule, load_network
from lightning_wrcor.export import FORMATS, check_formats, export_network, load_exported
from lightning_wrcor.export import _export as exporting
from lightning_wrcor.export.__main__ import main
from lightning_wrcor.export._formats import Plain, check
from lightning_wrcor.spaces import MobileNetV2, NetworkList, TimmModels, TimmViT

from toys import CELLS, Lit, loader, trainer

CELL = CELLS.parse("|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|")
ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import torch
torch.set_num_threads(1)
shown = torch.load("images.pt")
{code}
torch.save(network(shown), "logits.pt")
"""


@pytest.fixture
def network() -> nn.Module:
    """The trained network of ``one.ckpt`` in the working folder."""
    return save_checkpoint(Path("one.ckpt"), CELLS, CELL)


def run_alone(code: str, shown: Tensor, blocked: set[str]) -> Tensor:
    """Logits that a fresh Python computes which cannot import some packages."""
    torch.save(shown, "images.pt")
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(blocked=blocked, code=code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    logits: Tensor = torch.load("logits.pt")
    return logits


def test_a_program_needs_torch_alone(network: nn.Module) -> None:
    before = torch.get_rng_state()
    exported = export_network("one.ckpt", "out", ["program", "weights"], image_size=16)
    assert torch.equal(torch.get_rng_state(), before), "random numbers are as they were"
    assert exported.files == {"weights": Path("out/model.safetensors"), "program": Path("out/model.pt2")}
    shown = images(4, 3, 16, 16)
    code = 'network = torch.export.load("out/model.pt2").module()'
    logits = run_alone(code, shown, {"lightning_wrcor", "timm", "lightning", "torchvision"})
    torch.testing.assert_close(logits, network(shown), rtol=0, atol=1e-5)
    assert torch.equal(load_exported("out")(shown), network(shown))
    extra = {"winner.json": ""}
    torch.export.load("out/model.pt2", extra_files=extra)
    inside = extra["winner.json"]
    assert json.loads(inside)["winner"]["name"] == CELLS.name(CELL)
    assert json.loads(inside) == json.loads(Path("out/winner.json").read_text())


def test_timm_needs_no_package_of_ours() -> None:
    trained = save_checkpoint(Path("two.ckpt"), TimmModels("test_resnet"), "test_resnet")
    export_network("two.ckpt", "out", ["timm"], image_size=32, mean=[0.5] * 3, std=[0.2] * 3)
    code = 'import timm; network = timm.create_model("local-dir:out", pretrained=True).eval()'
    shown = images(2, 3, 32, 32)
    torch.testing.assert_close(run_alone(code, shown, {"lightning_wrcor"}), trained(shown), rtol=0, atol=1e-5)


def test_torchscript_and_onnx(network: nn.Module) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    exported = export_network("one.ckpt", "out", ["torchscript", "onnx"], image_size=16)
    assert set(exported.differences) == {"torchscript", "onnx"}
    session = runtime.InferenceSession("out/model.onnx", providers=["CPUExecutionProvider"])
    extra = {"winner.json": ""}
    script = torch.jit.load("out/model.torchscript.pt", _extra_files=extra)
    for count in (1, 6):
        shown = images(count, 3, 16, 16)
        torch.testing.assert_close(script(shown), network(shown), rtol=0, atol=1e-5)
        (logits,) = session.run(["logits"], {"images": shown.numpy()})
        torch.testing.assert_close(torch.as_tensor(logits), network(shown), rtol=0, atol=1e-4)
    held = {entry.key: entry.value for entry in onnx.load("out/model.onnx").metadata_props}
    for text in (held["winner.json"], extra["winner.json"]):
        assert json.loads(text)["winner"]["name"] == CELLS.name(CELL)


def test_the_best_checkpoint_of_the_callback_and_its_averaged_weights() -> None:
    from lightning.pytorch import callbacks

    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this Lightning has no EMAWeightAveraging")
    saving = callbacks.ModelCheckpoint("kept", monitor="val_loss", filename="best", save_last=True)
    ema = callbacks.EMAWeightAveraging(decay=0.9)
    run = trainer(callbacks=[ZeroShotSearch(CELLS, budget=2, journal=None), ema, saving], enable_checkpointing=True)
    run.fit(Lit(), loader(), loader(shuffle=False))
    export_network("kept/best.ckpt", "out", ["weights"], image_size=8)
    stored = torch.load("kept/best.ckpt", weights_only=True)
    weights = load_exported("out").state_dict()
    names = [name for name in weights if name.endswith("weight")]
    assert all(torch.equal(weights[name], stored["state_dict"][f"net.{name}"]) for name in names)
    assert not all(torch.equal(weights[name], stored["current_model_state"][f"net.{name}"]) for name in names)
    card = Path("out/README.md").read_text()
    assert f"Weights: the averaged weights ({int(stored['averaging_state']['n_averaged'])} updates)" in card
    value = float(stored["callbacks"][saving.state_key]["best_model_score"])
    assert f"Chosen by: `val_loss` = {value:.6g} (the smallest was kept)" in card
    export_network("kept/last.ckpt", "last", ["weights"], image_size=8)
    assert "Chosen by: not known" in Path("last/README.md").read_text(), "its own value is not in last.ckpt"


def test_a_checkpoint_of_the_module_knows_its_image_size_and_settings() -> None:
    pytest.importorskip("sklearn")
    module = ZeroShotSearchModule(CELLS, budget=2, probe_size=8, journal=None, lr=0.0625, label_smoothing=0.03125)
    run = trainer(limit_train_batches=2, limit_val_batches=1)
    run.fit(module, datamodule=DigitsData(image_size=12, batch_size=8))
    run.save_checkpoint("one.ckpt")
    export_network("one.ckpt", "out", ["weights"], settings={"precision": "bf16-mixed"})
    assert json.loads(Path("out/winner.json").read_text())["images"]["input_size"] == [3, 12, 12]
    card = Path("out/README.md").read_text()
    assert '"lr": 0.0625' in card
    assert '"label_smoothing": 0.03125' in card
    assert "bf16-mixed" in card
    assert '"probe_size"' not in card
    assert "Weights: those of the step at which the checkpoint was written, not averaged" in card


def test_a_file_that_computes_something_else_is_an_error(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    export_network("one.ckpt", "out", ["weights"], image_size=16)
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    right = exporting.WRITERS["program"]

    def wrong(network: Plain, shown: Tensor, folder: Path, description: str) -> Path:
        with torch.no_grad():
            next(iter(network.parameters())).mul_(1.01)
        path = right(network, shown, folder, description)
        with torch.no_grad():
            next(iter(network.parameters())).div_(1.01)
        return path

    monkeypatch.setattr(exporting, "WRITERS", {"program": wrong})
    with pytest.raises(ValueError, match=r"format program gives other logits .* differ by .* Leave this format out"):
        export_network("one.ckpt", "out", ["program"], image_size=16)
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    assert sorted(path.name for path in Path().iterdir()) == ["one.ckpt", "out"]


@pytest.mark.parametrize("name", ["weights", "timm"])
def test_weights_that_are_others_are_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(Path("one.ckpt"), TimmModels("test_resnet"), "test_resnet")
    right = exporting.write_weights

    def wrong(network: nn.Module, folder: Path, description: str) -> Path:
        other = copy.deepcopy(network)
        with torch.no_grad():
            next(other.parameters()).mul_(1.01)
        return right(other, folder, description)

    monkeypatch.setattr(exporting, "write_weights", wrong)
    with pytest.raises(ValueError, match=rf"format {name} gives other logits"):
        export_network("one.ckpt", "out", [name], image_size=32, mean=[0.5] * 3, std=[0.5] * 3)
    assert [path.name for path in Path().iterdir()] == ["one.ckpt"]


def test_the_comparison(network: nn.Module) -> None:
    size = (3, 16, 16)
    assert check("program", network, network, size) == 0

    def off(by: float) -> Any:
        return lambda shown: network(shown) + by * network(shown).abs().max().clamp(min=1)

    assert check("program", off(9e-6), network, size) == pytest.approx(9e-6, rel=0.2)
    for by, name in ((2e-5, "program"), (2e-4, "onnx"), (float("nan"), "program")):
        with pytest.raises(ValueError, match=f"format {name} gives other logits"):
            check(name, off(by), network, size)
    check("onnx", off(2e-5), network, size)
    with pytest.raises(ValueError, match=r"gives \(1, 4\), not \(1, 5\)"):
        check("program", lambda shown: network(shown)[:, :4], network, size)

    def fixed_batch(shown: Tensor) -> Tensor:
        return network(shown.reshape(1, *size))

    with pytest.raises(ValueError, match="does not take 3 images, which the network does: RuntimeError"):
        check("torchscript", fixed_batch, network, size)
    with pytest.raises(ValueError, match="logits are not finite"):
        check("program", network, lambda shown: network(shown) / 0, size)


def test_networks_that_a_format_cannot_hold() -> None:
    space = NetworkList({"branching": Branching, "two": TwoOutputs})
    save_checkpoint(Path("one.ckpt"), space, "branching")
    with pytest.raises(ValueError, match=r"^'branching' cannot be written as program: .*Leave program out") as stop:
        export_network("one.ckpt", "out", ["program"], space=space, image_size=8)
    assert "\n" not in str(stop.value)
    assert not Path("out").exists()
    two = save_checkpoint(Path("two.ckpt"), space, "two")
    export_network("two.ckpt", "out", ["program"], space=space, image_size=8)
    shown = images(2, 3, 8, 8)
    assert torch.equal(torch.export.load("out/model.pt2").module()(shown), two(shown)[0]), "the logits alone"


def test_a_space_that_text_cannot_hold_is_given_again() -> None:
    space = NetworkList({"mine": lambda num_classes: TwoOutputs(num_classes)})
    save_checkpoint(Path("one.ckpt"), space, "mine")
    with pytest.raises(ValueError, match="text cannot hold"):
        export_network("one.ckpt", "out", ["weights"], image_size=8)
    export_network("one.ckpt", "out", ["weights"], space=space, image_size=8)
    with pytest.raises(ValueError, match="text cannot hold"):
        load_exported("out")
    again, right = load_exported("out", space), load_network("one.ckpt", space)
    assert torch.equal(again(images(1, 3, 8, 8))[0], right(images(1, 3, 8, 8))[0])


def test_an_earlier_export_is_replaced_and_nothing_else(network: nn.Module) -> None:
    export_network("one.ckpt", "out", ["torchscript", "weights"], image_size=16)
    Path("out/notes.txt").write_text("mine")
    export_network("one.ckpt", "out", ["torchscript"], image_size=12)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("README.md", "model.torchscript.pt", "notes.txt", "winner.json")
    ]
    assert json.loads(Path("out/winner.json").read_text())["images"]["input_size"] == [3, 12, 12]
    with pytest.raises(ValueError, match=r"holds no model.safetensors: export with the format weights"):
        load_exported("out")
    Path("theirs").mkdir()
    Path("theirs/README.md").write_text("theirs")
    with pytest.raises(FileExistsError, match=r"theirs holds README.md but no export"):
        export_network("one.ckpt", "theirs", ["torchscript"], image_size=16)
    assert Path("theirs/README.md").read_text() == "theirs"


def test_the_description_is_strict_json_and_is_checked(network: nn.Module) -> None:
    export_network("one.ckpt", "out", ["weights"], image_size=16)
    path = Path("out/winner.json")

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    data = json.loads(path.read_text(), parse_constant=refuse)
    assert data["winner"]["summary"]["scores"] == {"wrcor": 12.5, "naswot": None}
    for change, message in (({"format": "x"}, "not of an exported network"), ({"version": 2}, "version 2")):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(ValueError, match=message):
            load_exported("out")
    with pytest.raises(FileNotFoundError, match=r"There is no winner.json in 'nowhere'"):
        load_exported("nowhere")


def test_how_large_the_images_are(network: nn.Module) -> None:
    def size(**arguments: Any) -> list[int]:
        export_network("one.ckpt", "out", ["weights"], **arguments)
        found: list[int] = json.loads(Path("out/winner.json").read_text())["images"]["input_size"]
        return found

    with pytest.raises(ValueError, match=r"does not say how large the images are: give image_size"):
        size()
    assert size(data=DigitsData(image_size=20)) == [3, 20, 20]
    assert size(data=DigitsData(image_size=20), image_size=12) == [3, 12, 12]
    assert size(data={"image_size": 20, "eval_size": 24, "mean": (0.5, 0.5, 0.5)}) == [3, 24, 24]
    save_checkpoint(Path("one.ckpt"), CELLS, CELL, datamodule_hyper_parameters={"image_size": 28})
    assert size() == [3, 28, 28]
    space = TimmViT([8], [12], [1], [2], image_size=32)
    save_checkpoint(Path("one.ckpt"), space, space.parse("vit_p8_w12_d1_h2_m4.0"))
    assert size() == [3, 32, 32]
    with pytest.raises(ValueError, match=r"does not take images of \(3, 40, 40\)"):
        size(image_size=40)
    small = MobileNetV2(widths=[(8, 8)] * 8, depths=[(1, 1)] * 7, head=(8, 8), resolutions=[24])
    save_checkpoint(Path("one.ckpt"), small, small.sample(random.Random(0)))
    assert size() == [3, 24, 24]


def test_mistakes_are_one_sentence(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(
        message: str, formats: Any = ("weights",), kind: type[Exception] = ValueError, **arguments: Any
    ) -> None:
        with pytest.raises(kind, match=message):
            export_network(arguments.pop("checkpoint", "one.ckpt"), "out", formats, **{"image_size": 16, **arguments})

    refused(r"There is no format 'programme'. Closest: program", ["programme"])
    refused("formats is empty", [])
    refused("mean has 1 values; the network needs 3", mean=[0.5])
    export_network("one.ckpt", "known", ["weights"], image_size=16, data={"classes": ["a", "b"]})
    assert json.loads(Path("known/winner.json").read_text())["images"]["class_names"] is None, (
        "a reader may not know all"
    )
    refused("class_names has 2 values; the network needs 5", class_names=["a", "b"])
    refused("whole number of pixels; got -1", image_size=-1)
    refused("There is no checkpoint 'none.ckpt'", kind=FileNotFoundError, checkpoint="none.ckpt")
    torch.save({"state_dict": {}}, "plain.ckpt")
    refused("holds no winner", checkpoint="plain.ckpt")
    save_checkpoint(Path("two.ckpt"), TimmModels("test_resnet"), "test_resnet")
    refused("give mean=... and std=", ["timm"], checkpoint="two.ckpt")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    refused(r"needs onnxscript: pip install 'lightning_wrcor\[onnx\]'", ["onnx"], kind=ImportError)
    assert not Path("out").exists()


def test_formats_are_put_in_order() -> None:
    assert check_formats(["program", "weights", "program"]) == ["weights", "program"]
    assert check_formats("timm") == ["timm"]
    assert set(FORMATS) == {"weights", "timm", "program", "torchscript", "onnx"}


def test_the_command(network: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "one.ckpt",
            "out",
            "--formats",
            "weights",
            "--image-size",
            "16",
            "--figure",
            "test/top1=0.875",
            "--data",
            "dogs",
        ]
    )
    printed = capsys.readouterr().out.split()
    assert printed == [f"out/{name}" for name in ("README.md", "model.safetensors", "winner.json")]
    card = Path("out/README.md").read_text()
    assert "`test/top1`: 87.50%" in card
    assert "Measured on: dogs" in card
    for arguments, message in (
        (["none.ckpt", "out"], "error: There is no checkpoint 'none.ckpt'."),
        (["one.ckpt", "out"], "error: The checkpoint does not say how large the images are"),
        (["one.ckpt", "out", "--formats", "onx"], "error: There is no format 'onx'. Closest: onnx"),
        (["one.ckpt", "out", "--mean", "a"], "error: --mean takes numbers with commas between; got 'a'."),
        (["one.ckpt", "out", "--figure", "top1"], "error: --figure takes NAME=NUMBER"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith(message)
        assert said.count("\n") == 1
