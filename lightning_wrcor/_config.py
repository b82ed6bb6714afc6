"""Objects from plain values and back: names in a registry, ``class_path`` with ``init_args``, or the object itself."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Configurable:
    """A class that stores each constructor argument in an attribute of the same name.

    It can then be written as plain values into checkpoints, journals and YAML, and be built again from them.
    """

    def config(self) -> dict[str, Any]:
        """``{"class_path": ..., "init_args": {...}}``, plain values only."""
        cls = type(self)
        names = [name for name in inspect.signature(cls).parameters if name != "self"]
        return {"class_path": class_path(cls), "init_args": {name: plain(getattr(self, name)) for name in names}}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config()["init_args"].items())
        return f"{type(self).__name__}({arguments})"


def class_path(cls: type) -> str:
    """The shortest public dotted path of a class (``lightning_wrcor.spaces.DARTS``, not the file it lives in)."""
    parts = cls.__module__.split(".")
    for length in range(1, len(parts)):
        module = importlib.import_module(".".join(parts[:length]))
        if module.__dict__.get(cls.__qualname__) is cls:
            return f"{module.__name__}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def plain(value: Any) -> Any:
    """Plain values only, as a checkpoint may hold them that is read with ``weights_only=True``."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Configurable):
        return value.config()
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [plain(part) for part in value]
    # An object (a class, a function, a module): the text says what it was; it cannot be built again from that.
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def closest(name: str, names: Iterable[str]) -> list[str]:
    """All ``names``, those most like ``name`` first (for error messages)."""
    names = sorted(names)
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=len(names) or 1, cutoff=0.5)
    first = sorted((n for n in names if n.lower() in near), key=lambda n: near.index(n.lower()))
    return first + [n for n in names if n not in first]


class Registry(Generic[T]):
    """Names to classes; reads what a user gives for one of them.

    Args:
        base: the class of which every entry is a subclass.
        what: what an entry is called in messages, such as ``"proxy"``.
        plural: the same for several.
    """

    def __init__(self, base: type[T], what: str, plural: str) -> None:
        self._base = base
        self._what = what
        self._plural = plural
        self._classes: dict[str, type[T]] = {}

    def add(self, *names: str) -> Any:
        """Class decorator: register under these names (the first is the main one)."""

        def register(cls: type[T]) -> type[T]:
            for name in names:
                self._classes[_normal(name)] = cls
            return cls

        return register

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._classes)

    def get(self, spec: Any, **init_args: Any) -> T:
        """Build from a name, a class path, ``{"class_path": ..., "init_args": ...}``, a class, or return the object.

        Raises:
            ValueError: for a name that is not known; the message lists the names there are, closest first.
            TypeError: for arguments that the class does not take, or an object of another kind.
        """
        if isinstance(spec, self._base):
            return spec
        if isinstance(spec, Mapping):
            unknown = set(spec) - {"class_path", "init_args"}
            if "class_path" not in spec or unknown:
                raise ValueError(f"A {self._what} as a mapping has class_path and init_args; got {dict(spec)!r}.")
            return self.get(spec["class_path"], **{**(spec.get("init_args") or {}), **init_args})
        if isinstance(spec, str):
            spec = self._classes.get(_normal(spec)) or self._import(spec)
        if isinstance(spec, type) and issubclass(spec, self._base):
            return spec(**init_args)
        raise TypeError(
            f"{spec!r} is no {self._what}; give a {self._base.__name__}, or one of: {', '.join(self.names())}."
        )

    def _import(self, path: str) -> type[T]:
        module_name, _, name = path.rpartition(".")
        if module_name:
            try:
                found = getattr(importlib.import_module(module_name), name)
            except (ImportError, AttributeError) as error:
                raise ValueError(f"Cannot import the {self._what} {path!r}: {error}.") from error
            if isinstance(found, type) and issubclass(found, self._base):
                return found
            raise TypeError(f"{path} is not a subclass of {self._base.__name__}.")
        raise ValueError(
            f"There is no {self._what} named {path!r}. {self._plural.capitalize()}, closest first: "
            f"{', '.join(closest(_normal(path), self.names()))}. Your own goes by its class path, package.module.Class."
        )


def _normal(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "") if "." not in name else name
