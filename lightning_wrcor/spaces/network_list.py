"""A search space of the networks that a user lists: names of timm, modules, factories and import paths."""

from __future__ import annotations

import copy
import difflib
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_wrcor.inspection import Costs, count_costs
from lightning_wrcor.spaces._base import FiniteSpace, Genotype
from lightning_wrcor.spaces._functions import accepted, describe_function, import_function, is_description
from lightning_wrcor.spaces._timm import check_timm_name, create_untrained
from lightning_wrcor.spaces._without_weights import without_weights


class NetworkList(FiniteSpace):
    """The networks of a list, each of which is one candidate.

    An entry is one of these:

    - the name of a model of timm, such as ``"resnet18"`` (no wildcards: those are for `TimmModels`); it is built
      untrained;
    - a `torch.nn.Module`: each build gives a deep copy with the module's own weights. It keeps its own number of
      classes and channels;
    - a factory: a function or class that returns a module. It gets ``num_classes`` and ``in_chans`` as keywords where
      its signature has parameters of that name (``**kwargs`` do not count), and is called without them otherwise;
    - the import path of a factory, ``"package.module:function"``.

    A genotype is an entry's name. In a mapping the keys are the names. In a list, text is its own name, and objects
    are called by their class or function, with ``-2``, ``-3``, ... where that name is taken.

    `config` holds text only. A factory that can be imported becomes its import path; any other object becomes a text
    that says what it was. A space built from such a text knows the entry's name, but only the object itself can
    build it.

    Args:
        networks: the entries, as a list, or as a mapping from names to entries.

    Raises:
        ValueError: for an empty list, a text given twice, a name that timm does not know, and an import path that
            leads nowhere.
        TypeError: for an entry that is none of the above.
    """

    kind = "list"

    def __init__(self, networks: Sequence[Any] | Mapping[str, Any]) -> None:
        if isinstance(networks, str) or not isinstance(networks, (Sequence, Mapping)):
            raise TypeError(f"networks must be a list or a mapping of networks; got {networks!r}.")
        self.networks = networks
        if not networks:
            raise ValueError("networks is empty: give at least one network.")
        _refuse_repeated(networks.values() if isinstance(networks, Mapping) else networks)
        self._entries = dict(networks) if isinstance(networks, Mapping) else _named(networks)
        for name, entry in self._entries.items():
            _check(name, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def sample(self, rng: random.Random) -> str:
        """Draw one name, all with the same probability."""
        return rng.choice(list(self._entries))

    def mutate(self, genotype: Genotype, rng: random.Random) -> str:
        """Draw another name. Raises ValueError if the list has one entry only, or none of this name."""
        name = self.parse(str(genotype))
        others = [other for other in self._entries if other != name]
        if not others:
            raise ValueError(f"The list holds only {name!r}: there is no other network to mutate it into.")
        return rng.choice(others)

    def build(self, genotype: Genotype, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
        """Build the entry's network.

        Args:
            genotype: an entry's name.
            num_classes: width of the logits, ``(batch, num_classes)``, where the entry can be built for it.
            in_chans: channels of the images, likewise.

        Raises:
            ValueError: for an unknown name, an entry of which only the description is left, and a network that cannot
                be built or copied.
            TypeError: if a factory returns something else than a module.
        """
        name = self.parse(str(genotype))
        entry = self._entries[name]
        if is_description(entry):
            raise ValueError(
                f"Entry {name!r} was an object, {entry[1:-1]}, which text cannot hold: pass the object again, as "
                f"NetworkList({{{name!r}: ...}})."
            )
        if isinstance(entry, nn.Module):
            return _copied(name, entry)
        if isinstance(entry, str) and ":" not in entry:
            return create_untrained(entry, num_classes, in_chans)
        factory = import_function(f"Entry {name!r}", entry) if isinstance(entry, str) else entry
        network = factory(**accepted(factory, {"num_classes": num_classes, "in_chans": in_chans}))
        if not isinstance(network, nn.Module):
            raise TypeError(f"The factory of entry {name!r} must return a torch.nn.Module; it returned {network!r}.")
        return network

    def parse(self, text: str) -> str:
        """Read an entry's name. Raises ValueError with the closest names for any other text."""
        if text not in self._entries:
            names = difflib.get_close_matches(text, self._entries, n=10, cutoff=0.0)
            raise ValueError(f"There is no network {text!r} in the list. Closest: {', '.join(names)}.")
        return text

    def name(self, genotype: Genotype) -> str:
        """The entry's name."""
        return str(genotype)

    def key(self, genotype: Genotype) -> str:
        """The entry's name; for a module with a hash of its weights, because its scores are those of its weights."""
        name = self.parse(str(genotype))
        entry = self._entries[name]
        return f"{name} {_weights_hash(entry)}" if isinstance(entry, nn.Module) else name

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and depth, counted on the meta device, with random numbers left as they were.

        A network that the meta device cannot run is built and run on the default device instead.

        Args:
            genotype: an entry's name.
            input_size: ``(channels, height, width)`` of one image; by default the space's own.
            num_classes: width of the logits, where the entry can be built for it.
        """
        name = self.parse(str(genotype))
        size = input_size or self.input_size
        entry = self._entries[name]

        def build() -> nn.Module:
            network = self.build(name, num_classes, size[0])
            # A copy keeps its device, whatever the default device is.
            wants_meta = isinstance(entry, nn.Module) and torch.get_default_device().type == "meta"
            return network.to("meta") if wants_meta else network

        return without_weights(build, lambda network: count_costs(network, size))

    @property
    def mixed_depth(self) -> bool:
        """True: nothing says that the networks of a list have the same depth."""
        return True

    def config(self) -> dict[str, Any]:
        """The space as plain values; entries that are objects become text, under their names."""
        config = super().config()
        texts = {
            name: entry if isinstance(entry, str) else describe_function(entry) for name, entry in self._entries.items()
        }
        # Names that are the entries themselves need not be said twice.
        config["init_args"]["networks"] = list(texts) if list(texts) == list(texts.values()) else texts
        return config


def _refuse_repeated(entries: Iterable[Any]) -> None:
    counts = Counter(entry for entry in entries if isinstance(entry, str) and not is_description(entry))
    repeated = [text for text, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(f"Given more than once: {', '.join(repeated)}. Each network can be in the list once.")


def _named(entries: Sequence[Any]) -> dict[str, Any]:
    """A unique name for each entry, in the order of the list. Objects give way to text, which is its own name."""
    taken = {entry for entry in entries if isinstance(entry, str)}
    named: dict[str, Any] = {}
    for entry in entries:
        name = entry
        if not isinstance(entry, str):
            own = _own_name(entry)
            candidates = itertools.chain([own], (f"{own}-{number}" for number in itertools.count(2)))
            name = next(candidate for candidate in candidates if candidate not in taken)
            taken.add(name)
        named[name] = entry
    return named


def _own_name(entry: Any) -> str:
    """The name of an object's class, or of a function."""
    function = getattr(entry, "func", entry)  # functools.partial
    name = getattr(function, "__name__", None) or type(entry).__name__
    return "lambda" if name == "<lambda>" else str(name)


def _check(name: Any, entry: Any) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"The names of the networks must be text that is not empty; got {name!r}.")
    if isinstance(entry, str):
        if not is_description(entry):
            _check_text(name, entry)
    elif not callable(entry):
        raise TypeError(
            f"Entry {name!r} must be the name of a timm model, a torch.nn.Module, a function that returns one, or an "
            f"import path 'package.module:function'; got {entry!r}."
        )


def _check_text(name: str, entry: str) -> None:
    if ":" in entry:
        import_function(f"Entry {name!r}", entry)
    elif any(character in entry for character in "*?["):
        raise ValueError(
            f"Entry {name!r} is a pattern, {entry!r}: a list takes exact names; TimmModels takes patterns."
        )
    else:
        try:
            check_timm_name(entry)
        except ValueError as error:
            raise ValueError(f"Entry {name!r}: {error} An import path is 'package.module:function'.") from None


def _weights_hash(network: nn.Module) -> str:
    """16 hexadecimal digits of SHA-256 over all parameters and buffers that hold values."""
    digest = hashlib.sha256()
    for name, tensor in itertools.chain(network.named_parameters(), network.named_buffers()):
        digest.update(name.encode())
        if not (tensor.is_meta or is_lazy(tensor)):
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _copied(name: str, network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"Entry {name!r} cannot be copied: {error} Give a factory that builds it instead.") from error
