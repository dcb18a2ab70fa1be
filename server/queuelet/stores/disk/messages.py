"""The messages of one queue in a Disk store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from queuelet.core.message import Delivery, Rank, Tally
from queuelet.errors import StoreFailed
from queuelet.stores.disk.groups import Changes, Group, Journal
from queuelet.stores.disk.reader import Reader
from queuelet.stores.disk.records import QueueRecord
from queuelet.stores.disk.rows import Damage
from queuelet.stores.disk.schema import end_place, first_place
from queuelet.stores.disk.window import OVERHEAD, Line, Windows

ANSWER_OVERHEAD = 160
"""What a kept answer takes in memory beside its bytes, in bytes."""

_UNKNOWN = -1
"""The size of a message out of line that nobody has looked at since the store was opened."""

_READ = 256
"""How many messages are read at once, where the caller does not want more."""

_READ_BYTES = 512 * 1024
"""About how many bytes are."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all queues of an open store have in common."""

    journal: Journal
    reader: Reader
    windows: Windows
    set_aside: Callable[[QueueRecord, int, str], None]
    """Called for a message that was set aside: with its queue, its sequence number, and the reason."""
    lost: Callable[[QueueRecord, int], None]
    """Called with how many messages of a queue cannot be found because pages that lead to them are damaged."""
    renumber: Callable[[QueueRecord], None]
    """Gives a queue a number under which nothing is stored; what is under its old one goes."""


