"""``python -m lightning_wrcor score NAME ...``: networks scored by their names, for a quick look."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_wrcor import __version__
from lightning_wrcor.benchmark._networks import read_space
from lightning_wrcor.benchmark._probe import Probe, read_probe
from lightning_wrcor.benchmark._threads import threads_of_torch
from lightning_wrcor.commands._score_table import table
from lightning_wrcor.commands._text import refuse
from lightning_wrcor.search import Evaluation, Funnel
from lightning_wrcor.search._evaluate import Setting, count, count_classes, evaluate, read_proxies
from lightning_wrcor.search._progress import Progress
from lightning_wrcor.search._votes import Votes
from lightning_wrcor.search.evaluation import ranked
from lightning_wrcor.spaces import Genotype, Space, TimmModels
from lightning_wrcor.spaces._timm import check_timm_name, matching

CLASSES_OF_NOISE = 1000


@dataclass(frozen=True)
class Asked:
    """What was asked for, understood.

    Attributes:
        setting: what every network is scored with.
        genotypes: the networks, each once, in the order in which they were named.
        source: what the images are, in words.
        noise: whether they are noise.
    """

    setting: Setting
    genotypes: list[Genotype]
    source: str
    noise: bool


def run(arguments: argparse.Namespace) -> int:
    """Score what was named and print it; the exit status."""
    try:
        asked = _understand(arguments)
    except (ValueError, TypeError, OSError) as error:
        return refuse(error)
    with threads_of_torch(arguments.threads):
        rows = score_all(asked)
    print(_as_json(asked, rows) if arguments.json else table(asked.setting, rows, asked.source, asked.noise))
    return int(any(row.status == "failed" for row in rows))


def score_all(asked: Asked) -> list[Evaluation]:
    """Every network as a search scores it, best first; then those without a finite score, as they were named.

    Unlike in a search, failures never stop the others.
    """
    setting = asked.setting
    votes = Votes(setting.proxies, setting.scored)
    rows = []
    with Progress(sys.stderr.isatty()) as bar:
        bar.expect(len(asked.genotypes))
        for genotype in asked.genotypes:
            row = evaluate(setting, count(setting, genotype, setting.space.key(genotype)))
            bar.update(Funnel(), row.score, row.name)
            rows.append(row)
    votes.count(rows)
    return [*ranked(rows), *(row for row in rows if row.status == "dead"), *(r for r in rows if r.status == "failed")]


def _understand(given: argparse.Namespace) -> Asked:
    """Read the names, the images and the proxies.

    Raises:
        ValueError: for a mistake in any of them, with the way out.
        OSError: for a file that cannot be read.
    """
    _check_numbers(given)
    device = _device(given.device)
    listed = ",".join(given.proxy or ["wrcor"]).split(",")
    proxies = read_proxies([name.strip() for name in listed if name.strip()])
    if given.space == "timm":
        names = [name for text in given.names for name in _timm_names(text)]
        probe = _probe(given, TimmModels.input_size)
        height, width = probe.images.shape[2:]
        space: Space = TimmModels(names, image_size=height if height == width else None)
        found: list[Genotype] = list(names)  # what cannot be built for these images says so when it is scored
    else:
        space = read_space(given.space, {})
        probe = _probe(given, space.input_size)
        found = [space.parse(text) for text in given.names]
    batch = (probe.images.to(device), probe.labels.to(device))
    classes = count_classes(batch[1], given.num_classes or probe.classes)
    setting = Setting(space, proxies, batch, given.seed, classes, given.precision)
    _ = setting.scored  # a vote whose members clash with the others shows here
    return Asked(setting, list(dict.fromkeys(found)), probe.source, given.images is None)


def _check_numbers(given: argparse.Namespace) -> None:
    least = {"batch_size": 2, "image_size": 1, "num_classes": 1, "threads": 1}
    for name, smallest in least.items():
        value = getattr(given, name)
        if value is not None and value < smallest:
            raise ValueError(f"--{name.replace('_', '-')} is a whole number, at least {smallest}; got {value}.")


def _device(name: str) -> torch.device:
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch's own words: no such kind, none here, not that many
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"Networks cannot be scored on --device {name}: {first}") from error


def _timm_names(text: str) -> list[str]:
    """The models that a name or a pattern stands for."""
    pattern = any(character in text for character in "*?[")
    return sorted(matching(text, "NAME")) if pattern else [check_timm_name(text)]


def _probe(given: argparse.Namespace, input_size: tuple[int, int, int]) -> Probe:
    """The images that were named, or noise."""
    if given.images is not None:
        return read_probe(Path(given.images), given.batch_size, given.seed, given.image_size, input_size[1])
    size = given.image_size or input_size[1]
    classes = given.num_classes or CLASSES_OF_NOISE
    shape = (given.batch_size, input_size[0], size, size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(given.seed))
    labels = torch.arange(given.batch_size) % classes
    source = f"{given.batch_size} images of noise ({' x '.join(map(str, shape[1:]))})"
    return Probe(images, labels, classes, source)


def _as_json(asked: Asked, rows: list[Evaluation]) -> str:
    setting = asked.setting
    said: dict[str, Any] = {
        "version": __version__,
        "images": asked.source,
        "noise": asked.noise,
        "batch_size": len(setting.batch[0]),
        "input_size": list(setting.input_size),
        "num_classes": setting.num_classes,
        "seed": setting.seed,
        "precision": setting.precision,
        "device": str(setting.batch[0].device),
        "space": setting.space.config(),
        "proxies": [proxy.config() for proxy in setting.proxies],
        "networks": [row.to_dict() for row in rows],
    }
    return json.dumps(said, allow_nan=False, indent=1)
