"""Claims: who consumes a queue by streams, and who of them is to be the only one to take messages from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from queuelet.core.tokens import Tokens


class Claim:
    """A consumer's claim to the messages of a queue: along with others, or exclusive of them."""

    __slots__ = ("changed", "is_exclusive", "peer", "token")

    def __init__(self, changed: Callable[[], None], *, is_exclusive: bool = False, peer: str = "") -> None:
        """Take what is called when the queue has got a holder, this one or another, and when the queue ends."""
        self.changed = changed
        self.peer = peer
        """The address that the consumer comes from."""
        self.is_exclusive = is_exclusive
        self.token = 0
        """Of the holder: larger than that of any holder before. 0 for who is not, or not yet."""


class Claims:
    """The claims to one queue. At most one of them holds it; other exclusive ones stand in line, first come first."""

    __slots__ = ("_line", "_shared", "_tokens", "holder")

    def __init__(self, tokens: Tokens) -> None:
        """Begin with none, and take where the tokens of holders come from."""
        self._tokens = tokens
        self.holder: Claim | None = None
        """Who alone may take messages; None while everybody may."""
        self._line: deque[Claim] = deque()
        self._shared: dict[Claim, None] = {}

    @property
    def in_line(self) -> int:
        """How many wait to hold the queue."""
        return len(self._line)

    def in_line_of(self, peer: str) -> int:
        """Return how many of one address wait to hold the queue."""
        return sum(claim.peer == peer for claim in self._line)

    def add(self, claim: Claim) -> None:
        """Note a claim. An exclusive one becomes the holder at once if there is none, else when all before are gone."""
        if not claim.is_exclusive:
            self._shared[claim] = None
            return
        self._line.append(claim)
        if self.holder is None:
            self._grant()
            for other in list(self._shared):
                other.changed()

    def drop(self, claim: Claim) -> None:
        """Forget a claim, and let the next in line hold the queue if this one did."""
        if self.holder is claim:
            self.holder = None
            if self._line:
                self._grant()
        elif claim.is_exclusive:
            self._line.remove(claim)
        else:
            del self._shared[claim]

    def tell_all(self) -> None:
        """Tell everybody that something has changed."""
        holder = () if self.holder is None else (self.holder,)
        for claim in (*holder, *self._line, *self._shared):
            claim.changed()

    def _grant(self) -> None:
        self.holder = self._line.popleft()
        self.holder.token = self._tokens.take()
        self.holder.changed()
