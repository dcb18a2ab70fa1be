"""The way of nodes into a queue: what was acknowledged is removed, and nothing else is.

An import that ends at any moment can be run again. A node is removed only after the server has acknowledged all of its
items, and ids that derive from the node have the server take no item a second time while the first is queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from queuelet.curator.items import DamagedNode
from queuelet.curator.messages import Conversion, Node
from queuelet.curator.names import Name
from queuelet.errors import InvalidArgument, MessageExists, QueueletError
from queuelet.v1 import queue_pb2 as pb

READ_AT_ONCE = 256
"""Nodes that are read, and locked, at once. A node has at most 1 MiB unless ZooKeeper is told otherwise."""

LOCKED = "a consumer has locked it"
"""Why a node was left."""


class Source(Protocol):
    """The nodes of a queue in ZooKeeper. Every method raises `Unreachable` where the connection is lost."""

    def lock(self, nodes: Sequence[str]) -> list[bool]:
        """Lock nodes as Curator's consumers do; tell of each whether it is ours now."""

    def unlock(self, nodes: Sequence[str]) -> None:
        """Give locks of ours back."""

    def read(self, names: Sequence[Name]) -> list[Node | str | None]:
        """Read nodes: each, or why it can't be read, or None if it is there no more."""

    def remove(self, nodes: Sequence[Node]) -> list[str | None]:
        """Remove nodes that are still as they were read; of each that could not be removed say why."""


Outcome = QueueletError | bool
"""What became of a message: why it was refused, or else whether it was in the queue already."""

Sink = Callable[[Sequence[pb.NewMessage]], Sequence[Outcome]]
"""Adds messages in their order; returns the outcome of each. Raises what leaves all of them in doubt."""


@dataclass(frozen=True, slots=True)
class Left:
    """A node that was left, and why."""

    node: str
    reason: str


@dataclass(slots=True)
class Report:
    """What was done so far."""

    nodes: int = 0
    """Those whose every item is in the queue."""

    added: int = 0
    """Messages."""

    duplicates: int = 0
    """Messages that were in the queue already."""

    removed: int = 0
    """Nodes."""

    gone: int = 0
    """Nodes that somebody else took before they were read."""

    left: list[Left] = field(default_factory=list)


@dataclass(slots=True)
class _Pending:
    """A node on its way."""

    node: Node
    missing: int
    """Items that are not acknowledged."""
    is_refused: bool = False
    """Whether the server refused one of them."""


_OnItsWay = tuple[_Pending, pb.NewMessage]


@dataclass(kw_only=True, slots=True)
class Transfer:
    """Moves or copies nodes, in the order in which they are given."""

    source: Source
    conversion: Conversion
    batches: Callable[[Iterable[_OnItsWay]], Iterator[list[_OnItsWay]]]
    """Divides what is to be added into calls."""
    remove: bool
    """Whether nodes are removed, or only copied."""
    lock: bool
    """Whether nodes are locked first, so that no consumer takes one meanwhile."""
    report: Report = field(default_factory=Report)

    def run(self, names: Sequence[Name], sink: Sink, advance: Callable[[int], None]) -> None:
        """Bring nodes into the queue, and say now and then how many more were looked at.

        Raises what keeps it from going on; `report` says how far it came.
        """
        for window in windows(names):
            if not self.lock:
                self._bring(window, sink)
            else:
                mine = self.source.lock([name.node for name in window])
                locked = [name for name, is_mine in zip(window, mine, strict=True) if is_mine]
                others = [name for name, is_mine in zip(window, mine, strict=True) if not is_mine]
                self.report.left += [Left(name.node, LOCKED) for name in others]
                self._bring(locked, sink)
                # Not in `finally`: what fails ends the session too, and with it the locks.
                self.source.unlock([name.node for name in locked])
            advance(len(window))

    def converted(self, names: Sequence[Name]) -> Iterator[tuple[Node, list[pb.NewMessage]]]:
        """Read nodes, and yield each with its messages; what can't be read is reported."""
        for name, node in zip(names, self.source.read(names), strict=True):
            if node is None:
                self.report.gone += 1
            elif isinstance(node, str):
                self.report.left.append(Left(name.node, node))
            else:
                try:
                    messages = self.conversion.messages(node)
                except DamagedNode as error:
                    self.report.left.append(Left(name.node, f"it is damaged: {error}"))
                else:
                    yield node, messages

    def _bring(self, names: Sequence[Name], sink: Sink) -> None:
        pending = [(_Pending(node, len(messages)), messages) for node, messages in self.converted(names)]
        # Nothing acknowledges a node without items.
        self._settle([each for each, _ in pending if not each.missing])
        for batch in self.batches((each, message) for each, messages in pending for message in messages):
            self._count(batch, sink([message for _, message in batch]))

    def _count(self, batch: Sequence[_OnItsWay], outcomes: Sequence[Outcome]) -> None:
        """Settle nodes whose last item was acknowledged. Raises a refusal that others would meet too."""
        done: list[_Pending] = []
        stop: QueueletError | None = None
        for (pending, _), outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, QueueletError):
                self.report.duplicates += outcome
                self.report.added += not outcome
                pending.missing -= 1
                if not pending.missing:
                    done.append(pending)
            elif isinstance(outcome, InvalidArgument | MessageExists):
                if not pending.is_refused:
                    pending.is_refused = True
                    self.report.left.append(Left(pending.node.name.node, f"the server refused it: {outcome.message}"))
            else:
                stop = stop or outcome
        # Before all else: a message that is taken from the queue meanwhile would be added a second time.
        self._settle(done)
        if stop:
            raise stop

    def _settle(self, done: Sequence[_Pending]) -> None:
        self.report.nodes += len(done)
        if not self.remove or not done:
            return
        failures = self.source.remove([each.node for each in done])
        for each, failure in zip(done, failures, strict=True):
            if failure is None:
                self.report.removed += 1
            else:
                self.report.left.append(Left(each.node.name.node, f"its items were added, and {failure}"))


def windows(names: Sequence[Name]) -> Iterator[Sequence[Name]]:
    """Yield names in their order, as many at a time as are read at once."""
    for start in range(0, len(names), READ_AT_ONCE):
        yield names[start : start + READ_AT_ONCE]
