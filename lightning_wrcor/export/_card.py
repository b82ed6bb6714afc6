"""The model card: what is known of a trained winner, and plainly what is not, as Markdown for people and hubs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_wrcor.export._facts import Images, Training
from lightning_wrcor.export._loading import how_to_load
from lightning_wrcor.search import SearchResult, Winner
from lightning_wrcor.search.constraints import MEASURED

_CITATION = """\
@article{jing2025wrcor,
  title   = {Zero-Shot Neural Architecture Search with Weighted Response Correlation},
  author  = {Jing, Kun and others},
  journal = {Neurocomputing},
  year    = {2025},
  note    = {arXiv:2507.08841}
}"""


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        winner: the winner, with the figures of the search that the checkpoint holds.
        images: the images that the network takes.
        training: what the checkpoint says of the training.
        costs: parameters, and MACs of one image of ``images.input_size`` (None where they could not be counted).
        search: the search's result, where it was given.
        figures: accuracies by name; the text under ``data`` says on what they were measured.
        files: names of the files by format.
        differences: of each file's logits from the network's.
    """

    winner: Winner
    images: Images
    training: Training
    costs: tuple[int, int | None]
    search: SearchResult | None
    figures: Mapping[str, Any]
    files: Mapping[str, str]
    differences: Mapping[str, float]

    def text(self) -> str:
        """The card."""
        parts = [
            self._front_matter(),
            f"# {self._title()}",
            self._opening(),
            "## Network\n\n" + "\n".join(self._network()),
            "## Search\n\n" + "\n".join(self._search()),
            "## Training\n\n" + "\n".join(self._training()),
            "## Accuracy\n\n" + "\n".join(self._accuracy()),
            "## Files\n\n" + "\n\n".join(how_to_load(self.images, self.files, self.differences)),
            "## Limits\n\n" + "\n".join(self._limits()),
            "## Licence\n\nNot stated yet: it is for those who publish these weights, and depends on the training data. "
            "Name it here and in the first lines of this file.",
            f"## Citation\n\nThe search of lightning_wrcor is after this paper:\n\n```bibtex\n{_CITATION}\n```",
        ]
        return "\n\n".join(parts) + "\n"

    def _front_matter(self) -> str:
        library = "timm" if "timm" in self.files else "pytorch"
        tags = ["image-classification", "neural-architecture-search", "lightning_wrcor", *({"onnx"} & set(self.files))]
        lines = [
            "---",
            "# license: name one here, such as apache-2.0",
            f"library_name: {library}",
            "pipeline_tag: image-classification",
            "tags:",
            *(f"- {tag}" for tag in dict.fromkeys(tags)),
            "---",
        ]
        return "\n".join(lines)

    def _title(self) -> str:
        name = self.winner.name
        short = name if re.fullmatch(r"[\w.-]{1,40}", name) else f"A network of {_class(self.winner.space)}"
        return f"{short}, {self.winner.num_classes:,} classes"

    def _opening(self) -> str:
        if not self.winner.summary and self.search is None:
            return "An image classifier. Its architecture was given; it was trained with lightning_wrcor."
        how = "a search that trains no candidate (lightning_wrcor)"
        if self.winner.summary.get("finalists"):
            how += ", and among the best of it by a short training of each"
        return f"An image classifier. Its architecture was chosen by {how}; then it was trained."

    def _network(self) -> Iterator[str]:
        channels, height, width = self.images.input_size
        params, macs = self.costs
        yield f"- Name: {_code(self.winner.name)}"
        yield f"- Search space: {_code(_class(self.winner.space))}"
        yield f"- Parameters: {params:,}"
        if macs is None:
            yield "- Multiply-adds: could not be counted"
        else:
            yield (
                f"- Multiply-adds: {macs:,} for one image of {height} x {width} (convolutions, matrix products and "
                "attention, as torch's flop counter counts them; its FLOPs are twice this)"
            )
        yield f"- Input: images `(batch, {channels}, {height}, {width})`, float32"
        yield f"- Output: logits `(batch, {self.winner.num_classes})`"
        if self.images.mean is not None and self.images.std is not None:
            yield (
                f"- Normalisation: pixel values from 0 to 1, less the mean `{self.images.mean}`, divided by `{self.images.std}`"
            )
        else:
            yield "- Normalisation: not known to this card; the images must be prepared as they were in training"
        if self.images.interpolation is not None or self.images.crop_pct is not None:
            size = f", of which the centre crop keeps {self.images.crop_pct:g}" if self.images.crop_pct else ""
            yield f"- Resizing: {self.images.interpolation or 'interpolation not known'}{size}"
        else:
            yield "- Resizing and cropping: not known to this card"
        names = self.images.class_names
        if names is None:
            yield f"- Classes: {self.winner.num_classes:,}; their names are not known to this card"
        else:
            shown = ", ".join(names[:20]) + (f", ... (all {len(names):,} in winner.json)" if len(names) > 20 else "")
            yield f"- Classes: {shown}"
        yield "\nGenotype:\n"
        yield _block("json", json.dumps(self.winner.genotype))
        yield "\nThe space, as plain values:\n"
        yield _block("json", json.dumps(self.winner.space, indent=1))

    def _search(self) -> Iterator[str]:
        facts = self.winner.summary
        if not facts and self.search is None:
            yield "The architecture was given, not searched for in this training; nothing is known here of how it was found."
            return
        if facts:
            proxies = ", ".join(_class(one) for one in facts.get("proxies") or []) or "not known"
            yield f"- Proxy: {proxies}" + (" (the first ranked)" if len(facts.get("proxies") or []) > 1 else "")
            yield f"- Strategy: {_class(facts.get('strategy') or {})}"
            yield f"- Candidates: {facts.get('funnel', 'not known')}"
            yield f"- Score of the winner: {_number(facts.get('score'))}"
            others = dict(facts.get("scores") or {})
            if len(others) > 1:
                yield f"- All its scores: {', '.join(f'{name} {_number(value)}' for name, value in others.items())}"
            yield f"- Rank correlation of the score with {_baselines(facts.get('baselines'))}"
            for name in MEASURED:
                if name in facts:
                    yield f"- Measured by the search: {name} {_number(facts[name])}"
            for row in facts.get("finalists") or []:
                yield (
                    f"- Finalist {_code(row['genotype'])}: score {_number(row['score'])}, validation accuracy "
                    f"{row['val_top1']:.2%} after the short training"
                )
            yield f"- Duration: {_seconds(facts.get('seconds'))}"
            yield f"- Seed: {facts.get('seed', 'not known')}"
        if self.search is not None:
            if self.search.race:
                yield f"- Race: {self.search.race}"
            yield f"- Images of the search: {tuple(self.search.input_size)}, {self.search.num_classes:,} classes"
            listed = ", ".join(f"{name} {version}" for name, version in self.search.versions.items())
            yield f"- Versions: {listed or 'not known'}"
            if self.search.constraints:
                bounds = ", ".join(f"{name} {value:,}" for name, value in self.search.constraints.items())
                yield f"- Constraints: {bounds}"
        else:
            yield "- Versions: not in the checkpoint (`search.json` has those of the search)"

    def _training(self) -> Iterator[str]:
        one = self.training
        first = one.settings.get("module", {}).get("pretrained")
        if first:
            yield f"- Began with: {'the pretrained weights of timm' if first is True else f'weights of a file, {_code(first)}'}"
        yield f"- Weights: {one.weights[0].lower()}{one.weights[1:]}"
        when = f"in epoch {one.epoch:,} (counted from 1)" if one.epoch is not None else "in an epoch not known here"
        steps = (
            f"after {one.step:,} optimiser steps" if one.step is not None else "after a number of steps not known here"
        )
        yield f"- Checkpoint: written {when}, {steps}"
        if one.monitored:
            for name, mode, value in one.monitored:
                yield f"- Chosen by: `{name}` = {_number(value)} (the {mode} was kept)"
        else:
            yield "- Chosen by: not known; the checkpoint does not say that a monitored value chose it"
        if one.lightning is not None:
            yield f"- Version of Lightning: {one.lightning}"
        if one.settings:
            yield "\nSettings, as the checkpoint and who exported it say them:\n"
            yield _block("json", json.dumps(one.settings, indent=1))
        else:
            yield "- Settings: the checkpoint holds no hyper-parameters"
        if "settings" not in one.settings:
            yield "\nA checkpoint does not hold the Trainer's settings (precision, devices, number of epochs)."

    def _accuracy(self) -> Iterator[str]:
        values = {name: value for name, value in self.figures.items() if name != "data"}
        if not values:
            yield "None was given when this card was written: measure it before you rely on this network."
            return
        for name, value in values.items():
            yield f"- `{name}`: {_figure(name, value)}"
        what = self.figures.get("data")
        yield f"\nMeasured on: {what}" if what else "\nOn which images they were measured was not said."

    def _limits(self) -> Iterator[str]:
        _, height, width = self.images.input_size
        fixed = [self.files[name] for name in ("program", "torchscript", "onnx") if name in self.files]
        if fixed:
            yield (
                f"- {_listed(fixed)}: images of {height} x {width} pixels only, any number of them at once; in evaluation mode "
                "for ever, not for further training."
            )
        yield "- It tells the classes that it was trained on apart, and gives one of them to every image."
        yield "- The score of the search compares untrained candidates; it is no accuracy."
        yield "- Nothing here was tested on images from elsewhere, on corrupted ones, or for bias."


def _class(config: Mapping[str, Any]) -> str:
    return str(config.get("class_path", "not known")).rpartition(".")[2]


def _code(text: str) -> str:
    return f"`{text}`" if "`" not in text else text


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else "not known"


def _figure(name: str, value: Any) -> str:
    last = name.rpartition("/")[2].lower()
    if isinstance(value, float) and 0 <= value <= 1 and re.match(r"top\d|acc", last):
        return f"{value:.2%}"
    return _number(value) if isinstance(value, (int, float)) else str(value)


def _seconds(value: Any) -> str:
    return f"{value:,.1f} seconds" if isinstance(value, (int, float)) else "not known"


def _baselines(values: Mapping[str, float] | None) -> str:
    if not values:
        return "parameters, MACs and depth: not known (too few or too similar candidates)"
    return ", ".join(f"{name} {value:+.2f}" for name, value in values.items()) + " (Spearman; near 1: it ranks by size)"


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
