"""The arguments of the data modules on the command line."""

from __future__ import annotations

import inspect

import pytest
from jsonargparse import ArgumentParser

from lightning_wrcor.data import DigitsData, ImageFolderData, TimmData


@pytest.mark.parametrize("cls", [DigitsData, ImageFolderData, TimmData])
def test_every_argument_has_a_type_and_a_line_of_help(cls):
    parser = ArgumentParser()
    parser.add_class_arguments(cls, "data")
    text = " ".join(parser.format_help().split())
    for name in inspect.signature(cls).parameters:
        after = text.rpartition(f"--data.{name} ")[2].partition(" --data.")[0]
        assert "type: " in after, name
        assert not after.partition(" ")[2].startswith("("), name  # words come before the type


def test_arguments_from_the_command_line(tmp_path):
    parser = ArgumentParser()
    parser.add_class_arguments(ImageFolderData, "data")
    arguments = [f"--data.root={tmp_path}", "--data.scale=[0.5,1]", "--data.auto_augment=rand-m9", "--data.seed=3"]
    config = parser.parse_args(arguments)
    data = getattr(parser, "instantiate", parser.instantiate_classes)(config).data  # renamed in jsonargparse 4.49
    assert (data.root, data.scale, data.auto_augment, data.seed) == (str(tmp_path), (0.5, 1.0), "rand-m9", 3)
    assert dict(data.hparams) == {}
