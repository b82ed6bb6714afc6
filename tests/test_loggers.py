"""What loggers hold after a search is read back with their own readers and compared with the search."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_wrcor import SearchResult, ZeroShotSearch, ZeroShotSearchModule, report, zero_shot_search
from lightning_wrcor._handover import report_winner
from lightning_wrcor._loggers import draw, tell_loggers
from lightning_wrcor._outlets import Ranking, outlet_of
from lightning_wrcor.search import Winner

import toys
from toys import CELLS, Lit, loader, trainer

matplotlib = pytest.importorskip("matplotlib")
FIGURES = {"winner", "score_macs", "score_params", "progress", "funnel", "shares"}


class Plain(Logger):
    """No more than Lightning asks of a logger."""

    def __init__(self) -> None:
        self.metrics: list[tuple[dict[str, float], int | None]] = []
        self.params: dict[str, Any] = {}

    name = "plain"  # type: ignore[assignment]
    version = 0  # type: ignore[assignment]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.append((metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self.params |= dict(params)  # type: ignore[call-overload]

    @property
    def searched(self) -> list[tuple[dict[str, float], int | None]]:
        return [(metrics, step) for metrics, step in self.metrics if any(key.startswith("search/") for key in metrics)]


class Gallery(Plain):
    """Somebody else's logger, with methods of the usual form."""

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[str, list[Any]] = {}
        self.tables: dict[str, Any] = {}
        self.kept: dict[str, bytes] = {}

    def log_image(self, key: str, images: list[Any]) -> None:
        self.images[key] = images

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        self.tables[key] = (columns, data)

    def log_file(self, path: str) -> None:
        self.kept[Path(path).name] = Path(path).read_bytes()


class Broken(Gallery):
    """Its server is away."""

    def fail(self, *args: Any, **kwargs: Any) -> None:
        raise ConnectionError("nobody answers")

    log_image = log_table = log_file = fail

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "search/score" in metrics:
            self.fail()
        super().log_metrics(metrics, step)


class Mute(Plain):
    """Answers to every name, as a mock does."""

    def __getattr__(self, name: str) -> Any:
        if name in ("log_image", "log_table", "log_file"):
            raise AssertionError(f"was asked for {name}")
        return lambda *args, **kwargs: None


class Tuned(Lit):
    """A user's module with hyper-parameters."""

    def __init__(self, lr: float = 0.05, layers: int = 3) -> None:
        super().__init__(lr)
        self.save_hyperparameters()


def search(**settings: Any) -> ZeroShotSearch:
    return ZeroShotSearch(**{"space": CELLS, "budget": 2, "batch_size": 8, "journal": None, **settings})


def fit(loggers: Any, callback: ZeroShotSearch | None = None, module: Any = None, **settings: Any) -> ZeroShotSearch:
    callback = callback or search()
    settings = {"max_steps": 1, "log_every_n_steps": 1, **settings}
    trainer(callbacks=[callback], logger=loggers, **settings).fit(module or Lit(), loader())
    return callback


def found(callback: ZeroShotSearch) -> SearchResult:
    assert callback.result is not None
    return callback.result


def expected_values(result: SearchResult) -> dict[str, float]:
    best = result.best
    return {
        "search/score": best.score,
        "search/seconds": result.seconds,
        "search/candidates": len(result.history),
        **{f"search/{name}": getattr(best, name) for name in ("params", "macs", "depth")},
        **{f"search/score_{name}": value for name, value in best.scores.items()},
        **{f"search/rank_correlation_{name}": value for name, value in result.baselines.items()},
    }


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[SearchResult]:
    """The searches that figures were drawn of; one small figure takes the place of all."""
    from matplotlib.figure import Figure

    seen: list[SearchResult] = []

    def draw_one(result: SearchResult) -> dict[str, Any]:
        seen.append(result)
        return {"one": Figure(figsize=(2, 1), facecolor="#ff8000")}

    monkeypatch.setattr(report, "all_figures", draw_one)
    return seen


