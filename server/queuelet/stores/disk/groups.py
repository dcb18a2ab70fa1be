"""The journal: what was done and is not on the disk yet, in groups. Each group is one transaction.

While one group is being written the next gathers. A group is handed over as soon as somebody waits for it and the
writer is idle, at the end of the loop's turn, so that all calls of a turn share it; one that nobody waits for (leases)
is handed over after a while. What it holds is read off the queues at that moment, so that what was added and removed
again is not written at all.
"""

from __future__ import annotations

from array import array
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from time import time_ns
from typing import TYPE_CHECKING

from queuelet.clock import now_ns
from queuelet.errors import StoreFailed
from queuelet.stores.disk.batch import Batch
from queuelet.stores.disk.records import QueueRecord, answer_row, delivery_row, rank_row, tally_row, tally_to_json
from queuelet.stores.disk.schema import first_place

if TYPE_CHECKING:  # the messages know the journal, and it reads them
    from queuelet.stores.disk.messages import DiskMessages

LINGER = 0.5
"""How long leases may wait for a transaction that somebody needs, in seconds.

Those that are younger than half of it are not written then either: most messages are acknowledged by that time, and
their leases never need a row. Together that makes less than a second until a lease is kept.
"""


class Changes:
    """What a group changes of the messages of one queue."""

    __slots__ = ("added", "answers", "damaged", "group", "messages", "own_ids", "removed", "touched")

    def __init__(self, messages: DiskMessages, group: Group) -> None:
        """Begin with none."""
        self.messages = messages
        self.group = group
        self.added: dict[int, bytes] = {}
        self.own_ids: dict[int, bytes] = {}
        """Of added messages, where their producers gave one."""
        self.removed: list[int] = []
        """Messages of earlier groups."""
        self.touched: set[int] = set()
        """Messages whose rank or delivery changed."""
        self.damaged: dict[int, str] = {}
        """Messages that are set aside, with the reason."""
        self.answers: dict[bytes, tuple[int, bytes] | None] = {}
        """Answers to keep, with the time until when, and None for those to drop."""

    def write_to(self, batch: Batch) -> None:
        """Put what is to be written into a batch."""
        messages = self.messages
        record = messages.record
        base = first_place(record.number)
        own_ids = self.own_ids
        batch.messages += [(base + seq, own_ids.get(seq), body) for seq, body in self.added.items()]
        gone = array("q", [base + seq for seq in self.removed])
        batch.removed += gone
        found = time_ns()
        batch.damaged += [(base + seq, found, reason) for seq, reason in self.damaged.items()]
        self._write_records(batch, base, gone)
        for key, kept in self.answers.items():
            if kept is None:
                batch.answers_gone.append((record.number, key))
            else:
                batch.answers.append(answer_row(record.number, key, *kept))
        counts = tally_to_json(messages.tally, now_ns())
        batch.tallies.append(tally_row(record.ordinal, len(messages), messages.stored_bytes, counts))

    def _write_records(self, batch: Batch, base: int, gone: array[int]) -> None:
        """Put ranks and deliveries into a batch. Those of removed messages go, where there may be some on the disk."""
        messages = self.messages
        deliveries, ranks = messages.deliveries, messages.ranks
        kept = messages.kept_deliveries
        changed = self.touched.union(messages.leases_to_keep()).difference(self.removed)
        if kept:
            ended = kept.intersection(self.removed).union(kept.intersection(changed).difference(deliveries))
            kept -= ended
            batch.deliveries_gone.extend([base + seq for seq in ended])
        if messages.has_ranks:
            batch.ranks_gone += gone
            batch.ranks_gone.extend([base + seq for seq in changed if seq not in ranks])
        delivered = [seq for seq in changed if seq in deliveries]
        kept.update(delivered)
        batch.deliveries += [delivery_row(base + seq, deliveries[seq]) for seq in delivered]
        ranked = [rank_row(base + seq, ranks[seq]) for seq in changed if seq in ranks]
        batch.ranks += ranked
        messages.has_ranks |= bool(ranked)


