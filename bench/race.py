"""Contenders take turns: every other round goes in the opposite order, so that none always follows the same one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

from bench.contender import Contender, RunningServer
from bench.contenders import contender
from bench.errors import Failed, NotHere
from bench.report import OURS, say

Entrant = TypeVar("Entrant")
"""The clients of a running contender."""


class Race(Generic[Entrant]):
    """Running contenders by name. One that fails is reported and stopped."""

    def __init__(self, store: str, make: Callable[[Contender, RunningServer], AbstractContextManager[Entrant]]) -> None:
        """Take the store, and how to start a contender's clients."""
        self.entrants: dict[str, Entrant] = {}
        self._store = store
        self._make = make
        self._running: dict[str, ExitStack] = {}

    def start(self, names: Sequence[str]) -> None:
        """Start contenders. One that cannot run here is skipped, unless it is ours."""
        for name in names:
            with ExitStack() as opening:
                try:
                    target = contender(name, self._store)
                    folder = opening.enter_context(TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
                    server = opening.enter_context(target.started(Path(folder)))
                    self.entrants[name] = opening.enter_context(self._make(target, server))
                except (NotHere, Failed) as failure:
                    if name == OURS:
                        raise
                    say(f"skipped {name}: {failure}")
                else:
                    self._running[name] = opening.pop_all()

    def each(
        self,
        what: str,
        do: Callable[[str, Entrant], None],
        who: Container[str] | None = None,
        *,
        backwards: bool = False,
    ) -> None:
        """Do something with each contender, or with each of some."""
        say(f"  {what}")
        for name, entrant in list(self.entrants.items())[:: -1 if backwards else 1]:
            if who is None or name in who:
                try:
                    do(name, entrant)
                except Failed as failure:
                    say(f"dropped {name}, because it failed ({what}): {failure}")
                    self._leave(name)

    def rounds(
        self, what: str, count: int, do: Callable[[str, Entrant], None], who: Container[str] | None = None
    ) -> None:
        """Do something with each contender this many times."""
        for number in range(count):
            self.each(f"{what}, round {number + 1} of {count}", do, who, backwards=bool(number % 2))

    def close(self) -> None:
        """Stop all."""
        for name in list(self._running):
            self._leave(name)

    def _leave(self, name: str) -> None:
        self.entrants.pop(name, None)
        self._running.pop(name).close()
