"""What became of each message, as those who were killed had told: the oracle of the tests with kills."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Who said what of which message. Times are those of the machine's monotonic clock, in nanoseconds."""

    tried: set[str] = field(default_factory=set)
    """Messages that somebody began to add."""
    repeated: set[str] = field(default_factory=set)
    """Messages whose Add was repeated, so that they may have been added twice, one after the other."""
    kept: set[str] = field(default_factory=set)
    """Messages whose Add was answered."""
    acking: set[str] = field(default_factory=set)
    """Messages that somebody began to acknowledge, so that they may be gone."""
    gone: dict[str, int] = field(default_factory=dict)
    """Messages whose Ack or Pop was answered, and when that was known."""
    popping: set[str] = field(default_factory=set)
    """Request ids of calls of Pop whose outcome was not told."""
    delivered: set[str] = field(default_factory=set)
    deliveries: int = 0
    suspect: list[tuple[str, str]] = field(default_factory=list)
    """Messages of which something was told that must not happen to one that was added once, and what."""

    def note(self, line: str) -> None:
        """Take a line of a worker."""
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
        """Note messages that were delivered to a call that began at this time."""
        for each in ids:
            self.deliveries += 1
            self.delivered.add(each)
            if began > self.gone.get(each, began):
                self.suspect.append((each, "was delivered again after it was gone"))

    def remove(self, ids: Iterable[str], at: int) -> None:
        """Note messages that are gone."""
        for each in ids:
            self.gone.setdefault(each, at)

    def pop(self, ids: Iterable[str], at: int) -> None:
        """Note messages that were popped. Nobody else may have had them for good."""
        for each in ids:
            if each in self.gone:
                self.suspect.append((each, "was popped, and gone before"))
            self.gone[each] = at

    @property
    def wrong(self) -> list[str]:
        """What must not have happened, in words. Asked once all has been told: lines come in any order."""
        unheard_of = [f"{each} was delivered, and nobody added it" for each in self.delivered - self.tried]
        return unheard_of + [f"{each} {what}" for each, what in self.suspect if each not in self.repeated]

    @property
    def missing(self) -> set[str]:
        """Messages that were acknowledged to their producer and that nobody can have removed."""
        return self.kept - self.gone.keys() - self.acking
