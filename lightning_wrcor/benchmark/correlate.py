"""How well a proxy's ranking agrees with known accuracies, always beside parameters, MACs and depth."""

from __future__ import annotations

import inspect
import json
import logging
import random
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from lightning_wrcor.benchmark._compare import Agreement, Comparison
from lightning_wrcor.benchmark._networks import read_networks, read_space, shared_note
from lightning_wrcor.benchmark._probe import Probe, read_probe
from lightning_wrcor.benchmark._report import CorrelationReport
from lightning_wrcor.benchmark._scores import Column, Scored, read_columns, score_networks
from lightning_wrcor.benchmark._statistics import RESAMPLES
from lightning_wrcor.benchmark._tables import read_table
from lightning_wrcor.benchmark._threads import threads_of_torch
from lightning_wrcor.search.journal import fingerprint
from lightning_wrcor.spaces import Space

_LOG = logging.getLogger(__name__)


def correlate(
    space: str | Space | Mapping[str, Any] | Sequence[Any],
    accuracies: str | Path,
    column: str | Sequence[str],
    images: str | Path,
    out: str | Path,
    proxies: Sequence[Any] = ("wrcor",),
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    num_classes: int | None = None,
    architectures: str | None = None,
    *,
    rows_seed: int | None = None,
    table: str | None = None,
    where: Mapping[str, Any] | None = None,
    match: str | None = None,
    errors: bool = False,
    image_size: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    resamples: int = RESAMPLES,
    only_report: bool = False,
    figures: bool = True,
) -> CorrelationReport:
    """Score networks whose accuracy is known and compare the rankings. A run that was cut off goes on where it was.

    Writes into ``out``: ``journal.jsonl`` (every evaluation as soon as it is known), ``scores.csv``, ``table.md``,
    ``table.json``, and figures in ``figures/``.

    Args:
        space: the search space that reads the architectures: a space, its name, a mapping, or JSON or YAML text of
            ``class_path`` and ``init_args``. For a file of NDS the widths and depths in it are added.
        accuracies: a CSV file with columns of architectures and accuracies, or a JSON file of NDS; ``.gz`` too.
        column: name of the accuracy column, or several; one scoring serves all.
        images: an ``.npz`` file with ``x_train`` ``(n, height, width, channels)`` uint8 and ``y_train`` ``(n,)``, or a
            folder with one folder of images a class.
        out: folder for what is written.
        proxies: proxies or their names, votes too; the journal is known by them.
        limit: number of networks, drawn at random from ``rows_seed``; None takes all.
        seed: chooses images and weights.
        batch_size: images in the probe batch.
        num_classes: classes of the networks; by default one more than the largest label of all images there are.
        architectures: column of the architectures, or several with commas between, which are joined with ``;``. Found by
            itself where it has a usual name.
        rows_seed: chooses the networks; by default ``seed``. Runs that differ in ``seed`` only score the same networks
            where this stays the same.
        table: which table of a JSON file that holds several.
        where: keeps the rows with these values in these columns.
        match: keeps the rows in whose architecture this regular expression is found.
        errors: the columns hold errors in per cent. Errors in files of NDS are recognised without it.
        image_size: pixels a side of the probe images: the shorter side is resized, the middle cut out. By default images
            of an ``.npz`` file keep their size, and those of a folder get the space's own.
        device: where networks are scored, such as ``"cuda"``.
        threads: threads of torch while scoring; tiny networks are faster with one. None leaves them as they are.
        resamples: bootstrap resamples.
        only_report: make the tables from the journal and score nothing: what an unfinished run is worth so far.
        figures: draw figures, if matplotlib is installed.

    Returns:
        One `Agreement` for each proxy, each vote, each part of the first proxy and each cost, for each column.

    Raises:
        ValueError: for a file, column, filter, space or probe batch that cannot be used; the message says what is wrong.
        OSError: for a file that cannot be read or written.
        SearchError: where most networks fail, or none gets a finite score.
    """
    command = _command(dict(locals()))
    folder, rows_seed = Path(out), seed if rows_seed is None else rows_seed
    wanted = list(dict.fromkeys([column] if isinstance(column, str) else column))
    if (limit is not None and limit < 1) or (threads is not None and threads < 1) or resamples < 1:
        raise ValueError(f"limit, threads and resamples are at least 1; got {limit}, {threads} and {resamples}.")
    given = read_table(Path(accuracies), wanted, architectures, table=table, where=where, match=match, errors=errors)
    space = read_space(space, given.choices)
    networks, notes = read_networks(space, given)
    if limit is not None and limit < len(networks):
        networks = random.Random(rows_seed).sample(networks, limit)
    probe = read_probe(Path(images), batch_size, seed, image_size, space.input_size[-1])
    probe = replace(probe, images=probe.images.to(device), labels=probe.labels.to(device))
    classes = probe.classes if num_classes is None else num_classes
    with threads_of_torch(threads):
        scored = score_networks(
            space, networks, probe, proxies, seed, classes, folder / "journal.jsonl", only_report=only_report
        )
        columns = read_columns(scored.evaluations, proxies)
        agreements = [one for name in wanted for one in _agreements(name, scored, columns, resamples, seed)]
    unfinished = [f"Unfinished: {scored.missing} of {len(networks)} networks are not scored yet."] * bool(
        scored.missing
    )
    report = CorrelationReport(
        agreements,
        {
            "command": command,
            "date": date.today().isoformat(),
            "versions": scored.versions,
            "space": space.config(),
            "accuracies": str(accuracies),
            "table": table,
            "rows": given.total,
            "limit": limit,
            "rows_seed": rows_seed,
            "seed": seed,
            "batch_size": len(probe.labels),
            "probe": probe.source,
            "probe_fingerprint": fingerprint((probe.images, probe.labels)),
            "num_classes": classes,
            "device": _device_name(probe),
            "resamples": resamples,
            **_counts(scored),
        },
        [*unfinished, *given.notes, *notes, *shared_note(scored.networks), *_reasons(scored)],
    )
    report.write(folder, scored, columns)
    if figures:
        _draw(report, folder / "figures", scored, columns)
    return report


