"""The rules of a queue as plainly as they can be said: a list of records, gone through from end to end each time.

What is due is done when somebody looks (`settle`). Times are nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from queuelet.core.message import DeathReason, Terms, TryOutcome
from queuelet.definition import State

NEVER = 1 << 63


@dataclass
class Record:
    """A message and all that became of it."""

    seq: int
    own_id: bytes
    payload: bytes
    priority: int
    due: int
    """Since when it could be taken first: its place in the order."""
    added: int
    """From when its time to live counts."""
    ttl: int
    is_ranked: bool
    """Whether it has a place of its own: it came with terms, or was redriven."""
    state: State = State.READY
    until: int = 0
    is_known: bool = False
    """Whether it was ever delivered or dead."""
    count: int = 0
    token: int = 0
    old_tokens: list[int] = field(default_factory=list)
    reason: int = 0
    tries: list[tuple[TryOutcome, int, int, str]] = field(default_factory=list)
    """Outcome, token, when it ended, and the reason given."""


class NaiveQueue:
    """A queue that is slow and right."""

    def __init__(self, *, limit: int, lease: int, max_deliveries: int) -> None:
        self.limit = limit
        self.lease = lease
        self.max_deliveries = max_deliveries
        self.ttl = NEVER
        self.is_draining = False
        self.records: list[Record] = []
        self.next_seq = 1
        self.is_taken_over = False
        """Whether all leases are to end, as there is a new exclusive consumer."""
        self.tally: Counter[str] = Counter()

    # What is due

    def expires(self, record: Record) -> int:
        """Return when a message is dead if nobody takes it."""
        return record.added + min(self.ttl, record.ttl or NEVER)

    def next_due(self) -> int:
        """Return when something will have to be done next."""
        return min(
            [record.until for record in self.records if record.state in {State.LEASED, State.DELAYED}]
            + [self.expires(record) for record in self.records if record.state in {State.READY, State.DELAYED}],
            default=NEVER,
        )

    def settle(self, now: int) -> None:
        """Do what is due."""
        if self.is_taken_over:
            self.is_taken_over = False
            for record in self.of(State.LEASED):
                self.tally["expired"] += 1
                self.end_try(record, TryOutcome.LEASE_EXPIRED, "an exclusive consumer took the queue over", now, now)
                record.old_tokens.append(record.token)
                record.token = 0
        for record in self.of(State.LEASED):
            if record.until <= now:
                self.tally["expired"] += 1
                self.end_try(record, TryOutcome.LEASE_EXPIRED, "", now, now)
        for record in self.of(State.DELAYED):
            if record.until <= now:
                record.state = State.READY
        for record in self.of(State.READY, State.DELAYED):
            if self.expires(record) <= now:
                record.is_known = True
                self.bury(record, DeathReason.EXPIRED)

    # Adding

    def add(self, payload: bytes, own_id: bytes, terms: Terms | None, now: int, *, is_line_free: bool) -> str:
        """Return what an Add ends with."""
        if own_id and any(record.own_id == own_id for record in self.records):
            return "DUPLICATE"
        if self.is_draining:
            return "QUEUE_DRAINING"
        if not is_line_free or (self.limit != -1 and len(self.records) >= self.limit):
            return "QUEUE_FULL"
        asked = terms or Terms()
        due = max(now + asked.delay, asked.not_before)
        record = Record(
            self.next_seq, own_id, payload, asked.priority, due, now, asked.ttl, is_ranked=terms is not None
        )
        if due > now:
            record.state, record.until = State.DELAYED, due
        self.records.append(record)
        self.next_seq += 1
        self.tally["enqueued"] += 1
        return "ADDED"

    # Taking

    def first(self, count: int) -> list[Record]:
        """Return the first ready messages."""
        return sorted(self.of(State.READY), key=lambda record: (record.priority, record.due, record.seq))[:count]

    def pop(self, count: int) -> list[bytes]:
        """Take the first ready messages away."""
        popped = self.first(count)
        self.remove(popped)
        self.tally["consumed"] += len(popped)
        return [record.payload for record in popped]

    def receive(self, count: int, until: int, first_token: int) -> list[Record]:
        """Lease the first ready messages."""
        leased = self.first(count)
        for token, record in enumerate(leased, first_token):
            self.tally["leased"] += 1
            self.tally["redelivered"] += record.is_known
            if record.token:
                record.old_tokens.append(record.token)
            record.state, record.token, record.until = State.LEASED, token, until
            record.count += 1
            record.is_known = True
        return leased

    def ack(self, tokens: list[int]) -> list[str]:
        """Remove messages by their newest token, whatever state they are in."""
        results = []
        for token in tokens:
            result = self.why_not(token)
            if not result:
                self.remove([record for record in self.records if record.token == token])
                self.tally["acked"] += 1
            results.append(result)
        return results

    def nack(
        self, tokens: list[int], outcome: TryOutcome, reason: str, wake: int, now: int, *, dead: bool, unused: bool
    ) -> list[str]:
        """Give leased messages back."""

        def give_back(record: Record) -> None:
            self.tally["nacked" if outcome is TryOutcome.NACKED else "released"] += 1
            self.end_try(record, outcome, reason, wake, now, dead=dead, unused=unused)

        return self.with_leases(tokens, give_back)

    def extend(self, tokens: list[int], until: int) -> list[str]:
        """Move the ends of leases."""

        def move(record: Record) -> None:
            self.tally["extended"] += 1
            record.until = until

        return self.with_leases(tokens, move)

    def with_leases(self, tokens: list[int], change: Callable[[Record], None]) -> list[str]:
        """Do something with the leased messages of tokens, one by one."""
        results = []
        for token in tokens:
            result = self.why_not(token)
            if not result:
                record = next(record for record in self.records if record.token == token)
                if record.state is State.LEASED:
                    change(record)
                else:
                    result = "LEASE_LOST"
            results.append(result)
        return results

    def why_not(self, token: int) -> str:
        """Return why there is no message of this token; empty if there is one."""
        if any(token in record.old_tokens for record in self.records):
            return "LEASE_LOST"
        return "" if any(record.token == token for record in self.records) else "MESSAGE_NOT_FOUND"

    # The rest

    def purge(self, records: Iterable[Record], states: set[State]) -> int:
        """Remove messages, those in `states` if any are given."""
        purged = [record for record in records if not states or record.state in states]
        self.remove(purged)
        self.tally["purged"] += len(purged)
        return len(purged)

    def redrive(self, records: Iterable[Record], now: int) -> int:
        """Make dead messages as new, but for their history."""
        count = 0
        for record in records:
            if record.state is State.DEAD:
                record.state, record.count, record.reason = State.READY, 0, 0
                record.due = record.added = now
                record.is_ranked = True
                if record.token:
                    record.old_tokens.append(record.token)
                    record.token = 0
                count += 1
        self.tally["redriven"] += count
        return count

    def of(self, *states: State) -> list[Record]:
        """Return the messages in these states."""
        return [record for record in self.records if record.state in states]

    def end_try(
        self,
        record: Record,
        outcome: TryOutcome,
        reason: str,
        wake: int,
        now: int,
        *,
        dead: bool = False,
        unused: bool = False,
    ) -> None:
        """End a lease without an ack."""
        if unused:
            record.count -= 1
        else:
            record.tries.append((outcome, record.token, now, reason))
        if dead:
            self.bury(record, DeathReason.REJECTED)
        elif record.count >= self.max_deliveries:
            self.bury(record, DeathReason.MAX_DELIVERIES)
        elif wake > now:
            record.state, record.until = State.DELAYED, wake
        else:
            record.state = State.READY

    def bury(self, record: Record, reason: DeathReason) -> None:
        """Make a message dead."""
        self.tally["buried"] += 1
        record.state, record.reason = State.DEAD, reason

    def remove(self, gone: list[Record]) -> None:
        """Take messages away."""
        self.records = [record for record in self.records if record not in gone]
