"""Objects from plain values and back: names in a registry, ``class_path`` with ``init_args``, or the object itself."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ClassT = TypeVar("ClassT", bound=type)


class Configurable:
    """A class that stores each constructor argument in an attribute of the same name.

    It can then be written as plain values into checkpoints, journals and YAML, and be built again from them.
    """

    def config(self) -> dict[str, Any]:
        """``{"class_path": ..., "init_args": {...}}``, plain values only.

        Raises:
            TypeError: when a constructor argument is not stored in an attribute of its name.
        """
        cls = type(self)
        init_args: dict[str, Any] = {}
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL or not hasattr(self, name):
                raise TypeError(
                    f"{cls.__qualname__} must keep its constructor argument {name!r} in an attribute of that name "
                    f"(self.{name} = {name}), and take it by name, so that it can be written as plain values."
                )
            value = plain(getattr(self, name))
            init_args |= value if parameter.kind is inspect.Parameter.VAR_KEYWORD else {name: value}
        return {"class_path": class_path(cls), "init_args": init_args}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config()["init_args"].items())
        return f"{type(self).__name__}({arguments})"


def class_path(cls: type) -> str:
    """The shortest public dotted path of a class (``lightning_wrcor.spaces.DARTS``, not the file it lives in)."""
    parts = cls.__module__.split(".")
    for length in range(1, len(parts)):
        # The parents of a module that is loaded are loaded too; a module under a made-up name has none.
        module = sys.modules.get(".".join(parts[:length]))
        if module is not None and module.__dict__.get(cls.__qualname__) is cls:
            return f"{module.__name__}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def plain(value: Any) -> Any:
    """Plain values only, as a checkpoint may hold them that is read with ``weights_only=True``."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a number or a text of NumPy: it passes for Python's own, but no checkpoint may hold it
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, os.PathLike)):
        return str(value)
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Configurable):
        return value.config()
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [plain(part) for part in value]
    # An object (a class, a function, a module): the text says what it was; it cannot be built again from that.
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def read_settings(cls: type[T], given: T | Mapping[str, Any] | None, what: str, part: str = "setting") -> T | None:
    """A dataclass of settings from what a user gives: the object, a mapping of its arguments, or None.

    Args:
        cls: the dataclass.
        given: what the user gave.
        what: what the settings are called in messages, such as ``"a race"``.
        part: what one of them is called.

    Raises:
        TypeError: for anything else, and where a setting that has no default is missing.
        ValueError: for a setting that is not known; the message lists those there are, closest first.
    """
    if given is None or isinstance(given, cls):
        return given
    if not isinstance(given, Mapping):
        ways = f"{cls.__name__}(...), a mapping of its arguments or None"
        raise TypeError(f"{what[0].upper()}{what[1:]} is given as {ways}; got {given!r}.")
    known = list(inspect.signature(cls).parameters)
    for name in given:
        if name not in known:
            of = f" of {what}" if part == "setting" else ""
            listed = ", ".join(closest(name, known))
            hint = meant(name, known)
            raise ValueError(f"There is no {part} named {name!r}{of}.{hint} {part.capitalize()}s: {listed}.")
    missing = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        raise TypeError(f"{what[0].upper()}{what[1:]} needs {' and '.join(missing)}; got {dict(given)!r}.")
    return cls(**given)


def closest(name: object, names: Iterable[str]) -> list[str]:
    """All ``names``, those most like ``name`` first (for error messages); upper and lower case are alike."""

    def distance(known: str) -> tuple[float, str]:
        return -difflib.SequenceMatcher(None, str(name).lower(), known.lower()).ratio(), known

    return sorted(names, key=distance)


def meant(name: object, names: Iterable[str], where: str = "") -> str:
    """`` Did you mean ...?`` where one of ``names`` is close to ``name``, else nothing; upper and lower case are alike.

    Args:
        name: what was written.
        names: those that there are.
        where: what is written before the name that is meant, such as ``"model."``.
    """
    spelt = {known.lower(): known for known in names}
    near = difflib.get_close_matches(str(name).lower(), list(spelt), n=1)
    return f" Did you mean {where}{spelt[near[0]]}?" if near else ""


def naming_unknown(elsewhere: Mapping[str, str]) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorator of an ``__init__``: an argument that it does not have is refused with the one that was probably meant.

    Args:
        elsewhere: arguments that users look for here, each with the sentence that says where they are.

    Returns:
        The decorator. What it makes raises a TypeError that names class and argument; signature and documentation stay.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        known = list(inspect.signature(init).parameters)[1:]  # without self

        @functools.wraps(init)
        def checked(*args: P.args, **kwargs: P.kwargs) -> None:
            for name in kwargs:
                if name not in known:
                    listed = f"{meant(name, known)} Its arguments: {', '.join(closest(name, known))}."
                    hint = f" {elsewhere[name]}" if name in elsewhere else listed
                    raise TypeError(f"{type(args[0]).__qualname__} has no argument {name!r}.{hint}")
            init(*args, **kwargs)

        return checked

    return decorate


