"""How messages read the committed rows of a store."""

from __future__ import annotations

from typing import Protocol

from queuelet.errors import StoreFailed
from queuelet.stores.durable.damage import Damage


class Reader(Protocol):
    """Reads committed rows, and verifies them. Each call sees all commits so far.

    A call raises `StoreFailed` if the store fails or the reader is closed.
    """

    def close(self) -> None:
        """Read nothing any more."""

    def missing(self, place: int) -> StoreFailed:
        """Return the error to raise if a message that was committed is not stored."""

    def body(self, place: int) -> bytes | Damage | None:
        """Return the message at a place, or its damage; None if there is none."""

    def size(self, place: int) -> int | None:
        """Return the size of the message at a place in bytes, None if there is none. The row is not verified."""

    def bodies(
        self, place: int, end: int, count: int, max_bytes: int, *, descending: bool = False
    ) -> list[tuple[int, bytes | Damage]]:
        """Return the first messages from `place` to before `end`: at most `count`, until they have `max_bytes`.

        If `descending`, return the last ones, the last one first.
        """

    def place_of(self, number: int, own_id: bytes) -> int | None:
        """Return the place of a queue's newest message with this producer-given ID, None if there is none."""

    def response(self, number: int, key: bytes) -> bytes | None:
        """Return a saved response, None if there is none or it is damaged."""
