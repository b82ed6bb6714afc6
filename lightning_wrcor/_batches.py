"""What ``read_batch`` makes of a batch of the training loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

Read = Callable[[Any], tuple[Tensor, Tensor]]
"""Turns a batch of the user's loader into ``(images, labels)``."""


def read_tensors(batch: Any, read: Read) -> tuple[Tensor, Tensor]:
    """Images and labels of a batch, on the CPU.

    Args:
        batch: as the loader gives it.
        read: ``read_batch``, perhaps a user's own.

    Raises:
        MisconfigurationException: where ``read`` looks for parts that the batch does not have, or gives no two tensors.
    """
    try:
        found: Any = read(batch)
    except LookupError as error:
        raise MisconfigurationException(
            f"read_batch does not fit the training batches: {type(error).__name__}: {error}, of {_form(batch)}. "
            "It is to give (images, labels) of such a batch."
        ) from error
    if not (isinstance(found, (tuple, list)) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)):
        raise MisconfigurationException(
            f"read_batch is to give (images, labels), two tensors; of {_form(batch)} it gave {_form(found)}."
        )
    images, labels = found
    return images.detach().cpu(), labels.detach().cpu()


def _form(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(map(str, value)) or '(none)'}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return f"a {type(value).__name__}"
