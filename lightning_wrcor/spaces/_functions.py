"""Functions that a user hands to a space, and the text that can stand for them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lightning_wrcor._config import closest

_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def import_function(what: str, path: str) -> Callable[..., Any]:
    """The function that an import path leads to.

    Args:
        what: where the path was given; messages begin with it.
        path: ``"package.module.function"`` or ``"package.module:Class.function"``.

    Raises:
        ValueError: if it leads nowhere, or to something that cannot be called.
    """
    module_name, _, attributes = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        found: Any = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{what}: cannot import {module_name!r}: {error}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            functions = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
            hint = f" Closest: {', '.join(closest(attribute, functions)[:5])}." if functions else ""
            raise ValueError(f"{what}: {module_name!r} has no {attributes!r}.{hint}")
        found = getattr(found, attribute)
    if isinstance(found, nn.Module) or not callable(found):
        raise ValueError(f"{what}: {path!r} must lead to a function or class; it leads to {found!r}.")
    return found  # type: ignore[no-any-return]


def describe_function(function: Callable[..., Any]) -> str:
    """The import path of a function that can be imported, else a text in ``<>`` that says what the object was."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module and name and module != "__main__" and "<" not in name:
        path = f"{module}:{name}"
        try:
            if import_function("", path) is function:
                return path
        except ValueError:
            pass  # defined where an import does not find it again, such as in a notebook
    cls = type(function)
    return f"<function {module}.{name}>" if name else f"<object of {cls.__module__}.{cls.__qualname__}>"


def is_description(value: object) -> bool:
    """Whether this is a text of `describe_function` that leads back to nothing."""
    return isinstance(value, str) and value.startswith("<") and value.endswith(">")


def accepted(function: Callable[..., Any], arguments: Mapping[str, Any], catch_all: bool = False) -> dict[str, Any]:
    """The arguments that the function's signature has by name.

    Args:
        function: any callable.
        arguments: what could be passed.
        catch_all: ``**kwargs`` take the rest.
    """
    parameters = _parameters(function)
    if catch_all and any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters and parameters[name].kind in _NAMED}


def check_call(argument: str, function: Callable[..., Any], names: Mapping[str, Any] | list[str]) -> None:
    """Refuse a function that cannot be called with keywords of these names, and no others.

    Raises:
        TypeError: naming the parameter that is missing or too many.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in callables have no signature
        return
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        called = ", ".join(f"{name}=..." for name in names)
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"{argument} is called as {name}({called}), but {name}{signature}: {error}.") from None


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
