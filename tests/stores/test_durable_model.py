"""A killed durable store has the state of one moment since its last commit, after any sequence of calls.

Only recent leases may be missing, and then their messages are in line again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Protocol

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from queuelet.core.message import DeliveryRecord, Rank
from queuelet.core.storage import Messages
from queuelet.definition import MessageState
from queuelet.stores.disk import DiskSettings
from queuelet.stores.disk.check import check_store
from support.counts import on_a_disk
from support.disk_harness import DiskHarness
from support.postgres_harness import PostgresHarness

few = st.integers(1, 12)


def stored_in(messages: Messages) -> Iterator[tuple[int, bytes]]:
    """Yield all messages page by page, as a server reads them. A store reads the pages of one call again and again."""
    page = messages.after(0, 100, 1 << 18)
    while page:
        yield from page
        page = messages.after(page[-1][0], 100, 1 << 18)


class Kept(NamedTuple):
    """The expected state of a store."""

    bodies: dict[int, bytes]
    line: list[int]
    ranks: dict[int, Rank]
    delivered: dict[int, tuple[int, bool]]
    """For messages that are out of the line, their tokens and whether a stream took the lease."""
    added: int

    @staticmethod
    def of(messages: Messages) -> Kept:
        """Return the state of messages."""
        return Kept(
            dict(stored_in(messages)),
            messages.first_many(1_000_000, 1 << 40)[0],
            dict(messages.ranks),
            {seq: (delivery.token, delivery.by_stream) for seq, delivery in messages.deliveries.items()},
            messages.tally.enqueued,
        )

    def without_leases(self, seqs: set[int]) -> Kept:
        """Return the state with these messages back in line."""
        return self._replace(
            line=sorted({*self.line, *seqs}),
            delivered={seq: token for seq, token in self.delivered.items() if seq not in seqs},
        )


class Harness(Protocol):
    """A durable store with one queue, which can be killed."""

    def open(self) -> Messages:
        """Create the queue, and return its messages."""

    def turn(self) -> None:
        """Let the store work in the background for a moment."""

    def commit(self) -> None:
        """Wait for the commit of all changes."""

    def restart(self) -> Messages:
        """Close the store, open it again and return the stored messages."""

    def reopen(self) -> Messages:
        """Kill the store, open it again and return the stored messages."""

    def check(self) -> None:
        """Check that the stored rows are sound."""

    def close(self) -> None:
        """Close the store and remove what it has stored."""


class SmallDisk(DiskHarness):
    """A Disk store with small bounds."""

    def __init__(self) -> None:
        super().__init__(DiskSettings(reserve_bytes=0, group_bytes=20_000, log_bytes=40_000, window_bytes=30_000))

    def check(self) -> None:
        """Check the file."""
        assert check_store(self.folder).problems == []


class SmallPostgres(PostgresHarness):
    """A PostgreSQL store with small bounds."""

    limits: ClassVar[dict[str, Any]] = {"group_bytes": 20_000, "window_bytes": 30_000, "cache_bytes": 20_000}

    def check(self) -> None:
        """Do nothing, because rows were verified when they were read."""


class StoreMachine(RuleBasedStateMachine):
    """Compares a durable store that is killed now and then with plain values."""

    make: Callable[[], Harness]

    def __init__(self) -> None:
        super().__init__()
        self.harness = type(self).make()
        self.messages: Messages = self.harness.open()
        self.harness.commit()
        self.now = Kept({}, [], {}, {}, 0)
        self.since_commit = [self.now]
        self.token = 0
        self.leased_lately: set[int] = set()

    @rule(count=few, size=st.sampled_from([1, 100, 5_000, 30_000]), priority=st.none() | st.integers(-5, 5))
    def add(self, count: int, size: int, priority: int | None) -> None:
        bodies, line, ranks, delivered, added = self.now
        bodies, line, ranks = dict(bodies), list(line), dict(ranks)
        for _ in range(count):
            seq, body = self.messages.tally.next_seq, bytes(size)
            self.messages.tally.next_seq += 1
            bodies[seq] = body
            if priority is None:
                self.messages.append(seq, body)
                line.append(seq)
            else:
                ranks[seq] = Rank(priority, 1, 1, 0)
                self.messages.keep(seq, body, ranks[seq])
            added = self.messages.tally.enqueued = added + 1
            # A group that is large enough is sealed between two messages.
            self.became(Kept(dict(bodies), list(line), dict(ranks), delivered, added))

    @rule(count=few)
    def take(self, count: int) -> None:
        gone = self.now.line[:count]
        assert self.messages.take_many(count, 1 << 40)[0] == gone
        self.became(self.without(gone))

    @rule(count=few, is_lately=st.booleans(), by_stream=st.booleans())
    def lease(self, count: int, is_lately: bool, by_stream: bool) -> None:  # noqa: FBT001  # hypothesis passes by name
        seqs = self.now.line[:count]
        assert self.messages.checkout_many(count, 1 << 40)[0] == seqs
        delivered = dict(self.now.delivered)
        for seq in seqs:
            self.token += 1
            delivered[seq] = (self.token, by_stream)
            self.messages.deliveries[seq] = DeliveryRecord(MessageState.LEASED, 1, self.token, by_stream=by_stream)
        if is_lately:
            self.messages.mark_leased(seqs)
            self.leased_lately.update(seqs)
        else:
            self.messages.mark_changed(seqs)
        self.became(self.now._replace(line=self.now.line[count:], delivered=delivered))

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        gone = [seq for seq in self.now.delivered if data.draw(st.booleans())]
        for seq in gone:
            assert self.messages.discard(seq) == len(self.now.bodies[seq])
            del self.messages.deliveries[seq]
        self.became(self.without(gone))

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        back = [seq for seq in self.now.delivered if data.draw(st.booleans())]
        for seq in back:
            del self.messages.deliveries[seq]
            self.messages.return_to_line(seq)
        self.messages.mark_changed(back)
        delivered = {seq: token for seq, token in self.now.delivered.items() if seq not in back}
        self.became(self.now._replace(line=sorted([*self.now.line, *back]), delivered=delivered))

    @rule()
    def clear(self) -> None:
        self.messages.clear()
        self.became(Kept({}, [], {}, {}, self.now.added))

    @rule()
    def turn(self) -> None:
        self.harness.turn()

    @rule()
    def commit(self) -> None:
        self.harness.commit()
        self.since_commit = [self.now]

    @rule()
    def restart(self) -> None:
        self.messages = self.harness.restart()
        self.since_commit = [self.now]

    @rule()
    def kill(self) -> None:
        self.messages = self.harness.reopen()
        kept = Kept.of(self.messages)
        assert any(self.may_have_become(kept, before) for before in self.since_commit)
        self.now = kept
        self.since_commit = [kept]

    @invariant()
    def agrees(self) -> None:
        assert Kept.of(self.messages) == self.now
        assert len(self.messages) == len(self.now.bodies)

    def teardown(self) -> None:
        self.harness.commit()
        self.harness.check()
        self.harness.close()

    def may_have_become(self, kept: Kept, before: Kept) -> bool:
        """Return whether a store with the state `before` may have the state `kept` after a kill."""
        missing = before.delivered.keys() - kept.delivered.keys()
        return missing <= self.leased_lately and before.without_leases(missing) == kept

    def without(self, gone: list[int]) -> Kept:
        bodies, line, ranks, delivered, added = self.now
        return Kept(
            {seq: body for seq, body in bodies.items() if seq not in gone},
            [seq for seq in line if seq not in gone],
            ranks,
            {seq: token for seq, token in delivered.items() if seq not in gone},
            added,
        )

    def became(self, kept: Kept) -> None:
        self.now = kept
        self.since_commit.append(kept)


@pytest.mark.parametrize("make", [SmallDisk, SmallPostgres], ids=["disk", "postgres"])
def test_a_killed_store_is_as_it_was_at_one_moment_since_its_last_commit(make: Callable[[], Harness]) -> None:
    machine = type("Machine", (StoreMachine,), {"make": staticmethod(make)})
    run_state_machine_as_test(machine, settings=on_a_disk())