@pytest.fixture(scope="module")
def ranked() -> SearchResult:
    return zero_shot_search(CELLS, toys.batch(8), ["wrcor", "params"], budget=6, racing={"finalists": 2, "seeds": 2})


# ---- several loggers of one Trainer


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[ZeroShotSearch, dict[str, Any]]:
    """One training with a logger of each kind that is always there, one of which fails."""
    folder = tmp_path_factory.mktemp("logs")
    loggers = {
        "broken": Broken(),
        "tensorboard": TensorBoardLogger(folder, name="tb"),
        "csv": CSVLogger(folder, name="csv"),
        "plain": Plain(),
        "gallery": Gallery(),
        "mute": Mute(),
    }
    with pytest.warns(UserWarning, match="Broken took no") as warned:
        callback = fit(
            list(loggers.values()), search(proxy=["wrcor", "naswot"], budget=4), Tuned(), default_root_dir=folder
        )
    said = [str(one.message) for one in warned if "of the search" in str(one.message)]
    return callback, {**loggers, "folder": folder, "said": said}


def test_tensorboard_holds_values_table_and_figures(several: tuple[ZeroShotSearch, dict[str, Any]]) -> None:
    pytest.importorskip("tensorboard")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
    from tensorboard.plugins.hparams import metadata

    callback, loggers = several
    events = EventAccumulator(loggers["tensorboard"].log_dir, {TENSORS: 0}).Reload()
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"] if tag.startswith("search/")}
    assert all(len(rows) == 1 and rows[0].step == 0 for rows in scalars.values())
    assert {tag: rows[0].value for tag, rows in scalars.items()} == pytest.approx(expected_values(found(callback)))
    (text,) = events.Tensors("search/table/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert [line.removeprefix("    ") for line in shown.split("\n")] == found(callback).table().split("\n")
    assert all(line.startswith("    ") for line in shown.split("\n") if line), (
        "as it stands: Markdown would eat the bars"
    )
    assert {tag.removeprefix("search/") for tag in events.Tags()["images"]} == FIGURES
    (image,) = events.Images("search/score_macs")
    pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert np.array_equal(pixels, loggers["gallery"].images["search/score_macs"][0])
    # TensorBoard shows the hyper-parameters of the first entry: the user's must be in it too.
    entry = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(entry).hparams
    assert hparams["winner"].string_value == found(callback).best.name
    assert hparams["layers"].number_value == 3
    assert hparams["search/score"].number_value == found(callback).best.score


def test_csv_logger_gets_files_in_its_folder(several: tuple[ZeroShotSearch, dict[str, Any]]) -> None:
    from PIL import Image

    callback, loggers = several
    log = Path(loggers["csv"].log_dir)
    assert {path.name for path in (log / "search").iterdir()} == {
        *("table.txt", "leaderboard.csv"),
        *(f"{name}.png" for name in FIGURES),
    }
    pixels = np.asarray(Image.open(log / "search" / "shares.png"))
    assert np.array_equal(pixels[..., :3], loggers["gallery"].images["search/shares"][0])
    assert pixels.min() < 100 < pixels.max(), "something is drawn"
    assert (log / "search" / "table.txt").read_text() == found(callback).table() + "\n"
    rows = list(csv.DictReader((log / "search" / "leaderboard.csv").open()))
    assert [row["candidate"] for row in rows] == [row.name for row in found(callback).leaderboard]
    assert [float(row["score_naswot"]) for row in rows] == [row.scores["naswot"] for row in found(callback).leaderboard]
    assert [int(row["macs"]) for row in rows] == [row.macs for row in found(callback).leaderboard]
    (metrics,) = (row for row in csv.DictReader((log / "metrics.csv").open()) if row["search/score"])
    expected = expected_values(found(callback))
    assert {key: float(metrics[key]) for key in expected} == pytest.approx(expected)
    hparams = yaml.safe_load((log / "hparams.yaml").read_text())
    assert hparams == pytest.approx({"winner": found(callback).best.name, "lr": 0.05, "layers": 3, **expected})


def test_any_logger_gets_what_it_has_methods_for(several: tuple[ZeroShotSearch, dict[str, Any]]) -> None:
    callback, loggers = several
    expected = expected_values(found(callback))
    for name in ("plain", "mute", "gallery"):
        assert loggers[name].searched == [(expected, 0)]
        assert loggers[name].params == {"winner": found(callback).best.name, "lr": 0.05, "layers": 3, **expected}
    gallery = loggers["gallery"]
    assert set(gallery.images) == {f"search/{name}" for name in FIGURES}
    for (pixels,) in gallery.images.values():
        assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
    columns, rows = gallery.tables["search/leaderboard"]
    assert columns == ["place", "candidate", "score_wrcor", "score_naswot", "params", "macs", "depth"]
    best = found(callback).best
    assert rows[0] == [1, best.name, *best.scores.values(), best.params, best.macs, best.depth]
    first = Path(str(loggers["folder"]))  # the Trainer's log folder is its default one: the first logger has none
    assert gallery.kept == {name: (first / name).read_bytes() for name in ("search.json", "selected.yaml")}


def test_a_logger_that_fails_is_named_and_training_goes_on(several: tuple[ZeroShotSearch, dict[str, Any]]) -> None:
    _, loggers = several
    reason = "of the search (ConnectionError: nobody answers). Training goes on."
    assert loggers["said"] == [f"Broken took no {what} {reason}" for what in ("metrics", "table", "files", "figures")]
    assert loggers["broken"].params["layers"] == 3
    assert loggers["broken"].metrics or loggers["plain"].metrics


# ---- when figures are drawn


def test_figures_are_drawn_once_for_all_loggers(drawn: list[SearchResult], tmp_path: Path) -> None:
    loggers = [Gallery(), Gallery(), CSVLogger(tmp_path), Plain()]
    callback = fit(loggers)
    assert drawn == [found(callback)]
    for gallery in loggers[:2]:
        ((key, (pixels,)),) = gallery.images.items()  # type: ignore[attr-defined]
        assert key == "search/one"
        assert pixels.shape == (150, 300, 3)
        assert (pixels == (255, 128, 0)).all()
    assert (tmp_path / "lightning_logs" / "version_0" / "search" / "one.png").is_file()


@pytest.mark.parametrize(
    ("loggers", "settings"),
    [(False, {}), ([Plain(), DummyLogger()], {}), ([Gallery()], {"fast_dev_run": True})],
    ids=["no logger", "no pictures", "fast_dev_run"],
)
def test_nothing_is_drawn_where_nobody_looks(drawn: list[SearchResult], loggers: Any, settings: dict[str, Any]) -> None:
    callback = fit(loggers, **settings)
    assert callback.winner is not None
    assert not drawn


def test_figures_can_be_left_out(drawn: list[SearchResult]) -> None:
    gallery = Gallery()
    callback = fit(gallery, search(log_figures=False))
    assert not drawn
    assert not gallery.images
    assert len(gallery.tables["search/leaderboard"][1]) == len(found(callback).leaderboard)


def test_the_module_tells_the_loggers_too(drawn: list[SearchResult]) -> None:
    gallery = Gallery()
    module = ZeroShotSearchModule(CELLS, num_classes=10, budget=2, probe_size=8, journal=None, log_figures=False)
    assert module.hparams["log_figures"] is False
    assert ZeroShotSearchModule(CELLS).search_settings.log_figures
    trainer(logger=gallery, max_steps=1).fit(module, loader())
    assert module.result is not None
    assert gallery.searched == [(expected_values(module.result), 0)]
    assert gallery.tables
    assert not drawn


def test_other_ranks_tell_and_write_nothing(
    drawn: list[SearchResult], ranked: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    gallery, winner = Gallery(), Winner.of(ranked, 10, 3, "net")
    one = trainer(logger=[gallery, CSVLogger(tmp_path)], default_root_dir=tmp_path)
    monkeypatch.setattr(type(one), "is_global_zero", False)
    report_winner(one, winner, ranked, "", {})
    assert not drawn
    assert vars(gallery) == vars(Gallery())
    assert not list(tmp_path.iterdir())


# ---- figures that cannot be drawn


def test_without_matplotlib_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    gallery = Gallery()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
        fit([gallery, CSVLogger(tmp_path)])
    (said,) = [one.getMessage() for one in caplog.records if "matplotlib" in one.getMessage()]
    assert said.startswith("The loggers get no figures of the search. ")
    assert "pip install 'lightning_wrcor[recipes]'" in said
    assert not gallery.images
    assert gallery.tables
    assert not list(tmp_path.rglob("*.png"))


def test_a_figure_that_fails_costs_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(result: SearchResult) -> None:
        raise ZeroDivisionError("an odd search")

    monkeypatch.setattr(report, "all_figures", fail)
    gallery = Gallery()
    with pytest.warns(UserWarning, match=r"not all figures of the search \(ZeroDivisionError: an odd search\)"):
        callback = fit(gallery)
    assert not gallery.images
    assert gallery.searched
    assert callback.winner is not None


def test_pyplot_has_no_part_in_it(
    drawn: list[SearchResult], monkeypatch: pytest.MonkeyPatch, ranked: SearchResult, tmp_path: Path
) -> None:
    from matplotlib import pyplot

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("pyplot was used")

    for name in ("figure", "switch_backend", "show", "close"):
        monkeypatch.setattr(pyplot, name, refuse)
    pictures = draw(ranked)
    assert list(pictures) == ["one"]
    for logger in (TensorBoardLogger(tmp_path), CSVLogger(tmp_path)):
        outlet_of(logger).figures(pictures)
    assert not pyplot.get_fignums()


def test_training_is_the_same_with_and_without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw_randomly(result: SearchResult) -> dict[str, Any]:
        from matplotlib.figure import Figure

        torch.rand(3), np.random.rand(3)
        return {"one": Figure(figsize=(1, 1))}

    monkeypatch.setattr(report, "all_figures", draw_randomly)
    modules = []
    for log_figures in (False, True):
        pl.seed_everything(5, verbose=False)
        modules.append(Lit())
        callback = search(
            space={
                "class_path": "lightning_wrcor.spaces.NetworkList",
                "init_args": {"networks": {f"width{width}": toys.with_dropout(width) for width in (4, 6)}},
            },
            budget=2,
            log_figures=log_figures,
        )
        fit(Gallery(), callback, modules[-1], max_steps=3)
    assert toys.same_weights(*modules)


# ---- told once


def test_a_resumed_training_logs_nothing_twice(drawn: list[SearchResult], tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="one")
    first, gallery = search(), Gallery()
    one = trainer(callbacks=[first, saving], logger=gallery, max_epochs=1, enable_checkpointing=True)
    one.fit(Lit(), loader())
    one.fit_loop.max_epochs = 2
    one.fit(one.lightning_module, loader())  # the same fit again
    assert len(gallery.searched) == 1
    assert len(drawn) == 1

    again, other = search(), Gallery()  # another process
    trainer(callbacks=[again], logger=other, max_epochs=2).fit(Lit(), loader(), ckpt_path=tmp_path / "one.ckpt")
    assert again.result is None
    assert not other.searched
    assert [other.images, other.tables, other.kept] == [{}, {}, {}]
    assert len(drawn) == 1
    best = found(first).best
    assert other.params["winner"] == best.name
    assert other.params["search/score"] == best.score, "hyper-parameters stay what they were"


def test_a_logger_is_told_once_of_each_search(drawn: list[SearchResult], ranked: SearchResult) -> None:
    gallery, other = Gallery(), ranked.rerank("params")
    one = trainer(logger=gallery)
    for result in (ranked, ranked, other, other):
        tell_loggers(one, Winner.of(result, 10, 3, "net"), result, [], log_figures=True)
    assert [metrics["search/score"] for metrics, _ in gallery.searched] == [ranked.best.score, other.best.score]
    assert drawn == [ranked, other]


def test_a_given_winner_is_named(drawn: list[SearchResult]) -> None:
    gallery = Gallery()
    name = CELLS.name(CELLS.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"))
    fit(gallery, search(genotype=name))
    assert gallery.params == {"winner": name}
    assert not gallery.searched
    assert not gallery.tables
    assert not drawn


# ---- the table


def test_table_of_votes_races_and_measured_costs(ranked: SearchResult) -> None:
    ranking = Ranking.of(ranked)
    costs = ["params", "macs", "depth"]
    assert ranking.columns == ["place", "candidate", "score_wrcor", "score_params", "race_mean", "race_error", *costs]
    assert len(ranking.rows) == len(ranked.leaderboard)
    best = ranked.best
    assert best.race is not None
    assert ranking.rows[0][2:6] == [*best.scores.values(), best.race.mean, best.race.error]
    assert ranking.rows[-1][4:6] == [None, None]
    read = list(csv.reader(io.StringIO(ranking.csv())))
    assert read[0] == ranking.columns
    assert [row[1] for row in read[1:]] == [row.name for row in ranked.leaderboard]
    json.dumps(ranking.rows, allow_nan=False)


def test_names_with_commas_and_line_ends_stay_one_cell(ranked: SearchResult) -> None:
    name = 'a,b\n"c" <i>'
    ranking = Ranking("", ["place", "candidate"], [[1, name]])
    assert list(csv.reader(io.StringIO(ranking.csv()))) == [["place", "candidate"], ["1", name]]


# ---- loggers whose packages are heavy: run where they are installed


def test_weights_and_biases_offline(drawn: list[SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    logger = WandbLogger(project="search", save_dir=str(tmp_path), offline=True)
    try:
        callback = fit(logger, search(), Tuned(), default_root_dir=tmp_path)
        run = logger.experiment
        folder = Path(run.dir)
        summary, config = dict(run.summary), dict(run.config)
    finally:
        wandb.finish()
    expected = expected_values(found(callback))
    assert {key: summary[key] for key in expected} == pytest.approx(expected)
    assert config["winner"] == found(callback).best.name
    assert config["layers"] == 3
    (table,) = (folder / "media" / "table" / "search").glob("leaderboard*.table.json")
    data = json.loads(table.read_text())
    ranking = Ranking.of(found(callback))
    assert data["columns"] == ranking.columns
    assert data["data"] == ranking.rows
    (image,) = (folder / "media" / "images" / "search").iterdir()
    assert image.match("one_*.png")
    assert image.read_bytes().startswith(b"\x89PNG")
    written = (folder.parent / f"run-{run.id}.wandb").read_bytes()
    assert all(name in written for name in (b"search.json", b"selected.yaml")), "files of an artifact"


def test_mlflow_with_a_local_store(drawn: list[SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would need more packages
    store = f"file:{tmp_path / 'runs'}"
    logger = MLFlowLogger("search", tracking_uri=store)
    callback = fit(logger, search(), Tuned(), default_root_dir=tmp_path)
    client = MlflowClient(store)
    run = client.get_run(logger.run_id)
    expected = expected_values(found(callback))
    assert {key: run.data.metrics[key] for key in expected} == pytest.approx(expected)
    assert run.data.params["winner"] == found(callback).best.name
    assert run.data.params["layers"] == "3"
    kept = {entry.path.removeprefix("search/") for entry in client.list_artifacts(logger.run_id, "search")}
    assert kept == {"table.txt", "leaderboard.csv", "search.json", "selected.yaml", "one.png"}
    target = Path(client.download_artifacts(logger.run_id, "search", str(tmp_path)))
    assert SearchResult.from_json(target / "search.json").best == found(callback).best
    assert (target / "table.txt").read_text() == found(callback).table()
    rows = list(csv.DictReader((target / "leaderboard.csv").open()))
    assert [float(row["score_wrcor"]) for row in rows] == [row.score for row in found(callback).leaderboard]
    assert (target / "one.png").read_bytes().startswith(b"\x89PNG")
