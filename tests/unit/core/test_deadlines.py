"""Heaps of due times: an entry that was moved or dropped is stale, even if its key has a later entry."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from queuelet.core.alarms import Alarms
from queuelet.core.deadlines import NEVER, SLACK, Deadlines
from queuelet.core.leases import Leases
from queuelet.core.message import DeliveryRecord
from queuelet.core.tokens import Tokens
from queuelet.definition import MessageState

times = st.integers(0, 6)
keys = st.sampled_from("abc")


class DeadlinesMachine(RuleBasedStateMachine):
    """Due times by key, compared with a plain dict."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, int] = {}
        self.deadlines: Deadlines[str] = Deadlines(lambda at, key: self.times.get(key) == at)

    @rule(key=keys, at=times)
    def add_or_move(self, key: str, at: int) -> None:
        self.times[key] = at
        self.deadlines.add(at, key)

    @rule(key=keys, at=times, count=st.integers(1, 200))
    def move_often(self, key: str, at: int, count: int) -> None:
        for each in range(count):
            self.add_or_move(key, at + each % 2)

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.times.pop(key, None)

    @precondition(lambda self: self.times)
    @rule()
    def take(self) -> None:
        assert self.deadlines.next_at == min(self.times.values())
        at, key = self.deadlines.pop()
        assert self.times.pop(key) == at

    @invariant()
    def the_next_time_is_that_of_the_model(self) -> None:
        assert self.deadlines.earliest <= self.deadlines.next_at == min(self.times.values(), default=NEVER)

    @invariant()
    def stale_entries_are_few(self) -> None:
        assert len(self.deadlines) <= 2 * len(self.times) + SLACK + 6


class LeasesMachine(RuleBasedStateMachine):
    """Leases, compared with a plain dict of their deadlines."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases(Tokens(100))
        self.ends: dict[int, int] = {}
        self.clock = 0

    @rule(count=st.sampled_from([1, 3, 600]), lease=times)
    def grant(self, count: int, lease: int) -> None:
        first = self.leases.grant(list(range(count)), self.clock + lease)
        self.ends |= dict.fromkeys(range(first, first + count), self.clock + lease)

    @precondition(lambda self: self.ends)
    @rule(data=st.data(), lease=times, repeated=st.sampled_from([1, 2, 300]))
    def extend(self, data: st.DataObject, lease: int, repeated: int) -> None:
        token = data.draw(st.sampled_from(sorted(self.ends)))
        for _ in range(repeated):
            self.leases.extend(token, self.clock + lease)
        self.ends[token] = self.clock + lease

    @precondition(lambda self: self.ends)
    @rule(data=st.data(), is_gone=st.booleans())
    def settle(self, data: st.DataObject, is_gone: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        token = data.draw(st.sampled_from(sorted(self.ends)))
        del self.ends[token]
        if is_gone:
            self.leases.forget(token, ())
        else:
            self.leases.supersede(1, (token,))

    @rule(rng=st.randoms(use_true_random=False))
    def restart(self, rng: Random) -> None:
        tokens = rng.sample(sorted(self.ends), len(self.ends))
        records = [DeliveryRecord(MessageState.LEASED, 1, token, self.ends[token]) for token in tokens]
        self.leases = Leases(Tokens(self.leases._tokens.take()))  # noqa: SLF001  # tokens grow
        self.leases.restore(dict(enumerate(records)))
        assert self.leases.seqs == {token: seq for seq, token in enumerate(tokens)}

    @rule(step=times)
    def end_overdue_leases(self, step: int) -> None:
        self.clock += step
        ended: set[int] = set()
        while self.leases.next_deadline <= self.clock:
            ended |= {token for token, _ in self.leases.due(self.clock)}
        assert ended >= {token for token, end in self.ends.items() if end <= self.clock}
        # A token stays known until it is superseded, and an entry from before its last extension is stale.
        assert all(self.ends.get(token, 0) <= self.clock for token in ended)
        self.ends = {token: end for token, end in self.ends.items() if end > self.clock}

    @invariant()
    def no_lease_outlives_its_deadline(self) -> None:
        assert self.leases.next_deadline <= min(self.ends.values(), default=NEVER)

    @invariant()
    def stale_entries_are_few(self) -> None:
        assert len(self.leases._deadlines) <= 2 * len(self.leases.seqs) + 2 * SLACK  # noqa: SLF001  # the test checks its size


class Sleeper:
    """Has an alarm, and counts how often it was woken."""

    def __init__(self) -> None:
        self.next_event = NEVER
        self.woken = 0

    def advance(self, now: int) -> None:
        """Count that it was woken."""
        assert now >= self.next_event
        self.next_event = NEVER
        self.woken += 1


class AlarmsMachine(RuleBasedStateMachine):
    """Alarms, compared with the sleepers themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.alarms = Alarms()
        self.sleepers = {key: Sleeper() for key in "abc"}

    @rule(key=keys, at=times, repeated=st.sampled_from([1, 2, 200]))
    def set(self, key: str, at: int, repeated: int) -> None:
        sleeper = self.sleepers[key]
        sleeper.next_event = at
        for _ in range(repeated):
            self.alarms.set(sleeper)

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.sleepers[key].next_event = NEVER

    @rule(now=times)
    def ring(self, now: int) -> None:
        due = {key for key, sleeper in self.sleepers.items() if sleeper.next_event <= now}
        before = {key: sleeper.woken for key, sleeper in self.sleepers.items()}
        for _ in due:
            self.alarms.ring(now)
        assert {key for key, sleeper in self.sleepers.items() if sleeper.woken > before[key]} == due

    @invariant()
    def the_earliest_is_not_missed(self) -> None:
        assert self.alarms.next_at <= min(sleeper.next_event for sleeper in self.sleepers.values())

    @invariant()
    def stale_entries_are_few(self) -> None:
        assert len(self.alarms._heap) <= 2 * len(self.sleepers) + SLACK  # noqa: SLF001  # the test checks its size


TestDeadlines = DeadlinesMachine.TestCase
TestLeases = LeasesMachine.TestCase
TestAlarms = AlarmsMachine.TestCase
