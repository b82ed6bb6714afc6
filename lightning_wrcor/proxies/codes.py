"""Proxies of activation codes: which non-linearities are switched on for which image.

The code of one place (one value that a non-linearity receives) is whether it is above 0: for ReLU that says whether it
passes; for smooth functions (SiLU, GELU, ...), which the papers do not treat, it is the side of 0 on which the input lies.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lightning_wrcor._random import derive_seed
from lightning_wrcor.inspection import Call
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Observer, Proxy
from lightning_wrcor.proxies._correlation import IN_CACHE, as_rows, times_own_transpose
from lightning_wrcor.proxies._pass import run_pass
from lightning_wrcor.proxies._samples import require_calls


class _Codes(Observer):
    """Codes, and whether they are of numbers: NaN is neither above 0 nor below."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._broken: list[Tensor] = []

    def rows(self, response: Tensor) -> Tensor:
        """``(B, places)``: what is switched on where it is above 0."""
        rows = as_rows(response)
        self._broken.append(rows.max().isnan())  # the largest of some is NaN where one is
        return rows

    def require_numbers(self, context: Context, name: str) -> None:
        """Refuse a network with NaN where a non-linearity is.

        Raises:
            ValueError: with the reason.
        """
        if self._broken and bool(torch.stack(self._broken).any()):
            raise ValueError(
                f"{type(context.network).__name__} has values that are no numbers (NaN), so it has no {name}."
            )


_COUNTABLE = 2**24
"""As far as float32 counts without rounding."""


