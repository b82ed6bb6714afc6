"""Choose a network without training any, then train it: ImageNet, or digits where no ImageNet folder is given.

Usage: python recipes/imagenet.py [RECIPE or FILE.yaml ...] [key=value ...] [--print_config]

Recipes (files beside this one: paper, modern, quick, finetune; one_gpu, one_node, many_nodes) and files are laid over
imagenet.yaml in their order, then the dotted values: data.root=/path/to/imagenet, budget=5000, trainer.devices=8,
model.lr=0.2. Unknown keys are refused. --print_config prints the whole configuration and stops.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import IterableDataset

from lightning_wrcor import DigitsData, ImageFolderData, ZeroShotSearchModule
from lightning_wrcor._mistakes import end
from lightning_wrcor._random import derive_seed, own_random_numbers
from lightning_wrcor._recipe import check_keys, check_run, dump, lay_over, read_layers, with_defaults
from lightning_wrcor._search_trainer import SearchTrainer
from lightning_wrcor._trainer import draw_batch
from lightning_wrcor.cli import check_types, told_plainly
from lightning_wrcor.data import TimmData
from lightning_wrcor.data._base import ImageData
from lightning_wrcor.export import check_formats, export_network
from lightning_wrcor.report import TrainingOutcome, write_card
from lightning_wrcor.search import Constraints, Evaluation, SearchResult, Winner
from lightning_wrcor.spaces import ImageSizeError, get_space
from lightning_wrcor.training import Finalists

try:
    from lightning.pytorch.callbacks import EMAWeightAveraging  # since Lightning 2.6
except ImportError:
    EMAWeightAveraging = None

HERE = Path(__file__).parent
TOP: dict[str, Any] = {
    "budget": int,
    "seed": int,
    "output": str,
    "resume": bool | str,
    "compare_random": int,
    "finalists": Finalists,
    "ema": EMAWeightAveraging or dict,
    "checkpoint": ModelCheckpoint,
    "early_stopping": EarlyStopping,
    "export": list[str],
}
OPTIONAL = ("finalists", "ema", "early_stopping", "export")
"""Which of them may be null."""
OWN = {"callbacks", "default_root_dir", "logger"}
"""Arguments of the Trainer that the recipe gives."""


def read_config(arguments: Sequence[str]) -> dict[str, Any]:
    """The defaults, then the files, then the dotted values, all checked."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        sys.exit()
    arguments = [argument for argument in arguments if argument != "--print_config"]
    layers = read_layers(arguments, HERE)
    folder = any(OmegaConf.select(layer, f"data.{key}") is not None for layer in layers for key in ("root", "name"))
    plain = lay_over([OmegaConf.load(HERE / ("imagenet.yaml" if folder else "digits.yaml")), *layers])  # type: ignore[list-item]
    if plain["data"].get("name") is None and folder:
        plain["data"].pop("name", None)
    sections: dict[str, type] = {"data": data_class(plain), "model": ZeroShotSearchModule, "trainer": Trainer}
    check_keys("", plain, [*TOP, *sections])
    for own in OWN & set(plain["trainer"]):
        end(f"trainer.{own} is no setting: the recipe gives the Trainer its own.")
    for section, target in sections.items():
        if section == "data" and not folder and not set(plain["data"]) <= set(inspect.signature(target).parameters):
            rank_zero_info("(Without data.root=... the recipe runs on digits, which have few settings.)")
        # Who means data.root and mistypes it is not to be told the settings of digits alone.
        elsewhere = list(inspect.signature(ImageFolderData).parameters) if section == "data" else []
        check_keys(f"{section}.", plain[section], list(inspect.signature(target).parameters), elsewhere)
    for section, target in {"checkpoint": ModelCheckpoint, "early_stopping": EarlyStopping}.items():
        check_keys(f"{section}.", plain[section] or {}, list(inspect.signature(target).parameters))
    given = {key: value for key, value in plain.items() if not (key in OPTIONAL and value is None)}
    check_types(given, {key: kind for key, kind in {**TOP, **sections}.items() if key in given})
    if plain["compare_random"] < 0:
        end(f"compare_random is a number of networks, 0 or more; got {plain['compare_random']}.")
    check_formats(plain["export"] or ["weights"])  # before hours of training
    if plain["ema"] is not None and EMAWeightAveraging is None:
        end("ema needs Lightning 2.6 or newer (pip install -U lightning); ema=null trains without it.")
    if not folder:
        rank_zero_info(
            "No ImageNet folder was given (data.root=...): the whole pipeline runs on scikit-learn's digits."
        )
    for section, target in sections.items():
        full = with_defaults(plain[section], target)
        plain[section] = {key: value for key, value in full.items() if not (section == "trainer" and key in OWN)}
    return plain


