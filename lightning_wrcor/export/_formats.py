"""The kinds of file that a trained winner is written as, and how each is read back to be checked.

A writer makes its file from a network that takes images ``(B, C, H, W)`` and returns logits ``(B, classes)``; a reader
gives a function of the same kind from the file alone.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor._config import closest
from lightning_wrcor._random import own_random_numbers

FORMATS = ("weights", "timm", "program", "torchscript", "onnx")
"""Names of the formats that `export_network` writes."""

FILES = {"program": "model.pt2", "torchscript": "model.torchscript.pt", "onnx": "model.onnx"}
TOLERANCES = {"weights": 1e-5, "timm": 1e-5, "program": 1e-5, "torchscript": 1e-5, "onnx": 1e-4}
"""Largest difference from the network's logits, as a share of the largest of them (of 1, where they are smaller)."""

DESCRIPTION = "winner.json"
_ONE_FILE = 1_500_000_000
"""Bytes of weights up to which ONNX files hold them; its own limit is 2 GiB."""

Logits = Callable[[Tensor], Tensor]


class Plain(nn.Module):
    """A network from one argument ``images`` to the logits alone (auxiliary outputs are left out)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        output = self.network(images)
        logits: Tensor = output[0] if isinstance(output, (tuple, list)) else output
        return logits


def check_formats(formats: Iterable[str]) -> list[str]:
    """Refuse formats that do not exist, or whose packages are not installed, before any work is done.

    Args:
        formats: names out of `FORMATS`.

    Returns:
        The same names, each once, in the order of `FORMATS`.

    Raises:
        ValueError: for an unknown name, or none.
        ImportError: where a package is missing; the message says what to install.
    """
    names = [formats] if isinstance(formats, str) else list(formats)
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"There is no format {name!r}. Closest: {', '.join(closest(name, FORMATS))}.")
    if not names:
        raise ValueError(f"formats is empty: give at least one of {', '.join(FORMATS)}.")
    if "onnx" in names:
        missing = [package for package in ("onnx", "onnxscript") if importlib.util.find_spec(package) is None]
        if missing:
            raise ImportError(
                f"The format onnx needs {' and '.join(missing)}: pip install 'lightning_wrcor[onnx]' (or leave it out)."
            )
    return [name for name in FORMATS if name in names]


def traced(network: Plain, images: Tensor) -> torch.export.ExportedProgram:
    """The network as a program of ``torch.export`` that takes any number of images."""
    batch = torch.export.Dim("batch")
    with _quietly("torch.export", "torch.fx"):
        return torch.export.export(network, (images,), dynamic_shapes={"images": {0: batch}}, strict=False)


def write_program(network: Plain, images: Tensor, folder: Path, description: str) -> Path:
    """``torch.export``: the network as a graph of torch's own operations, with its weights; any number of images."""
    program = traced(network, images)
    path = folder / FILES["program"]
    torch.export.save(program, path, extra_files={DESCRIPTION: description})
    return path


def write_torchscript(network: Plain, images: Tensor, folder: Path, description: str) -> Path:
    """``torch.jit.trace``, which torch has deprecated: for readers that know nothing newer."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the deprecation, and of Python values that the trace takes for constants
        traced = torch.jit.trace(network, images, check_trace=False)  # type: ignore[no-untyped-call, unused-ignore]
        path = folder / FILES["torchscript"]
        torch.jit.save(traced, path, _extra_files={DESCRIPTION: description})
    return path


def write_onnx(network: Plain, images: Tensor, folder: Path, description: str) -> Path:
    """ONNX through ``torch.export``: input ``images``, output ``logits``, any number of images."""
    import onnx

    path = folder / FILES["onnx"]
    held = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    program = traced(network, images)
    with _quietly("torch.onnx", "onnxscript", "onnx_ir"):
        torch.onnx.export(
            program,
            (),
            path,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            external_data=held > _ONE_FILE,
            verbose=False,
        )
    model = onnx.load(str(path), load_external_data=False)
    onnx.helper.set_model_props(model, {DESCRIPTION: description})
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path))
    return path


WRITERS: Mapping[str, Callable[[Plain, Tensor, Path, str], Path]] = {
    "program": write_program,
    "torchscript": write_torchscript,
    "onnx": write_onnx,
}


def read_program(path: Path) -> Logits:
    """The function in a file of `write_program`."""
    with _quietly("torch.export"):
        program: Logits = torch.export.load(path).module()
    return program


def read_torchscript(path: Path) -> Logits:
    """The function in a file of `write_torchscript`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the deprecation
        script: Logits = torch.jit.load(path)  # type: ignore[no-untyped-call, unused-ignore]
    return script


def read_onnx(path: Path) -> Logits:
    """The function in a file of `write_onnx`: run by onnxruntime where that is installed, else by ONNX's reference."""
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
    return lambda images: torch.as_tensor(session.run(["logits"], {"images": images.numpy()})[0])


READERS: Mapping[str, Callable[[Path], Logits]] = {
    "program": read_program,
    "torchscript": read_torchscript,
    "onnx": read_onnx,
}


def check(name: str, loaded: Logits, network: nn.Module, input_size: tuple[int, int, int]) -> float:
    """Compare what a file computes with what the network computes, on random images in batches of 1 and of 3.

    Args:
        name: the format.
        loaded: the function that was read back.
        network: the network that was written.
        input_size: ``(channels, height, width)``.

    Returns:
        The largest difference of the logits, as a share of the largest logit (of 1, where that is smaller).

    Raises:
        ValueError: where it is above the format's bound in `TOLERANCES`, and where the file takes no such images.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for count in (1, 3):
        images = torch.randn(count, *input_size, generator=generator)
        with torch.no_grad(), own_random_numbers():
            expected = network(images)
            try:
                got = loaded(images)
            except Exception as error:
                raise ValueError(
                    f"The file of the format {name} does not take {count} images, which the network does: "
                    f"{type(error).__name__}: {first_line(error)}"
                ) from error
        if got.shape != expected.shape:
            raise ValueError(f"The file of the format {name} gives {tuple(got.shape)}, not {tuple(expected.shape)}.")
        if not bool(expected.isfinite().all()):
            raise ValueError("The network's logits are not finite on random images: there is nothing to compare with.")
        scale = max(1.0, float(expected.abs().max()))
        difference = float((got - expected).abs().max()) / scale
        if not difference <= TOLERANCES[name]:
            raise ValueError(
                f"The file of the format {name} gives other logits than the network: they differ by {difference:.1e} of "
                f"the largest logit, more than {TOLERANCES[name]:.0e}. Leave this format out."
            )
        worst = max(worst, difference)
    return worst


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that follow."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


@contextmanager
def _quietly(*loggers: str) -> Iterator[None]:
    """Without the remarks of libraries on their own insides."""
    held: list[tuple[logging.Logger, Any]] = [
        (logging.getLogger(name), logging.getLogger(name).level) for name in loggers
    ]
    try:
        for logger, _ in held:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in held:
            logger.setLevel(level)
