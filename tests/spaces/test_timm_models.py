"""Models of timm: published counts, timm's own listing, and what happens to names, sizes and random numbers."""

from __future__ import annotations

import copy
import json
import pickle
import random
import subprocess
import sys
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import timm
import torch
from torch import nn

from lightning_wrcor.spaces import ImageSizeError
from lightning_wrcor.spaces.timm_models import TimmModels

TINY = ("test_efficientnet", "test_resnet", "test_vit")

# Published by timm (results-imagenet.csv gives millions with two digits; the papers and model cards the rest).
PARAMS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
    "mobilenetv3_large_100": 5_483_032,
    "vit_small_patch16_224": 22_050_664,
    "convnext_tiny": 28_589_128,
    "swin_tiny_patch4_window7_224": 28_288_354,
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "params"), PARAMS.items())
def test_published_parameter_counts(name, params):
    assert TimmModels(name).costs(name).params == params


@pytest.mark.parametrize(("name", "giga"), [("resnet18", 1.81), ("resnet50", 4.09), ("efficientnet_b0", 0.386)])
def test_published_macs(name, giga):
    """torchvision publishes 1.81, 4.09 and 0.386 G for these networks on 224 x 224 images."""
    assert TimmModels(name).costs(name).macs / 1e9 == pytest.approx(giga, rel=0.005)


def test_depth_of_resnet18_is_that_of_the_paper():
    assert TimmModels("resnet18").costs("resnet18").depth == 17  # 17 convolutions followed by a ReLU


def test_wildcards_and_lists_are_those_of_timm():
    space = TimmModels(["test_*", "resnet[15]?"], exclude=["test_vit*", "resnet5?"])
    expected = timm.list_models(["test_*", "resnet[15]?"], exclude_filters=["test_vit*", "resnet5?"])
    assert list(space) == sorted(expected)
    assert len(space) == len(expected) > 10
    assert "resnet18" in expected


def test_everything_is_the_default():
    assert list(TimmModels()) == sorted(timm.list_models())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"include": "resnt50"}, "resnet50"),
        ({"include": ["test_*", "resnexxt50*"]}, "'resnexxt50\\*'.* resnext50_32x4d"),
        ({"include": ""}, "matches ''"),
        ({"exclude": "vit_smal_patch16_224"}, "exclude: .* vit_small_patch16_224"),
        ({"include": "resnet18.a1_in1k"}, "pretrained weights: write 'resnet18'"),
        ({"kwargs": {"act_layer": "sliu"}}, "no activation 'sliu'. There are: silu, "),
        ({"kwargs": {"pretrained": True}}, "never downloads"),
        ({"kwargs": {"img_size": 64}}, "image_size"),
        ({"max_params": 0}, "max_params must be at least 1"),
    ],
)
def test_mistakes_are_named_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        TimmModels(**arguments)


def test_a_name_outside_the_space_is_an_error_with_the_closest():
    space = TimmModels("test_*", exclude="test_vit4")
    for use in (space.parse, space.build, space.costs, lambda name: space.mutate(name, random.Random(0))):
        with pytest.raises(ValueError, match="test_resnet"):
            use("test_resnte")
    with pytest.raises(ValueError, match="no model 'test_vit4' in the space"):
        space.parse("test_vit4")
    with pytest.raises(ValueError, match=r"above max_params=500,000"):
        TimmModels("test_*", max_params=500_000).parse("test_vit4")


def test_parse_reads_what_name_writes():
    space = TimmModels("test_*")
    assert [space.parse(space.name(genotype)) for genotype in space] == list(space)


def test_sampling_is_uniform_and_repeatable():
    space = TimmModels(TINY)
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(3000)]
    rng = random.Random(0)
    assert drawn == [space.sample(rng) for _ in range(3000)]
    counts = Counter(drawn)
    assert set(counts) == set(TINY)
    assert all(abs(count - 1000) < 130 for count in counts.values())  # five standard deviations


def test_mutation_stays_in_the_family_where_it_can():
    space = TimmModels(["resnet18", "resnet34", "resnet50", "vit_tiny_patch16_224"])
    rng = random.Random(0)
    assert {space.mutate("resnet18", rng) for _ in range(50)} == {"resnet34", "resnet50"}
    assert {space.mutate("vit_tiny_patch16_224", rng) for _ in range(50)} == {"resnet18", "resnet34", "resnet50"}
    with pytest.raises(ValueError, match="no other model"):
        TimmModels("resnet18").mutate("resnet18", rng)


@pytest.mark.parametrize("name", TINY)
def test_build_gives_logits_for_the_classes_and_channels_asked_for(name):
    network = TimmModels(TINY, image_size=64).build(name, num_classes=7, in_chans=1)
    assert network.training
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 7)


