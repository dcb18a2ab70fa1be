"""What durable stores have in common: their queues, and how they fail, reopen and close."""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterable
from heapq import heappop, heappush

from queuelet.clock import Mark
from queuelet.core.budget import MemoryBudget
from queuelet.core.storage import StoredQueue
from queuelet.definition import Durability, QueueDefinition
from queuelet.errors import StoreFailed, StoreFull
from queuelet.ids import MessageIds, new_id_prefix
from queuelet.stores.durable.backend import Backend
from queuelet.stores.durable.commits import CommitLoop
from queuelet.stores.durable.loaded import LoadedQueue, LoadedStore
from queuelet.stores.durable.messages import DurableMessages, Shared
from queuelet.stores.durable.places import MAX_NUMBER
from queuelet.stores.durable.reader import Reader
from queuelet.stores.durable.rows import FAR, QueueRecord
from queuelet.stores.durable.window import WindowBudget


def ignore(*_: str) -> None:
    """Do nothing. The default of the callbacks of a store."""


class DurableStore(ABC):
    """A store whose changes survive a crash of the process or the machine once `commit` was awaited.

    Used on the event loop's thread; the backend writes. If the database fails, everything that is not known to be
    committed is discarded: waiting calls get `StoreFailed`, and so does every later call on `Messages` objects from
    before the failure. The store then reopens the database, calls `on_reopened`, and `queues` returns what was loaded.
    """

    is_durable = True

    @property
    def durability(self) -> Durability:
        """What committed changes survive at present."""
        return Durability.DISK

    def __init__(  # noqa: PLR0913  # all except the first two are passed by name
        self,
        backend: Backend,
        loop: AbstractEventLoop,
        *,
        budget: MemoryBudget,
        window_bytes: int,
        group_bytes: int,
        on_failed: Callable[[str], None] = ignore,
        on_reopened: Callable[[], None] = ignore,
        on_damaged: Callable[[str, str, str], None] = ignore,
        numbers: range = range(1, MAX_NUMBER + 1),
        ordinals: range = range(1, FAR),
    ) -> None:
        """Make a store that is not open yet: call `_start` with what was loaded, or have `_commit_loop` open it.

        Args:
            backend: the database.
            loop: the event loop it is used on.
            budget: the memory that the store holds is charged to it.
            window_bytes: how many bytes of committed messages are held in memory.
            group_bytes: about how many bytes of messages one transaction has.
            on_failed: called with an error text when the database fails, before the messages in memory are released.
            on_reopened: called when the store is open again after a failure.
            on_damaged: called when a damaged message was set aside: with the queue's ID, the ID that the server made
                for the message, and the reason. The message ID is empty if messages cannot even be found.
            numbers: the numbers that it gives to queues.
            ordinals: the ordinals that it gives to queues.
        """
        self._numbers, self._ordinals = numbers, ordinals
        self._on_failed = on_failed
        self._on_reopened = on_reopened
        self._on_damaged = on_damaged
        self._damaged_found = 0
        self._is_closed = False
        self._window_budget = WindowBudget(budget, window_bytes)
        self._shared: Shared | None = None
        self._messages: dict[str, DurableMessages] = {}
        self._next_ordinal, self._next_number = ordinals.start, numbers.start
        self._free_numbers: list[int] = []
        self.epoch = ""
        self.first_token = 0
        """The first lease token to issue."""
        self.clock = Mark("", 0)
        """The store's clock, to which the stored times refer."""
        self._commit_loop = CommitLoop(
            backend,
            loop,
            group_bytes=group_bytes,
            failed=self._fail,
            reopened=self._serve_again,
            freed=self._release_numbers,
        )

    # What a store of its own has

    @abstractmethod
    def _open_reader(self) -> Reader:
        """Return a reader of the database that was opened. Raises `StoreFailed` if that fails."""

    def _guard(self) -> None:  # noqa: B027  # most stores need none
        """Raise `StoreFailed` if the store may no longer serve what it has in memory."""

    @property
    @abstractmethod
    def _full_text(self) -> str:
        """The problem of a store without space, as a text for users."""

    # What it is

    @property
    def problem(self) -> str:
        """The store's problem, as a text for users; empty if there is none."""
        if self._commit_loop.failure:
            return self._commit_loop.failure
        return self._full_text if self._commit_loop.is_full else ""

    @property
    def problem_reason(self) -> str:
        """The error reason of the problem, such as STORE_FULL; empty if there is no problem."""
        if self._commit_loop.failure:
            return StoreFailed.reason
        return StoreFull.reason if self._commit_loop.is_full else ""

    def check_room(self) -> None:
        """Raise `StoreFull` if there is no space for messages, or `StoreFailed` if the store is not open."""
        if self._commit_loop.failure:
            raise StoreFailed(self._commit_loop.failure)
        if self._commit_loop.is_full:
            raise StoreFull(self.problem)

    # Queues

    def queues(self) -> Iterable[StoredQueue]:
        """Return the stored queues, in order of creation."""
        return [
            StoredQueue(
                queue_id=messages.record.queue_id,
                created=messages.record.created,
                revision=messages.record.revision,
                definition=messages.record.definition,
                messages=messages,
            )
            for messages in self._messages.values()
        ]

    def new(self, queue_id: str, created: int, definition: QueueDefinition) -> DurableMessages:
        """Store a new queue and return its messages. Raises `StoreFailed` if the store is not open."""
        group = self._commit_loop.groups.group()
        record = QueueRecord(
            ordinal=self._next_ordinal,
            number=self._allocate_number(),
            queue_id=queue_id,
            created=created,
            revision=1,
            definition=definition,
            id_prefix=new_id_prefix(),
        )
        self._next_ordinal += 1
        group.queues[record.ordinal] = record
        messages = self._messages[queue_id] = DurableMessages(record, self._open_shared)
        return messages

    def redefine(self, queue_id: str, revision: int, definition: QueueDefinition) -> None:
        """Store a changed definition of a queue. Raises `StoreFailed` if the store is not open."""
        group = self._commit_loop.groups.group()
        record = self._messages[queue_id].record
        record.revision, record.definition = revision, definition
        group.queues[record.ordinal] = record

    def drop(self, queue_id: str) -> None:
        """Remove a queue with all its messages. Raises `StoreFailed` if the store is not open.

        The next commit includes the removal. The rows of its messages are deleted in the background instead, because
        deleting millions of rows would delay the commits of other queues.
        """
        group = self._commit_loop.groups.group()
        messages = self._messages.pop(queue_id)
        messages.release()
        self._commit_loop.groups.forget(messages)
        self._open_shared.reader.forget(messages.record.number)
        group.queues.pop(messages.record.ordinal, None)
        group.dropped_queues.append(messages.record.ordinal)
        group.dropped_numbers.append(messages.record.number)

    def commit(self) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes so far, None if they are committed."""
        group = self._commit_loop.groups.newest
        if group is not None:
            group.request()
        return group

    async def close(self) -> None:
        """Commit everything that is pending, including leases, and close the database.

        Calls whose changes could not be committed get `StoreFailed`. Closing a closed store does nothing.
        """
        if self._is_closed:
            return
        self._is_closed = True
        await self._commit_loop.finish()
        self._release_all(self._commit_loop.failure)
        await self._commit_loop.close()

    # Inside

    @property
    def _open_shared(self) -> Shared:
        if self._shared is None:
            raise StoreFailed(self._commit_loop.failure)
        return self._shared

    def _start(self, loaded: LoadedStore) -> None:
        """Serve the queues that were loaded when the store was opened, and start to commit."""
        self._start_serving(loaded)
        self._commit_loop.start()

    def _start_serving(self, loaded: LoadedStore) -> None:
        """Start to serve the queues that were loaded."""
        reader = self._open_reader()
        self._shared = Shared(
            self._commit_loop.groups,
            reader,
            self._window_budget,
            self._note_set_aside,
            self._note_lost,
            self._renumber,
            self._guard,
        )
        self.epoch = loaded.epoch
        self.first_token = loaded.first_token
        self.clock = loaded.clock
        self._messages = {queue.record.queue_id: self._restored(queue) for queue in loaded.queues}
        last_ordinal = max((queue.record.ordinal for queue in loaded.queues), default=self._ordinals.start - 1)
        self._next_ordinal = max(last_ordinal + 1, self._ordinals.start)
        used = {*(queue.record.number for queue in loaded.queues), *loaded.dropped}
        self._next_number = 1 + max(used, default=self._numbers.start - 1)
        numbers = range(self._numbers.start, self._next_number)
        self._free_numbers = [number for number in numbers if number not in used]

    def _restored(self, queue: LoadedQueue) -> DurableMessages:
        messages = DurableMessages(queue.record, self._open_shared)
        messages.ranks.update(queue.ranks)
        messages.deliveries.update(queue.deliveries)
        messages.responses.update(queue.responses)
        messages.restore(
            count=queue.count,
            stored_bytes=queue.stored_bytes,
            tally=queue.tally,
            has_own_ids=queue.has_own_ids,
            first=queue.first,
            damaged=queue.damaged,
            unsound=queue.unsound,
            sizes=queue.sizes,
        )
        return messages

    def _note_set_aside(self, record: QueueRecord, seq: int, reason: str) -> None:
        self._damaged_found += 1
        self._on_damaged(record.queue_id, MessageIds(record.id_prefix).made(seq).decode(), reason)

    def _note_lost(self, record: QueueRecord, count: int) -> None:
        self._damaged_found += count
        self._on_damaged(
            record.queue_id, "", f"{count:,} messages cannot be found because the pages that lead to them are damaged"
        )

    def _fail(self, why: str) -> None:
        self._on_failed(why)
        self._release_all(why)

    def _release_all(self, why: str) -> None:
        """Release all messages in memory, because the database has failed or the store is closed."""
        if self._shared:
            self._shared.reader.close(why)
        for messages in self._messages.values():
            messages.fail(why)
        self._messages = {}

    def _serve_again(self, loaded: LoadedStore) -> None:
        try:
            self._start_serving(loaded)
            self._on_reopened()
        except StoreFailed as error:  # maybe while the queues were loaded
            self._commit_loop.fail(error)

    def _renumber(self, record: QueueRecord) -> None:
        group = self._commit_loop.groups.group()
        group.dropped_numbers.append(record.number)
        record.number = self._allocate_number()
        group.queues[record.ordinal] = record

    def _allocate_number(self) -> int:
        """Return a queue number under which no rows are stored."""
        if self._free_numbers:
            return heappop(self._free_numbers)
        if self._next_number >= self._numbers.stop:
            raise StoreFailed(
                f"the store has {len(self._numbers):,} queues, the most it can have, including those being deleted; "
                "delete queues that are not needed"
            )
        self._next_number += 1
        return self._next_number - 1

    def _release_numbers(self, numbers: list[int]) -> None:
        for number in numbers:
            heappush(self._free_numbers, number)
