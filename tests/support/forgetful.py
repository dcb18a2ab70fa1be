"""A store that forgets what it has committed: each read has to wait once, as if its database were elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from typing import Any, cast

from queuelet.core.budget import MemoryBudget
from queuelet.core.queue import Queue
from queuelet.core.storage import Messages, NotLoaded
from queuelet.definition import QueueDefinition
from queuelet.stores.memory import MemoryMessages, MemoryStore


class Reads:
    """The reads of a forgetful store: what is loaded until the end of a call, and the functions to call when it is."""

    def __init__(self) -> None:
        self.loaded: set[Hashable] = set()
        self._callbacks: list[tuple[Read, Callable[[Any], object]]] = []

    def need(self, *what: Hashable) -> None:
        """Raise `NotLoaded` unless these are loaded."""
        missing = [each for each in what if each not in self.loaded]
        if missing:
            raise NotLoaded(Read(self, missing))

    def call_later(self, read: Read, done: Callable[[Any], object]) -> None:
        """Call `done` in the next `finish`."""
        self._callbacks.append((read, done))

    def finish(self) -> bool:
        """End all reads that calls wait for; return whether there were any."""
        callbacks, self._callbacks = self._callbacks, []
        for read, done in callbacks:
            read.end()
            done(read)
        return bool(callbacks)


class Read:
    """One read. It ends when it is awaited, or in the next `Reads.finish`."""

    def __init__(self, reads: Reads, what: Sequence[Hashable]) -> None:
        self._reads = reads
        self._what = what

    def end(self) -> None:
        """Have everything loaded."""
        self._reads.loaded.update(self._what)

    def __await__(self) -> Generator[Any, None, None]:
        self.end()
        yield from ()

    def exception(self) -> None:
        """Return None, because no read fails."""

    def add_done_callback(self, done: Callable[[Any], object], /) -> None:
        """Call `done` when the read ends."""
        self._reads.call_later(self, done)


class ForgetfulMessages(MemoryMessages):
    """Messages in memory that have to be loaded before they are read."""

    __slots__ = ("_reads", "_sizes")

    def __init__(self, store: ForgetfulStore) -> None:
        super().__init__(store.budget)
        self._reads = store.reads
        self._sizes: set[int] = set()
        """Messages that were out of the line, so that their sizes are known."""

    def append(self, seq: int, body: bytes, own_id: bytes = b"") -> None:
        super().append(seq, body, own_id)
        self._reads.loaded.update((seq, own_id))  # it is in memory until it is committed

    def append_many(self, first: int, bodies: Sequence[bytes]) -> None:
        super().append_many(first, bodies)
        self._reads.loaded.update(range(first, first + len(bodies)))

    def first_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        seqs, bodies = super().first_many(count, max_bytes)
        self._reads.need(*seqs)
        return seqs, bodies

    def take(self) -> tuple[int, bytes] | None:
        self.first_many(1, 0)
        return super().take()

    def take_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        self.first_many(count, max_bytes)
        return super().take_many(count, max_bytes)

    def checkout_many(self, count: int, max_bytes: int) -> tuple[list[int], list[bytes]]:
        self._sizes.update(self.first_many(count, max_bytes)[0])
        return super().checkout_many(count, max_bytes)

    def require(self, seqs: Iterable[int] = (), own_ids: Iterable[bytes] = ()) -> None:
        ids = list(own_ids)
        found = [seq for each in ids if (seq := MemoryMessages.seq_of(self, each)) is not None]
        self._reads.need(*ids, *seqs, *found)

    def get(self, seq: int) -> bytes | None:
        self._reads.need(seq)
        return super().get(seq)

    def look(self, seq: int) -> bytes | None:
        self._reads.need(seq)
        return super().look(seq)

    def discard(self, seq: int) -> int | None:
        if seq not in self.ranks and seq not in self._sizes:
            self._reads.need(seq)
        return super().discard(seq)

    def after(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._reads.need(("after", seq))
        return super().after(seq, count, max_bytes)

    def before(self, seq: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._reads.need(("before", seq))
        return super().before(seq, count, max_bytes)

    def seq_of(self, own_id: bytes) -> int | None:
        self._reads.need(own_id)
        return super().seq_of(own_id)


class ForgetfulStore(MemoryStore):
    """A store whose messages have to be loaded before they are read."""

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__(budget)
        self.budget = budget
        self.reads = Reads()

    def new(self, queue_id: str, created: int, definition: QueueDefinition) -> Messages:
        """Return empty messages for a new queue."""
        return ForgetfulMessages(self)


class RepeatingQueue:
    """A queue whose calls are repeated until they have what they read, as an endpoint of the server repeats them."""

    def __init__(self, queue: Queue, reads: Reads, clock: Callable[[], int]) -> None:
        self._queue = queue
        self._reads = reads
        self._clock = clock

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # of any type
        attribute = getattr(self._queue, name)
        if not callable(attribute):
            return attribute

        def repeated(*args: object, **kwargs: object) -> object:
            while True:
                try:
                    result = attribute(*args, **kwargs)
                except NotLoaded as missing:
                    cast("Read", missing.loading).end()
                else:
                    self.settle()
                    return result

        return repeated

    def settle(self) -> None:
        """Do what goes on once something is loaded, then forget everything."""
        while self._reads.finish() and not self._queue.has_ended:
            self._queue.advance(self._clock())
        self._reads.loaded.clear()
