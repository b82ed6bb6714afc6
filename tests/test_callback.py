from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_wrcor import SearchResult, ZeroShotSearch, load_network, zero_shot_search
from lightning_wrcor._random import derive_seed

import toys
from toys import CELLS, Lit, loader, same_weights, trainer


def search(**kwargs: Any) -> ZeroShotSearch:
    return ZeroShotSearch(**{"space": CELLS, "budget": 3, "batch_size": 16, "journal": None, **kwargs})


class Count(ZeroShotSearch):
    """Counts the searches."""

    searches = 0

    def search(self, *args: Any, **kwargs: Any) -> SearchResult:
        self.searches += 1
        return super().search(*args, **kwargs)


def counting(**kwargs: Any) -> Count:
    return Count(**{"space": CELLS, "budget": 3, "batch_size": 16, "journal": None, **kwargs})


def test_the_winner_is_what_the_trainer_trains() -> None:
    callback, module = search(), Lit()
    old = module.net
    trainer(callbacks=[callback], max_steps=2).fit(module, loader())
    assert module.net is not old
    assert callback.winner is not None
    assert callback.result is not None
    assert callback.winner.name == callback.result.best.name
    fresh = callback.winner.build()
    assert not same_weights(fresh, module.net), "the optimiser must have moved the winner's weights"
    assert module.net(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_the_search_is_that_of_zero_shot_search_on_the_same_batch() -> None:
    callback = search(budget=6)
    seen: list[Any] = []

    class Spy(Callback):
        def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
            from lightning_wrcor._trainer import probe_batch

            seen.append(probe_batch(trainer, 16, derive_seed(0, "probe"), callback.read_batch))

    trainer(callbacks=[Spy(), callback], max_steps=1).fit(Lit(), loader())
    plain = zero_shot_search(CELLS, seen[0], budget=6, num_classes=10, progress=False)
    assert callback.result is not None
    assert [r.score for r in plain.history] == [r.score for r in callback.result.history]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_is_bit_identical_with_and_without_the_search(workers: int) -> None:
    factories = {f"width{width}": toys.with_dropout(width) for width in (4, 6, 8)}
    space: Any = {"class_path": "lightning_wrcor.spaces.NetworkList", "init_args": {"networks": factories}}

    class Alone(Lit):
        """No callback at all: the winner is built at the point at which a search would install it."""

        def setup(self, stage: str) -> None:
            self.net = factories[winner](num_classes=10)

    def train(module: Lit, callbacks: list[Callback]) -> Lit:
        pl.seed_everything(7, workers=True, verbose=False)
        data = DataLoader(toys.Augmented(), 8, shuffle=True, num_workers=workers)
        trainer(callbacks=callbacks, max_steps=5).fit(module, data)
        return module

    searching = search(space=space)
    first = train(Lit(), [searching])
    assert searching.winner is not None
    winner = searching.winner.name
    given = train(Lit(), [search(space=space, genotype=winner)])
    alone = train(Alone(), [])
    assert same_weights(first, given)
    assert same_weights(first, alone)


class Crash(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("crash")


def test_crash_and_resume_equals_the_uninterrupted_run(tmp_path: Path) -> None:
    def run(folder: str, crash: bool, resume: bool) -> tuple[Lit, Count]:
        pl.seed_everything(3, verbose=False)
        callback, module = counting(), Lit()
        saving = ModelCheckpoint(tmp_path / folder, filename="{epoch}", save_top_k=-1)
        callbacks = [callback, saving] + [Crash(2)] * crash
        one = trainer(max_epochs=4, callbacks=callbacks, enable_checkpointing=True)
        path = str(tmp_path / folder / "epoch=1.ckpt") if resume else None
        if crash:
            with pytest.raises(RuntimeError, match="crash"):
                one.fit(module, loader(shuffle=False))
        else:
            one.fit(module, loader(shuffle=False), ckpt_path=path)
        return module, callback

    straight, callback = run("straight", crash=False, resume=False)
    assert callback.searches == 1
    run("broken", crash=True, resume=False)
    resumed, callback = run("broken", crash=False, resume=True)
    assert callback.searches == 0, "the winner comes from the checkpoint"
    assert same_weights(straight, resumed)


def test_every_entry_point_rebuilds_the_winner_without_a_search(tmp_path: Path) -> None:
    callback, module = counting(), Lit()
    saving = ModelCheckpoint(tmp_path, monitor="val_loss")
    one = trainer(callbacks=[callback, saving], enable_checkpointing=True)
    one.fit(module, loader(), loader(shuffle=False))
    one.test(module, loader(shuffle=False), ckpt_path="best")
    path = saving.best_model_path
    # fresh objects, as another process would have them
    for verb in ("validate", "test", "predict"):
        again, fresh = counting(), Lit()
        getattr(trainer(callbacks=[again]), verb)(fresh, loader(shuffle=False), ckpt_path=path)
        assert again.searches == 0
        assert same_weights(fresh, module)
    network = load_network(path)
    images = toys.batch()[0]
    assert torch.equal(network(images), module.eval().net(images))
    stored = torch.load(path, weights_only=True)["lightning_wrcor"]
    assert stored["name"] == callback.winner.name  # type: ignore[union-attr]
    assert json.loads(json.dumps(stored)) is not None


def test_checkpoints_with_weights_only_hold_the_winner_too(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, save_weights_only=True, filename="w")
    module = Lit()
    trainer(callbacks=[search(), saving], enable_checkpointing=True).fit(module, loader())
    assert same_weights(load_network(tmp_path / "w.ckpt"), module.net)


def test_a_second_fit_does_not_search_again() -> None:
    callback, module = counting(), Lit()
    one = trainer(callbacks=[callback], max_epochs=1)
    one.fit(module, loader())
    network = module.net
    one.fit_loop.max_epochs = 2
    one.fit(module, loader())
    assert callback.searches == 1
    assert module.net is network


def test_nothing_happens_without_fit_and_that_is_said() -> None:
    callback, module = counting(), Lit()
    before = module.net
    with pytest.warns(
        UserWarning, match="No winner of a search is known, so validate runs with the network that Lit has"
    ):
        trainer(callbacks=[callback]).validate(module, loader(shuffle=False), verbose=False)
    assert callback.searches == 0
    assert module.net is before


def test_a_checkpoint_without_a_winner_is_refused_before_searching(tmp_path: Path) -> None:
    one = trainer()
    one.fit(Lit(), loader())
    one.save_checkpoint(tmp_path / "plain.ckpt")
    callback = counting()
    with pytest.raises(MisconfigurationException, match="holds no winner of a search"):
        trainer(callbacks=[callback], max_epochs=2).fit(Lit(), loader(), ckpt_path=tmp_path / "plain.ckpt")
    assert callback.searches == 0
    with pytest.raises(ValueError, match="holds no winner of a search"):
        load_network(tmp_path / "plain.ckpt")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        load_network(tmp_path / "none.ckpt")


def test_two_searches_are_refused() -> None:
    with pytest.raises(MisconfigurationException, match="several ZeroShotSearch callbacks"):
        trainer(callbacks=[counting(), counting()]).fit(Lit(), loader())


def test_a_checkpoint_of_another_space_wins_and_says_so(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="one")
    module = Lit()
    trainer(callbacks=[search(), saving], enable_checkpointing=True).fit(module, loader())
    other, again = counting(space="darts"), Lit()
    with pytest.warns(UserWarning, match="of another search space; that network is used, and DARTS is not searched"):
        trainer(callbacks=[other], max_epochs=2).fit(again, loader(), ckpt_path=tmp_path / "one.ckpt")
    assert other.searches == 0


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.py").write_text("x = 1")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_network(tmp_path / "text.py")


def test_a_small_probe_batch_is_noted() -> None:
    callback = search(batch_size=64)
    trainer(callbacks=[callback], max_steps=1).fit(Lit(), loader())
    assert callback.result is not None
    assert "The probe batch has 32 images (64 were asked for)." in callback.result.table()


def test_networks_with_another_number_of_logits_do_not_win() -> None:
    def stubborn() -> nn.Module:
        return toys.with_dropout(4)(num_classes=12)

    callback = search(
        space={
            "class_path": "lightning_wrcor.spaces.NetworkList",
            "init_args": {"networks": {"stubborn": stubborn, "obedient": toys.with_dropout(4)}},
        },
        budget=2,
    )
    trainer(callbacks=[callback], max_steps=1).fit(Lit(), loader())
    assert callback.result is not None
    assert [row.name for row in callback.result.leaderboard] == ["obedient"]
    (failed,) = [row for row in callback.result.history if row.status == "failed"]
    assert failed.reason == "ValueError: The network gives 12 logits, but there are 10 classes."


def test_given_genotype_is_installed_without_a_search() -> None:
    name = CELLS.name(CELLS.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"))
    callback, module = counting(genotype=name), Lit()
    trainer(callbacks=[callback], max_steps=1).fit(module, loader())
    assert callback.searches == 0
    assert callback.winner is not None
    assert callback.winner.name == name
    assert sum(p.numel() for p in module.net.parameters()) == CELLS.costs(CELLS.parse(name), (3, 8, 8), 10).params


# ---- finding the network


class Two(Lit):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(3, 3)
        self.loss = nn.CrossEntropyLoss()


class Nothing(Lit):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Identity()


class Compiled(Lit):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(self.net)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("module", "settings", "sentence"),
    [
        (Two, {}, r"several modules with parameters \(net, teacher\); say which one .* attribute=\.\.\."),
        (Nothing, {}, "Nothing has no network; say which one"),
        (Lit, {"attribute": "backbone"}, r"attribute='backbone' is no module of Lit \(its modules: net\)"),
        (Compiled, {}, r"Compiled\.net is compiled, .* Leave torch\.compile to"),
    ],
)
def test_what_the_search_cannot_replace_is_refused(module: type[Lit], settings: Any, sentence: str) -> None:
    callback = counting(**settings)
    with pytest.raises(MisconfigurationException, match=sentence):
        trainer(callbacks=[callback]).fit(module(), loader())
    assert callback.searches == 0


def test_attribute_picks_one_of_several() -> None:
    module = Two()
    trainer(callbacks=[search(attribute="net")], max_steps=1).fit(module, loader())
    assert module.net(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_a_compiled_lightning_module_works() -> None:
    callback, module = counting(), Lit()
    # backend="eager" traces as the default backend does, without a compiler
    trainer(callbacks=[callback], max_steps=1).fit(torch.compile(module, backend="eager"), loader())  # type: ignore[arg-type]
    assert callback.searches == 1


class BuildsLater(Lit):
    def configure_model(self) -> None:
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))


def test_a_network_built_after_the_search_is_noticed() -> None:
    with pytest.raises(MisconfigurationException, match=r"Something replaced BuildsLater\.net"):
        trainer(callbacks=[search()]).fit(BuildsLater(), loader())


def test_parameters_that_no_optimiser_holds_are_noticed() -> None:
    module = Lit()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)  # made too early, as Lightning CLI's --optimizer is
    module.configure_optimizers = lambda: optimizer  # type: ignore[method-assign]
    with pytest.raises(MisconfigurationException, match=r"are in no optimiser .*auto_configure_optimizers=False"):
        trainer(callbacks=[search()]).fit(module, loader())