class DiskMessages:
    """Messages on a disk. In memory is what is not written yet, what is next in line, and what stands out of the line.

    Where a message is known from:

    - `_fresh` has the bodies that are not known to be committed.
    - `_removed` has the numbers that are removed, and may still be on the disk.
    - `_damaged` has the numbers that are set aside, and stay on the disk.
    - `_apart` has the stored ones that are not in line: those with a rank, and those that were lifted.
    - `_line` has the next in line, up to its cursor.
    - All others are on the disk alone, where a scan past the cursor finds them.
    """

    __slots__ = (
        "_answers",
        "_apart",
        "_count",
        "_damaged",
        "_failure",
        "_forget",
        "_fresh",
        "_has_own_ids",
        "_line",
        "_lost",
        "_noted_leases",
        "_own_ids",
        "_removed",
        "_shared",
        "answers",
        "changes",
        "deliveries",
        "group",
        "has_ranks",
        "kept_deliveries",
        "ranks",
        "record",
        "stored_bytes",
        "tally",
    )

    def __init__(self, record: QueueRecord, shared: Shared) -> None:
        """Begin empty."""
        self.record = record
        self._shared = shared
        self._count = 0
        self.stored_bytes = 0
        self.tally = Tally()
        self.changes: Changes | None = None
        """What the gathering group changes of these; the journal sets it."""
        self.group: Group | None = None
        """The last group that changed any of these."""
        self._failure = ""
        self._line = Line(shared.windows)
        self._fresh: dict[int, bytes] = {}
        self._removed: set[int] = set()
        self._damaged: set[int] = set()
        self._lost = 0
        self._forget: Callable[[int], None] | None = None
        self._apart: dict[int, int] = {}
        self._own_ids: dict[bytes, int] = {}
        self._answers: dict[bytes, bytes] = {}
        self.ranks: dict[int, Rank] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.answers: dict[bytes, int] = {}
        self.has_ranks = False
        """Whether there may be ranks on the disk."""
        self.kept_deliveries: set[int] = set()
        """The messages whose deliveries are on the disk, or on their way there."""
        self._noted_leases: dict[int, float] = {}
        """Messages whose leases are to be kept if they go on, and since when; the oldest come first."""
        self._has_own_ids = False

    def restore(  # noqa: PLR0913  # all by name
        self,
        *,
        count: int,
        stored_bytes: int,
        tally: Tally,
        has_own_ids: bool,
        damaged: Iterable[int] = (),
        unsound: Mapping[int, str] | None = None,
    ) -> None:
        """Take up what was read when the store was opened, after `ranks`, `deliveries` and `answers` were filled.

        What is `damaged` was set aside before; what is `unsound` is set aside now, for the reasons given.
        """
        self._count = count
        self.stored_bytes = stored_bytes
        self.tally = tally
        self.has_ranks = bool(self.ranks)
        self.kept_deliveries = set(self.deliveries)
        self._has_own_ids = has_own_ids
        self._apart = dict.fromkeys([*self.ranks, *self.deliveries], _UNKNOWN)
        self._charge(len(self.answers) * ANSWER_OVERHEAD)
        self._damaged = set(damaged)
        for seq, reason in (unsound or {}).items():
            size = self._shared.reader.size(self._place(seq))
            if size is not None:
                self._set_aside(seq, Damage(reason, size))

    @property
    def damaged(self) -> int:
        """How many are set aside because they are damaged, and how many cannot be found since the store was opened."""
        return len(self._damaged) + self._lost

    def report_damaged(self, forget: Callable[[int], None]) -> None:
        """Have `forget` called with the number of each message that is set aside while it is read."""
        self._forget = forget

    @property
    def id_prefix(self) -> bytes:
        """What the ids begin with that the server makes for these."""
        return self.record.id_prefix

    def __len__(self) -> int:
        """Return how many there are, in line or not."""
        return self._count

    # Adding

    def append(self, seq: int, body: bytes, own_id: bytes = b"") -> None:
        """Keep a message at the end of the line."""
        line = self._line
        # The line may hold it only if nothing stands between: on the disk, or not written yet.
        is_next = self._is_all_at_hand and line.has_room(len(body))
        self._add(seq, body, own_id)
        if is_next:
            line.push(seq, body)

    def append_many(self, first: int, bodies: Sequence[bytes]) -> None:
        """Keep messages at the end of the line, numbered from `first` on."""
        line, size, count = self._line, sum(map(len, bodies)), len(bodies)
        is_next = self._is_all_at_hand
        changes = self._begin()
        added = dict(enumerate(bodies, first))
        changes.added.update(added)
        changes.group.size += size
        self._fresh.update(added)
        self._count += count
        self.stored_bytes += size
        self._charge(size + count * OVERHEAD)
        for seq, body in added.items():
            if not (is_next and line.has_room(len(body))):
                break
            line.push(seq, body)

    def keep(self, seq: int, body: bytes, rank: Rank, own_id: bytes = b"") -> None:
        """Keep a message with a rank, beside the line."""
        self._add(seq, body, own_id).touched.add(seq)
        self.ranks[seq] = rank
        self._apart[seq] = len(body)

    # The line

    @property
    def first_in_line(self) -> int:
        """The sequence number of the first in line, 0 if there is none."""
        self._check()
        seqs = self._line.seqs
        if seqs:
            return seqs[0]
        return seqs[0] if self._fill(1, 0) else 0

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return the first few in line: at most `count`, together within `max_bytes` but one at least."""
        self._check()
        while True:
            seqs = self._line.first(count)
            known = len(self._damaged)
            bodies, is_enough = self._bodies_of(seqs, max_bytes)
            if len(self._damaged) > known:
                continue  # some of these are not in line any more
            missing = count - len(bodies)
            if is_enough or not missing or not self._fill(missing, max_bytes - sum(map(len, bodies))):
                return seqs[: len(bodies)], bodies

    def take(self) -> tuple[int, bytes] | None:
        """Remove and return the first in line, None if there is none."""
        seqs, bodies = self.take_many(1, 0)
        return (seqs[0], bodies[0]) if seqs else None

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Remove and return what `first_many` returns."""
        seqs, bodies = self.first_many(count, max_bytes)
        self._line.leave(seqs)
        for seq, body in zip(seqs, bodies, strict=True):
            self._remove(seq, len(body))
        return seqs, bodies

    def checkout_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        """Return what `first_many` returns, and lift it out of the line."""
        seqs, bodies = self.first_many(count, max_bytes)
        self._line.leave(seqs)
        self._apart.update(zip(seqs, map(len, bodies), strict=True))
        return seqs, bodies

    def return_to_line(self, seq: int) -> None:
        """Put a message that was lifted back into its old place in the line."""
        self._check()
        del self._apart[seq]
        if seq <= self._line.cursor:
            self._line.insert(seq)

    # Any message

    def get(self, seq: int) -> bytes | None:
        """Return the message of this sequence number, None if it is not here, or if it is damaged."""
        self._check()
        body = self._fresh.get(seq)
        if body is None:
            body = self._line.bodies.get(seq)
        if body is not None or seq in self._removed or seq in self._damaged:
            return body
        stored = self._shared.reader.body(self._place(seq))
        if isinstance(stored, Damage):
            self._lose(seq, stored)
            return None
        if stored is None and seq in self._apart:
            raise self._shared.reader.missing(self._place(seq))
        return stored

    def discard(self, seq: int) -> int | None:
        """Remove a message, in line or not, and return its size; None if it is not here."""
        self._check()
        size = self._size_of(seq)
        if size is None:
            return None
        if self._apart.pop(seq, None) is None and seq <= self._line.cursor:
            self._line.strike(seq)
        self._remove(seq, size)
        return size

    def after(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Return messages past a sequence number, in line or not, in the order of their numbers."""
        self._check()
        found: list[tuple[int, bytes]] = []
        size = 0
        for row in islice(self._scan(seq + 1, min(count, _READ), min(max_bytes, _READ_BYTES)), count):
            size += len(row[1])
            if size > max_bytes and found:
                break
            found.append(row)
        return found

    def seq_of(self, own_id: bytes) -> int | None:
        """Return the sequence number of the message that has this id of a producer's, None if none has."""
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
        """Note that the ranks or deliveries of these messages changed or went. It is kept with the next commit."""
        touched = list(seqs)
        (self.changes or self._begin()).touched.update(touched)
        for seq in touched:
            self._noted_leases.pop(seq, None)

    def mark_leased(self, seqs: Iterable[int]) -> None:
        """Note that these messages were leased. It is kept within a second, if their leases go on that long."""
        if self.changes is None:
            self._begin()
        self._noted_leases.update(dict.fromkeys(seqs, self._shared.journal.now))

    # Answers

    def keep_answer(self, key: bytes, until: int, answer: bytes) -> None:
        """Keep an answer along with what was done for it."""
        self.forget_answers((key,))
        kept = (self.changes or self._begin()).answers
        kept.pop(key, None)  # so that it comes last
        kept[key] = (until, answer)
        self.answers[key] = until
        self._answers[key] = answer
        self._charge(len(answer) + ANSWER_OVERHEAD)

    def answer(self, key: bytes) -> bytes | None:
        """Return a kept answer."""
        self._check()
        if key not in self.answers:
            return None
        answer = self._answers.get(key)
        return self._shared.reader.answer(self.record.number, key) if answer is None else answer

    def forget_answers(self, keys: Iterable[bytes]) -> None:
        """Drop answers."""
        changes = self.changes or self._begin()
        for key in keys:
            if self.answers.pop(key, None) is not None:
                changes.answers[key] = None
                self._charge(-len(self._answers.pop(key, b"")) - ANSWER_OVERHEAD)

    # All

    def clear(self) -> None:
        """Remove all. What is on the disk is deleted when there is time; that it is gone is kept with the commit."""
        self._check()
        self.release()
        self._shared.journal.forget(self)
        self._shared.renumber(self.record)
        self._begin()

    def commit(self, *, within: float = 0) -> Awaitable[None] | None:
        """Return what to wait for until all that was done is kept; None if it is already."""
        group = self.group
        if group is None or group.is_settled:
            self._check()
            return None
        group.want(within=within)
        return group

    # For the store

    @property
    def has_young_leases(self) -> bool:
        """Whether there are leases that are to be kept if they go on."""
        return bool(self._noted_leases)

    def leases_to_keep(self) -> list[int]:
        """Return the messages whose leases have gone on for long enough to be kept, once each."""
        noted, until = self._noted_leases, self._shared.journal.lease_horizon
        old = list(takewhile(lambda seq: noted[seq] <= until, noted))
        for seq in old:
            del noted[seq]
        return old

    def settle(self, changes: Changes) -> None:
        """Forget what a group kept until it was written."""
        fresh, size = self._fresh, 0
        for seq in changes.added:
            body = fresh.pop(seq, None)
            if body is not None:
                size += len(body) + OVERHEAD
        for seq, own_id in changes.own_ids.items():
            if self._own_ids.get(own_id) == seq:
                del self._own_ids[own_id]
        self._removed.difference_update(changes.removed)
        for key, kept in changes.answers.items():
            if kept and self._answers.get(key) is kept[1]:
                del self._answers[key]
                size += len(kept[1])
        self._charge(-size)

    def fail(self, why: str) -> None:
        """Let go of everything, and refuse every call from now on."""
        self._failure = why
        self.changes = None
        self.release()

    def release(self) -> None:
        """Forget everything in memory."""
        self._line.shed()
        self._line = Line(self._shared.windows)
        self._charge(-sum(len(body) + OVERHEAD for body in self._fresh.values()))
        self._charge(-sum(map(len, self._answers.values())) - len(self.answers) * ANSWER_OVERHEAD)
        self._fresh, self._removed, self._apart, self._own_ids, self._answers = {}, set(), {}, {}, {}
        self._noted_leases, self.kept_deliveries, self._damaged = {}, set(), set()
        self.ranks.clear()
        self.deliveries.clear()
        self.answers.clear()
        self.has_ranks = self._has_own_ids = False
        self._count = self.stored_bytes = self._lost = 0

    # Inside

    def _check(self) -> None:
        if self._failure:
            raise StoreFailed(self._failure)

    def _charge(self, size: int) -> None:
        self._shared.windows.budget.used += size

    def _place(self, seq: int) -> int:
        return first_place(self.record.number) + seq

    def _begin(self) -> Changes:
        """Return what the gathering group changes of these."""
        return self._shared.journal.changes_of(self)

    def _add(self, seq: int, body: bytes, own_id: bytes) -> Changes:
        changes = self._begin()
        size = len(body)
        changes.added[seq] = body
        changes.group.size += size
        if own_id:
            changes.own_ids[seq] = own_id
            self._own_ids[own_id] = seq
            self._has_own_ids = True
        self._fresh[seq] = body
        self._count += 1
        self.stored_bytes += size
        self._charge(size + OVERHEAD)
        return changes

    def _remove(self, seq: int, size: int) -> None:
        """Remove a message from all but the line."""
        changes = self.changes or self._begin()
        self._noted_leases.pop(seq, None)
        if changes.added.pop(seq, None) is None:
            changes.removed.append(seq)
            self._removed.add(seq)
        else:
            changes.group.size -= size
            own_id = changes.own_ids.pop(seq, b"")
            if self._own_ids.get(own_id) == seq:
                del self._own_ids[own_id]
        if self._fresh.pop(seq, None) is not None:
            self._charge(-size - OVERHEAD)
        self._count -= 1
        self.stored_bytes -= size

    def _size_of(self, seq: int) -> int | None:
        """Return the size of a message, None if it is not here."""
        if seq in self._removed or seq in self._damaged:
            return None
        size = self._apart.get(seq, _UNKNOWN)
        if size != _UNKNOWN:
            return size
        body = self._fresh.get(seq)
        if body is None:
            body = self._line.bodies.get(seq)
        return self._shared.reader.size(self._place(seq)) if body is None else len(body)

    def _bodies_of(self, seqs: list[int], max_bytes: int) -> tuple[list[bytes], bool]:
        """Return the messages of these numbers within `max_bytes`, one at least, and whether they filled that."""
        bodies: list[bytes] = []
        in_line, size = self._line.bodies, 0
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
        """Read the next messages past the cursor into the line; tell whether there were any.

        More than is asked for are read where there is room, so that the next ones are there already.
        """
        line, apart = self._line, self._apart
        if self._is_all_at_hand:
            return False
        found = size = 0
        for seq, body in self._scan(line.cursor + 1, max(count, _READ), max(max_bytes, _READ_BYTES), apart):
            is_enough = found >= count or (found and size >= max_bytes)
            if is_enough and (found >= _READ or size >= _READ_BYTES or not line.has_room(len(body))):
                break
            line.push(seq, body)
            found += 1
            size += len(body)
        else:
            # A damaged row may have been found under a number that is not its own, so only now they are counted.
            missing, self._count = self._count - len(line) - len(apart), len(line) + len(apart)
            if missing > 0:
                self._lost += missing
                self._begin()
                self._shared.lost(self.record, missing)
        return found > 0

    @property
    def _is_all_at_hand(self) -> bool:
        """Whether all messages are known here that are stored: those in line, and those out of it."""
        return len(self._line) + len(self._apart) == self._count and not self._damaged

    def _lose(self, seq: int, damage: Damage) -> None:
        """Set a message aside that was found to be damaged, and have its queue forget it."""
        self._set_aside(seq, damage)
        if self._forget:
            self._forget(seq)

    def _set_aside(self, seq: int, damage: Damage) -> None:
        """Keep a damaged message on the disk, and nowhere else. It does not count any more."""
        changes = self.changes or self._begin()
        changes.damaged[seq] = damage.reason
        changes.touched.add(seq)
        self._noted_leases.pop(seq, None)
        self._damaged.add(seq)
        line = self._line
        is_apart = self._apart.pop(seq, None) is not None
        is_in_line = not is_apart and seq <= line.cursor and seq in line.seqs
        if is_in_line:
            line.strike(seq)
        # A row that damage gave another number may be none of those that are counted.
        if is_apart or is_in_line or seq > line.cursor:
            self._count = max(0, self._count - 1)
            self.stored_bytes = max(0, self.stored_bytes - damage.size)
        self._shared.set_aside(self.record, seq, damage.reason)

    def _scan(self, seq: int, count: int, max_bytes: int, without: Container[int] = ()) -> Iterator[tuple[int, bytes]]:
        """Yield the stored messages from a number on, but some: from the disk in portions, then those not written yet.

        What is not written yet is newer than all that is, so the disk is read only below the first of it.
        """
        removed, damaged, base = self._removed, self._damaged, self._place(0)
        first_fresh = next(iter(self._fresh), 0)
        end = base + first_fresh if first_fresh else end_place(self.record.number)
        while True:
            while seq in removed or seq in without or seq in damaged:  # thousands may stand together, not to be read
                seq += 1
            if base + seq >= end:
                break
            rows = self._shared.reader.bodies(base + seq, end, count, max_bytes)
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
            # A damaged row may have any number, so reading goes on behind a sound one if there is one.
            sound = [place for place, body in rows if not isinstance(body, Damage)]
            seq = max(seq, (sound[-1] if sound else max(place for place, _ in rows)) - base) + 1
        for fresh, body in self._fresh.items():
            if fresh >= seq and fresh not in without:
                yield fresh, body