class Group:
    """What one transaction is to write, and who waits for it."""

    def __init__(self, loop: AbstractEventLoop, journal: Journal) -> None:
        """Begin empty."""
        self.changes: dict[DiskMessages, Changes] = {}
        self.queues: dict[int, QueueRecord] = {}
        """Queues that are new or have another definition or number, by ordinal."""
        self.dropped_queues: list[int] = []
        self.dropped_numbers: list[int] = []
        self.size = 0
        """The bytes of the messages to write."""
        self.is_wanted = False
        """Whether somebody waits for it."""
        self.is_settled = False
        self._error = ""
        self._loop = loop
        self._journal = journal
        self._waiters: list[Future[None]] = []

    def __await__(self) -> Generator[Future[None], None, None]:
        """Wait until it is kept. Raises `StoreFailed` if what became of it is not known."""
        if not self.is_settled:
            # One for each who waits: a call that is cancelled must not cancel the others.
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            yield from waiter
        elif self._error:
            raise StoreFailed(self._error)

    async def wait(self) -> None:
        """Wait until it is kept, or has failed: whoever needs it is told."""
        with suppress(StoreFailed):
            await self

    def want(self, *, within: float = 0) -> None:
        """Have it written soon, beginning in so many seconds at most."""
        if self.is_wanted:
            return
        if within:
            self._loop.call_later(within, self.want)
            return
        self.is_wanted = True
        self._journal.schedule()

    def settle(self, error: str = "") -> None:
        """Tell all who wait that it is kept, or why that is not known."""
        self.is_settled = True
        self._error = error
        # They point back here: the messages in them would stay until the garbage collector looks for such circles.
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
        """Return what is to be written, as all queues are now. They gather in another group from here on."""
        batch = Batch(
            dropped_queues=self.dropped_queues,
            dropped_numbers=self.dropped_numbers,
            queues=[record.row() for record in self.queues.values()],
        )
        for messages, changes in self.changes.items():
            changes.write_to(batch)
            messages.changes = None
        return batch


class Journal:
    """Gathers groups, and gives them out one by one, in order. Used on the event loop's thread."""

    def __init__(self, loop: AbstractEventLoop, is_due: Callable[[], None], *, group_bytes: int) -> None:
        """Take the loop, what to call when a group may be taken, and about how many bytes of messages one may hold."""
        self._loop = loop
        self._is_due = is_due
        self._group_bytes = group_bytes
        self._gathering: Group | None = None
        self._sealed: deque[tuple[Group, Batch]] = deque()
        self._writing: Group | None = None
        self._timer: TimerHandle | None = None
        self._is_scheduled = False
        self._is_ending = False
        self._failure = ""

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be written, leases aside."""
        return not self._writing and not self._sealed and not (self._gathering and self._gathering.is_wanted)

    @property
    def newest(self) -> Group | None:
        """The last group that is not kept yet, None if all is."""
        if self._gathering:
            return self._gathering
        return self._sealed[-1][0] if self._sealed else self._writing

    @property
    def now(self) -> float:
        """The loop's time, in seconds."""
        return self._loop.time()

    @property
    def lease_horizon(self) -> float:
        """When a lease must have been noted to be written now, by the loop's time."""
        return self.now if self._is_ending else self.now - LINGER / 2

    def end(self) -> None:
        """Write all leases from now on, however young: there will be no later time for it."""
        self._is_ending = True

    def group(self) -> Group:
        """Return the group that gathers now. Raises `StoreFailed` if nothing can be kept any more."""
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

    def changes_of(self, messages: DiskMessages) -> Changes:
        """Return what the gathering group changes of a queue's messages; the queue keeps it until it is handed over.

        A group that has become large enough is closed first, so this is called between one change and the next.
        """
        group = self.group()
        changes = group.changes.get(messages)
        if changes is None:
            changes = group.changes[messages] = Changes(messages, group)
            messages.group = group
        messages.changes = changes
        return changes

    def forget(self, messages: DiskMessages) -> None:
        """Drop what the gathering group would change of a queue's messages, which are no more."""
        if messages.changes and self._gathering:
            self._gathering.size -= sum(map(len, messages.changes.added.values()))
            del self._gathering.changes[messages]
            messages.changes = None

    def schedule(self) -> None:
        """Say at the end of this turn of the loop that a group is due."""
        if not self._is_scheduled and self._writing is None:
            self._is_scheduled = True
            self._loop.call_soon(self._turn_over)

    def take(self) -> tuple[Group, Batch] | None:
        """Return the next group that is due, and what is to be written of it; None if none is. `written` follows."""
        if not self._sealed and self._gathering and self._gathering.is_wanted:
            self._seal(self._gathering)
        if not self._sealed:
            return None
        self._writing, batch = self._sealed.popleft()
        return self._writing, batch

    def written(self, group: Group) -> None:
        """Settle a group that is kept."""
        self._writing = None
        for changes in group.changes.values():
            changes.messages.settle(changes)
        group.settle()

    def fail(self, error: str) -> None:
        """Take no more changes, for this reason, and tell all who wait that what became of theirs is not known."""
        self._failure = error
        groups = [self._writing, *(group for group, _ in self._sealed), self._gathering]
        self._writing = self._gathering = None
        self._sealed.clear()
        if self._timer:
            self._timer.cancel()
        for group in groups:
            if group:
                group.settle(f"{error}; what became of the call is not known")

    def _turn_over(self) -> None:
        self._is_scheduled = False
        self._is_due()

    def _linger_over(self) -> None:
        self._timer = None
        if self._gathering:
            self._gathering.want()

    def _seal(self, group: Group) -> None:
        """Take no more into a group: read off what it is to write."""
        self._gathering = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._sealed.append((group, group.to_batch()))
        for messages in group.changes:
            if messages.has_young_leases:
                self.changes_of(messages)
        self.schedule()
