"""The leases of a queue: the message of each token, and the deadlines of leases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from queuelet.core.deadlines import Deadlines
from queuelet.core.message import DeliveryRecord
from queuelet.core.tokens import Tokens
from queuelet.definition import MessageState
from queuelet.errors import LeaseLost, MessageNotFound

LEASE_OVERHEAD = 320
"""The memory that the delivery of a message takes in addition to the message, in bytes."""


class Leased(NamedTuple):
    """Messages that were leased by one call."""

    bodies: list[bytes]
    first_token: int
    """The token of the first message. The tokens of the others follow it without gaps."""
    counts: list[int]
    """How often each message was delivered, including this time."""
    deadline: int
    """When the leases end, in nanoseconds since 1970."""


_PIECE = 250
"""The maximum number of leases that `due` returns at once."""


class Leases:
    """The tokens and deadlines of leases.

    A token stays valid for an ack after its lease has ended, as long as it is the newest token of its message. One
    deadline is stored for a run of consecutive tokens, because all leases of a batch end at the same time. A deadline
    is stale once all leases of its run have ended or were extended.
    """

    __slots__ = ("_deadlines", "_superseded", "_tokens", "extended", "seqs")

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.seqs: dict[int, int] = {}
        """The sequence number of the message of each token that is the newest of its message."""
        self._superseded: dict[int, int] = {}
        self._deadlines: Deadlines[tuple[int, int]] = Deadlines(lambda at, run: any(self._live(at, *run)))
        self.extended: dict[int, int] = {}
        """The deadlines of leases that were extended, by token."""

    def grant(self, seqs: list[int], deadline: int) -> int:
        """Lease messages until a deadline. Return the first token; the others follow it without gaps."""
        count = len(seqs)
        first = self._tokens.take(count)
        self.seqs.update(zip(range(first, first + count), seqs, strict=True))
        self.watch(first, count, deadline)
        return first

    def restore(self, deliveries: Mapping[int, DeliveryRecord]) -> None:
        """Add the tokens of the messages that a store has loaded, and the deadlines of all leases but those of streams.

        In the order of the tokens, so that the leases of a batch become one run again. That takes far less time than a
        deadline for each of them, and no call is handled meanwhile.
        """
        newest = sorted((delivery.token, seq) for seq, delivery in deliveries.items() if delivery.token)
        self.seqs.update(newest)
        for seq, delivery in deliveries.items():
            if delivery.superseded:
                self.supersede(seq, delivery.superseded)
        runs: list[tuple[int, tuple[int, int]]] = []
        first = end = deadline = 0
        for token, seq in newest:
            delivery = deliveries[seq]
            if delivery.state is not MessageState.LEASED or delivery.by_stream:
                continue  # the caller ends the leases of streams
            if token == end and delivery.until == deadline:
                end += 1
                continue
            if end > first:
                runs.append((deadline, (first, end - first)))
            first, end, deadline = token, token + 1, delivery.until
        if end > first:
            runs.append((deadline, (first, end - first)))
        self._deadlines.add_many(runs)

    def watch(self, first: int, count: int, deadline: int) -> None:
        """Add the deadline of `count` leases with consecutive tokens from `first` on."""
        self._deadlines.add(deadline, (first, count))

    def extend(self, token: int, deadline: int) -> None:
        """Change the deadline of a lease."""
        self.extended[token] = deadline
        self.watch(token, 1, deadline)

    def supersede(self, seq: int, tokens: tuple[int, ...]) -> None:
        """Mark tokens of a message as superseded by a newer one."""
        for token in tokens:
            self.seqs.pop(token, None)
            self.extended.pop(token, None)
            self._superseded[token] = seq

    def forget(self, token: int, superseded: tuple[int, ...]) -> None:
        """Remove the newest token and the superseded tokens of a message."""
        self.seqs.pop(token, None)
        if self.extended:
            self.extended.pop(token, None)
        for old in superseded:
            self._superseded.pop(old, None)

    def refusal(self, token: int) -> LeaseLost | MessageNotFound:
        """Return the error for a token that has no message."""
        if token in self._superseded:
            return LeaseLost(
                "the lease has ended: the message was redelivered under a newer token, or an exclusive consumer "
                "took over the queue"
            )
        return MessageNotFound(
            "no message for this token: it was acked, popped or purged, or the lease was lost in a crash and the "
            "message will be redelivered"
        )

    @property
    def next_deadline(self) -> int:
        """When the next lease may end, in nanoseconds since 1970, or `NEVER`."""
        return self._deadlines.earliest

    def due(self, now: int) -> list[tuple[int, int]]:
        """Return the tokens and messages of leases whose deadline has passed.

        The caller has to check them, because a lease may have been settled meanwhile. A long run is returned in pieces,
        one per call.
        """
        if self._deadlines.earliest > now:
            return []
        deadline, (first, count) = self._deadlines.pop()
        if count > _PIECE:
            self._deadlines.add(deadline, (first + _PIECE, count - _PIECE))
            count = _PIECE
        return list(self._live(deadline, first, count))

    def clear(self) -> None:
        """Remove all leases."""
        self.seqs.clear()
        self._superseded.clear()
        self._deadlines.clear()
        self.extended.clear()

    def _live(self, deadline: int, first: int, count: int) -> Iterator[tuple[int, int]]:
        seqs, extended = self.seqs, self.extended
        return (
            (token, seqs[token])
            for token in range(first, first + count)
            if token in seqs and extended.get(token, deadline) == deadline
        )
