"""What was read from the database and is still true, so that the calls that wait for it can read it in memory.

A message never changes, so a row that was read stays true until the message is removed. Only the owner removes
messages, and it notes here what each commit changed. A read that is under way when a commit ends may have seen the
state before it, so its result is corrected by what was noted since it was requested.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from queuelet.core.budget import MESSAGE_OVERHEAD, MemoryBudget
from queuelet.stores.durable.damage import Damage
from queuelet.stores.durable.places import SEQ_BITS

Found = bytes | Damage


@dataclass(slots=True, eq=False)
class Changes:
    """What commits have changed in a queue since a read was requested."""

    number: int
    removed: set[int] = field(default_factory=set)
    """Places of messages that were removed."""
    first_added: int | None = None
    """The first place of messages that were added; all later ones may be missing in the result."""
    own_ids: set[bytes] = field(default_factory=set)
    """IDs of messages that were added."""
    is_void: bool = False
    """Whether the queue was cleared, so that nothing of the result is true any more."""

    def note(self, added: Sequence[int], removed: Sequence[int], own_ids: Sequence[bytes]) -> None:
        """Note what another commit has changed."""
        self.removed.update(removed)
        self.own_ids.update(own_ids)
        if added and self.first_added is None:
            self.first_added = min(added)


@dataclass(slots=True, eq=False)
class Run:
    """All messages of a queue from one place to before another, as they were read."""

    start: int
    end: int
    places: list[int]
    bodies: dict[int, Found]
    size: int

    def between(self, start: int, end: int) -> list[int]:
        """Return the places of the messages that are still stored there, in order."""
        few = self.places[bisect_left(self.places, start) : bisect_left(self.places, end)]
        return [place for place in few if place in self.bodies]


class RowCache:
    """The rows that were read last, of all queues together, up to about `max_bytes`."""

    def __init__(self, budget: MemoryBudget, max_bytes: int) -> None:
        self._budget = budget
        self._max_bytes = max_bytes
        self._used = 0
        self._rows: OrderedDict[int, Found | None] = OrderedDict()
        self._runs: OrderedDict[Run, int] = OrderedDict()
        """The runs and the numbers of their queues; the one that was read first comes first."""
        self._runs_of: dict[int, list[Run]] = {}
        """The runs of each queue."""
        self._places: OrderedDict[tuple[int, bytes], int | None] = OrderedDict()
        self._ids: dict[int, bytes] = {}
        """The IDs of the messages in `_places`, by their places."""
        self._responses: OrderedDict[tuple[int, bytes], bytes | None] = OrderedDict()
        self._reads: dict[Changes, None] = {}

    # Reading

    def row(self, place: int) -> tuple[bool, Found | None]:
        """Return whether it is known what is stored at a place, and that."""
        if place in self._rows:
            return True, self._rows[place]
        for run in self._runs_of.get(place >> SEQ_BITS, ()):
            if run.start <= place < run.end:
                return True, run.bodies.get(place)
        return False, None

    def run(  # as `Reader.bodies`
        self, place: int, end: int, count: int, max_bytes: int, *, descending: bool
    ) -> list[tuple[int, Found]] | None:
        """Return the first messages from `place` to before `end`, or the last ones; None if they are not known."""
        for run in reversed(self._runs_of.get((end - 1 if descending else place) >> SEQ_BITS, ())):
            is_here = run.start < end <= run.end if descending else run.start <= place < run.end
            if not is_here:
                continue
            few = run.between(max(place, run.start), min(end, run.end))
            if few or (run.start <= place if descending else run.end >= end):
                return _limited(
                    [(each, run.bodies[each]) for each in (few[::-1] if descending else few)], count, max_bytes
                )
        return [] if place >= end else None

    def place(self, number: int, own_id: bytes) -> tuple[bool, int | None]:
        """Return whether the place of the message with this ID is known, and that."""
        key = number, own_id
        return key in self._places, self._places.get(key)

    def response(self, number: int, key: bytes) -> tuple[bool, bytes | None]:
        """Return whether a response is known, and that."""
        return (number, key) in self._responses, self._responses.get((number, key))

    # Changing

    def begin(self, number: int) -> Changes:
        """Begin a read of a queue, when it is requested; pass the result to `end`.

        A read that waits for its turn while the queue is cleared would otherwise store rows that are being deleted.
        """
        changes = Changes(number)
        self._reads[changes] = None
        return changes

    def end(self, changes: Changes) -> None:
        """End a read, whose result was stored or which has failed."""
        self._reads.pop(changes, None)

    def store_rows(self, changes: Changes, rows: Iterable[tuple[int, Found | None]]) -> None:
        """Store what was read at some places: None if there is no message."""
        if changes.is_void:
            return
        count = 0
        for place, read in rows:
            count += 1
            if read is None and changes.first_added is not None and place >= changes.first_added:
                continue  # it may have been added meanwhile
            found = None if place in changes.removed else read
            self._drop_row(place)
            self._rows[place] = found
            self._charge(_size(found))
        self._trim(count)

    def store_run(self, changes: Changes, start: int, end: int, rows: Sequence[tuple[int, Found]]) -> None:
        """Store all messages from `start` to before `end`, in order."""
        if changes.first_added is not None:
            end = min(end, changes.first_added)
        bodies = {place: found for place, found in rows if place < end and place not in changes.removed}
        if start >= end or changes.is_void:
            return
        run = Run(start, end, list(bodies), bodies, sum(map(_size, bodies.values())))
        self._runs[run] = changes.number
        self._runs_of.setdefault(changes.number, []).append(run)
        self._charge(run.size)
        self._trim()

    def store_places(self, changes: Changes, places: Iterable[tuple[bytes, int | None]]) -> None:
        """Store the places of messages with some IDs, None if there is none."""
        for own_id, place in places:
            if not changes.is_void and own_id not in changes.own_ids and place not in changes.removed:
                self._drop_place((changes.number, own_id))
                self._places[changes.number, own_id] = place
                if place is not None:
                    self._ids[place] = own_id
        while len(self._places) > _MAX_PLACES:
            self._drop_place(next(iter(self._places)))

    def store_response(self, changes: Changes, key: bytes, response: bytes | None) -> None:
        """Store a response, None if there is none."""
        if changes.is_void:
            return
        self._charge(-len(self._responses.pop((changes.number, key), None) or b""))
        self._responses[changes.number, key] = response
        self._charge(len(response or b""))
        while len(self._responses) > _MAX_RESPONSES:
            _, old = self._responses.popitem(last=False)
            self._charge(-len(old or b""))

    def note_committed(
        self, number: int, added: Sequence[int], removed: Sequence[int], own_ids: Iterable[bytes]
    ) -> None:
        """Note what a commit has changed in a queue."""
        ids = list(own_ids)
        for changes in self._reads:
            if changes.number == number:
                changes.note(added, removed, ids)
        for run in list(self._runs_of.get(number, ())):
            self._correct(run, added, removed)
        if self._rows:
            for place in (*removed, *added):
                self._drop_row(place)
        for own_id in ids:
            self._drop_place((number, own_id))
        for place in removed if self._ids else ():
            if place in self._ids:
                self._drop_place((number, self._ids[place]))

    def forget(self, number: int) -> None:
        """Forget everything of a queue."""
        for changes in self._reads:
            changes.is_void |= changes.number == number
        for run in list(self._runs_of.get(number, ())):
            self._drop_run(run)
        for place in [place for place in self._rows if place >> SEQ_BITS == number]:
            self._drop_row(place)
        for key in [key for key in self._places if key[0] == number]:
            self._drop_place(key)
        for key in [key for key in self._responses if key[0] == number]:
            self._charge(-len(self._responses.pop(key) or b""))

    def clear(self) -> None:
        """Forget everything, and what reads under way will store."""
        for changes in self._reads:
            changes.is_void = True
        self._rows.clear()
        self._runs.clear()
        self._runs_of.clear()
        self._places.clear()
        self._ids.clear()
        self._responses.clear()
        self._reads.clear()
        self._charge(-self._used)

    # Inside

    def _correct(self, run: Run, added: Sequence[int], removed: Sequence[int]) -> None:
        """Remove from a run what was removed, and end it before what was added."""
        for place in removed:
            found = run.bodies.pop(place, None)
            if found is not None:
                run.size -= _size(found)
                self._charge(-_size(found))
        if added and min(added) < run.end:
            run.end = min(added)
        if run.end <= run.start or not run.bodies:
            self._drop_run(run)

    def _drop_run(self, run: Run) -> None:
        number = self._runs.pop(run)
        runs = self._runs_of[number]
        runs.remove(run)
        if not runs:
            del self._runs_of[number]
        self._charge(-run.size)

    def _drop_place(self, key: tuple[int, bytes]) -> None:
        place = self._places.pop(key, None)
        if place is not None:
            self._ids.pop(place, None)

    def _drop_row(self, place: int) -> None:
        if place in self._rows:
            self._charge(-_size(self._rows.pop(place)))

    def _charge(self, size: int) -> None:
        self._used += size
        self._budget.used += size

    def _trim(self, rows: int = 0) -> None:
        """Forget what was read first, except for the last run and the last rows, which a call is about to read.

        Args:
            rows: how many rows were read just now. Without them the call would read them again and again.
        """
        while len(self._runs) > _MAX_RUNS or (self._used > self._max_bytes and len(self._runs) > 1):
            self._drop_run(next(iter(self._runs)))
        while self._used > self._max_bytes and len(self._rows) > max(rows, _FEW):
            self._drop_row(next(iter(self._rows)))


_FEW = 100
"""How many rows are held even if they are too large: as many as one step of a call reads."""

_MAX_RUNS = 1_000
"""How many runs are held."""

_MAX_PLACES = 100_000
"""How many IDs of producers are held."""

_MAX_RESPONSES = 1_000
"""How many responses are held."""


def _size(found: Found | None) -> int:
    return MESSAGE_OVERHEAD + (len(found) if isinstance(found, bytes) else 0)


def _limited(rows: list[tuple[int, Found]], count: int, max_bytes: int) -> list[tuple[int, Found]]:
    """Return the first rows: at most `count`, until they have `max_bytes`."""
    size = 0
    for index, (_, found) in enumerate(rows[:count]):
        size += found.size if isinstance(found, Damage) else len(found)
        if size >= max_bytes:
            return rows[: index + 1]
    return rows[:count]
