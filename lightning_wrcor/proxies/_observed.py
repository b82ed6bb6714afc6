"""What a proxy says of its observers: that they are classes, and that the pass calls what they override."""

from __future__ import annotations

from lightning_wrcor.proxies._base import Needs, Observer, Proxy


def check_observers(proxy: Proxy) -> None:
    """Refuse observers that are no classes, of which every network could get its own.

    Raises:
        TypeError: with the way out.
    """
    several = proxy.observers
    listed = several if isinstance(several, (tuple, list)) else [several]
    wrong = next((one for one in listed if not (isinstance(one, type) and issubclass(one, Observer))), None)
    if wrong is None and listed is several:
        return
    kind = several if isinstance(several, type) else wrong if isinstance(wrong, type) else type(wrong)
    name = kind.__name__ if issubclass(kind, Observer) else "MyObserver"
    raise TypeError(
        f"The observers of the proxy {proxy.name} are a tuple of subclasses of Observer; got {several!r}. Name the class, "
        f"observers = ({name},): every network that is scored gets an observer of its own."
    )


def never_called(proxy: Proxy) -> str:
    """Which methods of its observers the pass never calls, because the proxy does not need what they see; else empty."""
    said = []
    for kind in proxy.observers:
        for method, (offered, ask) in _offers(proxy.needs).items():
            if not offered and getattr(kind, method) is not getattr(Observer, method):
                said.append(f"{kind.__name__}.{method} is called only with needs = Needs({ask})")
    return ", and ".join(said)


def _offers(needs: Needs) -> dict[str, tuple[bool, str]]:
    """By method: whether a pass with these needs calls it, and what it takes."""
    return {
        "see_activated": (needs.activated, "activated=True"),
        "see_layer": (needs.outputs, "outputs=True"),
        "see_weight": (needs.weights > 0, "labels=True, weights=1"),
        "see_images": (needs.images, "labels=True, images=True"),
    }
