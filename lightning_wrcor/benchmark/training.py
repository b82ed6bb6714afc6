"""What the Trainer and the module add to a training step: images a second, beside a plain PyTorch loop."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.module import ZeroShotSearchModule
from lightning_wrcor.search.result import library_versions
from lightning_wrcor.spaces import get_space
from lightning_wrcor.training import classification_loss, learning_rate_factor, make_optimizer

_PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_NAMES = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_LR = 1e-3


@dataclass(frozen=True)
class Setting:
    """One training step, made in two ways.

    Attributes:
        space: a space, or its name.
        architecture: text that the space's ``parse`` reads.
        images: ``(B, 3, H, W)`` on the device.
        labels: ``(B,)``.
        num_classes: classes of the network.
        precision: ``float32``, ``bf16`` or ``fp16`` (autocast).
        channels_last: memory format of images and weights.
        compiled: whether the network is compiled.
    """

    space: Any
    architecture: str
    images: Tensor
    labels: Tensor
    num_classes: int
    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False


class _Batches:
    """The same batch, which lies on the device already, again and again."""

    def __init__(self, setting: Setting, count: int) -> None:
        self.setting, self.count = setting, count
        self.batch_size = len(setting.images)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.count):
            yield self.setting.images, self.setting.labels


class _Timer(Callback):
    def __init__(self, setting: Setting, warmup: int) -> None:
        self.setting, self.warmup = setting, warmup
        self.start = self.end = 0.0

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.warmup:
            self.start = _now(self.setting)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self.end = _now(self.setting)


def _now(setting: Setting) -> float:
    if setting.images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def time_module(setting: Setting, steps: int, warmup: int) -> float:
    """Seconds of a step of `ZeroShotSearchModule` in Lightning's Trainer."""
    module = ZeroShotSearchModule(
        setting.space,
        num_classes=setting.num_classes,
        genotype=setting.architecture,
        in_chans=setting.images.shape[1],
        image_size=setting.images.shape[-1],
        optimizer="sgd",
        lr=_LR,
        optimizer_args={"momentum": 0.9},
        channels_last=setting.channels_last,
        compile=setting.compiled,
        journal=None,
    )
    timer = _Timer(setting, warmup)
    trainer = Trainer(
        max_epochs=1,
        accelerator="gpu" if setting.images.is_cuda else "cpu",
        devices=1,
        precision=_NAMES[setting.precision],  # type: ignore[arg-type]
        callbacks=[timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, _Batches(setting, warmup + steps))
    return (timer.end - timer.start) / steps


def time_loop(setting: Setting, steps: int, warmup: int) -> float:
    """Seconds of a step of a plain loop: the same network, loss, optimiser, schedule and precision."""
    space = get_space(setting.space)
    network: nn.Module = space.build(space.parse(setting.architecture), setting.num_classes, setting.images.shape[1])
    network.to(setting.images.device).train()
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    network.to(memory_format=layout)
    if setting.compiled:
        network.compile()
    optimizer = make_optimizer(network, "sgd", _LR, 4e-5, arguments={"momentum": 0.9})
    every = warmup + steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, every))
    dtype = _PRECISIONS[setting.precision]
    scaler = torch.amp.GradScaler(setting.images.device.type, enabled=dtype is torch.float16)
    start = 0.0
    for step in range(every):
        if step == warmup:
            start = _now(setting)
        optimizer.zero_grad()
        images = setting.images.contiguous(memory_format=layout)
        with torch.autocast(setting.images.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            loss = classification_loss(network(images), setting.labels, smoothing=0.1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    return (_now(setting) - start) / steps


def measure_training(setting: Setting, steps: int = 20, warmup: int = 5, repeats: int = 5) -> list[tuple[float, float]]:
    """Seconds of a step of the loop and of the module, in turn, so that both see the same machine.

    Args:
        setting: what is trained.
        steps: steps that are timed.
        warmup: steps before them.
        repeats: how often both are timed.

    Returns:
        A pair for each repetition.
    """
    pairs = []
    for repetition in range(repeats):
        with own_random_numbers(0):
            both = dict.fromkeys(("loop", "module"), 0.0)
            # Whoever comes second finds a warmer machine: they take turns.
            order = [("loop", time_loop), ("module", time_module)]
            for name, run in order if repetition % 2 == 0 else reversed(order):
                both[name] = run(setting, steps, warmup)
        pairs.append((both["loop"], both["module"]))
    return pairs


def add_command(commands: Any) -> None:
    """Add ``training`` to the command line."""
    parser = commands.add_parser("training", help="images a second of our training step, beside a plain PyTorch loop")
    parser.add_argument("--space", help="name of a search space, or JSON; without it --network is a model of timm")
    parser.add_argument("--network", default="resnet50", help="a network, as the space writes it")
    parser.add_argument("--image-size", type=int, default=224, help="pixels a side")
    parser.add_argument(
        "--batch-size", type=int, default=128, help="images in the batch (noise, on the device already)"
    )
    parser.add_argument("--num-classes", type=int, default=1000, help="classes of the network")
    parser.add_argument("--precision", choices=_PRECISIONS, default="float32", help="of autocast")
    parser.add_argument("--channels-last", action="store_true", help="memory format")
    parser.add_argument("--compile", action="store_true", help="compile the network")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions; medians are shown")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    size, count = arguments.image_size, arguments.batch_size
    images = torch.randn(count, 3, size, size, generator=generator).to(arguments.device)
    labels = (torch.arange(count) % arguments.num_classes).to(arguments.device)
    setting = Setting(
        arguments.space or [arguments.network],
        arguments.network,
        images,
        labels,
        arguments.num_classes,
        arguments.precision,
        arguments.channels_last,
        arguments.compile,
    )
    try:
        get_space(setting.space).parse(setting.architecture)
        pairs = measure_training(setting, arguments.steps, repeats=arguments.repeats)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    loop, module = (statistics.median(count / one for one in column) for column in zip(*pairs, strict=True))
    ratios = sorted(plain / ours for plain, ours in pairs)
    print("| | images a second |\n|---|---|")
    print(f"| plain PyTorch loop | {loop:.1f} |\n| ZeroShotSearchModule in the Trainer | {module:.1f} |")
    print(f"\nRatio {statistics.median(ratios):.3f} (median of {len(ratios)}; {ratios[0]:.3f} to {ratios[-1]:.3f}).")
    where = torch.cuda.get_device_name() if images.is_cuda else f"CPU, {torch.get_num_threads()} threads"
    how = f"{arguments.precision}{', channels-last' * arguments.channels_last}{', compiled' * arguments.compile}"
    print(f"{arguments.network}, {count} images of {size} pixels, {how}; {where}; {library_versions()}")
    return 0
