"""How messages read the committed rows of a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from queuelet.errors import StoreFailed
from queuelet.stores.durable.damage import Damage


class Reader(Protocol):
    """Reads committed rows, and verifies them. Each call sees all commits so far.

    A call raises `StoreFailed` if the store fails or the reader is closed. A reader that cannot read within a call
    raises `NotLoaded` for what is not in memory.
    """

    @property
    def reads_at_once(self) -> bool:
        """Whether it reads everything within a call, so that nothing has to be announced and responses are not held."""

    def require(self, number: int, places: Sequence[int], own_ids: Sequence[bytes]) -> None:
        """Announce that these messages of a queue are read next. Raises `NotLoaded` if they have to be read first."""

    def note_committed(
        self, number: int, added: Sequence[int], removed: Sequence[int], own_ids: Iterable[bytes]
    ) -> None:
        """Note what a commit changed in a queue: places of messages, and IDs that producers gave to added ones."""

    def forget(self, number: int) -> None:
        """Forget what was read under the number of a queue, because its rows will be deleted."""

    def close(self, why: str) -> None:
        """Read nothing any more, because the store has failed or is closed."""

    def missing(self, place: int) -> StoreFailed:
        """Return the error to raise if a message that was committed is not stored."""

    def body(self, place: int) -> bytes | Damage | None:
        """Return the message at a place, or its damage; None if there is none."""

    def size(self, place: int) -> int | None:
        """Return the size of the message at a place in bytes, None if there is none. The row is not verified."""

    def bodies(  # noqa: PLR0913  # two of them by name
        self, place: int, end: int, count: int, max_bytes: int, *, descending: bool = False, is_browse: bool = False
    ) -> list[tuple[int, bytes | Damage]]:
        """Return the first messages from `place` to before `end`: at most `count`, until they have `max_bytes`.

        If `descending`, return the last ones, the last one first. A read `is_browse` if consumers do not wait for it.
        """

    def place_of(self, number: int, own_id: bytes) -> int | None:
        """Return the place of a queue's newest message with this producer-given ID, None if there is none."""

    def response(self, number: int, key: bytes) -> bytes | None:
        """Return a saved response, None if there is none or it is damaged."""
