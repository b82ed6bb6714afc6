"""What the callback and the module have in common once a network is to be handed over to training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from lightning_wrcor import _trainer
from lightning_wrcor._loggers import tell_loggers
from lightning_wrcor._reach import unreached_parameters
from lightning_wrcor.search import SearchResult, Winner

LAID_OVER = "given after the configuration (fit --config config.yaml --config selected.yaml, or to the recipe)"
"""What a ``selected.yaml`` in the form of the command line's files is good for."""


def find_network(pl_module: LightningModule, attribute: str | None) -> str:
    """The attribute of a LightningModule that holds its network.

    Args:
        pl_module: the module.
        attribute: the user's word for it, or None to find it.

    Raises:
        MisconfigurationException: when the attribute is no module, when there are several candidates or none, or when
            it is compiled; the message lists what there is.
    """
    children = dict(pl_module.named_children())
    listed = ", ".join(children) or "none"
    where = type(pl_module).__name__
    if attribute is None:
        holders = [name for name, child in children.items() if any(True for _ in child.parameters())]
        if len(holders) != 1:
            what = "no network" if not holders else f"several modules with parameters ({', '.join(holders)})"
            raise MisconfigurationException(
                f"{where} has {what}; say which one the search shall replace with attribute=... (its modules: {listed})."
            )
        attribute = holders[0]
    if attribute not in children:
        raise MisconfigurationException(
            f"attribute={attribute!r} is no module of {where} (its modules: {listed}). Build a network of any kind in "
            "__init__; the search replaces it."
        )
    if hasattr(children[attribute], "_orig_mod"):
        raise MisconfigurationException(
            f"{where}.{attribute} is compiled, and the network that replaces it would not be. Leave torch.compile to the "
            "module's configure_model(), which runs after the search, or compile the whole LightningModule."
        )
    return attribute


def find_classes(trainer: Trainer, pl_module: LightningModule, network: object) -> int:
    """The number of classes, as the data module, the module or its network say it.

    Raises:
        MisconfigurationException: when none of them does.
    """
    for holder in (trainer.datamodule, pl_module, network):  # type: ignore[attr-defined]
        found = getattr(holder, "num_classes", None)
        if isinstance(found, int):
            return found
    stored = pl_module.hparams.get("num_classes") if isinstance(pl_module.hparams, Mapping) else None
    if isinstance(stored, int):
        return stored
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)] if isinstance(network, nn.Module) else []
    if linear:
        return linear[-1].out_features
    raise MisconfigurationException("The number of classes is not known; pass ZeroShotSearch(num_classes=...).")


def freeze_unreached(network: nn.Module, input_size: tuple[int, int, int]) -> None:
    """Freeze parameters that the output never depends on: they can learn nothing, and DDP would wait for them."""
    try:
        names = unreached_parameters(network, input_size)
    except Exception as error:
        rank_zero_warn(
            f"Whether all parameters reach the output could not be found out ({error}). If distributed training complains "
            "about unused parameters, use strategy='ddp_find_unused_parameters_true'."
        )
        return
    for name in names:
        network.get_parameter(name).requires_grad_(False)
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        rank_zero_info(f"{len(names)} parameters never reach the output and are frozen: {shown}.")


def check_optimisers(trainer: Trainer, network: nn.Module) -> None:
    """Refuse to train when the winner's parameters are in no optimiser.

    Raises:
        MisconfigurationException: with the likely cause.
    """
    if "DeepSpeed" in type(trainer.strategy).__name__:  # its optimisers hold partitions of their own
        return
    missing, total = _trainer.untrained_parameters(trainer, network)
    if missing:
        raise MisconfigurationException(
            f"{len(missing)} of the {total} trainable parameters of the network are in no optimiser (first: {missing[0]}), "
            "so they would not be trained. The optimiser was made before the search replaced the network: with Lightning "
            "CLI's --optimizer, use LightningCLI(auto_configure_optimizers=False) and build it in configure_optimizers; "
            "parameters that shall stay fixed need requires_grad_(False)."
        )


def report_winner(
    trainer: Trainer,
    winner: Winner,
    result: SearchResult | None,
    what: str,
    chosen: dict[str, Any],
    log_figures: bool = True,
) -> None:
    """Write ``search.json`` and ``selected.yaml`` into the Trainer's log folder, and tell its loggers.

    With ``fast_dev_run`` nothing is written.

    Args:
        trainer: the Trainer; all ranks call this together.
        winner: the winner.
        result: the search's result; without one no file is written.
        what: says what ``selected.yaml`` is good for.
        chosen: plain values that train the winner without a search.
        log_figures: draw the search's figures for loggers that take some.
    """
    folder = Path(trainer.log_dir or trainer.default_root_dir)  # all ranks ask: it may be broadcast
    if _trainer.is_fast_dev_run(trainer) or not trainer.is_global_zero:
        return
    files = [] if result is None else _write(folder, result, what, chosen)
    tell_loggers(trainer, winner, result, files, log_figures)


def _write(folder: Path, result: SearchResult, what: str, chosen: dict[str, Any]) -> list[Path]:
    import yaml  # jsonargparse brings it

    found, selected = folder / "search.json", folder / "selected.yaml"
    result.to_json(found)
    head = f"# The winner of a search, {what}: it is trained without searching.\n"
    selected.write_text(head + yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    return [found, selected]