def test_build_takes_its_weights_from_torchs_random_numbers():
    space = TimmModels(TINY)
    builds = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        builds.append(torch.cat([p.flatten() for p in space.build("test_resnet").parameters()]))
    assert torch.equal(builds[0], builds[1])
    assert not torch.equal(builds[0], builds[2])


def test_weights_are_never_loaded(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    TimmModels("test_resnet").build("test_resnet")
    with pytest.raises(AssertionError, match="weights were asked for"):
        timm.create_model("test_resnet", pretrained=True)  # the guard works


def test_limits_filter_by_the_counted_costs():
    everything = TimmModels("test_[bcer]*", image_size=64)
    costs = {name: everything.costs(name) for name in everything}
    max_params = sorted(cost.params for cost in costs.values())[-2]
    max_macs = sorted(cost.macs for cost in costs.values())[5]
    space = TimmModels("test_[bcer]*", image_size=64, max_params=max_params, max_macs=max_macs)
    left = {name for name, cost in costs.items() if cost.params <= max_params and cost.macs <= max_macs}
    assert set(space) == left
    assert 1 <= len(left) < len(costs)
    assert set(space.left_out) == set(costs) - left
    assert any("parameters are above max_params" in reason for reason in space.left_out.values())
    assert any("multiply-adds are above max_macs" in reason for reason in space.left_out.values())


def test_max_input_size_is_that_of_timms_configuration():
    names = ["resnet18", "vit_base_patch16_384", "test_resnet", "efficientnet_b7"]  # 224, 384, 160, 600 pixels
    assert list(TimmModels(names, max_input_size=224)) == ["resnet18", "test_resnet"]


def test_an_empty_space_says_what_each_filter_removed():
    space = TimmModels(["resnet18", "test_*"], exclude="test_vit*", max_input_size=200, max_params=100)
    others = len(timm.list_models("test_*", exclude_filters="test_vit*"))
    matched = len(timm.list_models("test_*")) + 1
    message = rf"matched {matched}, exclude='test_vit\*' removed .*, max_input_size=200 removed 1, "
    with pytest.raises(ValueError, match=message + f"max_params=100 removed {others}"):
        len(space)


def test_a_fixed_input_size_is_replaced_by_image_size():
    """The published vit_small_patch16_384 is vit_small_patch16_224 with a larger grid of positions."""
    space = TimmModels("vit_small_patch16_224", image_size=384)
    assert space.input_size == (3, 384, 384)
    assert space.costs("vit_small_patch16_224").params == 22_050_664 + (24**2 - 14**2) * 384
    assert list(space) == ["vit_small_patch16_224"]


def test_a_model_that_does_not_take_image_size_is_left_out_or_refused_by_name():
    """LeViT-like attention of EfficientFormer has biases for 7 x 7 positions, whatever img_size says."""
    space = TimmModels(["efficientformer_l1*", "test_resnet"], image_size=96)
    assert list(space) == ["test_resnet"]
    assert "does not take image_size=96" in space.left_out["efficientformer_l1"]
    with pytest.raises(ValueError, match="include names 'efficientformer_l1', but it does not take image_size=96"):
        len(TimmModels(["efficientformer_l1", "test_resnet"], image_size=96))


def test_a_draw_builds_no_more_models_than_it_needs(monkeypatch):
    space = TimmModels("vit_*_224", image_size=64)
    built = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **kwargs: built.append(name) or create(name, **kwargs))
    drawn = list(islice(space.shuffled(random.Random(0)), 2))
    assert set(drawn) <= set(built)
    assert len(built) < 6 < space.most()
    assert space.mutate(drawn[0], random.Random(0)) != drawn[0]
    assert len(built) < 9


def test_draws_can_be_copied_and_pickled_half_way():
    """A strategy holds them, is copied with its module (averaged weights) and sent to other processes."""
    drawn = TimmModels("resnet1*", max_params=16_000_000).shuffled(random.Random(3))
    next(drawn)
    copies = [copy.deepcopy(drawn), pickle.loads(pickle.dumps(drawn))]  # noqa: S301 - our own
    rest = list(drawn)
    assert rest
    assert [list(other) for other in copies] == [rest, rest]


def test_a_search_without_end_draws_every_model_once():
    space = TimmModels("resnet1*", max_params=16_000_000)
    assert sorted(space.shuffled(random.Random(3))) == list(space)
    assert space.most() > len(space)


def test_a_model_that_runs_on_its_own_size_only_says_how_to_build_it_for_another():
    with pytest.raises(ImageSizeError, match=r"'mixer_b16_224'.*\(3, 64, 64\).*TimmModels\(image_size=64\)"):
        TimmModels("mixer_b16_224").costs("mixer_b16_224", (3, 64, 64))
    with pytest.raises(ImageSizeError, match=r"'inception_v3'.*\(3, 32, 32\)"):  # no fixed size, but too small a one
        TimmModels("inception_v3").costs("inception_v3", (3, 32, 32))