class Registry(Generic[T]):
    """Names to classes; reads what a user gives for one of them.

    Case, ``-`` and ``_`` in a name make no difference.

    Args:
        base: the class of which every entry is a subclass.
        what: what an entry is called in messages, such as ``"proxy"``.
        plural: the same for several.
    """

    def __init__(self, base: type[Any], what: str, plural: str) -> None:
        self._base = base
        self._what = what
        self._plural = plural
        self._classes: dict[str, type[T]] = {}

    def add(self, *names: str) -> Callable[[ClassT], ClassT]:
        """Class decorator: register under these names.

        Raises:
            TypeError: for a class of another kind.
            ValueError: if another class has the name already.
        """

        def register(cls: ClassT) -> ClassT:
            if not (isinstance(cls, type) and issubclass(cls, self._base)):
                raise TypeError(f"Only subclasses of {self._base.__name__} can be registered; got {cls!r}.")
            for name in names:
                known = self._spelt(name)
                other = self._classes.get(known, cls)
                # A class defined again, as notebooks do when a cell is run twice, takes the place of its older self.
                if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                    taken = f"{other.__module__}.{other.__qualname__}"
                    raise ValueError(f"{cls.__qualname__}: the name {name!r} is taken by {taken}.")
                self._classes[known] = cls
            return cls

        return register

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._classes)

    def get(self, spec: Any, **init_args: Any) -> T:
        """Build from a name, a class path, ``{"class_path": ..., "init_args": ...}``, a class, or return the object.

        Raises:
            ValueError: for a name, a class path or an argument that is not known; the message lists those there are,
                closest first.
            TypeError: for an object or a class of another kind, an abstract class, and arguments beside an object.
        """
        if isinstance(spec, self._base):
            if init_args:
                given = ", ".join(init_args)
                raise TypeError(f"A {self._what} that exists takes no more arguments; got {given} with {spec!r}.")
            return spec  # type: ignore[no-any-return]
        if isinstance(spec, str):
            return self._construct(self._imported(spec) if "." in spec else self._registered(spec), init_args)
        if isinstance(spec, Mapping):
            cls, own_args = self._read(spec)
            return self._construct(cls, {**own_args, **init_args})
        if isinstance(spec, type) and issubclass(spec, self._base):
            return self._construct(spec, init_args)
        raise self._other(spec)

    # ---- messages that a registry may word in its own way

    def _unknown(self, name: str, names: Iterable[str]) -> ValueError:
        return ValueError(
            f"There is no {self._what} named {name!r}. {self._plural.capitalize()}, closest first: "
            f"{', '.join(closest(name, names))}. Your own goes by its class path, package.module.Class."
        )

    def _other(self, spec: Any) -> TypeError:
        return TypeError(
            f"A {self._what} is a {self._base.__name__}, a name ({', '.join(self.names())}), or a mapping with class_path "
            f"and init_args; got {type(spec).__name__}: {spec!r}."
        )

    def _wrong_keys(self, spec: Mapping[str, Any]) -> ValueError:
        given = ", ".join(map(str, spec))
        return ValueError(f"A {self._what} as a mapping has the keys class_path and init_args; got {given}.")

    # ---- the rest

    def _spelt(self, name: str) -> str:
        """The name as it was registered, or as it is."""
        return next((known for known in self._classes if _normal(known) == _normal(name)), name)

    def _registered(self, name: str) -> type[T]:
        found = self._classes.get(self._spelt(name))
        if found is None:
            raise self._unknown(name, self._classes)
        return found

    def _read(self, spec: Mapping[str, Any]) -> tuple[type[T], dict[str, Any]]:
        if "class_path" not in spec or set(spec) - {"class_path", "init_args"}:
            raise self._wrong_keys(spec)
        path, init_args = spec["class_path"], spec.get("init_args") or {}
        if not isinstance(init_args, Mapping):
            raise TypeError(f"init_args must be a mapping from argument names to values; got {init_args!r}.")
        if not isinstance(path, str):
            raise TypeError(f"class_path must be text, 'package.module.Class'; got {path!r}.")
        if "." in path:
            return self._imported(path), dict(init_args)
        # A short path, as the Lightning CLI takes too: the class of something registered, or its name.
        classes = {cls.__qualname__: cls for cls in self._classes.values()}
        found = classes.get(path) or self._classes.get(self._spelt(path))
        if found is None:
            raise self._unknown(path, classes)
        return found, dict(init_args)

    def _imported(self, path: str) -> type[T]:
        module_name, _, name = path.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError) as error:
            raise ValueError(f"Cannot import {module_name!r} of class_path {path!r}: {error}") from error
        if not hasattr(module, name):
            there = [
                key for key, value in vars(module).items() if not key.startswith("_") and self._can_be_built(value)
            ]
            listed = f"Its {self._plural}: {', '.join(closest(name, there))}." if there else f"It has no {self._what}."
            raise ValueError(f"class_path {path!r}: {module_name!r} has no {name!r}. {listed}")
        cls = getattr(module, name)
        if not (isinstance(cls, type) and issubclass(cls, self._base)):
            raise TypeError(f"class_path {path!r} must lead to a subclass of {class_path(self._base)}; got {cls!r}.")
        return cls

    def _can_be_built(self, value: Any) -> bool:
        return (
            isinstance(value, type)
            and issubclass(value, self._base)
            and not inspect.isabstract(value)
            and value is not self._base
        )

    def _construct(self, cls: type[T], init_args: Mapping[str, Any]) -> T:
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            kind = self._base.__name__.lower()
            raise TypeError(f"{cls.__qualname__} is not a complete {kind}: it does not define {missing}.")
        parameters = inspect.signature(cls).parameters
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        for argument in init_args:
            if argument not in parameters and not takes_any:
                known = ", ".join(closest(argument, parameters)) or "none"
                raise ValueError(f"{cls.__qualname__} has no argument {argument!r}. Its arguments: {known}.")
        return cls(**init_args)


def _normal(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
