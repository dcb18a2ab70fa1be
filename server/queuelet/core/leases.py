"""The leases of a queue: which token is for which message, and when leases end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from queuelet.core.deadlines import Deadlines
from queuelet.core.tokens import Tokens
from queuelet.errors import LeaseLost, MessageNotFound

LEASE_OVERHEAD = 320
"""What the delivery of a message takes beside the message, in bytes."""


class Leased(NamedTuple):
    """Messages that were leased together."""

    bodies: list[bytes]
    first_token: int
    """Of the first message; the others' follow it."""
    counts: list[int]
    """How often each was delivered, this time included."""
    deadline: int


_PIECE = 250
"""How many leases end at once."""


class Leases:
    """Tokens by message, and deadlines.

    A token stays known when its lease is over, as long as it is the message's newest: its ack is still taken. A
    deadline is kept for a run of tokens, since a whole batch has the same; one whose leases all ended before is thrown
    away when it comes up, or once most are like that.
    """

    __slots__ = ("_deadlines", "_superseded", "_tokens", "extended", "seqs")

    def __init__(self, tokens: Tokens) -> None:
        """Begin with none."""
        self._tokens = tokens
        self.seqs: dict[int, int] = {}
        """The message of each token that is the newest of its message."""
        self._superseded: dict[int, int] = {}
        self._deadlines: Deadlines[tuple[int, int]] = Deadlines(lambda at, run: any(self._live(at, *run)))
        self.extended: dict[int, int] = {}
        """When leases end that were extended, by token."""

    def grant(self, seqs: list[int], deadline: int) -> int:
        """Lease messages until a deadline; return the first token, the others follow it."""
        count = len(seqs)
        first = self._tokens.take(count)
        self.seqs.update(zip(range(first, first + count), seqs, strict=True))
        self.watch(first, count, deadline)
        return first

    def restore(self, seq: int, token: int, superseded: tuple[int, ...]) -> None:
        """Know the tokens of a message that a store had kept."""
        if token:
            self.seqs[token] = seq
        self.supersede(seq, superseded)

    def watch(self, first: int, count: int, deadline: int) -> None:
        """Note when a run of leases ends."""
        self._deadlines.add(deadline, (first, count))

    def extend(self, token: int, deadline: int) -> None:
        """Note that a lease ends at another time."""
        self.extended[token] = deadline
        self.watch(token, 1, deadline)

    def supersede(self, seq: int, tokens: tuple[int, ...]) -> None:
        """Note that these tokens of a message are not its newest any more."""
        for token in tokens:
            self.seqs.pop(token, None)
            self.extended.pop(token, None)
            self._superseded[token] = seq

    def forget(self, token: int, superseded: tuple[int, ...]) -> None:
        """Forget the tokens of a message that is gone."""
        self.seqs.pop(token, None)
        if self.extended:
            self.extended.pop(token, None)
        for old in superseded:
            self._superseded.pop(old, None)

    def refusal(self, token: int) -> LeaseLost | MessageNotFound:
        """Say why there is no message for a token."""
        if token in self._superseded:
            return LeaseLost(
                "this lease is over: the message was delivered again under a newer token, or an exclusive consumer "
                "took the queue over"
            )
        return MessageNotFound(
            "there is no message of this lease: it was acknowledged, popped or purged, or the server was killed right "
            "after it began, and the message comes again"
        )

    @property
    def next_deadline(self) -> int:
        """When the next lease may end."""
        return self._deadlines.earliest

    def due(self, now: int) -> list[tuple[int, int]]:
        """Return token and message of leases that may have ended: they have, unless they were extended or settled.

        A long run is returned in pieces, one at each call.
        """
        if self._deadlines.earliest > now:
            return []
        deadline, (first, count) = self._deadlines.pop()
        if count > _PIECE:
            self._deadlines.add(deadline, (first + _PIECE, count - _PIECE))
            count = _PIECE
        return list(self._live(deadline, first, count))

    def clear(self) -> None:
        """Forget all."""
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