def test_a_model_that_runs_on_no_size_is_no_matter_of_size(monkeypatch):
    def broken(network, size):
        raise RuntimeError("broken whatever the size")

    monkeypatch.setattr("lightning_wrcor.spaces.timm_models.count_costs", broken)
    with pytest.raises(ValueError, match="broken whatever the size") as caught:
        TimmModels("mixer_b16_224").costs("mixer_b16_224", (3, 64, 64))
    assert not isinstance(caught.value, ImageSizeError)


def test_who_counts_hundreds_of_models_is_told_why_it_takes_long(monkeypatch, caplog):
    space = TimmModels("vit_*_224", image_size=64)
    monkeypatch.setattr("lightning_wrcor.spaces.timm_models._MANY", 3)
    monkeypatch.setattr(space, "_examine", lambda name: None)
    assert len(space) == space.most()
    assert f"{space.most()} models of timm are built" in caplog.text


def test_without_image_size_costs_are_for_the_models_own_size():
    space = TimmModels(["test_resnet", "vit_tiny_patch16_224"])
    assert space.costs("test_resnet") == space.costs("test_resnet", (3, 160, 160))
    assert space.costs("test_resnet").macs > space.costs("test_resnet", (3, 64, 64)).macs
    with pytest.raises(
        ValueError, match=r"'vit_tiny_patch16_224' cannot run .*\(3, 64, 64\).*TimmModels\(image_size=64\)"
    ):
        space.costs("vit_tiny_patch16_224", (3, 64, 64))


def test_an_encoder_without_a_classifier_is_refused():
    with pytest.raises(ValueError, match="encoder without a classifier"), torch.device("meta"):
        TimmModels("qwen3_vit_88m_enc").build("qwen3_vit_88m_enc")


def test_act_layer_may_be_a_name():
    network = TimmModels("test_resnet", kwargs={"act_layer": "silu", "drop_path_rate": 0.1}).build("test_resnet")
    kinds = Counter(type(module) for module in network.modules())
    assert kinds[nn.SiLU] > 5
    assert kinds[nn.ReLU] == 0


def test_a_model_that_refuses_the_arguments_says_so():
    space = TimmModels(TINY, kwargs={"block_size_of_nothing": 3})
    with pytest.raises(ValueError, match=r"cannot build 'test_vit' with .*block_size_of_nothing=3"):
        space.build("test_vit")
    with pytest.raises(ValueError, match="include names 'test_efficientnet', but timm cannot build"):
        len(TimmModels(TINY, kwargs={"block_size_of_nothing": 3}, max_params=10**9))


def test_counting_changes_no_random_numbers():
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    space = TimmModels("test_[erv]*", image_size=64, max_params=10**6)
    space.costs(next(iter(space)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_a_model_that_the_meta_device_cannot_build_is_counted_with_weights(monkeypatch):
    create = timm.create_model
    devices = []

    def reads_a_value(name, **kwargs):
        network = create(name, **kwargs)
        devices.append(next(network.parameters()).device.type)
        next(network.parameters()).detach().sum().item()
        return network

    expected = TimmModels("test_resnet").costs("test_resnet")
    monkeypatch.setattr(timm, "create_model", reads_a_value)
    before = torch.get_rng_state()
    assert TimmModels("test_resnet").costs("test_resnet") == expected
    assert devices == ["meta", "cpu"]
    assert torch.equal(torch.get_rng_state(), before)


def test_counting_happens_once(monkeypatch):
    create = timm.create_model
    built = []

    def counting(name, **kwargs):
        built.append(name)
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", counting)
    space = TimmModels(TINY, max_macs=10**12)
    assert (len(space), len(space), len(list(space))) == (3, 3, 3)
    for name in space:
        space.costs(name)
    assert sorted(built) == sorted(TINY)


def test_config_holds_plain_values_only():
    space = TimmModels(TINY, exclude=("test_vit",), image_size=64, kwargs={"act_layer": "gelu"})
    config = json.loads(json.dumps(space.config()))
    assert config["class_path"] == "lightning_wrcor.spaces.TimmModels"
    assert list(TimmModels(**config["init_args"])) == list(space)
    assert space.layers("test_resnet") is None
    assert space.mixed_depth


def test_importing_the_spaces_does_not_import_timm():
    code = "import sys, lightning_wrcor.spaces; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_models_that_have_weights() -> None:
    every = set(TimmModels("resnet18*"))
    trained = set(TimmModels("resnet18*", has_weights=True))
    # timm's own lists, by its documented switch.
    expected = {name.split(".")[0] for name in timm.list_models("resnet18*", pretrained=True)}
    assert trained == expected & every
    assert "resnet18" in trained
    with pytest.raises(
        ValueError, match="pretrained weights for none of the models that include='coatnet_0_224' names"
    ):
        TimmModels("coatnet_0_224", has_weights=True)
