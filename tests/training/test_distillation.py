from __future__ import annotations

import copy
import math
import pickle

import lightning.pytorch as pl
import pytest
import timm
import timm.models._builder
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from timm.data import Mixup
from torch import nn

from lightning_wrcor.training import Distillation, Teacher, distillation_loss

from toys import same_weights, weights_hash

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def numbers(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weights(tmp_path):
    """A file of a teacher for ten classes, and the teacher itself in evaluation mode."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=10)
    with torch.no_grad():
        network(numbers(16, 3, 32, 32))  # statistics that are not those of a new network
        network.fc.weight.mul_(20)
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    return str(tmp_path / "teacher.pth"), network.eval()


# ---- the loss


def by_hand(student, teacher, temperature):
    total = 0.0
    for row, taught in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(value / temperature) for value in taught]
        q = [math.exp(value / temperature) for value in row]
        p, q = [value / sum(p) for value in p], [value / sum(q) for value in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_loss_is_the_formula(temperature):
    student, teacher = numbers(6, 5, seed=1, scale=3), numbers(6, 5, seed=2, scale=3)
    expected = by_hand(student, teacher, temperature)
    assert float(distillation_loss(student, teacher, temperature)) == pytest.approx(expected, rel=1e-5)
    settings = Distillation("test_resnet", "a.pth", temperature=temperature)
    assert float(distillation_loss(student, teacher, settings)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        low = distillation_loss(student.bfloat16(), teacher.bfloat16(), temperature)
    assert low.dtype == torch.float32
    exact = by_hand(student.bfloat16().float(), teacher.bfloat16().float(), temperature)
    assert float(low) == pytest.approx(exact, rel=1e-5)


def test_the_gradient_reaches_the_student_alone():
    student, teacher = numbers(4, 3, seed=1).requires_grad_(), numbers(4, 3, seed=2).requires_grad_()
    distillation_loss(student, teacher, 3.0).backward()
    assert teacher.grad is None
    # The gradient of the formula: T (q - p) / B.
    expected = 3 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) / 4
    torch.testing.assert_close(student.grad, expected)


def test_hard_distillation_learns_the_teachers_class():
    student, teacher = numbers(6, 5, seed=1), numbers(6, 5, seed=2)
    hard = Distillation("test_resnet", "a.pth", hard=True, temperature=7.0)
    expected = (
        -sum(float(row.log_softmax(0)[int(taught.argmax())]) for row, taught in zip(student, teacher, strict=True)) / 6
    )
    assert float(distillation_loss(student, teacher, hard)) == pytest.approx(expected, rel=1e-5)


def test_other_classes_are_noticed():
    with pytest.raises(ValueError, match=r"\(2, 3\), the teacher's \(2, 4\)"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 4))


# ---- the settings


def test_the_papers_teacher_is_one_line():
    given = OmegaConf.to_container(OmegaConf.create("distillation: {teacher: resnet152, pretrained: true}"))[
        "distillation"
    ]
    read = Distillation.read(given)
    assert (read.teacher, read.pretrained, read.weights, read.alpha, read.temperature) == (
        "resnet152",
        True,
        None,
        0.5,
        1.0,
    )
    assert Distillation.read(read) is read
    assert Distillation.read(read.to_dict()) == read
    assert Distillation.read(None) is None
    assert Distillation.read({"teacher": "resnet152.a1_in1k", "pretrained": True, "mean": [0, 0, 1]}).mean == (
        0.0,
        0.0,
        1.0,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "'test_resnet' is untrained, and teaches nothing: give weights"),
        ({"weights": "a.pth", "pretrained": True}, "give one of the two"),
        ({"teacher": "resnet153", "pretrained": True}, r"no 'resnet153'\. Closest: resnet152"),
        (
            {"teacher": "resnet152.a9_in1k", "pretrained": True},
            r"no weights 'a9_in1k' of the teacher 'resnet152'.*a1_in1k",
        ),
        ({"weights": "a.pth", "alpha": 1.5}, "alpha of distillation is a share"),
        ({"weights": "a.pth", "temperature": 0}, "temperature of distillation"),
        ({"weights": "a.pth", "image_size": 0}, "image_size of distillation"),
        ({"weights": "a.pth", "teacher_args": {"num_classes": 3}}, "teacher_args cannot hold 'num_classes'"),
        ({"weights": "a.pth", "temprature": 2}, "temperature"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Distillation.read({"teacher": "test_resnet", **settings})


# ---- the teacher


def test_a_teacher_with_another_normalisation_answers_as_on_its_own_images(weights):
    path, network = weights
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    images = (pixels - mean) / std
    teacher = Teacher(Distillation("test_resnet", path), 10, MEAN, STD)
    cfg = teacher.network.pretrained_cfg
    assert cfg["mean"] != MEAN
    own_mean, own_std = (torch.tensor(cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), network((pixels - own_mean) / own_std), atol=1e-4, rtol=1e-4)
        given = Teacher(Distillation("test_resnet", path, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)), 10, MEAN, STD)
        own = (pixels - torch.tensor((0.1, 0.2, 0.3)).view(1, 3, 1, 1)) / torch.tensor((0.4, 0.5, 0.6)).view(1, 3, 1, 1)
        torch.testing.assert_close(given(images), network(own), atol=1e-4, rtol=1e-4)
        as_they_are = Teacher(Distillation("test_resnet", path, normalise=False), 10)
        assert torch.equal(as_they_are(images), network(images))
        # Mixing before is mixing after.
        mixed, _ = Mixup(mixup_alpha=1.0, cutmix_alpha=1.0, num_classes=10, mode="batch")(
            images.clone(), torch.arange(4)
        )
        back = (mixed * std + mean - own_mean) / own_std
        torch.testing.assert_close(teacher(mixed), network(back), atol=1e-4, rtol=1e-4)


def test_images_of_unknown_normalisation_are_refused(weights):
    with pytest.raises(ValueError, match="attributes mean and std, or set normalise=False"):
        Teacher(Distillation("test_resnet", weights[0]), 10)


def test_images_of_one_channel(tmp_path):
    path = str(tmp_path / "grey.pth")
    network = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    torch.save(network.state_dict(), path)
    teacher = Teacher(Distillation("test_resnet", path, mean=[0.5], std=[0.4]), 10, (0.2,), (0.3,), in_chans=1)
    pixels = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        wanted = network.eval()((pixels - 0.5) / 0.4)
    torch.testing.assert_close(teacher((pixels - 0.2) / 0.3), wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(
        ValueError, match="1 channels, but the teacher's are normalised with 3 numbers: set mean and std"
    ):
        Teacher(Distillation("test_resnet", path), 10, (0.2,), (0.3,), in_chans=1)


class Student(pl.LightningModule):
    """A module that holds a teacher."""

    def __init__(self, teacher):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        self.teacher = teacher


def test_a_teacher_is_no_part_of_the_student(weights):
    teacher = Teacher(Distillation("test_resnet", weights[0]), 10, MEAN, STD)
    module = Student(teacher)
    module.train()
    assert not any(part.training for part in teacher.network.modules())
    assert {name.split(".")[0] for name in module.state_dict()} == {"network"}
    assert len(list(module.parameters())) == 2
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    averaged = torch.optim.swa_utils.AveragedModel(module)
    assert averaged.module.teacher is teacher  # shared, not copied
    assert copy.deepcopy(module).teacher is teacher
    images = numbers(2, 3, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(teacher))(images), teacher(images))  # noqa: S301 (written above)


def test_a_student_learns_the_teachers_logits_and_the_teacher_nothing(weights):
    path, _ = weights
    settings = Distillation("test_resnet", path, alpha=0.9, temperature=2.0)
    teacher = Teacher(settings, 10, MEAN, STD)
    before = weights_hash(teacher.network)
    images, labels = numbers(32, 3, 32, 32, seed=4), torch.arange(32) % 10
    left = {}
    for alpha in (0.0, settings.alpha):
        torch.manual_seed(0)
        module = Student(teacher).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.005)
        for _ in range(40):
            logits = module.network(images)
            taught = distillation_loss(logits, teacher(images), settings)
            loss = (1 - alpha) * F.cross_entropy(logits, labels) + alpha * taught
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            left[alpha] = float(distillation_loss(module.network(images), teacher(images), settings))
    assert left[0.9] < 0.5 * left[0.0]
    assert weights_hash(teacher.network) == before  # running statistics included
    assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_images_are_resized_where_the_teacher_asks(weights):
    path, network = weights
    images = numbers(2, 3, 48, 48)
    sized = Teacher(Distillation("test_resnet", path, normalise=False, image_size=32), 10)
    resized = F.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(sized(images), network(resized))
    free = Teacher(Distillation("test_resnet", path, normalise=False), 10)
    with torch.no_grad():
        assert torch.equal(free(images), network(images))


@pytest.mark.parametrize(
    ("arguments", "built", "size"),
    [
        ({}, {}, 160),
        ({"image_size": 64}, {"img_size": 64}, 64),
        ({"teacher_args": {"img_size": 96}}, {"img_size": 96}, 96),
    ],
)
def test_a_fixed_input_size_is_met(tmp_path, arguments, built, size):
    network = timm.create_model("test_vit", num_classes=10, **built).eval()
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    teacher = Teacher(Distillation("test_vit", str(tmp_path / "vit.pth"), normalise=False, **arguments), 10)
    assert teacher.size == (size, size)
    images = numbers(2, 3, 48, 48)
    with torch.no_grad():
        wanted = network(F.interpolate(images, (size, size), mode="bilinear", antialias=True))
    torch.testing.assert_close(teacher(images), wanted)


def test_precision_and_memory_format_are_the_callers(weights):
    teacher = Teacher(Distillation("test_resnet", weights[0]), 10, MEAN, STD).to("cpu", channels_last=True)
    assert teacher.network.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    seen = []
    teacher.network.register_forward_hook(lambda part, given, out: seen.append((given[0], out)))
    images = numbers(2, 3, 32, 32)
    plain = teacher(images)
    with torch.autocast("cpu", torch.bfloat16):
        low = teacher(images)
    assert seen[0][0].is_contiguous(memory_format=torch.channels_last)
    assert (plain.dtype, low.dtype) == (torch.float32, torch.bfloat16)
    assert not teacher(images.clone().requires_grad_()).requires_grad
    torch.testing.assert_close(low.float(), plain, atol=0.2, rtol=0.1)
    assert teacher(images.bfloat16()).dtype == torch.float32
    assert Teacher(Distillation("test_resnet", weights[0], normalise=False), 10).to("meta").network.fc.weight.is_meta


def test_building_a_teacher_draws_no_random_numbers(weights):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    Teacher(Distillation("test_resnet", weights[0]), 10, MEAN, STD)
    assert torch.equal(torch.rand(3), wanted)


def test_timms_own_weights(monkeypatch):
    trained = timm.create_model("test_resnet")
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *args, **kwargs: trained.state_dict())
    teacher = Teacher(Distillation("test_resnet", pretrained=True), 1000, MEAN, STD)
    assert same_weights(teacher.network, trained)
    with pytest.raises(
        ValueError, match="'test_resnet' are for 1000 classes, but the data has 10: train it on this data"
    ):
        Teacher(Distillation("test_resnet", pretrained=True), 10, MEAN, STD)
    with pytest.raises(ValueError, match="no pretrained weights for the teacher 'botnet50ts_256': give weights=FILE"):
        Teacher(Distillation("botnet50ts_256", pretrained=True), 1000, MEAN, STD)


def test_weights_for_other_classes_and_networks_are_refused(weights):
    path, _ = weights
    with pytest.raises(ValueError, match="of the teacher 'test_resnet' are not for the 7 classes of the data"):
        Teacher(Distillation("test_resnet", path), 7, MEAN, STD)
    with pytest.raises(ValueError, match="it does not fit"):
        Teacher(Distillation("test_efficientnet", path), 10, MEAN, STD)
    with pytest.raises(ValueError, match=r"cannot build the teacher 'test_resnet' with \{'heads': 3\}"):
        Teacher(Distillation("test_resnet", path, teacher_args={"heads": 3}), 10, MEAN, STD)
