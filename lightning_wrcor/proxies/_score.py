"""Scoring one network."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.inspection import Costs, count_costs
from lightning_wrcor.inspection.costs import where_it_lives
from lightning_wrcor.proxies._base import Context, Measurement, Needs, PassRecord, Proxy
from lightning_wrcor.proxies._observed import check_observers, never_called
from lightning_wrcor.proxies._order import MemoryOrder
from lightning_wrcor.proxies._pass import run_pass
from lightning_wrcor.proxies._precision import Precision, read_precision
from lightning_wrcor.proxies._prepare import exact_products, prepare, refuse_opaque, reinitialise, scoring_copy
from lightning_wrcor.proxies._registry import get_proxy
from lightning_wrcor.proxies._report import ScoreReport

Batch = tuple[Tensor, Tensor]
"""``(images, labels)``: ``(B, C, H, W)`` floating point, and ``(B,)`` whole numbers or ``(B, classes)`` probabilities."""

LOW_COVERAGE = 0.8


def score(
    network: nn.Module,
    batch: Batch,
    proxy: str | Proxy | Mapping[str, Any] | Sequence[str | Proxy | Mapping[str, Any]] = "wrcor",
    seed: int | None = None,
    *,
    layers: Mapping[str, int] | None = None,
    precision: Precision = "float32",
) -> ScoreReport:
    """Score an untrained network on one batch. Higher is better.

    A copy of the network is scored: training mode, dropout and drop-path off, scales initialised to zero set to one (the
    report says so). The network, its modes and all global random numbers are left as they were.

    Args:
        network: any network that maps images to logits ``(B, classes)``. Score it before ``torch.compile``.
        batch: ``(images, labels)``; images ``(B, C, H, W)`` floating point with B of at least 2 (64 is the paper's), labels
            ``(B,)`` whole numbers below the number of classes. Moved to the network's device and type.
        proxy: a proxy's name (`lightning_wrcor.proxies.list_proxies`), a proxy, or several, of which the first gives
            ``value`` and must have one; those that need the same pass share it. What another one refuses, with the
            reason, is in the report's ``refused``.
        seed: initialise the copy anew from this seed; None scores the weights that the network has.
        layers: ``{module name: layer index}`` for WRCor's weights 2^l; None applies the rule of
            `lightning_wrcor.inspection`.
        precision: ``"bfloat16"`` runs the pass that proxies share under torch's autocast; proxies with passes of their own
            stay in float32.

    Returns:
        The score and what it rests on.

    Raises:
        ValueError: for a batch or a network that cannot be scored, with what to do.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> report = score(network, (torch.randn(16, 3, 2, 2), torch.arange(16) % 3))
        >>> report.coverage_text
        '1 of 1 non-linearities captured: 1 ReLU'
    """
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"score takes a network (nn.Module); got {network!r}. timm.create_model builds one from its name, and "
            "zero_shot_search takes a list of names."
        )
    check_batch(batch)
    several: Sequence[Any] = proxy if isinstance(proxy, Sequence) and not isinstance(proxy, str) else [proxy]
    proxies = [get_proxy(spec) for spec in several]
    if not proxies:
        raise ValueError("The list of proxies is empty: give at least one; the first gives the report's value.")
    # Gradients are needed, also where the caller is in inference mode.
    with torch.inference_mode(False), own_random_numbers(0 if seed is None else seed):
        copied = scoring_copy(network)
        if seed is not None:
            reinitialise(copied)
        return score_prepared(
            copied, batch, proxies, seed=0 if seed is None else seed, layers=layers, precision=read_precision(precision)
        )


def score_prepared(
    network: nn.Module,
    batch: Batch,
    proxies: Sequence[Proxy],
    *,
    seed: int,
    layers: Mapping[str, int] | None = None,
    mixed_depth: bool = False,
    costs: Costs | None = None,
    num_classes: int | None = None,
    any_of: Sequence[str] = (),
    precision: Precision = "float32",
) -> ScoreReport:
    """Score a network that belongs to the caller: it is changed in place. Global random numbers are the caller's care.

    Args:
        network: freshly built or copied.
        batch: checked by `check_batch`.
        proxies: the first gives the report's ``value``.
        seed: the candidate's seed, handed to the proxies.
        layers: layer map, or None.
        mixed_depth: the candidates differ in depth by nature.
        costs: if they are known already.
        num_classes: logits that the network must give; None takes what it gives.
        any_of: names of proxies of which one at least must have a value; by default that of the first. What the others
            refuse is in the report.
        precision: of the pass that proxies share.

    Raises:
        ValueError: for a network with another number of logits, and whatever the pass and the proxies refuse.
    """
    start = time.perf_counter()
    for proxy in proxies:
        check_observers(proxy)
    refuse_opaque(network)
    notes = prepare(network)
    home = where_it_lives(network)
    images, labels = batch[0].to(**home), batch[1].to(home["device"])
    labels = labels.to(images.dtype) if labels.is_floating_point() else labels.long()
    if costs is None:
        channels, height, width = images.shape[1:]
        costs = count_costs(network, (channels, height, width))
    context = Context(network, images, labels, seed, mixed_depth, costs, layers)
    results = _Results()
    first: PassRecord | None = None
    way = _Way(MemoryOrder(context.images), precision)
    for needs, group in _passes(proxies):
        record = _run_group(context, needs, group, results, way)
        if record is not None and num_classes is not None and record.classes != num_classes:
            raise ValueError(f"The network gives {record.classes} logits, but there are {num_classes} classes.")
        first = first or record
    for proxy in proxies:
        if not proxy.observers:
            results.measure(proxy, context)
    needed = any_of or [proxies[0].name]
    if not any(name in results.measured for name in needed):
        raise results.errors[needed[0]]
    return _report(proxies, results, context, first, notes, time.perf_counter() - start)


def _passes(proxies: Sequence[Proxy]) -> list[tuple[Needs, list[Proxy]]]:
    """Proxies that watch, by the pass that they share."""
    groups: list[tuple[Needs, list[Proxy]]] = []
    watching = [proxy for proxy in proxies if proxy.observers]
    # Those that need no backward pass come last: they fit into any.
    for proxy in sorted(watching, key=lambda proxy: not proxy.needs.backward):
        for place, (needs, group) in enumerate(groups):
            if needs.shares(proxy.needs):
                groups[place] = (needs.merge(proxy.needs), [*group, proxy])
                break
        else:
            groups.append((proxy.needs, [proxy]))
    return groups


def _run_group(
    context: Context, needs: Needs, group: Sequence[Proxy], results: _Results, way: _Way
) -> PassRecord | None:
    kinds = {kind: None for proxy in group for kind in proxy.observers}
    observers = {kind: kind(len(context.images)) for kind in kinds}
    record: PassRecord | None = None
    start = time.perf_counter()
    try:
        with exact_products():
            record = run_pass(
                context.network,
                way.order.images,
                context.labels,
                needs,
                list(observers.values()),
                context.layers,
                channels_last=way.order.channels_last,
                precision=way.precision,
            )
    except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        if len(group) > 1:  # what one of them cannot have shall not cost the others theirs
            records = [_run_group(context, proxy.needs, [proxy], results, way) for proxy in group]
            return next((record for record in records if record is not None), None)
        results.errors[group[0].name] = error if isinstance(error, ValueError) else ValueError(str(error))
        return None
    except Exception:  # any error may come of the order of memory: `MemoryOrder.fall_back` says why
        if not way.order.fall_back():
            raise
    if record is None:  # out here, where what the error held is free again
        observers.clear()
        return _run_group(context, needs, group, results, way)
    seconds = time.perf_counter() - start
    context.record, context.observers = record, observers
    for proxy in group:
        results.measure(proxy, context)
        results.seconds[proxy.name] += seconds
    context.observers = {}  # what they hold is large
    return record


@dataclass(frozen=True)
class _Way:
    """How the passes are run."""

    order: MemoryOrder
    precision: Precision


class _Results:
    """What every proxy gave, or why it refused."""

    def __init__(self) -> None:
        self.measured: dict[str, Measurement] = {}
        self.errors: dict[str, ValueError] = {}
        self.seconds: dict[str, float] = {}

    def measure(self, proxy: Proxy, context: Context) -> None:
        start = time.perf_counter()
        try:
            with exact_products():
                result = proxy.measure(context)
            measurement = result if isinstance(result, Measurement) else Measurement(float(result))
            if math.isnan(measurement.value) or measurement.value == math.inf:
                given = "NaN" if math.isnan(measurement.value) else "+inf"
                raise ValueError(f"The proxy {proxy.name} gave {given}.")
            self.measured[proxy.name] = measurement
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            self.errors[proxy.name] = ValueError(f"The proxy {proxy.name} found no eigenvalues: {error}")
        except ValueError as error:
            self.errors[proxy.name] = error
        self.seconds[proxy.name] = time.perf_counter() - start


def _report(
    proxies: Sequence[Proxy],
    results: _Results,
    context: Context,
    record: PassRecord | None,
    notes: list[str],
    seconds: float,
) -> ScoreReport:
    first = next(proxy for proxy in proxies if proxy.name in results.measured)
    name, main = first.name, results.measured[first.name]
    reason = main.reason
    if reason is None and main.value == -math.inf:
        unheard = never_called(first)
        reason = "the proxy gave -inf" + (f" ({unheard})" if unheard else "")
    report = ScoreReport(
        proxy=name,
        value=main.value,
        scores={proxy.name: results.measured[proxy.name].value for proxy in proxies if proxy.name in results.measured},
        refused={proxy.name: str(results.errors[proxy.name]) for proxy in proxies if proxy.name in results.errors},
        reason=reason,
        batch_size=len(context.images),
        params=context.costs.params,
        macs=context.costs.macs,
        depth=context.costs.depth,
        seconds=seconds,
        proxy_seconds={name: results.seconds.get(name, 0.0) for name in results.measured},
        notes=notes,
    )
    for field in ("size_term", "shape_term", "sign", "smallest_eigenvalue", "shares", "depth_normalised"):
        setattr(report, field, main.details.get(field))
    if "activations_used" in main.details:
        report.responses_used = {
            "activations": main.details["activations_used"],
            "gradients": main.details["gradients_used"],
        }
        report.responses_skipped = dict(main.details["skipped"])
    if record is not None:
        _cover(report, record)
    return report


def _cover(report: ScoreReport, record: PassRecord) -> None:
    kinds: dict[str, int] = {}
    for call in record.calls:
        kinds[call.kind] = kinds.get(call.kind, 0) + 1
    total = len(record.calls) + len(record.unseen)
    if not total:
        report.coverage_text = "the network has no non-linearity that counts"
        return
    report.coverage = record.coverage
    report.coverage_text = f"{len(record.calls)} of {total} non-linearities captured: " + ", ".join(
        f"{count} {kind}" for kind, count in kinds.items()
    )
    if record.gates_seen:
        gates = ", ".join(f"{count} {kind}" for kind, count in record.gates_seen.items())
        report.coverage_text += f"; gates not counted: {gates}"
    if record.output != "Tensor":
        report.notes.append(f"the network returns a {record.output}: its first part (or 'logits') was taken as logits")
    if record.unseen:
        report.notes.append(f"not seen: {', '.join(sorted(set(record.unseen)))}")
    if record.coverage < LOW_COVERAGE:
        report.notes.append(f"low coverage: only {record.coverage:.0%} of the non-linearities were captured")


def check_batch(batch: Any) -> None:
    """Refuse a batch that no proxy can use.

    Raises:
        ValueError: with the way out.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        got = type(batch).__name__
        raise ValueError(f"A batch is a pair of tensors (images, labels); got {got}.")
    images, labels = batch
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"Images are floating point of shape (batch, channels, height, width); got {images.dtype} of shape "
            f"{tuple(images.shape)}. Convert whole numbers as your training does."
        )
    if len(images) < 2:
        raise ValueError(
            "A batch of one has no correlation between samples, and batch normalisation needs two; give at least 2 images "
            "(64 is usual)."
        )
    if len(labels) != len(images) or labels.dim() != (2 if labels.is_floating_point() else 1):
        raise ValueError(
            f"Labels are whole numbers of shape ({len(images)},) or probabilities of shape ({len(images)}, classes); got "
            f"{labels.dtype} of shape {tuple(labels.shape)}."
        )
    if not bool(torch.isfinite(images).all()):
        raise ValueError("The images hold values that are not finite (NaN or inf).")
