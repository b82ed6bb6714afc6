"""Search spaces by name, by class path, or as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from lightning_wrcor._config import Registry, closest, meant
from lightning_wrcor.spaces._base import Space
from lightning_wrcor.spaces.network_list import NetworkList

S = TypeVar("S", bound=type[Space])


class _Spaces(Registry[Space]):
    """Says beside the rest that a list of networks is a space too."""

    def _unknown(self, name: str, names: Iterable[str]) -> ValueError:
        listed = ", ".join(closest(name, names))
        return ValueError(f"There is no search space {name!r}.{meant(name, names)} There are: {listed}.")

    def _other(self, spec: Any) -> TypeError:
        return TypeError(
            f"A search space is a Space, a name ({', '.join(self.names())}), a mapping with class_path and init_args, or "
            f"a list of networks; got {type(spec).__name__}: {spec!r}."
        )

    def _wrong_keys(self, spec: Mapping[str, Any]) -> ValueError:
        return ValueError(
            f"{super()._wrong_keys(spec)} (To give networks their own names, use {{'class_path': "
            "'lightning_wrcor.spaces.NetworkList', 'init_args': {'networks': {...}}}.)"
        )


_SPACES = _Spaces(Space, "search space", "spaces")


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
    kind = getattr(cls, "kind", None)
    if isinstance(cls, type) and issubclass(cls, Space) and not (isinstance(kind, str) and kind.strip("-_")):
        raise TypeError(
            f"{cls.__qualname__} needs a class attribute `kind` with the name to register; it has {kind!r}."
        )
    return _SPACES.add(str(kind))(cls)


def list_spaces() -> list[str]:
    """The names that `get_space` knows, sorted."""
    return _SPACES.names()


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
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return _SPACES.get(NetworkList, networks=spec, **init_args)
    return _SPACES.get(spec, **init_args)