def _agreements(name: str, scored: Scored, columns: Sequence[Column], resamples: int, seed: int) -> Iterator[Agreement]:
    """Every score with one column of accuracies, on the networks that have such an accuracy."""
    kept = [place for place, network in enumerate(scored.networks) if name in network.accuracies]
    params, macs = (next(column for column in columns if column.name == name) for name in ("params", "macs"))
    comparison = Comparison(
        name,
        [scored.networks[place].accuracies[name] for place in kept],
        [params.values[place] for place in kept],
        resamples,
        seed,
        [macs.values[place] for place in kept],
    )
    for column in columns:
        values = [column.values[place] for place in kept]
        without = [place for place in kept if column.values[place] is None]
        failed = sum(scored.evaluations[place].status == "failed" for place in without)
        yield comparison.measure(
            column.name, values, refused=len(without) - failed, failed=failed, seconds=column.seconds
        )


def _counts(scored: Scored) -> dict[str, Any]:
    rows = scored.evaluations
    alone = {row.key: row.seconds for row in rows}.values()
    return {
        "n": len(rows),
        "not_scored_yet": scored.missing,
        "dead": sum(row.status == "dead" for row in rows),
        "failed": sum(row.status == "failed" for row in rows),
        "refused": sum(bool(row.details.get("refused")) for row in rows),
        "seconds_per_network": sum(alone) / len(alone) if alone else None,
    }


def _reasons(scored: Scored, most: int = 3) -> list[str]:
    """The most common reasons of failures and refusals, in sentences."""
    failed = Counter(row.reason for row in scored.evaluations if row.status == "failed")
    notes = [f"Failed ({times}): {reason}." for reason, times in failed.most_common(most)]
    refused: dict[str, Counter[str]] = {}
    for row in scored.evaluations:
        for proxy, reason in (row.details.get("refused") or {}).items():
            refused.setdefault(proxy, Counter())[reason] += 1
    for proxy, reasons in refused.items():
        reason, _ = reasons.most_common(1)[0]
        notes.append(f"{proxy} refused {reasons.total()}, mostly: {reason.rstrip('.')}.")
    return notes


def _draw(report: CorrelationReport, folder: Path, scored: Scored, columns: Sequence[Column]) -> None:
    try:
        from lightning_wrcor.benchmark._figures import draw_figures
    except ImportError:
        report.notes.append("No figures: matplotlib is not installed. pip install 'lightning_wrcor[recipes]'")
        _LOG.warning(report.notes[-1])
        return
    report.figures = draw_figures(report, folder, scored, columns)


def _device_name(probe: Probe) -> str:
    device = probe.images.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def _command(arguments: Mapping[str, Any]) -> str:
    """The command line that does the same, as far as the arguments are plain values."""
    words = ["python", "-m", "lightning_wrcor.benchmark", "correlate"]
    parameters = inspect.signature(correlate).parameters
    for name, value in arguments.items():
        if name not in parameters or value == parameters[name].default:
            continue
        option = "--" + name.replace("_", "-")
        if name == "figures":
            words.append("--no-figures")
        elif value is True:
            words.append(option)
        elif name == "where":
            words += [word for key, there in value.items() for word in (option, f"{key}={there}")]
        elif name == "space" and not isinstance(value, str):
            words += [option, json.dumps(value.config() if isinstance(value, Space) else value, default=str)]
        elif name in ("column", "proxies") and not isinstance(value, str):
            words += [option, ",".join(part if isinstance(part, str) else repr(part) for part in value)]
        else:
            words += [option, str(value)]
    return shlex.join(words)
