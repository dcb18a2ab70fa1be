"""What became of each message, as the killed workers reported it: the oracle of the tests with kills."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Which worker reported what about which message. Times are of the machine's monotonic clock, in nanoseconds."""

    tried: set[str] = field(default_factory=set)
    """Messages that a worker began to add."""
    repeated: set[str] = field(default_factory=set)
    """Messages whose Add was retried, so that they may have been added twice, one after the other."""
    kept: set[str] = field(default_factory=set)
    """Messages whose Add succeeded."""
    acking: set[str] = field(default_factory=set)
    """Messages that a worker began to acknowledge, so that they may be gone."""
    gone: dict[str, int] = field(default_factory=dict)
    """Messages whose Ack or Pop succeeded, and when that was known."""
    popping: set[str] = field(default_factory=set)
    """Request IDs of Pops whose outcome is unknown."""
    delivered: set[str] = field(default_factory=set)
    deliveries: int = 0
    suspect: list[tuple[str, str]] = field(default_factory=list)
    """Violations, by message: events that must not happen to a message that was added once."""

    def note(self, line: str) -> None:
        """Record a line of a worker."""
        at, word, *ids = line.split()
        match word:
            case "try":
                self.tried.update(ids)
            case "repeat":
                self.repeated.update(ids)
            case "kept":
                self.kept.update(ids)
            case "got":
                self.got(ids, int(at))
            case "acking":
                self.acking.update(ids)
            case "acked":
                self.remove(ids, int(at))
            case "popping":
                self.popping.update(ids)
            case "popped":
                request_id, *message = ids
                self.popping.discard(request_id)
                self.pop(message, int(at))
            case "lost" | "ready":
                pass
            case _:
                raise ValueError(f"a worker said {line!r}")

    def got(self, ids: Iterable[str], began: int) -> None:
        """Record messages that were delivered to a call that began at this time."""
        for each in ids:
            self.deliveries += 1
            self.delivered.add(each)
            if began > self.gone.get(each, began):
                self.suspect.append((each, "was redelivered after it was acknowledged or popped"))

    def remove(self, ids: Iterable[str], at: int) -> None:
        """Record messages that are gone."""
        for each in ids:
            self.gone.setdefault(each, at)

    def pop(self, ids: Iterable[str], at: int) -> None:
        """Record messages that were popped. No other worker may have acknowledged or popped them."""
        for each in ids:
            if each in self.gone:
                self.suspect.append((each, "was popped after it was acknowledged or popped"))
            self.gone[each] = at

    @property
    def wrong(self) -> list[str]:
        """Violations, in words. Valid once everything is recorded, because lines arrive in any order."""
        unheard_of = [f"{each} was delivered but never added" for each in self.delivered - self.tried]
        return unheard_of + [f"{each} {what}" for each, what in self.suspect if each not in self.repeated]

    @property
    def missing(self) -> set[str]:
        """Messages that were confirmed to their producer and that no worker can have removed."""
        return self.kept - self.gone.keys() - self.acking