def data_class(config: dict[str, Any]) -> Any:
    """Digits, folders of images, or what timm's readers read by name."""
    if config["data"].get("name") is not None:
        return TimmData
    return ImageFolderData if "root" in config["data"] else DigitsData


def make_data(config: dict[str, Any]) -> ImageData:
    """The data module of a configuration; test images that do not fit are refused before the search, not after training."""
    data: ImageData = data_class(config)(**config["data"])
    data.will_test = True
    return data


def make_trainer(
    config: dict[str, Any], name: str, resumed: Path | None = None, checkpoints: bool = True
) -> SearchTrainer:
    """Lightning's Trainer, with what the recipe gives it."""
    output = Path(config["output"]).resolve()  # checkpoints know their folder, and must find it again as the same
    callbacks: list[Callback] = [LearningRateMonitor()]
    if config["ema"] is not None:
        callbacks.append(EMAWeightAveraging(**config["ema"]))
    if config["early_stopping"] is not None:
        callbacks.append(EarlyStopping(**config["early_stopping"]))
    settings = config["trainer"]
    if checkpoints:
        # A training that goes on writes its checkpoints where they were: only there is the best one so far still the best.
        folder = {"dirpath": resumed.resolve().parent} if resumed is not None else {}
        callbacks.append(ModelCheckpoint(**{**config["checkpoint"], **folder}))
    else:
        settings = {**settings, "enable_checkpointing": False}
    if settings["plugins"] is None and SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Lightning's own requeueing leaves a checkpoint (hpc_ckpt_1.ckpt) in the folder, which every later training in it
        # would begin with, also that of a random candidate. resume=true goes on with the winner's own.
        settings = {**settings, "plugins": [SLURMEnvironment(auto_requeue=False)]}
    return SearchTrainer(**settings, default_root_dir=output, logger=CSVLogger(output, name=name), callbacks=callbacks)


def train(
    config: dict[str, Any], name: str, winner: Winner | None = None, resume: Path | None = None, **model: Any
) -> tuple[ZeroShotSearchModule, Trainer, dict[str, Any]]:
    """Train one network and test it: the one that is found, that ``winner`` or ``genotype`` names, or a checkpoint's."""
    seed_everything(config["seed"], workers=True, verbose=False)
    data = make_data(config)
    module = ZeroShotSearchModule(**{**config["model"], **model})
    module.winner = winner or module.winner
    trainer = make_trainer(config, name, resume)
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    saving = trainer.checkpoint_callback
    assert isinstance(saving, ModelCheckpoint)
    (tested,) = trainer.test(module, datamodule=data, ckpt_path="best", verbose=False)
    figures = {
        "test_top1": float(tested["test/top1"]),
        "figures": {key: float(value) for key, value in tested.items()},
        "checkpoint": saving.best_model_path,
        "chosen_by": {str(saving.monitor): float(saving.best_model_score)}  # type: ignore[arg-type]
        if saving.best_model_score is not None
        else {},
        "weights": "averaged (EMA)" if config["ema"] is not None else "as trained",
        "test_images": getattr(data, "test_images", "unknown"),
        "unreadable": getattr(data, "unreadable", []),
    }
    return module, trainer, figures


def search_only(config: dict[str, Any]) -> tuple[SearchResult, ZeroShotSearchModule]:
    """The search without the training."""
    seed_everything(config["seed"], workers=True, verbose=False)
    module = ZeroShotSearchModule(**config["model"])
    trainer = make_trainer(config, "search", checkpoints=False)
    trainer.search(module, datamodule=make_data(config))
    assert module.result is not None
    return module.result, module


def chosen_before(config: dict[str, Any]) -> tuple[Winner, SearchResult] | None:
    """The best finalist of an earlier run that is resumed: it is not chosen again."""
    file = Path(config["output"]) / "finalists.json"
    if not config["resume"] or not file.is_file():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    rank_zero_info(f"The finalists were trained already ({file}).")
    return Winner.from_dict(stored["winner"]), SearchResult.from_dict(stored["search"])


def earlier_search(resume: Path | None) -> SearchResult | None:
    """The search that found the network of a checkpoint, where it lies beside it."""
    file = resume.parent.parent / "search.json" if resume is not None else None
    return SearchResult.from_json(file) if file is not None and file.is_file() else None


