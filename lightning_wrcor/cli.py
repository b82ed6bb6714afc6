"""The Lightning CLI: ``python -m lightning_wrcor fit --config config.yaml``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import lightning_wrcor  # noqa: F401  (bare class names on the command line)
from lightning_wrcor._mistakes import check_types, end, sentence, told_plainly, with_tracebacks
from lightning_wrcor._search_trainer import SearchTrainer
from lightning_wrcor._trainer import read_checkpoint
from lightning_wrcor.callback import ZeroShotSearch
from lightning_wrcor.commands import COMMANDS, summary
from lightning_wrcor.data import DigitsData, ImageFolderData, TimmData
from lightning_wrcor.module import ZeroShotSearchModule
from lightning_wrcor.search import CHECKPOINT_KEY

__all__ = [
    "DigitsData",
    "ImageFolderData",
    "TimmData",
    "ZeroShotSearch",
    "ZeroShotSearchModule",
    "check_types",
    "main",
    "told_plainly",
]


class _Parser(LightningArgumentParser):
    def parse_path(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Namespace:
        """Name the file that cannot be read."""
        try:
            loaded = OmegaConf.load(os.fspath(path))
            OmegaConf.to_container(loaded, resolve=True)
            if not isinstance(loaded, DictConfig):
                raise ValueError(f"it has no sections with names and values, but {loaded}")
        except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            self.error(f"The configuration {path} cannot be read: {' '.join(str(error).split())}", error)
        return super().parse_path(path, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One message in the place of all options and a tree of types."""
        if not self.exit_on_error or with_tracebacks():
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        said = sentence(message, [action.dest for action in parser._actions])
        if said.startswith(("argument subcommand:", 'expected "subcommand"')):
            said = f"{said.rstrip('.')}; or, for a quick look, {', '.join(COMMANDS)}"
        end(said)


class _CLI(LightningCLI):
    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Those of the Trainer, and ``search``, with the arguments that the command line does not have."""
        known = LightningCLI.subcommands()
        return {**known, "search": known["fit"]}

    def instantiate_classes(self) -> None:
        """Make model, data and Trainer of the configuration."""
        with told_plainly():
            super().instantiate_classes()
        self._let_callback_write_configurations()

    def _parse_ckpt_path(self) -> None:
        """Take the module's arguments from its checkpoint, also where no command line has written that.

        Lightning finds the class in checkpoints of the command line alone; those of a recipe or of Python do not name it.
        """
        given = self.config[self.config.subcommand]
        path = given.get("ckpt_path")
        arguments = _module_arguments(path) if path else None
        if arguments is None:
            super()._parse_ckpt_path()
            return
        model = {"class_path": given.model.class_path, "init_args": arguments}  # perhaps a subclass
        self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)

    def _run_subcommand(self, subcommand: str) -> None:
        with told_plainly():
            super()._run_subcommand(subcommand)

    def _let_callback_write_configurations(self) -> None:
        callbacks = self._get(self.config_init, "trainer", {}).get("callbacks") or []
        places = [place for place, one in enumerate(callbacks) if isinstance(one, ZeroShotSearch)]
        if len(places) == 1:
            text = self._parser(self.subcommand).dump(self.config[str(self.subcommand)], skip_none=False)
            listed = yaml.safe_load(text)["trainer"]["callbacks"]
            listed = listed if isinstance(listed, list) else [listed]
            callbacks[places[0]].as_configuration = partial(_with_winner, listed, places[0])


def _module_arguments(path: str) -> dict[str, Any] | None:
    """Arguments of `ZeroShotSearchModule` in a checkpoint of it that does not name its class; None for any other."""
    if not Path(path).is_file():
        return None
    try:
        checkpoint = read_checkpoint(path)
    except (UnpicklingError, RuntimeError, EOFError):  # Lightning says what is wrong with it
        return None
    arguments = checkpoint.get("hyper_parameters") or {}
    own = CHECKPOINT_KEY in checkpoint and {"space", "genotype", "probe_size"} <= set(arguments)
    return dict(arguments) if own and "_class_path" not in arguments else None


def _with_winner(callbacks: list[dict[str, Any]], place: int, chosen: dict[str, Any]) -> dict[str, Any]:
    """A configuration that replaces the callbacks by themselves, one of them with the winner."""
    searching = {**callbacks[place], "init_args": {**callbacks[place]["init_args"], **chosen}}
    return {"trainer": {"callbacks": [*callbacks[:place], searching, *callbacks[place + 1 :]]}}


def main(args: Sequence[str] | None = None) -> LightningCLI:
    """Run the command line.

    Model and data are given by class path (``--model ZeroShotSearchModule``, your own as ``package.module.Class``), and so
    are callbacks and search spaces. ``${...}`` in a file refers to other values of it. ``--optimizer`` does not exist:
    an optimiser made from a network that is about to be replaced would train nothing. ``search`` takes what ``fit``
    takes, and stops where the winner is known.

    Args:
        args: the command line; None takes it from the process.
    """
    return _CLI(
        LightningModule,
        LightningDataModule,
        trainer_class=SearchTrainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_class=_Parser,
        parser_kwargs={"parser_mode": "omegaconf", "prog": "python -m lightning_wrcor", "epilog": summary()},
        args=list(args) if args is not None else None,
    )
