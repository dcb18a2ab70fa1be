"""Group commit: changes that are not on the disk yet, in groups that are written as one transaction each.

While one group is being written, the next one is open for changes. The open group is sealed when a call waits for it
and the writer is idle, at the end of an iteration of the event loop, so that all calls of the iteration share it. A
group for which no call waits (it has only leases) is sealed after `LINGER`. Its rows are made when it is sealed, so a
message that was added and removed within one group is never written.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Protocol

from queuelet.errors import StoreFailed
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.rows import QueueRecord

LINGER = 0.5
"""How long leases wait for a transaction that a call waits for, in seconds, before they get one of their own.

A lease that is younger than half of this is not written yet, because most messages are acknowledged by then, so their
leases never need a row. A lease is committed within less than a second with both delays together.
"""


class GroupedMessages(Protocol):
    """The messages of one queue, as groups use them. `DiskMessages` implements it."""

    changes: Changes | None
    """The open group's changes to these messages, None if it has none. `Groups` sets it."""

    @property
    def has_young_leases(self) -> bool:
        """Whether there are leases that are written later if they last."""

    def write(self, changes: Changes, batch: Batch) -> None:
        """Add the rows of a group's changes to a batch, because the group is sealed."""

    def settle(self, changes: Changes) -> None:
        """Release the memory of changes that are committed."""


class Changes:
    """The changes of one group to the messages of one queue."""

    __slots__ = ("added", "changed", "damaged", "group", "messages", "own_ids", "removed", "responses")

    def __init__(self, messages: GroupedMessages, group: Group) -> None:
        self.messages = messages
        self.group = group
        self.added: dict[int, bytes] = {}
        self.own_ids: dict[int, bytes] = {}
        """IDs that producers gave to added messages."""
        self.removed: list[int] = []
        """Removed messages that earlier groups added."""
        self.changed: set[int] = set()
        """Messages whose rank or delivery changed."""
        self.damaged: dict[int, str] = {}
        """Damaged messages that were set aside, and why."""
        self.responses: dict[bytes, tuple[int, bytes] | None] = {}
        """Responses to save, each with its expiry time in ns; None if a response is to be deleted."""


class Group:
    """The changes of one transaction, and the calls that wait for its commit."""

    def __init__(self, loop: AbstractEventLoop, groups: Groups) -> None:
        self.changes: dict[GroupedMessages, Changes] = {}
        self.queues: dict[int, QueueRecord] = {}
        """Queues that are new or whose definition or number changed, by ordinal."""
        self.dropped_queues: list[int] = []
        self.dropped_numbers: list[int] = []
        self.size = 0
        """The size of the messages to write, in bytes."""
        self.is_requested = False
        """Whether a call waits for the commit."""
        self.is_settled = False
        self._error = ""
        self._loop = loop
        self._groups = groups
        self._waiters: list[Future[None]] = []

    def __await__(self) -> Generator[Future[None], None, None]:
        """Wait for the commit. Raises `StoreFailed` if the outcome is not known."""
        if not self.is_settled:
            # One future for each waiter, because cancelling a shared one would cancel the other waiters too.
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            yield from waiter
        elif self._error:
            raise StoreFailed(self._error)

    async def wait(self) -> None:
        """Wait until it is committed or has failed, without raising: the other waiters get the error."""
        with suppress(StoreFailed):
            await self

    def request(self, *, within: float = 0) -> None:
        """Request the commit, which starts in `within` seconds at the latest if the writer is idle."""
        if self.is_requested:
            return
        if within:
            self._loop.call_later(within, self.request)
            return
        self.is_requested = True
        self._groups.schedule()

    def settle(self, error: str = "") -> None:
        """Complete all waiters: it is committed, or `error` says why the outcome is not known."""
        self.is_settled = True
        self._error = error
        # They refer to this group, so without this their messages would stay in memory until a garbage collection.
        self.changes.clear()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if error:
                waiter.set_exception(StoreFailed(error))
            else:
                waiter.set_result(None)

    def to_batch(self) -> Batch:
        """Return the rows to write, from the present state of the queues, whose next changes go into the next group."""
        batch = Batch(
            dropped_queues=self.dropped_queues,
            dropped_numbers=self.dropped_numbers,
            queues=[record.row() for record in self.queues.values()],
        )
        for messages, changes in self.changes.items():
            messages.write(changes, batch)
            messages.changes = None
        return batch


