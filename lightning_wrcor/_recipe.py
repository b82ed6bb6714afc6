"""Settings of a recipe: files and dotted values, laid over each other, checked, and written down."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_wrcor._config import meant, plain
from lightning_wrcor._mistakes import end
from lightning_wrcor.training import ProgressiveResolution

_SECTIONS = ("data", "model", "trainer")
_TOGETHER = (("model.optimizer", "model.optimizer_args"),)
"""A value, and what belongs to it: whoever gives another value does not want the old one's arguments."""


def read_layers(arguments: Sequence[str], named: Path) -> list[DictConfig]:
    """Files and dotted values of a command line, in the order in which they are laid over each other.

    Args:
        arguments: YAML files, names of files in ``named`` without ``.yaml``, and ``key=value`` pairs.
        named: folder of the recipe's own files.

    Raises:
        SystemExit: with one message, and status 2.
    """
    files = []
    for place, argument in enumerate(arguments):
        if argument.startswith("-"):
            _refuse_option(argument, arguments[place + 1 :])
        if "=" in argument:
            continue
        own = named / f"{argument}.yaml"
        if not Path(argument).is_file() and not own.is_file():
            names = sorted(path.stem for path in named.glob("*.yaml"))
            end(
                f"There is no file {argument!r}, and no recipe of that name ({', '.join(names)}).{meant(argument, names)} "
                "Arguments are YAML files, recipes and key=value pairs (--help says more)."
            )
        files.append(Path(argument) if Path(argument).is_file() else own)
    try:
        given = [OmegaConf.load(file) for file in files]
        given.append(OmegaConf.from_dotlist([argument for argument in arguments if "=" in argument]))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, OSError) as error:
        end(f"The configuration cannot be read: {' '.join(str(error).split())}")
    return [_lifted(part) for part in given]


def _refuse_option(option: str, following: Sequence[str]) -> None:
    """Say how a setting is written here to somebody who writes it as most commands take it (``--budget 10``)."""
    name, _, value = option.lstrip("-").partition("=")
    if not value and following and "=" not in following[0] and not following[0].startswith("-"):
        value = following[0]
    wanted = f"the file alone, {value or 'my.yaml'}" if name == "config" else f"{name}={value or '...'}"
    end(f"There is no option {option.partition('=')[0]}: write {wanted} (--help says more).")


def lay_over(layers: Sequence[DictConfig]) -> dict[str, Any]:
    """One configuration of several, the later ones above; ``${...}`` is resolved.

    Raises:
        SystemExit: with one message, and status 2.
    """
    try:
        config = OmegaConf.create({})
        for layer in layers:
            space, before = OmegaConf.select(layer, "model.space"), OmegaConf.select(config, "model.space")
            partial = isinstance(space, DictConfig) and "class_path" not in space
            if space is not None and space != before and not partial:
                _drop(config, "model.space")  # the arguments of one space are not those of another
                if OmegaConf.select(layer, "model.genotype") is None:
                    _drop(config, "model.genotype")
            for value, companion in _TOGETHER:
                mine, theirs = OmegaConf.select(layer, value), OmegaConf.select(config, value)
                if mine is not None and mine != theirs and OmegaConf.select(layer, companion) is None:
                    _drop(config, companion)
            config = OmegaConf.merge(config, layer)  # type: ignore[assignment]
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except (OmegaConfBaseException, TypeError) as error:
        end(f"The files and values do not fit together: {str(error).splitlines()[0]}")


def _drop(config: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    section = OmegaConf.select(config, parent)
    if section is not None and name in section:
        del section[name]


def _lifted(part: Any) -> DictConfig:
    """A file as a recipe has it: ``selected.yaml`` and other files of the Lightning CLI keep arguments elsewhere."""
    if not isinstance(part, DictConfig):
        end(f"A file has sections with names and values; got {part}.")
    for section in _SECTIONS:
        value = part.get(section, {})
        if not isinstance(value, (dict, DictConfig)):
            end(f"{section} is a section, with values {section}.name=value; got {value}.")
    if set(part) == {"space", "genotype"}:  # the callback's winner
        return OmegaConf.create({"model": part})
    for callback in OmegaConf.select(part, "trainer.callbacks") or []:  # the same, from the command line
        if OmegaConf.select(callback, "init_args.genotype") is not None:
            return OmegaConf.create({"model": {key: callback.init_args[key] for key in ("space", "genotype")}})
    if OmegaConf.select(part, "model.init_args") is not None:
        part.model = part.model.init_args
    return part


def check_keys(where: str, section: Mapping[str, Any], known: Sequence[str], elsewhere: Sequence[str] = ()) -> None:
    """Refuse names that nobody reads.

    Args:
        where: the section with a dot after it, ``""`` for the top.
        section: its names and values.
        known: names that it may hold.
        elsewhere: names that it may hold where other settings are other, which may have been meant too.

    Raises:
        SystemExit: with the name that was probably meant, and status 2.
    """
    for key in section:
        if key not in known:
            hint = meant(key, (*known, *elsewhere), where)
            if key in elsewhere:  # "did you mean" the same would help nobody
                hint = f" {where}{key} is one for folders of images: give {where}root=... too."
            end(f"There is no setting {where}{key}.{hint} Known: {', '.join(known)}.")


def check_run(config: Mapping[str, Any]) -> None:
    """Refuse what the machine or the images cannot do, before hours are spent on a search.

    Args:
        config: the whole configuration, defaults included.

    Raises:
        SystemExit: with one message that names the settings to change, and status 2.
    """
    trainer = config["trainer"]
    here = {"cuda": CUDAAccelerator.is_available(), "mps": MPSAccelerator.is_available()}
    kind = trainer["accelerator"]
    if kind in ("gpu", *here) and not (any(here.values()) if kind == "gpu" else here[kind]):
        way_out = ["trainer.accelerator=cpu", "trainer.devices=1"]
        way_out += ["trainer.num_nodes=1"] if trainer["num_nodes"] > 1 else []
        way_out += ["trainer.sync_batchnorm=false"] if trainer["sync_batchnorm"] else []  # GPUs only
        end(
            f"trainer.accelerator={kind}, but torch finds no {'GPU' if kind == 'gpu' else kind} on this machine. On the CPU: "
            f"{' '.join(way_out)}; or leave out the recipe of the machine (one_gpu, one_node, many_nodes)."
        )
    growing = ProgressiveResolution.read(config["model"]["progressive"])
    size = config["data"]["image_size"]
    if growing is not None and growing.start > size:
        end(
            f"model.progressive.start={growing.start} is larger than data.image_size={size}: training images grow from "
            f"the one to the other. model.progressive=null has them of one size, or take a start of at most {size}."
        )


def with_defaults(values: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """All arguments of a class, as plain values: those given, and the defaults of the others."""
    parameters = inspect.signature(cls).parameters
    defaults = {name: plain(one.default) for name, one in parameters.items() if one.default is not one.empty}
    return {**defaults, **values}


def dump(config: Mapping[str, Any]) -> str:
    """The configuration as YAML."""
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return text
