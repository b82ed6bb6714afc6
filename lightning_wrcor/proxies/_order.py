"""The order of channels in memory during a pass: as is fastest, where the network does not rely on the usual one."""

from __future__ import annotations

import torch
from torch import Tensor


class MemoryOrder:
    """Lays the images out as is fastest, and what convolutions give with them.

    On a CPU, where oneDNN computes convolutions, that is channels-last: otherwise each convolution lays its input and
    output out anew, and a pass takes a third longer. The weights stay as they are: what a convolution gives follows its
    input. After an error the order is the usual one (`fall_back`).

    Args:
        images: ``(B, C, H, W)``.

    Attributes:
        channels_last: whether this is not the usual order.
    """

    def __init__(self, images: Tensor) -> None:
        self._images = images
        on_cpu = images.device.type == "cpu" and images.dtype == torch.float32
        self.channels_last = on_cpu and torch.backends.mkldnn.is_available()

    @property
    def images(self) -> Tensor:
        """The images as a pass takes them."""
        return self._images.contiguous(memory_format=torch.channels_last) if self.channels_last else self._images

    def fall_back(self) -> bool:
        """Take the usual order from now on. Returns whether that is another one, so that what failed may be tried again.

        A network may rely on the usual order in many ways: by a view that there is not, a last dimension without gaps, a
        copy that is none and overwrites what autograd needs, and where it would be silently wrong by `ReliesOnOrderError`.
        So any error may come of it; what fails for another reason fails once more.
        """
        before, self.channels_last = self.channels_last, False
        self._images = self._images.contiguous()  # the user may have laid them out channels-last as well
        return before
