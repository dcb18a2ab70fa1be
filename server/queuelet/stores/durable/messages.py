"""The messages of one queue in a durable store."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile
from time import time_ns

from queuelet.clock import now_ns
from queuelet.core.budget import MESSAGE_OVERHEAD, RESPONSE_OVERHEAD
from queuelet.core.message import DeliveryRecord, Rank, Tally
from queuelet.core.storage import NotLoaded
from queuelet.errors import StoreFailed
from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.damage import Damage
from queuelet.stores.durable.groups import Changes, Group, Groups
from queuelet.stores.durable.places import end_place, first_place
from queuelet.stores.durable.reader import Reader
from queuelet.stores.durable.rows import (
    QueueRecord,
    delivery_row,
    rank_row,
    response_row,
    tally_row,
    tally_to_json,
)
from queuelet.stores.durable.window import Window, WindowBudget

_UNKNOWN = -1
"""The size of a message out of line that was not read since the store was opened."""

_READ = 256
"""How many messages are read at once, unless the caller asks for more."""

_READ_BYTES = 512 * 1024
"""About how many bytes are read at once, unless the caller asks for more."""


_LOW = 1_000
"""If the window has fewer messages than this, more are loaded ahead."""

_MANY_REMOVED = 1_000
"""After how many removed messages it is worth it to find out where the stored ones begin."""

_AHEAD = 1_000
"""How many messages are loaded ahead at once."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all queues of an open store share."""

    groups: Groups
    reader: Reader
    window_budget: WindowBudget
    set_aside: Callable[[QueueRecord, int, str], None]
    """Called when a damaged message was set aside, with its queue, its sequence number and the reason."""
    lost: Callable[[QueueRecord, int], None]
    """Called with how many messages of a queue cannot be found because the pages that lead to them are damaged."""
    renumber: Callable[[QueueRecord], None]
    """Gives a queue a new number under which no rows are stored; the rows under its old number will be deleted."""
    guard: Callable[[], None]
    """Raises `StoreFailed` if the store may no longer serve what it has in memory."""


