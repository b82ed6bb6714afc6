"""Settings as bytes for another process, and what cannot be handed over, by name."""

from __future__ import annotations

import ast
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

from lightning_wrcor.search._asked import Asked
from lightning_wrcor.search.strategies import Strategy, get_strategy

_WAY_OUT = "or leave out devices=... to search in this process"
_GUARD = (
    "Each process that devices=... starts imports this script first, and would run the search again. Put the call below "
    '`if __name__ == "__main__":`, ' + _WAY_OUT + "."
)
_DEEP = 20


def pack(function: Callable[..., Any], asked: Asked) -> bytes:
    """A function of a module and what it is asked, as bytes.

    By value: torch's own way would put the tensors of this process's networks into memory that all processes share.

    Raises:
        ValueError: for what cannot be handed over; the message names it and the way out.
    """
    if _problem(asked.strategy) is not None:  # one that has searched already, and holds where it is
        asked = replace(asked, strategy=_afresh(asked.strategy))
    try:
        packed = pickle.dumps((function, asked))
    except Exception:
        for name, value in vars(asked).items():
            if (error := _problem(value)) is not None:
                raise ValueError(_unfit(*_culprit(name, value, error))) from None
        raise
    if not _main_can_be_imported():
        for name, value in vars(asked).items():
            if name != "batch" and b"__main__" in pickle.dumps(value):
                raise ValueError(
                    f"{name} is made of things that are defined in this notebook or session, which other processes cannot "
                    f"see. Write them into a file and import it, {_WAY_OUT}."
                )
    return packed


def unpack(packed: bytes) -> tuple[Any, Asked]:
    """The way back, in the other process.

    Raises:
        ValueError: for what is not there, such as a class that a script defines below its main guard.
    """
    try:
        function, asked = pickle.loads(packed)  # noqa: S301  (our own)
    except Exception as error:
        raise ValueError(
            f"What the search was given cannot be read in the processes that devices=... starts: {type(error).__name__}: "
            f'{error}. Define it at the top level of a module or of the script, above `if __name__ == "__main__":`, '
            f"{_WAY_OUT}."
        ) from error
    return function, asked


def check_script() -> None:
    """Refuse to start processes where each of them would start others: in a script that calls this while it is imported.

    Raises:
        ValueError: the message says what to change.
    """
    # What multiprocessing itself looks at: this process is one that was started, and is importing the script.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ValueError(_GUARD)
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    frame, line = sys._getframe(), None
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is vars(main):
            line = frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    if file is None or line is None or not Path(file).is_file():
        return
    try:
        statements = ast.parse(Path(file).read_bytes()).body
    except (SyntaxError, ValueError):  # not Python's text: a compiled or an archived script
        return
    for statement in statements:
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno) and not _is_guard(statement):
            raise ValueError(_GUARD)


def _is_guard(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If):
        return False
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))


def _main_can_be_imported() -> bool:
    main = sys.modules.get("__main__")
    return getattr(main, "__spec__", None) is not None or hasattr(main, "__file__")


def _afresh(strategy: Strategy) -> Strategy:
    try:
        return get_strategy(strategy.config())
    except Exception:  # which is not why it cannot be handed over
        return strategy


def _problem(thing: Any) -> Exception | None:
    try:
        pickle.dumps(thing)
    except Exception as error:  # PicklingError, AttributeError, TypeError, and whatever a class of a user's raises
        return error
    return None


def _culprit(name: str, thing: Any, error: Exception, depth: int = 0) -> tuple[str, Any, Exception]:
    """The smallest part that cannot be handed over: its name, itself, and what Python says."""
    for step, part in _parts(thing) if depth < _DEEP else ():
        if (found := _problem(part)) is not None:
            return _culprit(name + step, part, found, depth + 1)
    return name, thing, error


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in thing.items())
    elif isinstance(thing, Sequence) and not isinstance(thing, (str, bytes)):
        yield from ((f"[{place}]", value) for place, value in enumerate(thing))
    elif not isinstance(thing, (type, FunctionType)):
        yield from ((f".{name}", value) for name, value in getattr(thing, "__dict__", {}).items())


def _unfit(name: str, thing: Any, error: Exception) -> str:
    kind = thing if isinstance(thing, (type, FunctionType)) else type(thing)
    place = kind.__qualname__
    if place.endswith("<lambda>"):
        what = "a lambda, which"
    elif "<locals>" in place:
        where = f"{kind.__name__}, which is defined inside {place.split('.<locals>')[0]}() and"
        what = where if kind is thing else f"of the class {where}"
    else:
        what = f"a {type(thing).__name__}, which"
    return (
        f"{name} is {what} cannot be handed to other processes ({error}). Use a function or class from the top level of a "
        f"module or script, {_WAY_OUT}."
    )
