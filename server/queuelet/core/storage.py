"""The interface that stores implement, described only here. All stores pass the same contract tests in tests/stores.

A store saves; a `Queue` decides. The queue calls its `Messages` from one thread, and each call changes the state in
memory immediately. A durable store writes the changes in the order in which they were made, and `commit` returns an
awaitable for them: the server sends no response before its changes are durable.

A store in another process cannot read within a call, because that would block all other calls. There a call that
reads a message raises `NotLoaded` if the message is not in memory. It has changed nothing, and is repeated once the
message is loaded. `require` announces many messages, so that they are loaded together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from queuelet.core.message import DeliveryRecord, Rank, Tally
from queuelet.definition import Durability, QueueDefinition, StoreKind


class Loading(Protocol):
    """A read that a store has started, such as a future of asyncio. Awaiting it raises `StoreFailed` if it fails."""

    def __await__(self) -> Generator[Any, None, None]:
        """Wait for the end of the read."""

    def exception(self) -> BaseException | None:
        """Return the error of a read that has failed."""

    def add_done_callback(self, done: Callable[[Any], object], /) -> None:
        """Call `done` with this object when the read has ended."""


class NotLoaded(Exception):  # not a `QueueletError`, because no client may see it
    """The call has to read messages that are not in memory. It has changed nothing: repeat it once they are loaded."""

    def __init__(self, loading: Loading) -> None:
        super().__init__("messages have to be loaded first")
        self.loading = loading

    def then(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` once they are loaded, unless the store fails."""

        def ended(loading: Loading) -> None:
            if loading.exception() is None:
                go_on()

        self.loading.add_done_callback(ended)


