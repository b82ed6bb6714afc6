"""Every touch of the Trainer's insides, in one place; each has a test that breaks first when Lightning changes."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, SequentialSampler, Subset

from lightning_wrcor._batches import Read, read_tensors
from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.search import CHECKPOINT_KEY, Winner
from lightning_wrcor.search._ranks import TorchRanks


class TrainerRanks(TorchRanks):
    """The Trainer's processes."""

    def __init__(self, trainer: Trainer) -> None:
        if trainer.world_size > 1 and not torch.distributed.is_initialized():
            raise MisconfigurationException(
                f"{type(trainer.strategy).__name__} runs {trainer.world_size} processes without torch.distributed, which "
                "the search shares its scores through. Search on one device first and train with genotype=..."
            )
        super().__init__(trainer.global_rank, trainer.world_size)


def requested_checkpoint(trainer: Trainer) -> str | None:
    """The checkpoint that this ``fit``, ``validate``, ``test`` or ``predict`` is going to load, or None.

    Lightning shows it to nobody before the weights are loaded (``trainer.ckpt_path`` is None in ``setup``), yet the
    network must be right before that: it is read from the running ``Trainer._run``.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_run" and frame.f_locals.get("self") is trainer:
            path = frame.f_locals.get("ckpt_path")
            return str(path) if path else None
        if frame.f_back is None:
            break
        frame = frame.f_back
    return str(trainer.ckpt_path) if trainer.ckpt_path else None


def read_checkpoint(path: str | os.PathLike[str], device: str = "meta") -> dict[str, Any]:
    """A checkpoint's contents, by default without its weights; a folder (sharded) gives its ``meta.pt``."""
    local = Path(path)
    if local.is_dir():
        local = local / "meta.pt"
        if not local.exists():
            raise FileNotFoundError(
                f"{path} is a checkpoint folder of a kind that cannot be looked into. Turn it into one file first "
                "(python -m lightning.pytorch.utilities.consolidate_checkpoint)."
            )
    if local.exists():
        loaded = torch.load(local, map_location=device, mmap=device == "meta", weights_only=True)
    else:
        import fsspec  # Lightning brings it: remote checkpoints (s3://, gs://)

        with fsspec.open(str(path), "rb") as file:
            loaded = torch.load(file, map_location=device, weights_only=True)
    return dict(loaded)


def stored_winner(trainer: Trainer, path: str) -> Winner | None:
    """The winner in a checkpoint; rank 0 reads it for all."""
    ranks = TrainerRanks(trainer)
    data: Any = None
    if ranks.rank == 0:
        try:
            data = read_checkpoint(path).get(CHECKPOINT_KEY)
        except Exception as error:  # raised on every rank below, so that none waits for the others
            data = error
    data = ranks.broadcast(data)
    if isinstance(data, Exception):
        raise data
    return Winner.from_dict(data) if data is not None else None


def remember_in_checkpoints(module: LightningModule, winner: Winner) -> None:
    """Write the winner into every checkpoint of the module, those with weights only included.

    Lightning asks callbacks for state only in full checkpoints, but the module's ``on_save_checkpoint`` always.
    """
    original = type(module).on_save_checkpoint

    def on_save_checkpoint(checkpoint: dict[str, Any]) -> None:
        original(module, checkpoint)
        checkpoint[CHECKPOINT_KEY] = winner.to_dict()

    module.on_save_checkpoint = on_save_checkpoint  # type: ignore[method-assign]


def probe_batch(trainer: Trainer, batch_size: int, seed: int, read: Read) -> tuple[Tensor, Tensor]:
    """One batch from the training data, the same on every rank, on the Trainer's device.

    The training loader, its sampler and all random numbers are left as they were. Called by all ranks together.

    Args:
        trainer: in ``setup``, with the data module set up.
        batch_size: images to draw (fewer where the data set is smaller).
        seed: chooses the images and their augmentation.
        read: turns a batch of the loader into ``(images, labels)``.
    """
    ranks = TrainerRanks(trainer)
    drawn: Any
    try:
        with own_random_numbers(seed):
            drawn = draw_batch(_first_loader(trainer), batch_size, seed, read)
    except Exception as error:  # raised on every rank below, so that none waits for the others
        drawn = error
    outcomes = [rank[0] for rank in ranks.gather([drawn if isinstance(drawn, Exception) else None])]
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    images, labels = ranks.broadcast(drawn)
    device = trainer.strategy.root_device
    return images.to(device), labels.to(device)


def _first_loader(trainer: Trainer) -> Any:
    source = trainer.fit_loop._data_source
    try:
        loader = source.dataloader()
    except Exception as error:
        raise MisconfigurationException(
            f"The search needs one batch of the training data before fit begins, and train_dataloader() failed: "
            f"{type(error).__name__}: {error}. If the module makes its data in its own setup(), which runs later, move that "
            "to a LightningDataModule or pass the loaders to fit()."
        ) from error
    if loader is None:
        raise MisconfigurationException("There is no training data: train_dataloader() gave None.")
    while True:
        if isinstance(loader, Mapping):
            loader = next(iter(loader.values()))
        elif isinstance(loader, (list, tuple)):
            loader = loader[0]
        elif type(loader).__name__ == "CombinedLoader":
            loader = loader.iterables
        else:
            return loader


