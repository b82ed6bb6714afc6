from __future__ import annotations

import argparse

import pytest
import timm
import timm.models._builder
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import save_file
from torch import nn

from lightning_wrcor import ZeroShotSearchModule
from lightning_wrcor.spaces import NASBench201
from lightning_wrcor.training import load_pretrained

from toys import Lit, loader, same_weights, trainer

SPACE = NASBench201(width=4, cells=1)
CELL = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")


def own(classes=10, seed=0):
    torch.manual_seed(seed)
    return SPACE.build(CELL, num_classes=classes)


@pytest.fixture
def hub(monkeypatch):
    """What timm would have downloaded: the weights of each model that the test put here."""
    weights = {}
    asked = []

    def local(model_id, *args, **kwargs):
        asked.append(model_id)
        return {name: value.clone() for name, value in weights[model_id].items()}

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", local)
    weights["asked"] = asked
    return weights


# ---- timm's own


def test_timms_weights_are_those_of_its_tag(hub):
    torch.manual_seed(1)
    trained = timm.create_model("test_resnet")
    hub[trained.pretrained_cfg["hf_hub_id"]] = trained.state_dict()
    network = timm.create_model("test_resnet")
    assert not same_weights(network, trained)
    loaded = load_pretrained(network, True)
    assert hub["asked"] == ["timm/test_resnet.r160_in1k"]
    assert same_weights(network, trained)
    assert (len(loaded.taken), loaded.left) == (len(trained.state_dict()), ())


def test_timms_classifier_stays_away_from_another_number_of_classes(hub):
    trained = timm.create_model("test_resnet")
    hub[trained.pretrained_cfg["hf_hub_id"]] = trained.state_dict()
    network = timm.create_model("test_resnet", num_classes=7)
    before = {name: value.clone() for name, value in network.fc.state_dict().items()}
    loaded = load_pretrained(network, True)
    assert loaded.left == ("fc.weight", "fc.bias")
    assert set(loaded.taken) == set(trained.state_dict()) - set(loaded.left)
    assert all(torch.equal(network.state_dict()[name], trained.state_dict()[name]) for name in loaded.taken)
    assert all(torch.equal(value, before[name]) for name, value in network.fc.state_dict().items())
    assert "fc.weight, fc.bias stay as they were" in str(loaded)


def test_timm_converts_its_weights_to_channels_and_size(hub):
    trained = timm.create_model("test_vit")
    hub[trained.pretrained_cfg["hf_hub_id"]] = trained.state_dict()
    network = timm.create_model("test_vit", in_chans=1, img_size=96)
    load_pretrained(network, True, in_chans=1, image_size=96)
    torch.testing.assert_close(network.patch_embed.proj.weight, trained.patch_embed.proj.weight.sum(1, keepdim=True))
    assert network.pos_embed.shape == (1, 37, 64)
    assert torch.equal(network.blocks[1].mlp.fc1.weight, trained.blocks[1].mlp.fc1.weight)
    with pytest.raises(
        ValueError, match=r"patch_embed\.proj\.weight \(\(64, 3, 16, 16\) in place of \(64, 1, 16, 16\)\)"
    ):
        load_pretrained(network, True, image_size=96)


def test_weights_that_timm_does_not_have_are_refused():
    with pytest.raises(ValueError, match=r"nasbench201\._Network was not built by timm from a name"):
        load_pretrained(own(), True)
    with pytest.raises(ValueError, match="timm has no pretrained weights for 'resnet18'"):
        load_pretrained(timm.create_model("resnet18", pretrained_cfg={"architecture": "resnet18"}), True)
    with pytest.raises(ValueError, match="called with False"):
        load_pretrained(own(), False)


def test_random_numbers_stay_as_they_were(hub):
    trained = timm.create_model("test_resnet")
    hub[trained.pretrained_cfg["hf_hub_id"]] = trained.state_dict()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    load_pretrained(trained, True)
    assert torch.equal(torch.rand(3), wanted)


def test_the_weights_are_those_that_the_network_was_named_after(hub):
    trained = timm.create_model("resnet18.tv_in1k")
    hub["timm/resnet18.tv_in1k"] = trained.state_dict()
    load_pretrained(timm.create_model("resnet18.tv_in1k", num_classes=3), True)
    assert hub["asked"] == ["timm/resnet18.tv_in1k"]


# ---- files


def half(network):
    return {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}