class Messages(Protocol):
    """The messages of one queue.

    A message has a sequence number and bytes, which never change. Most messages are in the line: a FIFO, ordered by
    sequence number. A message with a rank is not in the line, and neither is one that was checked out of it until it is
    returned; both stay stored. When a store is opened, the messages with a delivery are not in the line.
    """

    @property
    def ranks(self) -> MutableMapping[int, Rank]:
        """The ranks of messages that have one, by sequence number. The queue changes them and calls `mark_changed`."""

    @property
    def deliveries(self) -> MutableMapping[int, DeliveryRecord]:
        """The deliveries of messages, by sequence number. The queue changes them and calls `mark_changed`."""

    @property
    def tally(self) -> Tally:
        """The counters of the queue. They are saved with every commit."""

    @property
    def responses(self) -> MutableMapping[bytes, int]:
        """The expiry times of the stored responses, by key, in the order of `store_response`."""

    @property
    def id_prefix(self) -> bytes:
        """The prefix of the IDs that the server makes for these messages: the first 24 characters of a UUID."""

    @property
    def stored_bytes(self) -> int:
        """The size of all messages together, in bytes."""

    @property
    def damaged(self) -> int:
        """The number of messages that were set aside because they are damaged. They no longer count as messages."""

    def report_damaged(self, forget: Callable[[int], None]) -> None:
        """Call `forget` with the sequence number of each message that is set aside while it is read.

        `forget` removes the message from its state, along with its rank and its delivery.
        """

    def __len__(self) -> int:
        """Return the number of messages, in line or not."""

    # Adding

    def append(self, seq: int, body: bytes, own_id: bytes = b"") -> None:
        """Add a message to the end of the line.

        Args:
            seq: the sequence number, which is larger than any before.
            body: the message in its stored form.
            own_id: the ID that the producer gave to the message, empty if the server made it.
        """

    def append_many(self, first: int, bodies: Sequence[bytes]) -> None:
        """Add messages to the end of the line, numbered from `first` on, which is larger than any before."""

    def keep(self, seq: int, body: bytes, rank: Rank, own_id: bytes = b"") -> None:
        """Add a message with a rank, outside the line. `seq` is larger than any before."""

    # The line

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first messages in line: at most `count`, and at most `max_bytes` unless the first is larger."""

    def take(self) -> tuple[int, bytes] | None:
        """Remove and return the first message in line, or None. The caller removes its delivery."""

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Remove and return the messages that `first_many` returns. The caller removes their deliveries."""

    def checkout_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the messages that `first_many` returns, and check them out of the line. They stay stored."""

    def return_to_line(self, seq: int) -> None:
        """Return a message that was checked out to its old position in the line."""

    # Any message

    def require(self, seqs: Iterable[int] = (), own_ids: Iterable[bytes] = ()) -> None:
        """Announce that the next calls read these messages, and those with these IDs from producers.

        Raises `NotLoaded` if some of them are not in memory and have to be read first.
        """

    def get(self, seq: int) -> bytes | None:
        """Return the message with this sequence number, or None if it is not stored or is damaged."""

    def look(self, seq: int) -> bytes | None:
        """Return the message, as `get` does, but do not set a damaged one aside, so that nothing changes."""

    def discard(self, seq: int) -> int | None:
        """Remove a message, in line or not. Return its size in bytes, or None if it is not stored.

        The caller removes its rank and its delivery.
        """

    def after(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Return the messages after a sequence number, in line or not, in the order of their numbers.

        It returns at most `count`, and at most `max_bytes` together unless the first is larger.
        """

    def before(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Return the messages before a sequence number, as `after` does, but in the reverse order: the newest first."""

    def seq_of(self, own_id: bytes) -> int | None:
        """Return the sequence number of the message with this ID from a producer, or None."""

    def mark_changed(self, seqs: Iterable[int]) -> None:
        """Mark that ranks or deliveries of these messages were changed or removed. The next commit saves them."""

    def mark_leased(self, seqs: Iterable[int]) -> None:
        """Mark that these messages were leased. Their leases are saved within a second, unless they end before."""

    # Responses for retries of idempotent calls

    def store_response(self, key: bytes, until: int, response: bytes) -> None:
        """Store a response, in the same commit as the changes of its call. `until` goes into `responses`."""

    def response(self, key: bytes) -> bytes | None:
        """Return a stored response, or None."""

    def forget_responses(self, keys: Iterable[bytes]) -> None:
        """Drop stored responses."""

    # Everything

    def clear(self) -> None:
        """Remove all messages, ranks, deliveries and responses."""

    def commit(self, *, within: float = 0) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes so far; None if they are durable already.

        Changes that are not urgent may wait up to `within` seconds before they are written, so that they share a group
        commit with others. Receive does not call this, because a lost lease only causes a redelivery. Awaiting the
        result raises `StoreFailed` if it is not known whether the changes were saved.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredQueue:
    """A queue as a store has saved it."""

    queue_id: str
    created: int
    """Nanoseconds since 1970."""
    revision: int
    definition: QueueDefinition
    messages: Messages


class StoreState(Protocol):
    """The state of a store, or of all stores of a kind."""

    @property
    def epoch(self) -> str:
        """A random ID. A changed one means that the store lost or replaced its contents, as a restore does.

        Empty if the contents cannot be read.
        """

    @property
    def is_durable(self) -> bool:
        """Whether committed changes survive a restart of the process and of the machine."""

    @property
    def durability(self) -> Durability:
        """What committed changes survive at present."""

    @property
    def problem(self) -> str:
        """The current problem of the store, as a sentence for people; empty if there is none."""

    @property
    def problem_reason(self) -> str:
        """The `reason` of the error for that problem, of `StoreFull` or `StoreFailed`; empty if there is none."""

    def commit(self) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes to queues, as `Messages.commit` does."""


class Store(StoreState, Protocol):
    """A store: it has the messages of queues. A durable store also saves the definitions."""

    def queues(self) -> Iterable[StoredQueue]:
        """Return the queues that the store had when it was last opened, in order of creation."""

    def new(self, queue_id: str, created: int, definition: QueueDefinition) -> Messages:
        """Save a new queue and return its empty messages."""

    def redefine(self, queue_id: str, revision: int, definition: QueueDefinition) -> None:
        """Save a new definition of a queue."""

    def drop(self, queue_id: str) -> None:
        """Remove a queue with all its messages."""

    def check_room(self) -> None:
        """Raise `StoreFull` if no message may be added, or `StoreFailed` if the store is not open."""


class Placement(StoreState, Protocol):
    """Which store has a queue, if the queues of a kind of store are spread over several, some of them other servers'.

    Each method raises `ShardMoved` if the store of the queue is not open in this server.
    """

    @property
    def kind(self) -> StoreKind:
        """The kind of the stores."""

    def store_for(self, name: str) -> Store:
        """Return the store for a new queue with this name, or for one without a name if it is empty."""

    def check_absent(self, reference: str) -> None:
        """Return if there is no queue with this ID or name, given that it is in no store that is open."""