class _Agreements(_Codes):
    """For each pair of images, the number of places that are switched alike."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.kernel: Tensor | None = None

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Add one response's places."""
        if part != "activation":
            return
        rows = self.rows(response)
        places = rows.shape[1]
        both = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
        columns = max(1, IN_CACHE // (4 * len(rows))) if rows.device.type == "cpu" else _COUNTABLE
        for part_of_rows in rows.split(columns, dim=1):
            codes = torch.empty(part_of_rows.shape, dtype=torch.float32, device=rows.device)
            both += times_own_transpose(torch.gt(part_of_rows, 0, out=codes)).double()
        ones = both.diagonal()
        agreements = places - ones[:, None] - ones + 2 * both  # where neither is on, and where both are
        self.kernel = agreements if self.kernel is None else self.kernel + agreements


class NASWOT(Proxy):
    """Neural architecture search without training: log abs det of the kernel of activation codes.

    ``K_ij`` is the number of places of all non-linearities that are switched alike for images i and j (places minus the
    Hamming distance of the codes). One forward pass, no labels.

    Source: Mellor et al., "Neural architecture search without training", ICML 2021, arXiv 2006.04647.
    """

    name = "naswot"
    observers = (_Agreements,)

    def measure(self, context: Context) -> float | Measurement:
        """The log-determinant; -inf where two images have one code."""
        require_calls(context)
        seen = context.observer(_Agreements)
        seen.require_numbers(context, self.name)
        kernel = seen.kernel
        if kernel is None:
            return Measurement(-math.inf, "dead: no non-linearity depends on the images")
        kernel = kernel.cpu()
        places = kernel.diagonal().clone()
        # Whole numbers: equal codes show as agreement in every place, without any threshold.
        if bool(((kernel == places[:, None]).sum(1) > 1).any()):
            return Measurement(-math.inf, "K is singular: two images have one code")
        log_det = float(torch.linalg.slogdet(kernel)[1])
        return log_det if math.isfinite(log_det) else Measurement(-math.inf, "K is singular")


_PENDING = 2**22
"""Patterns that are kept before equal ones are dropped."""


class _Patterns(_Codes):
    """The different patterns over the images that places show: packed into whole numbers of 64 bits."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._pending: list[Tensor] = []

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Add one response's patterns."""
        if part != "activation":
            return
        words = []
        for rows in (self.rows(response) > 0).split(64):
            word = torch.zeros(rows.shape[1], dtype=torch.int64, device=rows.device)
            for bit, row in enumerate(rows):
                word |= row.long() << bit
            words.append(word)
        self._pending.append(torch.stack(words, 1))
        if sum(map(len, self._pending)) > _PENDING:
            self._pending = [self._distinct()]

    def _distinct(self) -> Tensor:
        words = torch.cat(self._pending)
        if words.shape[1] > 1:
            distinct: Tensor = words.unique(dim=0)
            return distinct
        ordered = words[:, 0].sort().values  # faster than unique
        return torch.cat([ordered[:1], ordered[1:][ordered[1:] != ordered[:-1]]])[:, None]

    def gather(self) -> int | None:
        """How many different patterns there are; None where no response was seen."""
        return len(self._distinct()) if self._pending else None


class SWAP(Proxy):
    """Sample-wise activation patterns: how many different ones there are.

    The pattern of one place of a non-linearity is for which images of the batch it is switched on; the score is the
    number of different patterns over all places of the network. It is at most 2^B, and at most the number of places. One
    forward pass, no labels. With ``mu`` and ``sigma`` it is the size-regularised score, multiplied by
    ``exp(-((params - mu)^2) / sigma)``: it prefers networks of about ``mu`` parameters.

    Args:
        mu: number of parameters to prefer, in millions; None leaves the score as it is.
        sigma: width of that preference, in millions squared.

    Source: Peng et al., "SWAP-NAS: sample-wise activation patterns for ultra-fast NAS", ICLR 2024, arXiv 2403.04161,
    definitions 3.3 and 3.4.
    """

    observers = (_Patterns,)

    def __init__(self, mu: float | None = None, sigma: float | None = None) -> None:
        if (mu is None) != (sigma is None) or (sigma is not None and sigma <= 0):
            raise ValueError(f"The regularised swap takes both mu and sigma > 0; got mu={mu}, sigma={sigma}.")
        self.mu = mu
        self.sigma = sigma

    @property
    def name(self) -> str:  # type: ignore[override]
        """``"swap"``, or ``"swap_regularised"``."""
        return "swap" if self.mu is None else "swap_regularised"

    def measure(self, context: Context) -> float | Measurement:
        """The number of different patterns, multiplied by the preference for a size if there is one."""
        require_calls(context)
        seen = context.observer(_Patterns)
        seen.require_numbers(context, self.name)
        patterns = seen.gather()
        if patterns is None:
            return Measurement(-math.inf, "dead: no non-linearity depends on the images")
        value = float(patterns)
        if self.mu is not None and self.sigma is not None:
            value *= math.exp(-((context.costs.params / 1e6 - self.mu) ** 2) / self.sigma)
        return value


class _Crossings(_Codes):
    """How often places switch from one image of the batch to the next."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.count = 0

    def see(self, call: Call, part: Literal["activation", "gradient"], response: Tensor) -> None:
        """Add one response's places."""
        if part == "activation":
            codes = self.rows(response) > 0
            self.count += int((codes[1:] != codes[:-1]).sum())


class LinearRegions(Proxy):
    """Number of linear regions that a straight line between two random images crosses.

    A network of piecewise linear functions is linear between the places where one of them switches. The line runs between
    two images of Gaussian noise (from the candidate's seed) in ``points`` steps, which go through the network as one
    batch; the score is 1 plus the number of switches from one point to the next, over all places of all non-linearities.
    One forward pass, no labels.

    TE-NAS counts the different codes of images drawn at random instead, on networks of one channel. On networks of full
    size all images differ in some place, so that count is the number of images whatever the network (``line=False`` gives
    it, for the probe batch).

    Args:
        points: points on the line, at least 2.
        line: count along the line; False counts different codes among the images of the probe batch.

    Source: Chen et al., "Neural architecture search on ImageNet in four GPU hours" (TE-NAS), ICLR 2021, arXiv
    2102.11535; along a line: Hanin and Rolnick, "Complexity of linear regions in deep networks", ICML 2019, arXiv
    1901.09021.
    """

    name = "linear_regions"

    def __init__(self, points: int = 64, line: bool = True) -> None:
        if points < 2:
            raise ValueError(f"A line has at least 2 points; got points={points}.")
        self.points = points
        self.line = line

    def measure(self, context: Context) -> float | Measurement:
        """The number of regions."""
        if not self.line:
            kernel = _Agreements(len(context.images))
            context.record = run_pass(context.network, context.images, None, Needs(), [kernel])
            require_calls(context)
            kernel.require_numbers(context, self.name)
            if kernel.kernel is None:
                return Measurement(-math.inf, "dead: no non-linearity depends on the images")
            alike = (kernel.kernel == kernel.kernel.diagonal()[:, None]).cpu()
            return float(alike.unique(dim=0).shape[0])
        generator = torch.Generator().manual_seed(derive_seed(context.seed, "linear regions"))
        ends = torch.randn(2, *context.images.shape[1:], generator=generator).to(context.images)
        steps = torch.linspace(0.0, 1.0, self.points, dtype=ends.dtype, device=ends.device)[:, None, None, None]
        crossings = _Crossings(self.points)
        context.record = run_pass(context.network, ends[:1] + steps * (ends[1:] - ends[:1]), None, Needs(), [crossings])
        require_calls(context)
        crossings.require_numbers(context, self.name)
        return 1.0 + crossings.count