WAYS = {
    "weights.pth": lambda network: network.state_dict(),
    "lightning.pt": lambda network: {
        "state_dict": {
            **{f"model.net.{k}": v for k, v in network.state_dict().items()},
            "model.other.weight": torch.ones(3),
        },
        "epoch": 3,
    },
    "compiled.pt": lambda network: {
        "model": {k.replace("stem.", "stem._orig_mod."): v for k, v in network.state_dict().items()}
    },
    "parallel.pth": lambda network: {"model": {f"module.{k}": v for k, v in network.state_dict().items()}},
    "timm.pth.tar": lambda network: {
        "state_dict": own(seed=9).state_dict(),
        "state_dict_ema": network.state_dict(),
        "args": argparse.Namespace(lr=0.1),
    },
}


@pytest.mark.parametrize("name", WAYS)
def test_files_of_every_kind(tmp_path, name):
    trained, network = own(seed=1), own(seed=2)
    torch.save(WAYS[name](trained), tmp_path / name)
    loaded = load_pretrained(network, tmp_path / name)
    assert same_weights(network, trained)
    assert loaded.taken == tuple(trained.state_dict())
    assert loaded.left == ()


def test_safetensors_and_half_precision(tmp_path):
    trained, network = own(seed=1), own(seed=2)
    save_file(half(trained), tmp_path / "weights.safetensors")
    load_pretrained(network, str(tmp_path / "weights.safetensors"))
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, trained.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_a_checkpoint_of_this_package(tmp_path):
    module = ZeroShotSearchModule(
        SPACE, num_classes=10, in_chans=3, genotype=SPACE.name(CELL), image_size=8, journal=None
    )
    saved = ModelCheckpoint(tmp_path, filename="end")
    trainer(enable_checkpointing=True, callbacks=[saved], max_epochs=1).fit(module, loader())
    network = own(seed=2)
    loaded = load_pretrained(network, saved.best_model_path)
    assert same_weights(network, module.network)
    assert loaded.source == saved.best_model_path


def test_a_users_own_lightning_checkpoint(tmp_path):
    module = Lit()
    saved = ModelCheckpoint(tmp_path, filename="end")
    trainer(enable_checkpointing=True, callbacks=[saved], max_epochs=1).fit(module, loader())
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    load_pretrained(network, saved.best_model_path)
    assert same_weights(network, module.net)


def test_the_classifier_stays_where_the_classes_differ(tmp_path):
    trained, network = own(classes=10, seed=1), own(classes=4, seed=2)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    before = network.classifier.weight.clone(), network.classifier.bias.clone()
    loaded = load_pretrained(network, tmp_path / "weights.pth")
    assert loaded.left == ("classifier.weight", "classifier.bias")
    assert torch.equal(network.classifier.weight, before[0])
    assert torch.equal(network.classifier.bias, before[1])
    assert torch.equal(network.stem[0].weight, trained.stem[0].weight)
    without = {name: value for name, value in trained.state_dict().items() if not name.startswith("classifier")}
    torch.save(without, tmp_path / "backbone.pth")
    assert load_pretrained(network, tmp_path / "backbone.pth").left == loaded.left


def missing(state):
    return {name: value for name, value in state.items() if not name.startswith("stem.1.w")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, r"has no values for stem\.1\.weight of .*_Network: it does not fit"),
        (lambda state: {**state, "auxiliary.weight": torch.ones(3)}, r"has values for auxiliary\.weight, which"),
        (
            lambda state: {**state, "stem.1.bias": torch.ones(5)},
            r"another shape for stem\.1\.bias \(\(5,\) in place of \(4,\)\)",
        ),
        (
            lambda state: {**state, "classifier.weight": torch.ones(10, 3)},
            r"another shape for classifier\.weight \(\(10, 3\) in place of \(10, 16\)\)",
        ),
        (lambda state: {f"other.{k[::-1]}": v for k, v in state.items()}, r"has no values for .* and \d+ more of"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path, change, message):
    network = own(seed=2)
    torch.save(change(own(seed=1).state_dict()), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=message):
        load_pretrained(network, tmp_path / "weights.pth")
    assert same_weights(network, own(seed=2))


class Code:
    pass


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file of weights .*absent\.pth"):
        load_pretrained(own(), tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"state_dict": {"a": 3}}, tmp_path / "numbers.pth")
    torch.save({"state_dict": Code()}, tmp_path / "code.pth")
    for name in ("text.pth", "text.safetensors", "code.pth"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a file of weights"):
            load_pretrained(own(), tmp_path / name)
    with pytest.raises(ValueError, match="holds no weights by their names"):
        load_pretrained(own(), tmp_path / "numbers.pth")


def test_old_files_without_batch_counters(tmp_path):
    trained, network = own(seed=1), own(seed=2)
    state = {name: value for name, value in trained.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    assert load_pretrained(network, tmp_path / "old.pth").taken == tuple(state)
    assert same_weights(network, trained)
