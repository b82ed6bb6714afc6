"""Choose a network without training any, then train it: ImageNet, or digits where no ImageNet folder is given.

Usage: python recipes/imagenet.py [FILE.yaml ...] [key=value ...]

Files are laid over imagenet.yaml in their order, then the dotted values: data.root=/path/to/imagenet, budget=5000,
trainer.devices=8, model.lr=0.2. Unknown keys are refused.
"""

from __future__ import annotations

import difflib
import inspect
import json
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lightning_wrcor import DigitsData, ImageFolderData, ZeroShotSearchModule
from lightning_wrcor.cli import check_types, told_plainly
from lightning_wrcor.search import Constraints
from lightning_wrcor.spaces import get_space

HERE = Path(__file__).parent
TOP: dict[str, type] = {"budget": int, "seed": int, "output": str, "compare_random": int}
OWN = {"callbacks", "default_root_dir", "logger"}
"""Arguments of the Trainer that the recipe gives."""


def read_config(arguments: Sequence[str]) -> dict[str, Any]:
    """The defaults, then the files, then the dotted values, all checked."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        sys.exit()
    files = [argument for argument in arguments if "=" not in argument]
    for file in files:
        if not Path(file).is_file():
            sys.exit(f"There is no file {file!r}. Arguments are YAML files and key=value pairs (--help says more).")
    try:
        given = [OmegaConf.load(file) for file in files]
        given.append(OmegaConf.from_dotlist([argument for argument in arguments if "=" in argument]))
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        sys.exit(f"The configuration cannot be read: {' '.join(str(error).split())}")
    try:
        user = OmegaConf.merge(*map(_lifted, given))
        defaults = "imagenet.yaml" if OmegaConf.select(user, "data.root") is not None else "digits.yaml"
        config = OmegaConf.load(HERE / defaults)
        space = OmegaConf.select(user, "model.space")
        if space is not None and not (isinstance(space, DictConfig) and "class_path" not in space):
            config.model.pop("space")  # the arguments of the default space are not those of another
        plain = OmegaConf.to_container(OmegaConf.merge(config, user), resolve=True)
    except (OmegaConfBaseException, TypeError) as error:
        sys.exit(f"The files and values do not fit together: {str(error).splitlines()[0]}")
    data = ImageFolderData if "root" in plain["data"] else DigitsData
    sections: dict[str, type] = {"data": data, "model": ZeroShotSearchModule, "trainer": Trainer}
    _check_keys("", plain, [*TOP, *sections])
    for own in OWN & set(plain["trainer"]):
        sys.exit(f"trainer.{own} is no setting: the recipe gives the Trainer its own.")
    for section, target in sections.items():
        _check_keys(f"{section}.", plain[section], list(inspect.signature(target).parameters))
    check_types(plain, {**TOP, **sections})
    if plain["compare_random"] < 0:
        sys.exit(f"compare_random is a number of networks, 0 or more; got {plain['compare_random']}.")
    if defaults == "digits.yaml":
        rank_zero_info(
            "No ImageNet folder was given (data.root=...): the whole pipeline runs on scikit-learn's digits."
        )
    return plain


def _lifted(part: DictConfig) -> DictConfig:
    """A file as this recipe has it: ``selected.yaml`` and other files of the Lightning CLI keep arguments elsewhere."""
    if not isinstance(part, DictConfig):
        sys.exit(f"A file has sections with names and values; got {part}.")
    for section in ("data", "model", "trainer"):
        value = part.get(section, {})
        if not isinstance(value, (dict, DictConfig)):
            sys.exit(f"{section} is a section, with values {section}.name=value; got {value}.")
    if set(part) == {"space", "genotype"}:  # the callback's winner
        return OmegaConf.create({"model": part})
    for callback in OmegaConf.select(part, "trainer.callbacks") or []:  # the same, from the command line
        if OmegaConf.select(callback, "init_args.genotype") is not None:
            return OmegaConf.create({"model": {key: callback.init_args[key] for key in ("space", "genotype")}})
    if OmegaConf.select(part, "model.init_args") is not None:
        part.model = part.model.init_args
    return part


def _check_keys(where: str, section: dict[str, Any], known: list[str]) -> None:
    for key in section:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {where}{near[0]}?" if near else ""
            sys.exit(f"There is no setting {where}{key}.{hint} Known: {', '.join(known)}.")


def train(config: dict[str, Any], name: str, **model: Any) -> tuple[ZeroShotSearchModule, Trainer, float]:
    """Train one network and test it: the winner, or the one that ``genotype`` names."""
    seed_everything(config["seed"], workers=True, verbose=False)
    data = ImageFolderData(**config["data"]) if "root" in config["data"] else DigitsData(**config["data"])
    module = ZeroShotSearchModule(**{**config["model"], **model})
    output = Path(config["output"])
    checkpoint = ModelCheckpoint(monitor="val/top1", mode="max", save_last=True, filename="best")
    trainer = Trainer(
        **{"log_every_n_steps": 10, **config["trainer"]},
        default_root_dir=output,
        logger=CSVLogger(output, name=name),
        callbacks=[checkpoint, LearningRateMonitor()],
    )
    trainer.fit(module, datamodule=data)
    (tested,) = trainer.test(module, datamodule=data, ckpt_path="best", verbose=False)
    return module, trainer, float(tested["test/top1"])


def random_genotypes(config: dict[str, Any], winner: str, count: int) -> list[str]:
    """Random candidates that meet the constraints, the winner not among them."""
    space = get_space(config["model"]["space"])
    constraints = Constraints.read(config["model"].get("constraints"))
    size = int(config["data"].get("image_size", space.input_size[1]))
    rng = random.Random(config["seed"])
    names: list[str] = []
    for _ in range(1000):  # a small space may not have as many
        if len(names) == count:
            break
        genotype = space.sample(rng)
        name = space.name(genotype)
        if name not in (winner, *names) and not constraints.violated(space.costs(genotype, (3, size, size))):
            names.append(name)
    return names


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command; a setting that cannot work ends it with one message."""
    with told_plainly():
        return run(read_config(sys.argv[1:] if arguments is None else arguments))


