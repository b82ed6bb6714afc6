"""Search spaces by name, by class path, or as they are."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lightning_wrcor.spaces._base import Space
from lightning_wrcor.spaces._cells import names_closest_first
from lightning_wrcor.spaces.network_list import NetworkList

S = TypeVar("S", bound=type[Space])

_SPACES: dict[str, type[Space]] = {}


def register_space(cls: S) -> S:
    """Make a space known by its ``kind``, so that `get_space` finds it by that name. Usable as a decorator.

    Args:
        cls: a subclass of `Space` with a ``kind``.

    Returns:
        The class itself.

    Raises:
        TypeError: if ``cls`` is not a subclass of `Space`, or has no ``kind``.
        ValueError: if another class has the name already.
    """
    if not (isinstance(cls, type) and issubclass(cls, Space)):
        raise TypeError(f"Only subclasses of Space can be registered; got {cls!r}.")
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str) or not _plain_name(kind):
        raise TypeError(
            f"{cls.__qualname__} needs a class attribute `kind` with the name to register; it has {kind!r}."
        )
    other = next((known for name, known in _SPACES.items() if _plain_name(name) == _plain_name(kind)), None)
    # A class defined again, as notebooks do when a cell is run twice, takes the place of its older self.
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"{cls.__qualname__}: the name {kind!r} is taken by {other.__module__}.{other.__qualname__}.")
    _SPACES[kind] = cls
    return cls


def list_spaces() -> list[str]:
    """The names that `get_space` knows, sorted."""
    return sorted(_SPACES)


def get_space(spec: Space | type[Space] | str | Mapping[str, Any] | Sequence[Any], **init_args: Any) -> Space:
    """Make a search space of what a user wrote.

    Args:
        spec: one of

            - a space, which is returned as it is;
            - a subclass of `Space`, or the name of a registered one (see `list_spaces`; case, ``-`` and ``_`` make no
              difference);
            - a mapping ``{"class_path": "package.module.Class", "init_args": {...}}``, such as `Space.config` gives;
              the class must be a subclass of `Space`, and its module is imported;
            - a list of networks, for `NetworkList`.
        **init_args: arguments of the space's class; they win over those in a mapping.

    Returns:
        The space.

    Raises:
        ValueError: for a name, class path or argument that does not exist, with those that do, the closest first.
        TypeError: for anything else than the above, a class that is not a space, and ``init_args`` beside a space.
    """
    if isinstance(spec, Space):
        if init_args:
            raise TypeError(f"A space that exists takes no more arguments; got {', '.join(init_args)} with {spec!r}.")
        return spec
    if isinstance(spec, str):
        return _construct(_registered(spec), init_args)
    if isinstance(spec, Mapping):
        cls, own_args = _read(spec)
        return _construct(cls, {**own_args, **init_args})
    if isinstance(spec, Sequence):
        return _construct(NetworkList, {"networks": spec, **init_args})
    if isinstance(spec, type) and issubclass(spec, Space):
        return _construct(spec, init_args)
    raise TypeError(
        f"A search space is a Space, a name ({', '.join(list_spaces())}), a mapping with class_path and init_args, or "
        f"a list of networks; got {type(spec).__name__}: {spec!r}."
    )


def _plain_name(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "")


def _registered(name: str) -> type[Space]:
    for kind, cls in _SPACES.items():
        if _plain_name(kind) == _plain_name(name):
            return cls
    raise ValueError(f"There is no search space {name!r}. There are: {names_closest_first(name, _SPACES)}.")


def _read(spec: Mapping[str, Any]) -> tuple[type[Space], dict[str, Any]]:
    unknown = sorted(set(spec) - {"class_path", "init_args"})
    if "class_path" not in spec or unknown:
        raise ValueError(
            f"A search space as a mapping has the keys class_path and init_args; got {', '.join(map(str, spec))}. (To "
            f"give networks their own names, use {{'class_path': 'lightning_wrcor.spaces.NetworkList', 'init_args': "
            f"{{'networks': {{...}}}}}}.)"
        )
    init_args = spec.get("init_args") or {}
    if not isinstance(init_args, Mapping):
        raise TypeError(f"init_args must be a mapping from argument names to values; got {init_args!r}.")
    return _imported_class(spec["class_path"]), dict(init_args)


def _imported_class(path: Any) -> type[Space]:
    if not isinstance(path, str):
        raise TypeError(f"class_path must be text, 'package.module.Class'; got {path!r}.")
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        # A short path, as the Lightning CLI takes too: the name of a registered class.
        classes = {cls.__qualname__: cls for cls in _SPACES.values()}
        if class_name not in classes:
            raise ValueError(f"There is no search space {path!r}. There are: {names_closest_first(path, classes)}.")
        return classes[class_name]
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"Cannot import {module_name!r} of class_path {path!r}: {error}") from error
    if not hasattr(module, class_name):
        spaces = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Space)]
        there = f"Its spaces: {names_closest_first(class_name, spaces)}." if spaces else "It has no search space."
        raise ValueError(f"class_path {path!r}: {module_name!r} has no {class_name!r}. {there}")
    cls = getattr(module, class_name)
    if not (isinstance(cls, type) and issubclass(cls, Space)):
        raise TypeError(f"class_path {path!r} must lead to a subclass of lightning_wrcor.spaces.Space; got {cls!r}.")
    return cls


def _construct(cls: type[Space], init_args: Mapping[str, Any]) -> Space:
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise TypeError(f"{cls.__qualname__} is not a complete space: it does not define {missing}.")
    parameters = inspect.signature(cls).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for argument in init_args:
        if argument not in parameters and not takes_any:
            known = names_closest_first(argument, parameters) or "none"
            raise ValueError(f"{cls.__qualname__} has no argument {argument!r}. Its arguments: {known}.")
    return cls(**init_args)
