"""How each kind of logger takes what Lightning's interface has no method for: a ranking, figures and files.

TensorBoard, Weights & Biases, MLflow and CSV each have their own way. Any other logger is asked for public methods of the
same form.
"""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from lightning_wrcor.search import SearchResult
from lightning_wrcor.search.constraints import MEASURED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    """A picture, ``(height, width, 3)``."""

FOLDER = "search"
"""What the keys of all that is logged begin with."""

DPI = 150
COSTS = ("params", "macs", "depth", "resolution", *MEASURED)
ROWS = 10_000
"""Candidates in the table of a logger: as many as Weights & Biases shows."""


@dataclass(frozen=True)
class Ranking:
    """The candidates of a search, best first, in the forms that loggers take.

    Attributes:
        text: the closing table of the terminal.
        columns: names of the columns.
        rows: plain values, one row a candidate; None where there is none.
    """

    text: str
    columns: list[str]
    rows: list[list[Any]]

    @classmethod
    def of(cls, result: SearchResult) -> Ranking:
        """The best `ROWS` candidates with their costs and the value of every proxy."""
        shown = result.leaderboard[:ROWS]
        proxies = list(dict.fromkeys(name for row in shown for name in row.scores))
        costs = [name for name in COSTS if any(getattr(row, name) is not None for row in shown)]
        raced = ["mean", "error"] if any(row.race is not None for row in shown) else []
        # A proxy may be called params or macs, as a cost is.
        scores, races = ([f"{kind}_{name}" for name in names] for kind, names in (("score", proxies), ("race", raced)))
        rows = [
            [
                place,
                row.name,
                *(finite(row.scores.get(name)) for name in proxies),
                *(finite(getattr(row.race, name, None)) for name in raced),
                *(getattr(row, name) for name in costs),
            ]
            for place, row in enumerate(shown, start=1)
        ]
        return cls(result.table(), ["place", "candidate", *scores, *races, *costs], rows)

    def csv(self) -> str:
        """The rows as comma-separated values."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


class Outlet:
    """A logger of any kind: beyond metrics and hyper-parameters it gets what its class has public methods for.

    These are ``log_table(key, columns, rows)``, ``log_image(key, images)`` with a list of arrays ``(height, width, 3)`` of
    8 bits, and ``log_file(path)``.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    @property
    def takes_figures(self) -> bool:
        """Whether figures are worth drawing for it."""
        return self._has("log_image")

    def hyperparams(self, values: dict[str, Any], trainer: Trainer) -> None:
        """Log what does not change during the training."""
        self.logger.log_hyperparams(values)

    def ranking(self, ranking: Ranking) -> None:
        """Log the candidates."""
        if self._has("log_table"):
            self.logger.log_table(f"{FOLDER}/leaderboard", ranking.columns, ranking.rows)

    def figures(self, figures: Mapping[str, Pixels]) -> None:
        """Log pictures, by name."""
        for name, pixels in figures.items():
            self.logger.log_image(f"{FOLDER}/{name}", [pixels])

    def files(self, paths: Sequence[Path]) -> None:
        """Keep copies of files."""
        if self._has("log_file"):
            for path in paths:
                self.logger.log_file(str(path))

    def _has(self, method: str) -> bool:
        # Of the class: an object that answers to every name (a dummy, a mock) has none of them.
        return callable(getattr(type(self.logger), method, None))


class _TensorBoard(Outlet):
    takes_figures = True

    def hyperparams(self, values: dict[str, Any], trainer: Trainer) -> None:
        # TensorBoard shows the hyper-parameters that are logged first. Lightning logs the user's later.
        self.logger.log_hyperparams({**_of_the_user(trainer), **values})

    def ranking(self, ranking: Ranking) -> None:
        self.logger.experiment.add_text(f"{FOLDER}/table", indent(ranking.text, "    "), 0)  # as it stands, in Markdown

    def figures(self, figures: Mapping[str, Pixels]) -> None:
        for name, pixels in figures.items():  # not add_figure, which goes through pyplot
            self.logger.experiment.add_image(f"{FOLDER}/{name}", pixels, 0, dataformats="HWC")


class _WandB(Outlet):
    def ranking(self, ranking: Ranking) -> None:
        self.logger.log_table(f"{FOLDER}/leaderboard", columns=ranking.columns, data=ranking.rows, step=0)

    def figures(self, figures: Mapping[str, Pixels]) -> None:
        for name, pixels in figures.items():
            self.logger.log_image(f"{FOLDER}/{name}", [pixels], step=0)

    def files(self, paths: Sequence[Path]) -> None:
        import wandb  # type: ignore[import-not-found,unused-ignore]  # there, since its logger is

        run = self.logger.experiment
        artifact = wandb.Artifact(f"search-{run.id}", type="search")
        for path in paths:
            artifact.add_file(str(path))
        run.log_artifact(artifact)


class _MLflow(Outlet):
    takes_figures = True

    def ranking(self, ranking: Ranking) -> None:
        for name, text in (("table.txt", ranking.text), ("leaderboard.csv", ranking.csv())):
            self.logger.experiment.log_text(self.logger.run_id, text, f"{FOLDER}/{name}")

    def figures(self, figures: Mapping[str, Pixels]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, pixels in figures.items():
                path = Path(folder) / f"{name}.png"
                path.write_bytes(_png(pixels))
                self.files([path])

    def files(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self.logger.experiment.log_artifact(self.logger.run_id, str(path), FOLDER)


class _Csv(Outlet):
    takes_figures = True

    def ranking(self, ranking: Ranking) -> None:
        self._write("table.txt", f"{ranking.text}\n".encode())
        self._write("leaderboard.csv", ranking.csv().encode())

    def figures(self, figures: Mapping[str, Pixels]) -> None:
        for name, pixels in figures.items():
            self._write(f"{name}.png", _png(pixels))

    def _write(self, name: str, content: bytes) -> None:
        folder = f"{self.logger.log_dir}/{FOLDER}"
        files = get_filesystem(folder)  # the logger's folder may be a remote one
        files.makedirs(folder, exist_ok=True)
        with files.open(f"{folder}/{name}", "wb") as file:
            file.write(content)


_KINDS = ((TensorBoardLogger, _TensorBoard), (WandbLogger, _WandB), (MLFlowLogger, _MLflow), (CSVLogger, _Csv))


def outlet_of(logger: Logger) -> Outlet:
    """The way of a logger."""
    return next((kind for of, kind in _KINDS if isinstance(logger, of)), Outlet)(logger)


def finite(value: float | None) -> float | None:
    """The value, or None where it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def _png(pixels: Pixels) -> bytes:
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, pixels, format="png", dpi=DPI)
    return file.getvalue()


def _of_the_user(trainer: Trainer) -> dict[str, Any]:
    """The hyper-parameters that Lightning is going to log, where the modules ask for that."""
    holders = [one for one in (trainer.lightning_module, trainer.datamodule) if getattr(one, "_log_hyperparams", False)]  # type: ignore[attr-defined]
    return {name: value for one in holders for name, value in one.hparams_initial.items() if name != "_class_path"}