def run(config: dict[str, Any]) -> dict[str, Any]:
    """Search, train, test; returns and writes the figures."""
    module, trainer, accuracy = train(config, "winner")
    assert module.winner is not None
    figures: dict[str, Any] = {"winner": module.winner.to_dict(), "test_top1": accuracy, "random": []}
    others = random_genotypes(config, module.winner.name, config["compare_random"])
    for number, genotype in enumerate(others, start=1):
        rank_zero_info(f"\nRandom candidate {number} of {len(others)}, trained alike: {genotype}")
        figures["random"].append({"genotype": genotype, "test_top1": train(config, "random", genotype=genotype)[2]})
    if trainer.is_global_zero:
        report(config, module, figures)
    return figures


def report(config: dict[str, Any], module: ZeroShotSearchModule, figures: dict[str, Any]) -> None:
    """Print the closing table and write ``result.json``."""
    assert module.winner is not None
    output = Path(config["output"])
    (output / "result.json").write_text(json.dumps({**figures, "config": config}, indent=1) + "\n", encoding="utf-8")
    if module.result is not None:
        print(f"\nThe search:\n{module.result.table()}")
    print(f"\nWinner: {module.winner.name}")
    if "root" not in config["data"]:
        print("No ImageNet folder was given, so these figures are on scikit-learn's digits (real 8x8 images).")
    print(f"Test accuracy of the winner:  {figures['test_top1']:.2%}")
    if figures["random"]:
        others = [row["test_top1"] for row in figures["random"]]
        listed = ", ".join(f"{value:.2%}" for value in sorted(others))
        what = f"Median of {len(others)} random candidates" if len(others) > 1 else "One random candidate"
        print(f"{what} trained alike:  {statistics.median(others):.2%}  ({listed})")
    print(f"Everything is in {output.resolve()}")


if __name__ == "__main__":
    main()
