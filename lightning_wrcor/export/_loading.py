"""How each file of an export is loaded, as Markdown with code that runs in the folder as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lightning_wrcor.export._facts import Images
from lightning_wrcor.search.result import library_versions

_PROGRAM = """\
import torch

network = torch.export.load("{file}").module()  # torch alone; already in evaluation mode
images = torch.randn({shape})  # yours, prepared as said above
with torch.no_grad():
    logits = network(images)"""

_TORCHSCRIPT = """\
import torch

network = torch.jit.load("{file}", map_location="cpu")
images = torch.randn({shape})  # yours, prepared as said above
with torch.no_grad():
    logits = network(images)"""

_ONNX = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
images = np.random.randn({shape}).astype(np.float32)  # yours, prepared as said above
(logits,) = session.run(["logits"], {{"images": images}})"""

_TIMM = """\
from pathlib import Path

import timm
import torch
from timm.data import create_transform, resolve_data_config

folder = Path(".").resolve()  # this folder; from a hub: timm.create_model("hf-hub:user/name", pretrained=True)
network = timm.create_model(f"local-dir:{{folder}}", pretrained=True).eval()  # without pretrained it is untrained
prepare = create_transform(**resolve_data_config({{}}, model=network))  # from a PIL image to a tensor
with torch.no_grad():
    logits = network(torch.randn({shape}))"""

_WEIGHTS = """\
import torch

from lightning_wrcor.export import load_exported

network = load_exported(".")  # this folder; in evaluation mode, on the CPU
with torch.no_grad():
    logits = network(torch.randn({shape}))"""

_CODE = {"weights": _WEIGHTS, "timm": _TIMM, "program": _PROGRAM, "torchscript": _TORCHSCRIPT, "onnx": _ONNX}
_WHAT = {
    "weights": "`{file}` with `winner.json`: weights (safetensors) and genotype, for lightning_wrcor. The network can be "
    "trained further.",
    "timm": "`{file}` with `config.json`: the same network for timm (1.0.21 or newer), which needs nothing else. It can be "
    "trained further.",
    "program": "`{file}`: a program of torch.export with the weights in it, written by torch {torch}; neither "
    "lightning_wrcor nor timm is needed. Torch does not promise that other versions of it read the file, and reads it with "
    "pickle: load it only from someone you trust.",
    "torchscript": "`{file}`: TorchScript, which torch has deprecated in favour of torch.export; for readers that know "
    "nothing newer.",
    "onnx": "`{file}`: ONNX, input `images`, output `logits`; for onnxruntime and other readers of ONNX.",
}


def how_to_load(images: Images, files: Mapping[str, str], differences: Mapping[str, float]) -> Iterator[str]:
    """Paragraphs and blocks of code, for each format.

    Args:
        images: the images that the network takes.
        files: names of the files by format.
        differences: of each file's logits from the network's, as a share of the largest logit.
    """
    versions = library_versions(("lightning_wrcor", "torch", "timm", "onnx"))
    yield (
        f"Each was read back and compared with the trained network on random images when it was written "
        f"({', '.join(f'{name} {version}' for name, version in versions.items())})."
    )
    shape = ", ".join(map(str, (1, *images.input_size)))
    for name, file in files.items():
        what = _WHAT[name].format(file=file, torch=versions["torch"].partition("+")[0])
        yield f"### {name}"
        yield f"{what} {_agreement(differences[name])}"
        if name == "timm" and (images.interpolation is None or images.crop_pct is None):
            yield (
                "How images were resized and cropped was not known: `config.json` has timm's usual values there (bicubic, "
                "0.875)."
            )
        yield f"```python\n{_CODE[name].format(file=file, shape=shape)}\n```"


def _agreement(difference: float) -> str:
    if difference == 0:
        return "The logits were the same to the bit."
    return f"The logits differed by at most {difference:.0e} of the largest."