# ---- weight averaging


def averaging() -> Callback:
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this Lightning has no EMAWeightAveraging")
    return callbacks.EMAWeightAveraging(decay=0.5)  # type: ignore[no-any-return]


def test_weight_averaging_before_the_search_is_refused_and_after_it_averages_the_winner() -> None:
    with pytest.raises(MisconfigurationException, match=r"stands before ZeroShotSearch .* Put ZeroShotSearch first"):
        trainer(callbacks=[averaging(), search()]).fit(Lit(), loader())
    ema, module = averaging(), Lit()
    trainer(callbacks=[search(), ema], max_steps=3).fit(module, loader())
    assert len(list(ema._average_model.module.net.parameters())) == len(list(module.net.parameters()))  # type: ignore[attr-defined]


# ---- data


def test_batches_of_other_forms() -> None:
    images, labels = toys.batch(32)
    rows = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]

    class Mapped(Lit):
        def training_step(self, data: Any, index: int) -> torch.Tensor:
            return super().training_step((data["image"], data["label"]), index)

    callback = search()
    trainer(callbacks=[callback], max_steps=1).fit(Mapped(), DataLoader(rows, 8))  # type: ignore[arg-type]
    assert callback.winner is not None
    odd = [{"pic": image, "kind": label} for image, label in zip(images, labels, strict=True)]
    with pytest.raises(MisconfigurationException, match=r"keys pic, kind; .* Override ZeroShotSearch\.read_batch"):
        trainer(callbacks=[search()]).fit(Lit(), DataLoader(odd, 8))  # type: ignore[arg-type]

    class Pairs(ZeroShotSearch):
        def read_batch(self, batch: Any) -> Any:
            return batch[0], batch[1]

    said = r"read_batch does not fit the training batches: KeyError: 0, of a mapping with the keys pic, kind\."
    with pytest.raises(MisconfigurationException, match=said):
        trainer(callbacks=[Pairs(CELLS)]).fit(Lit(), DataLoader(odd, 8))  # type: ignore[arg-type]

    class Names(ZeroShotSearch):
        def read_batch(self, batch: Any) -> Any:
            return tuple(batch)

    with pytest.raises(MisconfigurationException, match=r"two tensors; of a mapping .* it gave a tuple of str, str\."):
        trainer(callbacks=[Names(CELLS)]).fit(Lit(), DataLoader(odd, 8))  # type: ignore[arg-type]

    class Reads(ZeroShotSearch):
        def read_batch(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return batch["pic"], batch["kind"]

    class Odd(Mapped):
        def training_step(self, data: Any, index: int) -> torch.Tensor:
            return super().training_step({"image": data["pic"], "label": data["kind"]}, index)

    reads = Reads(CELLS, budget=2, batch_size=8, journal=None)
    trainer(callbacks=[reads], max_steps=1).fit(Odd(), DataLoader(odd, 8))  # type: ignore[arg-type]
    assert reads.winner is not None


def test_images_of_whole_numbers_say_what_to_do() -> None:
    images, labels = toys.batch(16)
    rows = list(zip((images * 10).byte(), labels, strict=True))
    with pytest.raises(MisconfigurationException, match=r"torch\.uint8; .* overridden ZeroShotSearch\.read_batch"):
        trainer(callbacks=[search()]).fit(Lit(), DataLoader(rows, 8))  # type: ignore[arg-type]


class OwnData(Lit):
    def setup(self, stage: str) -> None:
        self.rows = toys.loader()

    def train_dataloader(self) -> Any:
        return self.rows


def test_data_made_in_the_modules_setup_says_what_to_do() -> None:
    with pytest.raises(
        MisconfigurationException, match=r"train_dataloader\(\) failed.* move that to a LightningDataModule"
    ):
        trainer(callbacks=[search()]).fit(OwnData())


# ---- settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 1}, "at least 2 images"),
        ({"budget": 0}, "at least 1; got 0"),
        ({"budget": "abc"}, "at least 1; got 'abc'"),
        ({"space": "nasbench20"}, "nasbench201"),
        ({"proxy": "wrcorr"}, "There is no proxy named 'wrcorr'.*closest first: wrcor"),
        ({"strategy": "randm"}, "There is no strategy named 'randm'.*closest first: random"),
        ({"constraints": {"max_param": 3}}, r"There is no constraint named 'max_param'\. Did you mean max_params\?"),
        ({"genotype": "|nor_conv_9x9~0|"}, "nor_conv_9x9"),
        ({"space": []}, "(?i)empty|at least one"),
    ],
)
def test_mistakes_show_before_anything_runs(settings: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        search(**settings)


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("bugdet", r"ZeroShotSearch has no argument 'bugdet'\. Did you mean budget\? Its arguments: budget, .*space"),
        ("Budget", r"no argument 'Budget'\. Did you mean budget\?"),
        ("zzz", r"no argument 'zzz'\. Its arguments: "),
        ("progress", r"no argument 'progress'\. .*Trainer\(enable_progress_bar=False\) hides both\.$"),
        ("devices", r"no argument 'devices'\. The search runs on the Trainer's devices"),
        ("probe_size", r"no argument 'probe_size'\. It is called batch_size here"),
    ],
)
def test_an_argument_that_does_not_exist(argument: str, sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        search(**{argument: 3})


def test_a_subclass_has_arguments_of_its_own() -> None:
    class Mine(ZeroShotSearch):
        def __init__(self, colour: str, **kwargs: Any) -> None:
            super().__init__(CELLS, **kwargs)
            self.colour = colour

    assert Mine(colour="red", budget=7).budget == 7
    with pytest.raises(TypeError, match=r"Mine has no argument 'bugdet'\. Did you mean budget\?"):
        Mine(colour="red", bugdet=7)


def test_constraints_that_nothing_meets() -> None:
    from lightning_wrcor.search import SearchError

    with pytest.raises(SearchError, match="No candidate meets the constraints"):
        trainer(callbacks=[search(constraints={"max_params": 10})]).fit(Lit(), loader())


def test_fast_dev_run_shortens_the_search() -> None:
    callback = counting(budget=50)
    trainer(callbacks=[callback], fast_dev_run=True).fit(Lit(), loader())
    assert callback.result is not None
    assert len(callback.result.history) == 2


def test_number_of_classes_comes_from_where_it_is_known() -> None:
    class Data(pl.LightningDataModule):
        num_classes = 17

        def train_dataloader(self) -> Any:
            return toys.loader()

    callback, module = search(), Lit()
    trainer(callbacks=[callback], max_steps=1).fit(module, datamodule=Data())
    assert module.net(torch.randn(2, 3, 8, 8)).shape[1] == 17
    callback, module = search(num_classes=12), Lit()
    trainer(callbacks=[callback], max_steps=1).fit(module, datamodule=Data())
    assert module.net(torch.randn(2, 3, 8, 8)).shape[1] == 12


def test_loggers_and_files_tell_of_the_winner(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="tb")]
    callback = search()
    one = trainer(callbacks=[callback], logger=loggers, default_root_dir=tmp_path, log_every_n_steps=1)
    one.fit(Lit(), loader())
    folder = Path(str(one.log_dir))
    assert callback.winner is not None
    assert SearchResult.from_json(folder / "search.json").best.name == callback.winner.name
    chosen = yaml.safe_load((folder / "selected.yaml").read_text())
    again = counting(**chosen)  # arguments of the callback that train the winner without a search
    trainer(callbacks=[again], max_steps=1).fit(Lit(), loader())
    assert again.searches == 0
    assert again.winner is not None
    assert again.winner.name == callback.winner.name
    hparams = yaml.safe_load((tmp_path / "csv" / "version_0" / "hparams.yaml").read_text())
    assert hparams["winner"] == callback.winner.name
    assert "search/score" in (tmp_path / "csv" / "version_0" / "metrics.csv").read_text().split("\n")[0]
    assert list((tmp_path / "tb" / "version_0").glob("events.*"))


def test_journal_auto_is_found_again_and_saves_the_scoring(tmp_path: Path) -> None:
    first, second = search(journal="auto"), search(journal="auto")
    trainer(callbacks=[first], default_root_dir=tmp_path, max_steps=1).fit(Lit(), loader())
    trainer(callbacks=[second], default_root_dir=tmp_path, max_steps=1).fit(Lit(), loader())
    assert len(list((tmp_path / "zero_shot_search").iterdir())) == 1
    assert first.result is not None
    assert second.result is not None
    assert second.result.funnel.resumed == 3
    assert second.result.best.name == first.result.best.name
