"""Stores: where messages are kept. One module for each; all pass the same contract in tests/stores.

A store keeps; a `Queue` decides. The queue calls its `Messages` from one thread, and each call does its work in memory
at once. A store that keeps more than memory writes what was done in the order in which it was done, and `commit` tells
when all of it is kept: whoever answers a call waits for that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from queuelet.core.message import Delivery, Rank, Tally
from queuelet.definition import Definition


class Messages(Protocol):
    """The messages of one queue.

    A message is its sequence number and its bytes, which never change. Most messages stand in line: by their sequence
    numbers, in the order in which they were added. A message with a rank does not, and neither does one that was
    lifted out of the line until it is put back; both stay stored. When a store is opened, the messages that have a
    delivery are out of the line.
    """

    @property
    def ranks(self) -> MutableMapping[int, Rank]:
        """Ranks by sequence number, of messages that have one. The queue changes them and calls `mark_changed`."""

    @property
    def deliveries(self) -> MutableMapping[int, Delivery]:
        """Deliveries by sequence number, of messages that had one. The queue changes them and calls `mark_changed`."""

    @property
    def tally(self) -> Tally:
        """What the queue counts. It is kept along with whatever else is."""

    @property
    def answers(self) -> MutableMapping[bytes, int]:
        """Until when the answers are kept that `keep_answer` was given, by key."""

    @property
    def id_prefix(self) -> bytes:
        """What the ids that the server makes for these messages begin with: 24 letters of a UUID."""

    @property
    def stored_bytes(self) -> int:
        """The size of all messages, in bytes."""

    @property
    def damaged(self) -> int:
        """How many messages are set aside because they are damaged. They do not count as messages any more."""

    def report_damaged(self, forget: Callable[[int], None]) -> None:
        """Have `forget` called with the number of each message that is set aside while it is read.

        It takes the message out of the state it is in, with its rank and its delivery.
        """

    def __len__(self) -> int:
        """Return how many there are, in line or not."""

    # Adding

    def append(self, seq: int, body: bytes, own_id: bytes = b"") -> None:
        """Keep a message at the end of the line. `seq` is larger than any before; `own_id` is its producer's."""

    def append_many(self, first: int, bodies: Sequence[bytes]) -> None:
        """Keep messages at the end of the line, numbered from `first` on, which is larger than any before."""

    def keep(self, seq: int, body: bytes, rank: Rank, own_id: bytes = b"") -> None:
        """Keep a message with a rank, beside the line. `seq` is larger than any before."""

    # The line

    @property
    def first_in_line(self) -> int:
        """The sequence number of the first in line, 0 if there is none."""

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first few in line: at most `count`, together within `max_bytes` but one at least."""

    def take(self) -> tuple[int, bytes] | None:
        """Remove and return the first in line, None if there is none. Its delivery is the caller's to remove."""

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Remove and return what `first_many` returns. Their deliveries are the caller's to remove."""

    def checkout_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return what `first_many` returns, and lift it out of the line. It stays stored."""

    def return_to_line(self, seq: int) -> None:
        """Put a message that was lifted back into its old place in the line."""

    # Any message

    def get(self, seq: int) -> bytes | None:
        """Return the message of this sequence number, None if it is not here, or if it is damaged."""

    def discard(self, seq: int) -> int | None:
        """Remove a message, in line or not, and return its size; None if it is not here.

        Its rank and its delivery are the caller's to remove.
        """

    def after(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Return messages past a sequence number, in line or not, in the order of their numbers.

        They are at most `count`, together within `max_bytes` but one at least.
        """

    def seq_of(self, own_id: bytes) -> int | None:
        """Return the sequence number of the message that has this id of a producer's, None if none has."""

    def mark_changed(self, seqs: Iterable[int]) -> None:
        """Note that the ranks or deliveries of these messages changed or went. It is kept with the next commit."""

    def mark_leased(self, seqs: Iterable[int]) -> None:
        """Note that these messages were leased. It is kept within a second, if their leases go on that long."""

    # Answers that a repeated call is to get again

    def keep_answer(self, key: bytes, until: int, answer: bytes) -> None:
        """Keep an answer along with what was done for it. `until` goes into `answers`."""

    def answer(self, key: bytes) -> bytes | None:
        """Return a kept answer."""

    def forget_answers(self, keys: Iterable[bytes]) -> None:
        """Drop answers."""

    # All of them

    def clear(self) -> None:
        """Remove all: messages, ranks, deliveries, answers."""

    def commit(self, *, within: float = 0) -> Awaitable[None] | None:
        """Return what to wait for until all that was done is kept; None if it is already.

        What is not urgent may wait `within` seconds until it is begun with, so that it shares what others wait for.
        Leases alone need not be waited for: losing one only redelivers, so Receive does not call this. Awaiting it
        raises `StoreFailed` if what became of it is not known.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredQueue:
    """A queue as a store keeps it."""

    queue_id: str
    created: int
    """Nanoseconds since 1970."""
    revision: int
    definition: Definition
    messages: Messages


class Store(Protocol):
    """A place where queues keep their messages, and their definitions if it outlives the process."""

    @property
    def epoch(self) -> str:
        """An id that changes when the store has lost what it held, and only then."""

    @property
    def is_durable(self) -> bool:
        """Whether what is committed survives the end of the process and of the machine."""

    @property
    def problem(self) -> str:
        """What is wrong with the store, as a sentence for people; empty if all is well."""

    @property
    def problem_reason(self) -> str:
        """The reason of the error that tells of it: of `StoreFull` or `StoreFailed`; empty if all is well."""

    def queues(self) -> Iterable[StoredQueue]:
        """Return the queues it holds, in order of creation: of its opening, or of the last time it was opened anew."""

    def new(self, queue_id: str, created: int, definition: Definition) -> Messages:
        """Keep a new queue, and make room for its messages."""

    def redefine(self, queue_id: str, revision: int, definition: Definition) -> None:
        """Keep another definition of a queue."""

    def drop(self, queue_id: str) -> None:
        """Remove a queue with all its messages."""

    def check_room(self) -> None:
        """Raise `StoreFull` if no message may be added, or `StoreFailed` if the store is not open."""

    def commit(self) -> Awaitable[None] | None:
        """Return what to wait for until all that was done is kept, as `Messages.commit` does."""