def draw_batch(loader: Any, batch_size: int, seed: int, read: Read) -> tuple[Tensor, Tensor]:
    plain_samplers = (RandomSampler, SequentialSampler, DistributedSampler)
    if (
        isinstance(loader, DataLoader)
        and hasattr(loader.dataset, "__len__")
        and hasattr(loader.dataset, "__getitem__")
        and loader.batch_size is not None
        and isinstance(loader.sampler, plain_samplers)
    ):
        # A loader of our own over the same data: the user's loader, its workers and sampler are never touched.
        order = torch.randperm(len(loader.dataset), generator=torch.Generator().manual_seed(seed))
        chosen = Subset(loader.dataset, order[:batch_size].tolist())
        own: Iterable[Any] = DataLoader(chosen, batch_size=batch_size, collate_fn=loader.collate_fn)
        return read_tensors(next(iter(own)), read)
    generators = [
        generator
        for holder in (loader, getattr(loader, "sampler", None))
        if isinstance(generator := getattr(holder, "generator", None), torch.Generator)
    ]
    states = [generator.get_state() for generator in generators]
    images, labels, count = [], [], 0
    try:
        for batch in loader:
            image, label = read_tensors(batch, read)
            images.append(image)
            labels.append(label)
            count += len(image)
            if count >= batch_size:
                break
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        if getattr(loader, "_iterator", None) is not None:  # persistent workers: training starts its own
            loader._iterator._shutdown_workers()
            loader._iterator = None
    if not images:
        raise MisconfigurationException("The training loader gave no batch.")
    return torch.cat(images)[:batch_size], torch.cat(labels)[:batch_size]


def check_callback_order(trainer: Trainer, position: int) -> None:
    """Refuse weight averaging that copies the network before the search has chosen it.

    Args:
        trainer: the Trainer.
        position: index of the search in ``trainer.callbacks``.
    """
    averaging: tuple[type, ...] = (StochasticWeightAveraging,)
    try:
        from lightning.pytorch.callbacks import WeightAveraging  # since Lightning 2.6

        averaging = (*averaging, WeightAveraging)
    except ImportError:
        pass
    for callback in trainer.callbacks[:position]:  # type: ignore[attr-defined]
        if isinstance(callback, averaging):
            raise MisconfigurationException(
                f"{type(callback).__name__} stands before ZeroShotSearch in the Trainer's callbacks, so it would average "
                "the network that is about to be replaced. Put ZeroShotSearch first: "
                f"callbacks=[ZeroShotSearch(...), {type(callback).__name__}(...)]."
            )


def is_fast_dev_run(trainer: Trainer) -> bool:
    """Whether this run only tries the code (``fast_dev_run`` of True or a number of batches)."""
    return bool(getattr(trainer, "fast_dev_run", False))


def starts_processes_by_spawning(trainer: Trainer) -> bool:
    """Whether the processes are children of this one (ddp_spawn, notebooks): the parent's module stays untrained."""
    launcher = getattr(trainer.strategy, "launcher", None)
    return bool(launcher is not None and type(launcher).__name__ == "_MultiProcessingLauncher")


def keep_from_parent(module: LightningModule, attribute: str) -> None:
    """Leave the network out of the weights that a spawned process hands back to its parent at the end.

    The parent still has the network from before the search, which the winner's weights do not fit.
    """

    def drop(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
        for name in [name for name in state if name.startswith(f"{prefix}{attribute}.")]:
            del state[name]

    module.register_state_dict_post_hook(drop)  # type: ignore[no-untyped-call]


def take_averaged_weights(trainer: Trainer, module: LightningModule) -> None:
    """Put averaged weights into the module for ``test`` and ``predict``, as Lightning itself does for ``validate``.

    A Trainer that has fitted with weight averaging goes on with it: ``test(ckpt_path=...)`` then loads the weights that
    were trained last, and the averages stay aside. Where no checkpoint is loaded the module has the weights that it should
    have: after a fit the averages, and another module its own.
    """
    if requested_checkpoint(trainer) is None:
        return
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if getattr(callback, "_average_model", None) is not None:
            callback._copy_average_to_current(module)
            rank_zero_info("The averaged weights are put in, whatever was loaded before.")  # Lightning says otherwise


def begins_to_fit(trainer: Trainer) -> bool:
    """Whether this is a ``fit`` that starts anew, so that no checkpoint's weights follow."""
    return trainer.state.fn == "fit" and requested_checkpoint(trainer) is None


def steps_an_epoch(trainer: Trainer) -> float:
    """Optimiser steps in an epoch, at least 1; infinite where the training data have no length."""
    trainer.fit_loop.setup_data()
    batches = trainer.num_training_batches
    return batches if math.isinf(batches) else max(1, math.ceil(batches / trainer.accumulate_grad_batches))


def images_a_step(trainer: Trainer) -> int:
    """Images in one optimiser step: the batch of a process, times processes, times accumulated batches.

    Raises:
        MisconfigurationException: where the training loader does not say how large its batches are.
    """
    trainer.fit_loop.setup_data()
    loaders = trainer.fit_loop._combined_loader
    sizes = [getattr(loader, "batch_size", None) for loader in (loaders.flattened if loaders is not None else [])]
    if not sizes or not isinstance(sizes[0], int):
        raise MisconfigurationException(
            "lr_batch scales the learning rate with the batch, but the training loader has no batch_size. Leave lr_batch "
            "out and give the lr that is right for your batches."
        )
    return sizes[0] * trainer.world_size * trainer.accumulate_grad_batches


def untrained_parameters(trainer: Trainer, network: nn.Module) -> tuple[list[str], int]:
    """Names of the network's trainable parameters that no optimiser holds, and how many trainable ones there are."""
    held = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return [name for name, parameter in trainable.items() if id(parameter) not in held], len(trainable)
