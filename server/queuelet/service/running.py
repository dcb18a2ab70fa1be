"""Whether the server runs or is about to stop."""

from __future__ import annotations

from collections.abc import Callable

from queuelet.errors import ServerDraining


class Running:
    """True until `stop`, and whoever asked is told of it."""

    def __init__(self) -> None:
        """Begin running."""
        self._stopped = False
        self._callbacks: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raise `ServerDraining` if the server is stopping."""
        if self._stopped:
            raise ServerDraining

    def on_stop(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called at the stop; return what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def stop(self) -> None:
        """Stop."""
        self._stopped = True
        for callback in list(self._callbacks):
            callback()