def best_finalist(config: dict[str, Any]) -> tuple[Winner, SearchResult]:
    """Train the best of the search for a while, all alike, and take the one with the best validation accuracy."""
    result, module = search_only(config)
    wanted = Finalists.read(config["finalists"])
    assert wanted is not None
    candidates = result.leaderboard[: wanted.count]
    short = {**config, "trainer": {**config["trainer"], **wanted.trainer()}, "early_stopping": None}
    rows: list[dict[str, Any]] = []
    for place, row in enumerate(candidates, start=1):
        rank_zero_info(f"\nFinalist {place} of {len(candidates)}, trained for {wanted}: {row.name}")
        seed_everything(config["seed"], workers=True, verbose=False)
        trainer = make_trainer(short, f"finalists/{place}", checkpoints=False)
        finalist, data = ZeroShotSearchModule(**{**config["model"], "genotype": row.name}), make_data(config)
        trainer.fit(finalist, datamodule=data)
        (seen,) = trainer.validate(finalist, datamodule=data, verbose=False)
        rows.append({"genotype": row.name, "score": row.score, "val_top1": float(seen["val/top1"])})
    # At equal accuracy the better score wins, which stands first.
    chosen: Evaluation = max(zip(rows, candidates, strict=True), key=lambda pair: pair[0]["val_top1"])[1]
    rank_zero_info(f"\nThe best finalist is trained from the beginning: {chosen.name}")
    assert module.winner is not None
    winner = Winner.of(result, module.winner.num_classes, module.winner.in_chans, "network", chosen)
    winner = replace(winner, summary={**winner.summary, "finalists": rows})
    if rank_zero_only.rank == 0:
        stored = {"winner": winner.to_dict(), "search": result.to_dict()}
        (Path(config["output"]) / "finalists.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return winner, result


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
        if name in (winner, *names):
            continue
        try:
            if not constraints.violated(space.costs(genotype, (3, size, size))):
                names.append(name)
        except ImageSizeError:
            continue
    return names


def checkpoint_to_resume(config: dict[str, Any]) -> Path | None:
    """The checkpoint that ``resume`` means: a path, or the newest of an earlier run in the same folder."""
    resume = config["resume"]
    if not resume:
        return None
    if resume is not True:
        if not Path(resume).exists():
            raise FileNotFoundError(2, "There is no such checkpoint", str(resume))
        return Path(resume)
    newest = newest_checkpoint(config)
    if newest is None:
        rank_zero_info(f"resume: there is no checkpoint in {config['output']} yet, so the training starts anew.")
    return newest


def newest_checkpoint(config: dict[str, Any]) -> Path | None:
    """The last checkpoint of the winner's training in the folder ``output``, of this run or an earlier one."""
    found = Path(config["output"]).glob("winner/version_*/checkpoints/last*.ckpt")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def after_ctrl_c(config: dict[str, Any]) -> str:
    """How to go on with a run that was interrupted after its search."""
    newest = newest_checkpoint(config)
    if newest is not None:
        return f"Interrupted. The same command with resume=true goes on from {newest}."
    return "Interrupted before the first checkpoint: the same command goes on with the search and starts the training anew."


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command; a setting that cannot work ends it with one message, and so does Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with told_plainly():
        config = read_config(arguments)
    if "--print_config" in arguments:
        print(dump(config), end="")
        return config
    with told_plainly(partial(after_ctrl_c, config)):
        return run(config)


def run(config: dict[str, Any]) -> dict[str, Any]:
    """Search, train, test, export, write the search card; returns and writes the figures."""
    check_run(config)
    resume = checkpoint_to_resume(config)
    write_config(config)
    winner, result, told = None, None, False
    if config["finalists"] is not None and config["model"]["genotype"] is None:
        before = chosen_before(config)
        winner, result = before or (best_finalist(config) if resume is None else (None, None))
        told = before is None and result is not None
    module, trainer, tested = train(config, "winner", winner, resume)
    assert module.winner is not None
    result = result or module.result or earlier_search(resume)
    finalists = module.winner.summary.get("finalists", [])
    figures: dict[str, Any] = {"winner": module.winner.to_dict(), **tested, "finalists": finalists, "random": []}
    others = random_genotypes(config, module.winner.name, config["compare_random"])
    for number, genotype in enumerate(others, start=1):
        rank_zero_info(f"\nRandom candidate {number} of {len(others)}, trained alike: {genotype}")
        accuracy = train(config, "random", genotype=genotype)[2]["test_top1"]
        figures["random"].append({"genotype": genotype, "test_top1": accuracy})
    if trainer.is_global_zero:
        # A search that ran just now has shown its table itself.
        report(config, None if told or module.result is not None else result, figures)
        if config["export"]:
            export(config, result, figures)
        search_card(config, result, figures, module, trainer)
        print(f"Everything is in {Path(config['output']).resolve()}")
    return figures


def write_config(config: dict[str, Any]) -> None:
    """The whole configuration as it is used, defaults included; the recipe takes the file again."""
    if rank_zero_only.rank == 0:
        folder = Path(config["output"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump(config), encoding="utf-8")


def export(config: dict[str, Any], result: SearchResult | None, figures: dict[str, Any]) -> None:
    """Write the trained network so that others can use it, with a model card."""
    try:
        written = export_network(
            figures["checkpoint"],
            Path(config["output"]) / "export",
            formats=tuple(config["export"]),
            figures={**figures["figures"], "data": figures["test_images"]},
            settings=without_paths(config),
            search=result,
            data=make_data(config),
        )
    except (ValueError, ImportError, OSError) as error:  # the training is done, and must not look as if it had failed
        print(f"The export failed: {error}")
        print(f"Try again with python -m lightning_wrcor.export {figures['checkpoint']} FOLDER --formats ...")
    else:
        print(f"For others: {', '.join(sorted(path.name for path in written.folder.iterdir()))} in {written.folder}")


def search_card(
    config: dict[str, Any],
    result: SearchResult | None,
    figures: dict[str, Any],
    module: ZeroShotSearchModule,
    trainer: Trainer,
) -> None:
    """Write ``card.html``, with which a person can say why the winner won; a network that was given has none."""
    if result is None:
        print("There is no search card: no search is known of this network.")
        return
    output = Path(config["output"])
    try:
        outcome = TrainingOutcome(
            name=figures["winner"]["name"],
            accuracy=figures["test_top1"],
            random={row["genotype"]: row["test_top1"] for row in figures["random"]},
            finalists={row["genotype"]: row["val_top1"] for row in figures["finalists"]},
            images=figures["test_images"],
            weights=figures["weights"],
            checkpoint=os.path.relpath(figures["checkpoint"], output),
            chosen_by=figures["chosen_by"],
            figures={name: value for name, value in figures["figures"].items() if name != "test/top1"},
        )
        path = write_card(
            result,
            output / "card.html",
            batch=search_batch(module, trainer),
            outcome=outcome,
            settings={
                "budget": config["budget"],
                "processes": trainer.world_size,
                "configuration of the run": without_paths(config),
            },
            device=None if module.result is result else "not recorded: the search was an earlier part of this run",
        )
    except Exception as error:  # the training is done, and must not look as if it had failed
        print(f"The search card could not be written: {type(error).__name__}: {error}")
        print("Try again with python -m lightning_wrcor.report card SEARCH.json --out card.html")
    else:
        print(f"The search card, which says why the winner won: {path.resolve()}")


def search_batch(module: ZeroShotSearchModule, trainer: Trainer) -> tuple[Tensor, Tensor] | None:
    """The images that the search looked at, drawn again; None where the training data are a stream."""
    loader, settings = trainer.datamodule.train_dataloader(), module.search_settings  # type: ignore[attr-defined]
    if isinstance(loader.dataset, IterableDataset):
        return None
    seed = derive_seed(settings.seed, "probe")
    with own_random_numbers(seed):
        images, labels = draw_batch(loader, settings.batch_size, seed, module.read_batch)
    return images.to(trainer.strategy.root_device), labels.to(trainer.strategy.root_device)


def without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The settings as others may read them."""
    data = {key: value for key, value in config["data"].items() if key != "root"}
    return {**{key: value for key, value in config.items() if key not in ("output", "resume")}, "data": data}


def report(config: dict[str, Any], result: SearchResult | None, figures: dict[str, Any]) -> None:
    """Print what came of it, with the table of a ``result`` that was not shown before, and write ``result.json``."""
    output = Path(config["output"])
    (output / "result.json").write_text(json.dumps({**figures, "config": config}, indent=1) + "\n", encoding="utf-8")
    if result is not None:
        print(f"\nThe search:\n{result.table()}")
    for row in figures["finalists"]:
        print(f"Finalist {row['genotype']}:  validation accuracy {row['val_top1']:.2%} after the short training")
    print(f"\nWinner: {figures['winner']['name']}")
    if data_class(config) is DigitsData:
        print("No ImageNet folder was given, so these figures are on scikit-learn's digits (real 8x8 images).")
    print(f"Test accuracy of the winner:  {figures['test_top1']:.2%}")
    chosen = ", ".join(f"{name} {value:.4f}" for name, value in figures["chosen_by"].items())
    print(f"  of {figures['test_images']};")
    if figures["unreadable"]:
        named = ", ".join(figures["unreadable"][:3]) + (", ..." if len(figures["unreadable"]) > 3 else "")
        print(f"  {len(figures['unreadable'])} images could not be read ({named});")
    print(f"  weights {figures['weights']}, checkpoint {figures['checkpoint']}{f', chosen by {chosen}' * bool(chosen)}")
    if figures["random"]:
        others = [row["test_top1"] for row in figures["random"]]
        listed = ", ".join(f"{value:.2%}" for value in sorted(others))
        what = f"Median of {len(others)} random candidates" if len(others) > 1 else "One random candidate"
        print(f"{what} trained alike:  {statistics.median(others):.2%}  ({listed})")


if __name__ == "__main__":
    main()
