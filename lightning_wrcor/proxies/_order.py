"""The order of channels in memory during a pass: as is fastest, where the network does not rely on the usual one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_wrcor.inspection import ReliesOnOrderError


class MemoryOrder:
    """Lays a network's weights and the images out as is fastest inside the ``with`` block.

    On a CPU, where oneDNN computes convolutions, that is channels-last: otherwise each convolution lays its input and
    output out anew, and a pass takes a third longer. After an error that this caused (`caused`), the order stays the usual
    one.

    Args:
        network: its weights are laid out anew, in place, and back.
        images: ``(B, C, H, W)``.

    Attributes:
        channels_last: whether this is not the usual order.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self._network = network
        self._images = images
        on_cpu = images.device.type == "cpu" and images.dtype == torch.float32
        self.channels_last = on_cpu and torch.backends.mkldnn.is_available()

    def __enter__(self) -> Tensor:
        """The images as a pass takes them."""
        if not self.channels_last:
            return self._images
        self._network.to(memory_format=torch.channels_last)
        return self._images.contiguous(memory_format=torch.channels_last)

    def __exit__(self, *error: object) -> None:
        if self.channels_last:
            self._network.to(memory_format=torch.contiguous_format)

    def caused(self, error: RuntimeError) -> bool:
        """Whether a pass failed because the network relies on the usual order, which it has from now on."""
        refused = isinstance(error, ReliesOnOrderError) or "view size is not compatible" in str(error)
        caused = refused and self.channels_last
        self.channels_last = self.channels_last and not caused
        return caused
