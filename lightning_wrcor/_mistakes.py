"""Mistakes in what a command line or a file says: one message in the place of a traceback."""

from __future__ import annotations

import copy
import importlib
import inspect
import logging
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, get_origin

from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lightning_wrcor._config import meant
from lightning_wrcor.commands import INTERRUPTED
from lightning_wrcor.commands._text import in_words
from lightning_wrcor.search import SearchError, zero_shot_search
from lightning_wrcor.search._messages import SearchInterrupted

LIBRARIES = frozenset(
    {"lightning_wrcor", "lightning", "pytorch_lightning", "jsonargparse", "omegaconf", "timm", "torch"}
)
"""Whose refusals of a value are worded for those who gave it. An error in anybody else's code needs its traceback."""

DEBUG = "JSONARGPARSE_DEBUG"
"""The environment variable that brings the tracebacks back where it is ``true``; jsonargparse has it for its own."""

_KEY = re.compile(r'Parser key "([^"]+)":\s*')
_CLASS = re.compile(r"Problem with given class_path '([^']+)':\s*")
_NESTED = re.compile(r"NestedArg\(key='(.+?)', val='?(.+?)'?\)")
_WRAPPINGS = ("Does not validate against any", "Subtypes:", "Errors:", "Given value type:", "Expected a path but")


@contextmanager
def told_plainly(after_ctrl_c: Callable[[], str] | None = None) -> Iterator[None]:
    """End the program with one message and status 2 where a setting is refused before training begins.

    Ctrl-C in a search ends it with one line that says where the scores are, and status 130. Errors inside training keep
    their traceback, and so do those of code that is neither this package's nor of the libraries that it stands on. With
    ``JSONARGPARSE_DEBUG=true`` all of them do.

    Args:
        after_ctrl_c: what to say after Ctrl-C in anything but a search, which then ends with status 130 too; None leaves
            it to Lightning.
    """
    try:
        with _said_once():
            yield
    except (KeyboardInterrupt, SystemExit) as stop:
        # Whatever Ctrl-C interrupts, the Trainer makes an exit with status 1 of it.
        interrupted = stop.__context__ if isinstance(stop, SystemExit) else stop
        in_search = isinstance(interrupted, SearchInterrupted)
        elsewhere = isinstance(interrupted, KeyboardInterrupt) and after_ctrl_c is not None
        if not (in_search or elsewhere) or with_tracebacks():
            raise
        if _rank() == 0:
            print(interrupted if in_search or after_ctrl_c is None else after_ctrl_c(), file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        message = refusal(error)
        if message is None or with_tracebacks():
            raise
        end(message)


def with_tracebacks() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get(DEBUG, "").lower() in ("true", "yes")


def end(message: str) -> NoReturn:
    """Say it on stderr and leave with status 2. Of several processes each says it: it may be the only one to fail."""
    rank = _rank()
    print(f"error{f' (process {rank})' if rank else ''}: {message}", file=sys.stderr)
    raise SystemExit(2) from None


def _rank() -> int:
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


@contextmanager
def _said_once() -> Iterator[None]:
    """Without the warning of an interrupted search, which is the program's last line here."""

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Interrupted. ")

    log = logging.getLogger(zero_shot_search.__module__)
    log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)


def refusal(error: BaseException) -> str | None:
    """What to say in the place of a traceback, or None for an error that needs its traceback."""
    frames = list(_frames(error.__traceback__))
    if any(name == "_run_stage" for _, name in frames):  # the Trainer's loops have begun
        return None
    while error.__cause__ is not None and _is_wrapping(str(error)):
        error = error.__cause__
        frames = list(_frames(error.__traceback__)) or frames
    if isinstance(error, (MisconfigurationException, SearchError)) or (isinstance(error, OSError) and error.filename):
        return in_words(error)
    raised_in = frames[-1][0].partition(".")[0] if frames else ""
    if isinstance(error, (ValueError, TypeError, OSError, ImportError, ArgumentError)) and raised_in in LIBRARIES:
        return sentence(str(error))
    return None


