"""The rules of a queue as simply as possible: a list of records, which every call scans completely.

Overdue transitions are made by `settle`, before every call. Times are in nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from queuelet.core.message import Terms
from queuelet.definition import DeathReason, MessageState, TryOutcome

NEVER = 1 << 63


@dataclass
class Record:
    """A message with its state and history."""

    seq: int
    own_id: bytes
    payload: bytes
    priority: int
    due: int
    """When it became due for delivery, which is part of its position in the order."""
    added: int
    """The start of its time to live."""
    ttl: int
    is_ranked: bool
    """Whether it has a rank, because it has terms or was redriven."""
    state: MessageState = MessageState.READY
    until: int = 0
    is_known: bool = False
    """Whether it was ever delivered or dead."""
    count: int = 0
    token: int = 0
    old_tokens: list[int] = field(default_factory=list)
    reason: int = 0
    tries: list[tuple[TryOutcome, int, int, str]] = field(default_factory=list)
    """Outcome, token, end, and reason."""


class NaiveQueue:
    """A queue that is slow and correct."""

    def __init__(self, *, limit: int, lease: int, max_deliveries: int) -> None:
        self.limit = limit
        self.lease = lease
        self.max_deliveries = max_deliveries
        self.ttl = NEVER
        self.is_draining = False
        self.records: list[Record] = []
        self.next_seq = 1
        self.is_taken_over = False
        """Whether all leases have to end, because there is a new exclusive consumer."""
        self.tally: Counter[str] = Counter()

    # Time

    def expires(self, record: Record) -> int:
        """Return when a message expires."""
        return record.added + min(self.ttl, record.ttl or NEVER)

    def next_due(self) -> int:
        """Return when the next transition is due."""
        return min(
            [each.until for each in self.records if each.state in {MessageState.LEASED, MessageState.DELAYED}]
            + [self.expires(each) for each in self.records if each.state in {MessageState.READY, MessageState.DELAYED}],
            default=NEVER,
        )

    def settle(self, now: int) -> None:
        """Make all overdue transitions."""
        if self.is_taken_over:
            self.is_taken_over = False
            for record in self.of(MessageState.LEASED):
                self.tally["expired"] += 1
                self.end_try(record, TryOutcome.LEASE_EXPIRED, "an exclusive consumer took over the queue", now, now)
                record.old_tokens.append(record.token)
                record.token = 0
        for record in self.of(MessageState.LEASED):
            if record.until <= now:
                self.tally["expired"] += 1
                self.end_try(record, TryOutcome.LEASE_EXPIRED, "", now, now)
        for record in self.of(MessageState.DELAYED):
            if record.until <= now:
                record.state = MessageState.READY
        for record in self.of(MessageState.READY, MessageState.DELAYED):
            if self.expires(record) <= now:
                record.is_known = True
                self.bury(record, DeathReason.EXPIRED)

    # Adding

    def add(self, payload: bytes, own_id: bytes, terms: Terms | None, now: int, *, is_line_free: bool) -> str:
        """Add a message and return the result as a word."""
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
            record.state, record.until = MessageState.DELAYED, due
        self.records.append(record)
        self.next_seq += 1
        self.tally["enqueued"] += 1
        return "ADDED"

    # Popping and leasing

    def first(self, count: int) -> list[Record]:
        """Return the first ready messages."""
        return sorted(self.of(MessageState.READY), key=lambda record: (record.priority, record.due, record.seq))[:count]

    def pop(self, count: int) -> list[bytes]:
        """Remove the first ready messages and return their payloads."""
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
            record.state, record.token, record.until = MessageState.LEASED, token, until
            record.count += 1
            record.is_known = True
        return leased

    def ack(self, tokens: list[int]) -> list[str]:
        """Remove messages in any state by their newest token."""
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
        """End leases without an ack."""

        def give_back(record: Record) -> None:
            self.tally["nacked" if outcome is TryOutcome.NACKED else "released"] += 1
            self.end_try(record, outcome, reason, wake, now, dead=dead, unused=unused)

        return self.with_leases(tokens, give_back)

    def extend(self, tokens: list[int], until: int) -> list[str]:
        """Change the deadlines of leases."""

        def move(record: Record) -> None:
            self.tally["extended"] += 1
            record.until = until

        return self.with_leases(tokens, move)

    def with_leases(self, tokens: list[int], change: Callable[[Record], None]) -> list[str]:
        """Call `change` with the leased message of each token."""
        results = []
        for token in tokens:
            result = self.why_not(token)
            if not result:
                record = next(record for record in self.records if record.token == token)
                if record.state is MessageState.LEASED:
                    change(record)
                else:
                    result = "LEASE_LOST"
            results.append(result)
        return results

    def why_not(self, token: int) -> str:
        """Return why a token has no leased message; empty if it has one."""
        if any(token in record.old_tokens for record in self.records):
            return "LEASE_LOST"
        return "" if any(record.token == token for record in self.records) else "MESSAGE_NOT_FOUND"

    # Purging and redriving

    def purge(self, records: Iterable[Record], states: set[MessageState]) -> int:
        """Remove messages if they are in `states`; no states mean all."""
        purged = [record for record in records if not states or record.state in states]
        self.remove(purged)
        self.tally["purged"] += len(purged)
        return len(purged)

    def redrive(self, records: Iterable[Record], now: int) -> int:
        """Make dead messages ready as if they were new, except for their history."""
        count = 0
        for record in records:
            if record.state is MessageState.DEAD:
                record.state, record.count, record.reason = MessageState.READY, 0, 0
                record.due = record.added = now
                record.is_ranked = True
                if record.token:
                    record.old_tokens.append(record.token)
                    record.token = 0
                count += 1
        self.tally["redriven"] += count
        return count

    def of(self, *states: MessageState) -> list[Record]:
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
            record.state, record.until = MessageState.DELAYED, wake
        else:
            record.state = MessageState.READY

    def bury(self, record: Record, reason: DeathReason) -> None:
        """Make a message dead."""
        self.tally["buried"] += 1
        record.state, record.reason = MessageState.DEAD, reason

    def remove(self, gone: list[Record]) -> None:
        """Remove messages."""
        self.records = [record for record in self.records if record not in gone]
