"""Stores: where messages are kept. One module for each; all pass the same contract in tests/stores."""

from __future__ import annotations

from typing import Protocol


class Messages(Protocol):
    """The messages of one queue, in the order of their sequence numbers.

    A message is its sequence number and its bytes, which belong to the store from `append` until it hands them out.
    """

    def __len__(self) -> int:
        """Return how many there are."""

    def append(self, seq: int, body: bytes) -> None:
        """Keep a message at the end. `seq` is larger than any before."""

    def take(self) -> tuple[int, bytes] | None:
        """Remove and return the first, None if there is none."""

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Remove and return the first few: at most `count`, together within `max_bytes` but one at least."""

    def head(self, count: int, max_bytes: int) -> list[bytes]:
        """Return what `take_many` would, and leave it."""

    def get(self, seq: int) -> bytes | None:
        """Return the message of this sequence number, None if it is not here."""

    def discard(self, seq: int) -> bytes | None:
        """Remove and return the message of this sequence number, None if it is not here."""

    def after(self, seq: int, count: int) -> list[tuple[int, bytes]]:
        """Return up to `count` messages past a sequence number, which need not be here."""

    def clear(self) -> None:
        """Remove all."""


class Store(Protocol):
    """A place where queues keep their messages."""

    @property
    def epoch(self) -> str:
        """An id that changes when the store has lost what it held, and only then."""

    def messages(self) -> Messages:
        """Make room for the messages of one more queue."""
