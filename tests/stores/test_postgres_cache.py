"""What the cache of rows says is true, whatever is added and removed while rows are read."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from queuelet.core.budget import MemoryBudget
from queuelet.stores.durable.places import SEQ_BITS, end_place, first_place
from queuelet.stores.postgres.cache import Changes, RowCache

NUMBER = 3
BASE = first_place(NUMBER)


@dataclass(eq=False)
class Read:
    """A read that has seen the database at some time."""

    changes: Changes
    start: int
    end: int
    rows: list[tuple[int, bytes]]
    is_run: bool


class CacheMachine(RuleBasedStateMachine):
    """Compares the cache with the rows of one queue."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = MemoryBudget(1 << 50)
        self.cache = RowCache(self.budget, 2_000)
        self.stored: dict[int, bytes] = {}
        self.ids: dict[bytes, int] = {}
        self.reads: list[Read] = []
        self.next_place = BASE + 1

    @rule(count=st.integers(1, 6), own_id=st.sampled_from([b"", b"a", b"b"]), data=st.data())
    def commit(self, count: int, own_id: bytes, data: st.DataObject) -> None:
        """Commit an addition of messages and the removal of others."""
        gone = data.draw(st.lists(st.sampled_from(sorted(self.stored)), unique=True)) if self.stored else []
        added = [self.next_place + each for each in range(count)]
        self.next_place += count + data.draw(st.integers(0, 2))
        own_id = b"" if own_id in self.ids else own_id
        for place in gone:
            del self.stored[place]
        self.ids = {each: place for each, place in self.ids.items() if place in self.stored}
        self.stored |= {place: b"%d" % place for place in added}
        if own_id:
            self.ids[own_id] = added[0]
        self.cache.note_committed(NUMBER, added, gone, [own_id] if own_id else [])

    @rule(start=st.integers(1, 30), length=st.integers(1, 40), is_run=st.booleans())
    def begin(self, start: int, length: int, is_run: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        """Begin a read; its end is at most where messages that are not committed yet begin."""
        begin, end = BASE + start, min(BASE + start + length, self.next_place)
        rows = [(place, body) for place, body in sorted(self.stored.items()) if begin <= place < end]
        self.reads.append(Read(self.cache.begin(NUMBER), begin, end, rows, is_run))

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """End a read, which has seen the rows of its beginning."""
        read = self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1)))
        if read.is_run:
            self.cache.store_run(read.changes, read.start, read.end, read.rows)
        else:
            found = dict(read.rows)
            places = range(read.start, read.end)
            self.cache.store_rows(read.changes, [(place, found.get(place)) for place in places])
        self.cache.end(read.changes)

    @rule(own_id=st.sampled_from([b"a", b"b", b"c"]))
    def look_up(self, own_id: bytes) -> None:
        """Read the place of an ID."""
        changes = self.cache.begin(NUMBER)
        self.cache.store_places(changes, [(own_id, self.ids.get(own_id))])
        self.cache.end(changes)

    @rule()
    def clear(self) -> None:
        """Clear the queue, whose number is used again later."""
        self.cache.forget(NUMBER)
        self.stored, self.ids = {}, {}

    @invariant()
    def rows_are_true(self) -> None:
        for place in range(BASE + 1, self.next_place + 5):
            is_known, found = self.cache.row(place)
            assert not is_known or found == self.stored.get(place)

    @invariant()
    def runs_are_true(self) -> None:
        ends = [self.next_place, end_place(NUMBER)]
        for place in range(BASE + 1, self.next_place + 2, 3):
            for end in ends:
                found = self.cache.run(place, end, 100, 1 << 30, descending=False)
                expected = [(each, body) for each, body in sorted(self.stored.items()) if place <= each < end]
                assert found is None or found == expected[: len(found)]
                assert found is None or found or not expected
            back = self.cache.run(BASE + 1, place, 100, 1 << 30, descending=True)
            expected = [(each, body) for each, body in sorted(self.stored.items(), reverse=True) if each < place]
            assert back is None or back == expected[: len(back)]
            assert back is None or back or not expected

    @invariant()
    def ids_are_true(self) -> None:
        for own_id in (b"a", b"b", b"c"):
            is_known, place = self.cache.place(NUMBER, own_id)
            assert not is_known or place == self.ids.get(own_id)

    def teardown(self) -> None:
        self.cache.clear()
        assert self.budget.used == 0


TestCache = CacheMachine.TestCase


def test_the_cache_is_bounded_except_for_what_was_read_last() -> None:
    budget = MemoryBudget(1 << 50)
    cache = RowCache(budget, 10_000)
    for number in range(100):
        place = (number << SEQ_BITS) + 1
        changes = cache.begin(number)
        cache.store_run(changes, place, place + 1, [(place, bytes(5_000))])
        cache.end(changes)
        assert cache.run(place, place + 1, 1, 1, descending=False) == [(place, bytes(5_000))]
    assert budget.used < 20_000


def test_what_one_call_needs_is_held_even_if_it_is_more_than_the_bound() -> None:
    """Otherwise the call would read its first rows again after its last ones, for ever."""
    cache = RowCache(MemoryBudget(1 << 50), 2_000)
    for start in (1, 501):
        changes = cache.begin(NUMBER)
        cache.store_rows(changes, [(BASE + seq, bytes(100)) for seq in range(start, start + 500)])
        cache.end(changes)
        assert all(cache.row(BASE + seq)[0] for seq in range(start, start + 500))
    assert not cache.row(BASE + 1)[0]
