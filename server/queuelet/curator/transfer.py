"""Transfers nodes to a queue: a node is removed once its messages are acknowledged, and not before.

An import may be interrupted at any moment and run again. A node is only removed after the server has acknowledged all
of its items. Message IDs derive from the node, so the server adds no item a second time while the first is queued.
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
"""How many nodes to read and lock at once. By default ZooKeeper limits a node to 1 MiB."""

LOCKED = "a consumer has locked it"
"""The reason for skipping a locked node."""


class Source(Protocol):
    """The nodes of a queue in ZooKeeper. Every method raises `Unreachable` if the connection is lost."""

    def lock(self, nodes: Sequence[str]) -> list[bool]:
        """Lock nodes as Curator's consumers do. Return for each whether it is locked for us now."""

    def unlock(self, nodes: Sequence[str]) -> None:
        """Release our locks."""

    def read(self, names: Sequence[Name]) -> list[Node | str | None]:
        """Read nodes. Return each one, or why it cannot be read, or None if it no longer exists."""

    def remove(self, nodes: Sequence[Node]) -> list[str | None]:
        """Remove nodes that have not changed since they were read. Return for each None, or why it was not removed."""


Outcome = QueueletError | bool
"""The outcome of a message: why it was refused, or whether it was queued already."""

Sink = Callable[[Sequence[pb.NewMessage]], Sequence[Outcome]]
"""Adds messages in their order and returns the outcome of each. Raises if all outcomes are unknown."""


@dataclass(frozen=True, slots=True)
class Left:
    """A node that was skipped, and why."""

    node: str
    reason: str


@dataclass(slots=True)
class Report:
    """The progress so far."""

    nodes: int = 0
    """Nodes of which all items are in the queue."""

    added: int = 0
    """Messages that were added."""

    duplicates: int = 0
    """Messages that were in the queue already."""

    removed: int = 0
    """Nodes that were removed."""

    gone: int = 0
    """Nodes that a Curator consumer took before they were read."""

    left: list[Left] = field(default_factory=list)


@dataclass(slots=True)
class _Pending:
    """A node of which not all items are acknowledged."""

    node: Node
    missing: int
    """The number of items that are not acknowledged."""
    is_refused: bool = False
    """Whether the server refused one of them."""


_PendingMessage = tuple[_Pending, pb.NewMessage]


@dataclass(kw_only=True, slots=True)
class Transfer:
    """Moves or copies nodes, in the order in which they are given."""

    source: Source
    conversion: Conversion
    batches: Callable[[Iterable[_PendingMessage]], Iterator[list[_PendingMessage]]]
    """Splits messages into calls."""
    remove: bool
    """Whether to remove nodes instead of only copying them."""
    lock: bool
    """Whether to lock nodes first, so that no Curator consumer takes them meanwhile."""
    report: Report = field(default_factory=Report)

    def run(self, names: Sequence[Name], sink: Sink, advance: Callable[[int], None]) -> None:
        """Transfer nodes, and report progress as the number of further nodes.

        Raises an error that prevents it from going on; `report` has the progress until then.
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
                # Not in `finally`, because an error ends the session too, and with it the locks.
                self.source.unlock([name.node for name in locked])
            advance(len(window))

    def converted(self, names: Sequence[Name]) -> Iterator[tuple[Node, list[pb.NewMessage]]]:
        """Read nodes, and yield each with its messages. Those that cannot be read are reported."""
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
        # A node without items has no message to be acknowledged.
        self._settle([each for each, _ in pending if not each.missing])
        for batch in self.batches((each, message) for each, messages in pending for message in messages):
            self._count(batch, sink([message for _, message in batch]))

    def _count(self, batch: Sequence[_PendingMessage], outcomes: Sequence[Outcome]) -> None:
        """Settle nodes whose last item was acknowledged. Raise a refusal that would affect other messages too."""
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
        # Do this first, because a message that is popped meanwhile would be added a second time by the next run.
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
                self.report.left.append(Left(each.node.name.node, f"its items were added, but {failure}"))


def windows(names: Sequence[Name]) -> Iterator[Sequence[Name]]:
    """Yield names in their order, in groups that are read at once."""
    for start in range(0, len(names), READ_AT_ONCE):
        yield names[start : start + READ_AT_ONCE]