class DurableMessages:
    """The `Messages` of one queue in a database. In memory: those that are not committed, first in line or out of line.

    Where a message is found:

    - `_fresh` has the bodies of messages that are not known to be committed.
    - `_removed` has the sequence numbers of removed messages whose rows may still be on the disk.
    - `_damaged` has the sequence numbers of messages that were set aside; their rows stay on the disk.
    - `_out_of_line` has the stored messages that are not in line: those with a rank, and those that were checked out.
    - `_window` has the messages at the head of the line, up to its cursor.
    - All others are only on the disk, where a scan from the cursor finds them.
    """

    __slots__ = (
        "_count",
        "_damaged",
        "_failure",
        "_first",
        "_forget",
        "_fresh",
        "_has_own_ids",
        "_has_ranks",
        "_is_reading_ahead",
        "_lifted",
        "_lost",
        "_noted_leases",
        "_out_of_line",
        "_own_ids",
        "_removed",
        "_removed_lately",
        "_responses",
        "_returned_sizes",
        "_sealed",
        "_shared",
        "_stored_deliveries",
        "_window",
        "changes",
        "deliveries",
        "ranks",
        "record",
        "responses",
        "stored_bytes",
        "tally",
    )

    def __init__(self, record: QueueRecord, shared: Shared) -> None:
        self.record = record
        self._shared = shared
        self._count = 0
        self.stored_bytes = 0
        self.tally = Tally()
        self.changes: Changes | None = None
        """The open group's changes to these messages, None if it has none; `Groups` sets it."""
        self._sealed: Group | None = None
        """The last sealed group that changed any of these messages."""
        self._failure = ""
        self._window = Window(shared.window_budget)
        self._fresh: dict[int, bytes] = {}
        self._removed: set[int] = set()
        self._damaged: set[int] = set()
        self._lost = 0
        self._forget: Callable[[int], None] | None = None
        self._out_of_line: dict[int, int] = {}
        self._returned_sizes: dict[int, int] = {}
        """The sizes in bytes of messages that were returned to the line, because a late Ack removes them unread."""
        self._own_ids: dict[bytes, int] = {}
        self._responses: dict[bytes, bytes] = {}
        self.ranks: dict[int, Rank] = {}
        self.deliveries: dict[int, DeliveryRecord] = {}
        self.responses: dict[bytes, int] = {}
        self._has_ranks = False
        """Whether there may be rows of ranks on the disk."""
        self._stored_deliveries: set[int] = set()
        """The messages that have a row of deliveries on the disk, or in a group that is pending."""
        self._noted_leases: dict[int, float] = {}
        """Messages whose leases are written if they last, with the loop's time when they began; oldest first."""
        self._has_own_ids = False
        """Whether there may be stored messages with IDs that their producers gave."""
        self._is_reading_ahead = False
        self._first = 1
        """No stored message without a stored rank or delivery has a lower sequence number.

        It is stored, so that the first scan after an opening does not begin among the rows of removed messages.
        """
        self._lifted: dict[int, None] = {}
        """The messages that are out of line, but would be in line after an opening, unless the reader reads at once."""
        self._removed_lately = 0
        """Messages that were removed since `_first` was determined."""

    def restore(  # noqa: PLR0913  # all by name
        self,
        *,
        count: int,
        stored_bytes: int,
        tally: Tally,
        has_own_ids: bool,
        first: int = 1,
        damaged: Iterable[int] = (),
        unsound: Mapping[int, str] | None = None,
        sizes: Mapping[int, int] | None = None,
    ) -> None:
        """Set the state that was loaded when the store was opened, after `ranks`, `deliveries` and `responses`.

        The messages in `damaged` were set aside before; those in `unsound` are set aside now, for the given reasons.
        `sizes` has the sizes in bytes of messages that are not in line, if the reader does not read them at once.
        """
        self._count = count
        self.stored_bytes = stored_bytes
        self.tally = tally
        self._has_ranks = bool(self.ranks)
        self._stored_deliveries = set(self.deliveries)
        self._has_own_ids = has_own_ids
        self._first = first
        self._window.cursor = first - 1
        known = sizes or {}
        self._out_of_line = {seq: known.get(seq, _UNKNOWN) for seq in [*self.ranks, *self.deliveries]}
        self._charge(len(self.responses) * RESPONSE_OVERHEAD)
        self._damaged = set(damaged)
        for seq, reason in (unsound or {}).items():
            reader = self._shared.reader
            size = reader.size(self._place(seq)) if reader.reads_at_once else known.get(seq)
            if size is not None:
                self._set_aside(seq, Damage(reason, size))

    @property
    def damaged(self) -> int:
        """Messages that are not found since the store was opened count too."""
        return len(self._damaged) + self._lost

    def report_damaged(self, forget: Callable[[int], None]) -> None:
        self._forget = forget

    @property
    def id_prefix(self) -> bytes:
        return self.record.id_prefix

    def __len__(self) -> int:
        return self._count

    # Adding

    def append(self, seq: int, body: bytes, own_id: bytes = b"") -> None:
        window = self._window
        # The window may hold it only if it follows the window's last message with no others in between.
        is_next = self._has_all_in_memory and window.fits(len(body))
        self._add(seq, body, own_id)
        if is_next:
            window.push(seq, body)

    def append_many(self, first: int, bodies: Sequence[bytes]) -> None:
        window, size, count = self._window, sum(map(len, bodies)), len(bodies)
        is_next = self._has_all_in_memory
        changes = self._begin()
        added = dict(enumerate(bodies, first))
        changes.added.update(added)
        changes.group.size += size
        self._fresh.update(added)
        self._count += count
        self.stored_bytes += size
        self._charge(size + count * MESSAGE_OVERHEAD)
        for seq, body in added.items():
            if not (is_next and window.fits(len(body))):
                break
            window.push(seq, body)

    def keep(self, seq: int, body: bytes, rank: Rank, own_id: bytes = b"") -> None:
        self._add(seq, body, own_id).changed.add(seq)
        self.ranks[seq] = rank
        self._out_of_line[seq] = len(body)

    # The line

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        self._check()
        while True:
            seqs = self._window.first(count)
            if not self._shared.reader.reads_at_once:
                self.require([seq for seq in seqs if seq not in self._window.bodies])
            known = len(self._damaged)
            bodies, is_enough = self._bodies_of(seqs, max_bytes)
            if len(self._damaged) > known:
                continue  # some of these are no longer in line
            missing = count - len(bodies)
            if is_enough or not missing or not self._fill(missing, max_bytes - sum(map(len, bodies))):
                return seqs[: len(bodies)], bodies

    def take(self) -> tuple[int, bytes] | None:
        seqs, bodies = self.take_many(1, 0)
        return (seqs[0], bodies[0]) if seqs else None

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        seqs, bodies = self.first_many(count, max_bytes)
        self._window.remove_first(seqs)
        for seq, body in zip(seqs, bodies, strict=True):
            self._remove(seq, len(body))
        self._read_ahead()
        return seqs, bodies

    def checkout_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        seqs, bodies = self.first_many(count, max_bytes)
        self._window.remove_first(seqs)
        self._out_of_line.update(zip(seqs, map(len, bodies), strict=True))
        if self._returned_sizes:
            for seq in seqs:
                self._returned_sizes.pop(seq, None)
        if not self._shared.reader.reads_at_once:
            self._lifted.update(dict.fromkeys(seqs))
        self._read_ahead()
        return seqs, bodies

    def return_to_line(self, seq: int) -> None:
        self._check()
        size = self._out_of_line.pop(seq)
        if size != _UNKNOWN and not self._shared.reader.reads_at_once:
            self._returned_sizes[seq] = size
        if seq <= self._window.cursor:
            self._window.insert(seq)
        self._lifted.pop(seq, None)
        self._first = min(self._first, seq)

    # Any message

    def require(self, seqs: Iterable[int] = (), own_ids: Iterable[bytes] = ()) -> None:
        """Announce that the next calls read these messages. Raises `NotLoaded` if some have to be read first."""
        reader = self._shared.reader
        if reader.reads_at_once:
            return
        self._check()
        in_memory = (self._fresh, self._window.bodies, self._removed, self._damaged)
        places = [self._place(seq) for seq in seqs if not any(seq in known for known in in_memory)]
        ids = [each for each in own_ids if self._own_ids.get(each) not in self._fresh] if self._has_own_ids else []
        if places or ids:
            reader.require(self.record.number, places, ids)

    def get(self, seq: int) -> bytes | None:
        stored = self._find(seq)
        if isinstance(stored, Damage):
            self._lose(seq, stored)
            return None
        if stored is None and seq in self._out_of_line:
            raise self._shared.reader.missing(self._place(seq))
        return stored

    def look(self, seq: int) -> bytes | None:
        stored = self._find(seq)
        return None if isinstance(stored, Damage) else stored

    def discard(self, seq: int) -> int | None:
        self._check()
        size = self._size_of(seq)
        if size is None:
            return None
        if self._out_of_line.pop(seq, None) is None and seq <= self._window.cursor:
            self._window.remove(seq)
        self._remove(seq, size)
        return size

    def after(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._check()
        rows = self._scan(seq + 1, min(count, _READ), min(max_bytes, _READ_BYTES), is_browse=True)
        return _first_of(rows, count, max_bytes)

    def before(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._check()
        rows = self._scan_back(seq, min(count, _READ), min(max_bytes, _READ_BYTES))
        return _first_of(rows, count, max_bytes)

    def seq_of(self, own_id: bytes) -> int | None:
        self._check()
        seq = self._own_ids.get(own_id)
        if seq in self._fresh or not self._has_own_ids:
            return seq
        place = self._shared.reader.place_of(self.record.number, own_id)
        if place is None:
            return None
        seq = place - self._place(0)
        return None if seq in self._removed or seq in self._damaged else seq

    def mark_changed(self, seqs: Iterable[int]) -> None:
        self._shared.guard()
        changed = list(seqs)
        (self.changes or self._begin()).changed.update(changed)
        for seq in changed:
            self._noted_leases.pop(seq, None)

    def mark_leased(self, seqs: Iterable[int]) -> None:
        if self.changes is None:
            self._begin()
        self._noted_leases.update(dict.fromkeys(seqs, self._shared.groups.now))

    # Responses

    def store_response(self, key: bytes, until: int, response: bytes) -> None:
        self.forget_responses((key,))
        kept = (self.changes or self._begin()).responses
        kept.pop(key, None)  # so that it becomes the last one
        kept[key] = (until, response)
        self.responses[key] = until
        self._responses[key] = response
        self._charge(len(response) + RESPONSE_OVERHEAD)

    def response(self, key: bytes) -> bytes | None:
        self._check()
        if key not in self.responses:
            return None
        response = self._responses.get(key)
        return self._shared.reader.response(self.record.number, key) if response is None else response

    def forget_responses(self, keys: Iterable[bytes]) -> None:
        changes = self.changes or self._begin()
        for key in keys:
            if self.responses.pop(key, None) is not None:
                changes.responses[key] = None
                self._charge(-len(self._responses.pop(key, b"")) - RESPONSE_OVERHEAD)

    # All

    def clear(self) -> None:
        """Release all memory; the rows are deleted in the background, under the number that the queue had."""
        self._check()
        self.release()
        self._shared.groups.forget(self)
        self._shared.reader.forget(self.record.number)
        self._shared.renumber(self.record)
        self._begin()

    def commit(self, *, within: float = 0) -> Awaitable[None] | None:
        group = self.changes.group if self.changes else self._sealed
        if group is None or group.is_settled:
            self._check()
            return None
        group.request(within=within)
        return group

    # For groups

    @property
    def has_young_leases(self) -> bool:
        """Whether there are leases that are written later if they last."""
        return bool(self._noted_leases)

    def write(self, changes: Changes, batch: Batch) -> None:
        """Add the rows of a group's changes to a batch, because the group is sealed."""
        self._sealed = changes.group
        number, base, own_ids = self.record.number, self._place(0), changes.own_ids
        batch.messages += [(base + seq, own_ids.get(seq), body) for seq, body in changes.added.items()]
        removed = array("q", [base + seq for seq in changes.removed])
        batch.removed += removed
        found_ns = time_ns()
        batch.damaged += [(base + seq, found_ns, reason) for seq, reason in changes.damaged.items()]
        self._write_ranks_and_deliveries(changes, batch, removed)
        for key, response in changes.responses.items():
            if response is None:
                batch.responses_gone.append((number, key))
            else:
                batch.responses.append(response_row(number, key, *response))
        counts = tally_to_json(self.tally, now_ns(), **self._opening_hints(changes))
        batch.tallies.append(tally_row(self.record.ordinal, self._count, self.stored_bytes, counts))

    def settle(self, changes: Changes) -> None:
        """Release the memory of changes that are committed."""
        fresh, size = self._fresh, 0
        for seq in changes.added:
            body = fresh.pop(seq, None)
            if body is not None:
                size += len(body) + MESSAGE_OVERHEAD
        self._has_own_ids |= bool(changes.own_ids)
        for seq, own_id in changes.own_ids.items():
            if self._own_ids.get(own_id) == seq:
                del self._own_ids[own_id]
        self._removed.difference_update(changes.removed)
        reader = self._shared.reader
        if reader.reads_at_once:
            for key, kept in changes.responses.items():
                if kept and self._responses.get(key) is kept[1]:
                    del self._responses[key]
                    size += len(kept[1])
        else:
            base = self._place(0)
            added, removed = ([base + seq for seq in seqs] for seqs in (changes.added, changes.removed))
            reader.note_committed(self.record.number, added, removed, changes.own_ids.values())
            self._find_first(len(changes.removed))
        self._charge(-size)

    # For the store

    def fail(self, why: str) -> None:
        """Release all memory, and raise `StoreFailed` from every call from now on."""
        self._failure = why
        self.changes = None
        self.release()

    def release(self) -> None:
        """Release all memory."""
        self._window.evict()
        self._window = Window(self._shared.window_budget)
        self._charge(-sum(len(body) + MESSAGE_OVERHEAD for body in self._fresh.values()))
        self._charge(-sum(map(len, self._responses.values())) - len(self.responses) * RESPONSE_OVERHEAD)
        self._fresh, self._removed, self._out_of_line, self._own_ids, self._responses = {}, set(), {}, {}, {}
        self._noted_leases, self._stored_deliveries, self._damaged = {}, set(), set()
        self._returned_sizes, self._lifted = {}, {}
        self.ranks.clear()
        self.deliveries.clear()
        self.responses.clear()
        self._has_ranks = self._has_own_ids = False
        self._count = self.stored_bytes = self._lost = 0
        self._first = 1

    # Inside

    def _check(self) -> None:
        if self._failure:
            raise StoreFailed(self._failure)
        self._shared.guard()

    def _find(self, seq: int) -> bytes | Damage | None:
        """Return a message, or its damage if that is found now; None if it is not stored or was set aside."""
        self._check()
        body = self._fresh.get(seq)
        if body is None:
            body = self._window.bodies.get(seq)
        if body is not None or seq in self._removed or seq in self._damaged:
            return body
        return self._shared.reader.body(self._place(seq))

    def _charge(self, size: int) -> None:
        self._shared.window_budget.memory.used += size

    def _place(self, seq: int) -> int:
        return first_place(self.record.number) + seq

    def _write_ranks_and_deliveries(self, changes: Changes, batch: Batch, removed: array[int]) -> None:
        """Add ranks and deliveries to a batch. Those of removed messages are deleted if they may be on the disk."""
        base, deliveries, ranks, stored = self._place(0), self.deliveries, self.ranks, self._stored_deliveries
        changed = changes.changed.union(self._leases_to_write()).difference(changes.removed)
        if stored:
            ended = stored.intersection(changes.removed).union(stored.intersection(changed).difference(deliveries))
            stored -= ended
            batch.deliveries_gone.extend([base + seq for seq in ended])
        if self._has_ranks:
            batch.ranks_gone += removed
            batch.ranks_gone.extend([base + seq for seq in changed if seq not in ranks])
        delivered = [seq for seq in changed if seq in deliveries]
        stored.update(delivered)
        batch.deliveries += [delivery_row(base + seq, deliveries[seq]) for seq in delivered]
        ranked = [rank_row(base + seq, ranks[seq]) for seq in changed if seq in ranks]
        batch.ranks += ranked
        self._has_ranks |= bool(ranked)
        if not self._shared.reader.reads_at_once:
            self._note_lifted(changed)

    def _opening_hints(self, changes: Changes) -> dict[str, int]:
        """Return what is stored with the counts so that the next opening need not look for it among the messages.

        A full group may be sealed after a message was added and before `next_seq` is raised.
        """
        if self._shared.reader.reads_at_once:
            return {}
        return {
            "next_seq": max(self.tally.next_seq, next(reversed(changes.added), 0) + 1),
            "first": self._first,
            "own_ids": int(self._has_own_ids or bool(changes.own_ids)),
        }

    def _note_lifted(self, changed: Iterable[int]) -> None:
        """Note which messages have no stored rank and no stored delivery any more, and which have one now."""
        for seq in changed:
            if seq in self.ranks or seq in self.deliveries:
                self._lifted.pop(seq, None)
            elif seq in self._out_of_line:
                self._lifted[seq] = None
                self._first = min(self._first, seq)

    def _find_first(self, removed: int) -> None:
        """Determine `_first` between two calls, after some more messages were removed.

        Not each time, so that the work for each of them is bounded.
        """
        self._removed_lately += removed
        if self._removed_lately >= max(_MANY_REMOVED, len(self._lifted)):
            window = self._window
            first = window.seqs[0] if window.seqs else window.cursor + 1
            self._first = min(first, min(self._lifted, default=first))
            self._removed_lately = 0

    def _leases_to_write(self) -> list[int]:
        """Return the messages whose leases have lasted long enough to be written. Each lease is returned once."""
        noted, until = self._noted_leases, self._shared.groups.lease_horizon
        old = list(takewhile(lambda seq: noted[seq] <= until, noted))
        for seq in old:
            del noted[seq]
        return old

    def _begin(self) -> Changes:
        """Return the open group's changes to these messages."""
        return self._shared.groups.changes_of(self)

    def _add(self, seq: int, body: bytes, own_id: bytes) -> Changes:
        changes = self._begin()
        size = len(body)
        changes.added[seq] = body
        changes.group.size += size
        if own_id:
            changes.own_ids[seq] = own_id
            self._own_ids[own_id] = seq
        self._fresh[seq] = body
        self._count += 1
        self.stored_bytes += size
        self._charge(size + MESSAGE_OVERHEAD)
        return changes

    def _remove(self, seq: int, size: int) -> None:
        """Remove a message from everything except the window."""
        changes = self.changes or self._begin()
        self._noted_leases.pop(seq, None)
        self._returned_sizes.pop(seq, None)
        self._lifted.pop(seq, None)
        if changes.added.pop(seq, None) is None:
            changes.removed.append(seq)
            self._removed.add(seq)
        else:
            changes.group.size -= size
            own_id = changes.own_ids.pop(seq, b"")
            if self._own_ids.get(own_id) == seq:
                del self._own_ids[own_id]
        if self._fresh.pop(seq, None) is not None:
            self._charge(-size - MESSAGE_OVERHEAD)
        self._count -= 1
        self.stored_bytes -= size

    def _size_of(self, seq: int) -> int | None:
        """Return the size of a message in bytes, None if it is not stored."""
        if seq in self._removed or seq in self._damaged:
            return None
        size = self._out_of_line.get(seq, self._returned_sizes.get(seq, _UNKNOWN))
        if size != _UNKNOWN:
            return size
        body = self._fresh.get(seq)
        if body is None:
            body = self._window.bodies.get(seq)
        return self._shared.reader.size(self._place(seq)) if body is None else len(body)

    def _bodies_of(self, seqs: list[int], max_bytes: int) -> tuple[list[bytes], bool]:
        """Return the messages with these sequence numbers, and whether they reach `max_bytes`.

        They have at most `max_bytes` in total, unless the first alone has more.
        """
        bodies: list[bytes] = []
        in_line, size = self._window.bodies, 0
        for seq in seqs:
            body = in_line.get(seq)
            if body is None:
                body = self.get(seq)
                if body is None and seq in self._damaged:
                    return bodies, False
                if body is None:
                    raise self._shared.reader.missing(self._place(seq))
            size += len(body)
            if size > max_bytes and bodies:
                return bodies, True
            bodies.append(body)
        return bodies, size >= max_bytes and bool(bodies)

    def _fill(self, count: int, max_bytes: int) -> bool:
        """Read messages after the cursor into the window; return whether there were any.

        It reads more than `count` if the window has room, because one read of many rows is faster than many reads.
        """
        window, out_of_line = self._window, self._out_of_line
        if self._has_all_in_memory:
            return False
        found = size = 0
        for seq, body in self._scan(window.cursor + 1, max(count, _READ), max(max_bytes, _READ_BYTES), out_of_line):
            is_enough = found >= count or (found and size >= max_bytes)
            if is_enough and (found >= _READ or size >= _READ_BYTES or not window.fits(len(body))):
                break
            window.push(seq, body)
            found += 1
            size += len(body)
        else:
            # Damage may have given a row another sequence number, so only the end of a scan gives the true count.
            missing, self._count = self._count - len(window) - len(out_of_line), len(window) + len(out_of_line)
            if missing > 0:
                self._lost += missing
                self._begin()
                self._shared.lost(self.record, missing)
        return found > 0

    def _read_ahead(self) -> None:
        """Load more messages into the window before they are needed, so that taking them need not wait."""
        if self._shared.reader.reads_at_once or self._is_reading_ahead or self._has_all_in_memory:
            return
        if self._failure or len(self._window) >= _LOW or not self._window.fits(0):
            return
        try:
            self._fill(_AHEAD, _READ_BYTES)
        except NotLoaded as missing:
            self._is_reading_ahead = True
            missing.then(self._go_on_reading)

    def _go_on_reading(self) -> None:
        self._is_reading_ahead = False
        with suppress(StoreFailed):  # the calls that follow get it
            self._read_ahead()

    @property
    def _has_all_in_memory(self) -> bool:
        """Whether the window and `_out_of_line` have all stored messages, so that a scan would find no others."""
        return len(self._window) + len(self._out_of_line) == self._count and not self._damaged

    def _lose(self, seq: int, damage: Damage) -> None:
        """Set a damaged message aside, and make the queue forget it."""
        self._set_aside(seq, damage)
        if self._forget:
            self._forget(seq)

    def _set_aside(self, seq: int, damage: Damage) -> None:
        """Remove a damaged message from memory and from the counts. Its row stays on the disk."""
        changes = self.changes or self._begin()
        changes.damaged[seq] = damage.reason
        changes.changed.add(seq)
        self._noted_leases.pop(seq, None)
        self._returned_sizes.pop(seq, None)
        self._lifted.pop(seq, None)
        self._damaged.add(seq)
        window = self._window
        was_out_of_line = self._out_of_line.pop(seq, None) is not None
        is_in_line = not was_out_of_line and seq <= window.cursor and seq in window.seqs
        if is_in_line:
            window.remove(seq)
        # Damage may have given the row another sequence number, so it may not be one of the messages that were counted.
        if was_out_of_line or is_in_line or seq > window.cursor:
            self._count = max(0, self._count - 1)
            self.stored_bytes = max(0, self.stored_bytes - damage.size)
        self._shared.set_aside(self.record, seq, damage.reason)

    def _scan(
        self, seq: int, count: int, max_bytes: int, without: Container[int] = (), *, is_browse: bool = False
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the stored messages from a sequence number on, except for those in `without`.

        Committed ones come first and are read in batches. Those that are not committed yet follow, because they are
        newer. The disk is read only up to the first of these.
        """
        removed, damaged, base = self._removed, self._damaged, self._place(0)
        first_fresh = next(iter(self._fresh), 0)
        end = base + first_fresh if first_fresh else end_place(self.record.number)
        while True:
            while seq in removed or seq in without or seq in damaged:  # skip runs of them, which may be long, unread
                seq += 1
            if base + seq >= end:
                break
            rows = self._shared.reader.bodies(base + seq, end, count, max_bytes, is_browse=is_browse)
            if not rows:
                break
            for place, body in rows:
                found = place - base
                if found in removed or found in damaged or found in without:
                    continue
                if isinstance(body, Damage):
                    self._lose(found, body)
                else:
                    yield found, body
            # A damaged row may have any sequence number, so continue after a sound one if there is one.
            sound = [place for place, body in rows if not isinstance(body, Damage)]
            seq = max(seq, (sound[-1] if sound else max(place for place, _ in rows)) - base) + 1
        for fresh, body in self._fresh.items():
            if fresh >= seq and fresh not in without:
                yield fresh, body

    def _scan_back(self, seq: int, count: int, max_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Yield the stored messages before a sequence number, the newest first.

        Those that are not committed come first, because they are newer. Then the disk is read in batches.
        """
        for fresh, stored in reversed(self._fresh.items()):
            if fresh < seq:
                yield fresh, stored
        removed, damaged, base = self._removed, self._damaged, self._place(0)
        seq = min(seq, next(iter(self._fresh), seq), end_place(self.record.number) - base)
        while True:
            while seq - 1 in removed or seq - 1 in damaged:  # as in `_scan`
                seq -= 1
            if seq <= 1:
                return
            rows = self._shared.reader.bodies(base + 1, base + seq, count, max_bytes, descending=True, is_browse=True)
            if not rows:
                return
            for place, body in rows:
                found = place - base
                if found in removed or found in damaged:
                    continue
                if isinstance(body, Damage):
                    self._lose(found, body)
                else:
                    yield found, body
            sound = [place for place, body in rows if not isinstance(body, Damage)]
            seq = min(seq - 1, (sound[-1] if sound else min(place for place, _ in rows)) - base)


def _first_of(rows: Iterator[tuple[int, bytes]], count: int, max_bytes: int) -> list[tuple[int, bytes]]:
    """Return the first messages: at most `count`, and at most `max_bytes` together unless the first is larger."""
    found: list[tuple[int, bytes]] = []
    size = 0
    for row in islice(rows, count):
        size += len(row[1])
        if size > max_bytes and found:
            break
        found.append(row)
    return found