class Groups:
    """Collects changes in groups and hands the groups to the writer one by one, in order.

    Used on the event loop's thread only. `notify` is called when a group is ready for the writer. A group is sealed
    early once it has `group_bytes` of messages.
    """

    def __init__(self, loop: AbstractEventLoop, notify: Callable[[], None], *, group_bytes: int) -> None:
        self._loop = loop
        self._notify = notify
        self._group_bytes = group_bytes
        self._gathering: Group | None = None
        self._sealed: deque[tuple[Group, Batch]] = deque()
        self._writing: Group | None = None
        self._timer: TimerHandle | None = None
        self._is_scheduled = False
        self._is_ending = False
        self._failure = ""

    @property
    def is_due(self) -> bool:
        """Whether a group is ready for the writer."""
        return bool(self._sealed) or (self._gathering is not None and self._gathering.is_requested)

    @property
    def has_pending(self) -> bool:
        """Whether a group is being written or ready for that. A group with nothing but leases is not."""
        return self._writing is not None or self.is_due

    @property
    def newest(self) -> Group | None:
        """The last group that is not committed yet, None if all are committed."""
        if self._gathering:
            return self._gathering
        return self._sealed[-1][0] if self._sealed else self._writing

    @property
    def now(self) -> float:
        """The event loop's time, in seconds."""
        return self._loop.time()

    @property
    def lease_horizon(self) -> float:
        """Leases are written if they were noted at or before this time of the event loop, in seconds."""
        return self.now if self._is_ending else self.now - LINGER / 2

    def end(self) -> None:
        """Write all leases from now on, however young they are, because the store is closing."""
        self._is_ending = True

    def group(self) -> Group:
        """Return the open group. Raises `StoreFailed` if the store has failed or is closed."""
        group = self._gathering
        if group is None:
            if self._failure:
                raise StoreFailed(self._failure)
            group = self._gathering = Group(self._loop, self)
            if self._timer is None:
                self._timer = self._loop.call_later(LINGER, self._linger_over)
        elif group.size >= self._group_bytes:
            self._seal(group)
            return self.group()
        return group

    def changes_of(self, messages: GroupedMessages) -> Changes:
        """Return the open group's changes to the messages of a queue. The queue uses them until the group is sealed.

        An open group that is large enough is sealed first, so call this between two changes and not during one.
        """
        group = self.group()
        changes = group.changes.get(messages)
        if changes is None:
            changes = group.changes[messages] = Changes(messages, group)
        messages.changes = changes
        return changes

    def forget(self, messages: GroupedMessages) -> None:
        """Drop the open group's changes to the messages of a queue, because all of them were removed."""
        if messages.changes and self._gathering:
            self._gathering.size -= sum(map(len, messages.changes.added.values()))
            del self._gathering.changes[messages]
            messages.changes = None

    def schedule(self) -> None:
        """Call `notify` at the end of this iteration of the event loop."""
        if not self._is_scheduled and self._writing is None:
            self._is_scheduled = True
            self._loop.call_soon(self._turn_over)

    def take(self) -> tuple[Group, Batch]:
        """Return the next group and its rows, if one `is_due`. Call `committed` after its commit."""
        if not self._sealed and self._gathering:
            self._seal(self._gathering)
        self._writing, batch = self._sealed.popleft()
        return self._writing, batch

    def committed(self, group: Group) -> None:
        """Complete a group that is committed."""
        self._writing = None
        for changes in group.changes.values():
            changes.messages.settle(changes)
        group.settle()

    def fail(self, error: str) -> None:
        """Refuse further changes with this error, and fail all waiters: the outcome of their calls is not known."""
        self._failure = error
        groups = [self._writing, *(group for group, _ in self._sealed), self._gathering]
        self._writing = self._gathering = None
        self._sealed.clear()
        if self._timer:
            self._timer.cancel()
        for group in groups:
            if group:
                group.settle(f"{error}; the outcome of the call is not known")

    def _turn_over(self) -> None:
        self._is_scheduled = False
        self._notify()

    def _linger_over(self) -> None:
        self._timer = None
        if self._gathering:
            self._gathering.request()

    def _seal(self, group: Group) -> None:
        """Close a group for changes, and make its rows."""
        self._gathering = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._sealed.append((group, group.to_batch()))
        for messages in group.changes:
            if messages.has_young_leases:
                self.changes_of(messages)
        self.schedule()
