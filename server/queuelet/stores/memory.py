"""The Memory store: messages live in this process and are lost when it ends."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

from queuelet.core.budget import MESSAGE_OVERHEAD, OWN_ID_OVERHEAD, RESPONSE_OVERHEAD, MemoryBudget
from queuelet.core.message import DeliveryRecord, Rank, Tally
from queuelet.core.storage import Messages, StoredQueue
from queuelet.definition import Durability, QueueDefinition
from queuelet.ids import new_id_prefix

_SLACK = 1_024
"""How many empty positions the line may have before compacting it is worth the time."""


class MemoryMessages:
    """The `Messages` of one queue: a dict by sequence number, and a list of all sequence numbers in order.

    The line starts at position `_head` of that list and skips positions whose message was removed or has a rank.
    Messages that were returned to the line come before it, in `_returned`. Taking the first message moves `_head`.
    `_jumps` remembers where a run of positions without a message ends, `_back_jumps` where it ends towards the front,
    and `_line_jumps` where a run without a message in line ends. The list is compacted once most of its positions are
    empty, so each operation is O(1) amortised, and `after` and `before` are O(log n). A message is stored as an int and
    bytes, because the garbage collector does not have to traverse those.
    """

    __slots__ = (
        "_back_jumps",
        "_bodies",
        "_budget",
        "_head",
        "_jumps",
        "_line_jumps",
        "_own_ids",
        "_responses",
        "_returned",
        "_seq_of_own_id",
        "_seqs",
        "deliveries",
        "id_prefix",
        "ranks",
        "responses",
        "stored_bytes",
        "tally",
    )

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._bodies: dict[int, bytes] = {}
        self._seqs: list[int] = []
        self._head = 0
        self._jumps: dict[int, int] = {}
        self._back_jumps: dict[int, int] = {}
        self._line_jumps: dict[int, int] = {}
        self._returned: list[int] = []
        self._own_ids: dict[int, bytes] = {}
        self._seq_of_own_id: dict[bytes, int] = {}
        self._responses: dict[bytes, bytes] = {}
        self.ranks: dict[int, Rank] = {}
        self.deliveries: dict[int, DeliveryRecord] = {}
        self.responses: dict[bytes, int] = {}
        self.tally = Tally()
        self.id_prefix = new_id_prefix()
        self.stored_bytes = 0

    @property
    def damaged(self) -> int:
        """Always 0, because damage to messages in memory is not detected."""
        return 0

    def report_damaged(self, forget: Callable[[int], None]) -> None:
        """Do nothing, because damage is not detected."""

    def __len__(self) -> int:
        return len(self._bodies)

    # Adding

    def append(self, seq: int, body: bytes, own_id: bytes = b"") -> None:
        size = len(body)
        self._bodies[seq] = body
        self._seqs.append(seq)
        self.stored_bytes += size
        self._budget.used += size + MESSAGE_OVERHEAD
        if own_id:
            self._own_ids[seq] = own_id
            self._seq_of_own_id[own_id] = seq
            self._budget.used += OWN_ID_OVERHEAD

    def append_many(self, first: int, bodies: Sequence[bytes]) -> None:
        seqs = list(range(first, first + len(bodies)))  # the dict and the list share the ints, which saves memory
        size = sum(map(len, bodies))
        self._bodies.update(zip(seqs, bodies, strict=True))
        self._seqs += seqs
        self.stored_bytes += size
        self._budget.used += size + len(seqs) * MESSAGE_OVERHEAD

    def keep(self, seq: int, body: bytes, rank: Rank, own_id: bytes = b"") -> None:
        self.ranks[seq] = rank
        self.append(seq, body, own_id)

    # The line

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        seqs, bodies, _ = self._first(count, max_bytes)
        return seqs, bodies

    def take(self) -> tuple[int, bytes] | None:
        place = self._head
        if self._returned or place == len(self._seqs):
            return self._take_slowly()
        seq = self._seqs[place]
        if self.ranks and seq in self.ranks:
            return self._take_slowly()
        body = self._bodies.pop(seq, None)
        if body is None:
            return self._take_slowly()
        self._head = place + 1
        size = len(body)
        self.stored_bytes -= size
        self._budget.used -= size + MESSAGE_OVERHEAD
        if self._own_ids:
            self._forget_own_id(seq)
        if place % _SLACK == 0:
            self._compact()
        return seq, body

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        seqs, bodies = self.checkout_many(count, max_bytes)
        for seq in seqs:
            del self._bodies[seq]
        self._forget(seqs, sum(map(len, bodies)))
        return seqs, bodies

    def checkout_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        seqs, bodies, self._head = self._first(count, max_bytes)
        if self._returned:
            del self._returned[: len(seqs)]
        return seqs, bodies

    def return_to_line(self, seq: int) -> None:
        insort(self._returned, seq)

    # Any message

    def require(self, seqs: Iterable[int] = (), own_ids: Iterable[bytes] = ()) -> None:
        """Do nothing, because everything is in memory."""

    def get(self, seq: int) -> bytes | None:
        return self._bodies.get(seq)

    def look(self, seq: int) -> bytes | None:
        return self._bodies.get(seq)

    def discard(self, seq: int) -> int | None:
        body = self._bodies.pop(seq, None)
        if body is None:
            return None
        size = len(body)
        self.stored_bytes -= size
        self._budget.used -= size + MESSAGE_OVERHEAD
        if self._returned:
            place = bisect_left(self._returned, seq)
            if self._returned[place : place + 1] == [seq]:
                del self._returned[place]
        if self._own_ids:
            self._forget_own_id(seq)
        if len(self._seqs) > _SLACK + 2 * len(self._bodies):
            self._compact()
        return size

    def after(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        place = self._stored_from(bisect_right(self._seqs, seq))
        while place < len(self._seqs) and len(found) < count:
            seq = self._seqs[place]
            body = self._bodies[seq]
            size += len(body)
            if size > max_bytes and found:
                break
            found.append((seq, body))
            place = self._stored_from(place + 1)
        return found

    def before(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        place = self._stored_up_to(bisect_left(self._seqs, seq) - 1)
        while place >= 0 and len(found) < count:
            seq = self._seqs[place]
            body = self._bodies[seq]
            size += len(body)
            if size > max_bytes and found:
                break
            found.append((seq, body))
            place = self._stored_up_to(place - 1)
        return found

    def seq_of(self, own_id: bytes) -> int | None:
        return self._seq_of_own_id.get(own_id)

    def mark_changed(self, seqs: Iterable[int]) -> None:
        """Do nothing, because there is nothing to write."""

    def mark_leased(self, seqs: Iterable[int]) -> None:
        """Do nothing, because there is nothing to write."""

    # Responses

    def store_response(self, key: bytes, until: int, response: bytes) -> None:
        self.responses[key] = until
        self._responses[key] = response
        self._budget.used += len(response) + RESPONSE_OVERHEAD

    def response(self, key: bytes) -> bytes | None:
        return self._responses.get(key)

    def forget_responses(self, keys: Iterable[bytes]) -> None:
        for key in list(keys):
            self.responses.pop(key, None)
            response = self._responses.pop(key, None)
            if response is not None:
                self._budget.used -= len(response) + RESPONSE_OVERHEAD

    # All

    def clear(self) -> None:
        self._budget.used -= self.stored_bytes
        self._budget.used -= len(self._bodies) * MESSAGE_OVERHEAD + len(self._own_ids) * OWN_ID_OVERHEAD
        self.forget_responses(self._responses)
        self.stored_bytes = 0
        self._bodies, self._seqs, self._head = {}, [], 0
        self._jumps, self._back_jumps, self._line_jumps = {}, {}, {}
        self._own_ids, self._seq_of_own_id = {}, {}
        self._returned.clear()
        self.ranks.clear()
        self.deliveries.clear()

    def commit(self, *, within: float = 0) -> None:
        """Return None, because there is nothing to wait for."""

    # Inside

    def _take_slowly(self) -> tuple[int, bytes] | None:
        seqs, bodies = self.take_many(1, 0)
        return (seqs[0], bodies[0]) if seqs else None

    def _first(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes], int]:
        """Return the first messages in line, and the position after the last of them."""
        get, ranks, size = self._bodies.get, self.ranks, 0
        seqs: list[int] = []
        bodies: list[bytes] = []
        for seq in self._returned[:count]:
            size += len(self._bodies[seq])
            if size > max_bytes and bodies:
                return seqs, bodies, self._head
            seqs.append(seq)
            bodies.append(self._bodies[seq])
        line, end, place = self._seqs, len(self._seqs), self._head
        while place < end and len(bodies) < count:
            seq = line[place]
            body = get(seq)
            if body is None or (ranks and seq in ranks):
                place = self._in_line_from(place)
                continue
            size += len(body)
            if size > max_bytes and bodies:
                break
            seqs.append(seq)
            bodies.append(body)
            place += 1
        return seqs, bodies, place

    def _stored_from(self, place: int) -> int:
        """Return the first position from `place` on whose message is stored, or the end of the list."""
        seqs, bodies, end = self._seqs, self._bodies, len(self._seqs)
        if place == end or seqs[place] in bodies:
            return place
        start = place
        while place < end and seqs[place] not in bodies:
            place = self._jumps.get(place, place + 1)
        self._jumps[start] = place
        return place

    def _stored_up_to(self, place: int) -> int:
        """Return the last position up to `place` whose message is stored, or -1."""
        seqs, bodies = self._seqs, self._bodies
        if place < 0 or seqs[place] in bodies:
            return place
        start = place
        while place >= 0 and seqs[place] not in bodies:
            place = self._back_jumps.get(place, place - 1)
        self._back_jumps[start] = place
        return place

    def _in_line_from(self, place: int) -> int:
        """Return the first position from `place` on whose message is in line, or the end of the list."""
        seqs, bodies, ranks, end = self._seqs, self._bodies, self.ranks, len(self._seqs)
        start = place
        while place < end and (seqs[place] not in bodies or seqs[place] in ranks):
            place = self._line_jumps.get(place, place + 1)
        self._line_jumps[start] = place
        return place

    def _forget(self, seqs: list[int], size: int) -> None:
        self.stored_bytes -= size
        self._budget.used -= size + len(seqs) * MESSAGE_OVERHEAD
        if self._own_ids:
            for seq in seqs:
                self._forget_own_id(seq)
        self._compact()

    def _forget_own_id(self, seq: int) -> None:
        own_id = self._own_ids.pop(seq, None)
        if own_id is None:
            return
        del self._seq_of_own_id[own_id]
        self._budget.used -= OWN_ID_OVERHEAD
        if not self._own_ids:
            self._own_ids, self._seq_of_own_id = {}, {}  # a dict never shrinks, so a large index would keep its memory

    def _compact(self) -> None:
        """Remove the empty positions if more than half are empty."""
        spent = len(self._seqs) - len(self._bodies)
        if spent > _SLACK and spent > len(self._bodies):
            bodies = self._bodies
            before = [seq for seq in self._seqs[: self._head] if seq in bodies]
            self._seqs = before + [seq for seq in self._seqs[self._head :] if seq in bodies]
            self._bodies = dict(bodies)
            self._head = len(before)
            self._jumps, self._back_jumps, self._line_jumps = {}, {}, {}


class MemoryStore:
    """A store whose queues are lost when the process ends."""

    is_durable = False
    durability = Durability.MEMORY
    problem = ""
    problem_reason = ""

    def __init__(self, budget: MemoryBudget, epoch: str | None = None) -> None:
        self._budget = budget
        self.epoch = epoch or str(uuid4())

    def queues(self) -> Iterable[StoredQueue]:
        """Return nothing, because a new process starts without queues."""
        return ()

    def new(self, queue_id: str, created: int, definition: QueueDefinition) -> Messages:  # noqa: ARG002  # none of it is stored
        """Return empty messages for a new queue."""
        return MemoryMessages(self._budget)

    def redefine(self, queue_id: str, revision: int, definition: QueueDefinition) -> None:
        """Do nothing, because the queue itself has its definition."""

    def drop(self, queue_id: str) -> None:
        """Do nothing, because the queue clears its messages."""

    def check_room(self) -> None:
        """Do nothing, because the memory budget bounds this store."""

    def commit(self) -> None:
        """Return None, because there is nothing to wait for."""