def sentence(message: str, known: Iterable[str] = ()) -> str:
    """What jsonargparse means by a message of many lines: the key, what is wrong, and what was meant instead.

    Args:
        message: its message: a tree with a branch for each type that a value might have had.
        known: the keys that there are.
    """
    known = [name for name in known if not name.endswith(".help")]
    keys: list[str] = []
    classes: list[str] = []
    kinds: list[str] = []
    facts: list[str] = []
    given: str | None = None
    for line in message.splitlines():
        line = line.strip().removeprefix("- ").strip()
        if line.startswith("Subclass types expect") or (facts and line.startswith("Not a valid subclass")):
            break  # what follows explains class paths
        if found := _KEY.match(line):
            keys.append(found[1])
            line = line[found.end() :]
        if found := _CLASS.match(line):
            classes.append(found[1])
            line = line[found.end() :]
        if line.startswith("Given value: "):
            given = given or line.removeprefix("Given value: ")
        elif found := re.fullmatch(
            r"Expected an? (<class '[\w.]+'>|typing\.Literal\[.*?\])(?:\. Got value: (.*))?", line
        ):
            kinds.append(_kind(found[1]))
            given = given or found[2]
        elif line and not line.startswith(_WRAPPINGS):
            facts.append(_reworded(line, classes, known))
    if facts:
        said = "; ".join(dict.fromkeys(facts))
    elif kinds:
        said = f"expected {' or '.join(dict.fromkeys(kinds))}" + (f", got {given!r}" if given is not None else "")
    else:
        return message
    where = ".".join(key for key in keys if key != "config")
    return f"{where}: {said}" if where else said


def check_types(values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Refuse values that are not of the types with which the arguments of classes are declared.

    Args:
        values: a value for each name, or a mapping from argument names to values where the type is a class.
        types: the type of each name: a class, or a type of plain values such as ``list[str]``.

    Raises:
        ValueError: for the first that does not fit.
    """
    parser = ArgumentParser(exit_on_error=False)
    for name, kind in types.items():
        if kind in (bool, int, float, str) or not inspect.isclass(kind) or get_origin(kind) is not None:
            parser.add_argument(f"--{name}", type=kind)
        else:
            parser.add_class_arguments(kind, name, fail_untyped=False)
    for name, value in values.items():
        if value is None:
            raise ValueError(f"{name} has no value.")
    try:
        parser.parse_object(copy.deepcopy(dict(values)))  # jsonargparse puts namespaces in the place of inner mappings
    except ArgumentError as error:
        raise ValueError(sentence(str(error))) from error


def _kind(text: str) -> str:
    if text.startswith("<class"):
        name = text.split("'")[1]
        return "null" if name == "NoneType" else name.rpartition(".")[2]
    return f"one of {text.partition('[')[2][:-1]}"


def _reworded(fact: str, classes: list[str], known: list[str]) -> str:
    if (found := re.fullmatch(r"Option '(.+)' is not accepted", fact)) and classes:
        there = _arguments(classes[-1])
        listed = f" Its arguments: {', '.join(there)}." if there else ""
        return f"{classes[-1].rpartition('.')[2]} has no argument {found[1]!r}.{meant(found[1], there) or listed}"
    if found := re.fullmatch(r"Group '(.+)' does not accept option '(.+)'", fact):
        space = " (YAML wants a space after the colon.)" if ":" in found[2] else ""
        return f"there is no setting {found[2]!r} of {found[1]}.{space}"
    if found := re.fullmatch(r"Subcommand '(.+)' does not accept option '(.+)'", fact):
        return f"there is no setting {found[2]!r}.{meant(found[2], known)}"
    if found := re.fullmatch(r"unrecognized arguments: (.+)", fact):
        first = found[1].split()[0].lstrip("-").partition("=")[0]
        near = meant(first, known) or meant(first.partition(".")[0], {name.partition(".")[0] for name in known})
        return f"{fact}.{near}" if near else fact
    if found := _NESTED.search(fact):
        return f"'{found[1]}={found[2]}' does not fit the class that it is to be an argument of"
    if found := re.fullmatch(r"Expected a dot import path string: (.+)", fact):
        return f"there is no class named {found[1]!r}; give its class path, package.module.Class"
    return fact


def _arguments(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    try:
        return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, TypeError, ValueError):
        return []


def _is_wrapping(text: str) -> bool:
    return text.lstrip("\n- ").startswith((*_WRAPPINGS, "Parser key", "Problem with given class_path"))


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, str]]:
    """Module and function of each frame, the innermost last."""
    while traceback is not None:
        frame = traceback.tb_frame
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
        traceback = traceback.tb_next
