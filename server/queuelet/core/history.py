"""How the numbers of queues changed over time, in a bounded number of bytes.

A queue's history has two levels: 10-second steps for an hour, and 2-minute steps for 24 hours. Each level is a ring of
points, and has a point only where the numbers changed, encoded as the differences to the point before: some 10 bytes.
A queue whose numbers never changed has no history at all, because its numbers now were its numbers then.

If all histories together need more bytes than they may, steps become twice as long until they fit, and shorter again
when there is room. If that does not help, because there are too many queues, whole histories are dropped, beginning
with those that changed least recently.

Times are numbers of steps of 10 seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import sub
from typing import NamedTuple

from queuelet.core.budget import MemoryBudget
from queuelet.wire.varint import varint, varint_at

STEP_SECONDS = 10
"""The length of a step."""

FINE_STEPS, COARSE_STEPS = 1, 12
"""The steps between two points of each level: 10 seconds and 2 minutes."""

FINE_KEEP, COARSE_KEEP = 3_600 // STEP_SECONDS, 86_400 // STEP_SECONDS
"""How many steps back each level goes: an hour and 24 hours."""

MAX_FACTOR = 64
"""How many times longer steps may become: then the hour has six points, and the day twelve."""

STILL_BYTES = 500
"""The memory of a history without points, in bytes. Measured: 450."""

LEVELS_BYTES = 1_500
"""The memory of the two levels of a history in addition to their points, in bytes. Measured: 1,400."""

_EMPTY_BYTES = bytearray().__sizeof__()


class Numbers(NamedTuple):
    """The numbers of a queue at one time."""

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0
    enqueued: int = 0
    """Messages added since the queue was created."""
    removed: int = 0
    """Messages popped or acked since the queue was created."""


NOTHING = Numbers()


class Point(NamedTuple):
    """The numbers of a queue from one time on, until the next point."""

    step: int
    numbers: Numbers


class Level:
    """The points of one resolution, oldest first, of which those that are too old are dropped.

    The numbers at the start, before the first point, are known too, so the level is complete from its start on. The
    last point is open as long as its step lasts: later numbers of the same step replace it.
    """

    __slots__ = ("_data", "_end", "_keep", "_open", "_start")

    def __init__(self, start: Point, keep: int) -> None:
        self._start = self._end = start
        self._open: Point | None = None
        self._data = bytearray()
        self._keep = keep

    @property
    def start(self) -> Point:
        """The numbers at the start."""
        return self._start

    @property
    def size(self) -> int:
        """The memory of the encoded points, in bytes. It is more than their size, because they grow and shrink."""
        return self._data.__sizeof__() - _EMPTY_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether the numbers have not changed since the start."""
        return not self._data and self._open is None

    def add(self, step: int, numbers: Numbers, every: int) -> None:
        """Set the numbers of a step, not earlier than any before, rounded up to a multiple of `every`."""
        step = max(-(-step // every) * every, self._end.step)
        if self._open is not None and self._open.step < step:
            self._close(self._open)
        # The numbers may be again what they were before this step.
        self._open = Point(step, numbers) if numbers != self._end.numbers else None

    def expire(self, now: int) -> None:
        """Drop points that are not needed, because a later one is old enough to be the start."""
        oldest = now - self._keep
        if self._data and self._start.step < oldest:
            dropped = 0
            for point, end in self._decoded():
                if point.step > oldest:
                    break
                self._start, dropped = point, end
            del self._data[:dropped]
        if not self._data and self._open is not None and self._open.step <= oldest:
            self._start = self._end = self._open
            self._open = None

    def points(self) -> Iterator[Point]:
        """Yield all points, the oldest first."""
        for point, _ in self._decoded():
            yield point
        if self._open is not None:
            yield self._open

    def thinned(self, every: int) -> Level:
        """Return the same level with longer steps."""
        level = Level(self._start, self._keep)
        for point in self.points():
            level.add(point.step, point.numbers, every)
        return level

    def _close(self, point: Point) -> None:
        self._data += varint(point.step - self._end.step)
        for change in map(sub, point.numbers, self._end.numbers):
            self._data += varint(change << 1 if change >= 0 else (-change << 1) - 1)
        self._end = point

    def _decoded(self) -> Iterator[tuple[Point, int]]:
        """Yield each encoded point, and the place after it."""
        place, (step, numbers), data = 0, self._start, bytes(self._data)
        while place < len(data):
            passed, place = varint_at(data, place)
            step += passed
            changes: list[int] = []
            for _ in NOTHING:
                change, place = varint_at(data, place)
                changes.append(-(change + 1 >> 1) if change & 1 else change >> 1)
            numbers = Numbers(*(number + change for number, change in zip(numbers, changes, strict=True)))
            yield Point(step, numbers), place


class History:
    """The history of one queue."""

    __slots__ = ("_levels", "activity", "last")

    def __init__(self, start: Point, activity: int) -> None:
        self.last = start
        """The last change, or the start."""
        self.activity = activity
        """The activity of the queue when its numbers were last recorded."""
        self._levels: tuple[Level, Level] | None = None

    @property
    def size(self) -> int:
        """The memory of this history, in bytes."""
        return STILL_BYTES if self._levels is None else STILL_BYTES + LEVELS_BYTES + self.points_size

    @property
    def points_size(self) -> int:
        """The part of this memory that longer steps would reduce, in bytes."""
        return 0 if self._levels is None else sum(level.size for level in self._levels)

    @property
    def is_still(self) -> bool:
        """Whether it has only the last numbers."""
        return self._levels is None

    def add(self, step: int, numbers: Numbers, factor: int) -> None:
        """Record the numbers at a step."""
        if self._levels is None and step == self.last.step:
            self.last = Point(step, numbers)
            return
        if self._levels is None:
            self._levels = Level(self.last, FINE_KEEP), Level(self.last, COARSE_KEEP)
        fine, coarse = self._levels
        fine.add(step, numbers, FINE_STEPS * factor)
        coarse.add(step, numbers, COARSE_STEPS * factor)
        self.last = Point(step, numbers)
        self.expire(step)

    def expire(self, now: int) -> None:
        """Drop old points, and the levels if nothing changed for a day."""
        if self._levels is None:
            return
        for level in self._levels:
            level.expire(now)
        if all(level.is_empty for level in self._levels):
            self.last = min(self.last, self._levels[1].start)
            self._levels = None

    def thin(self, factor: int) -> None:
        """Make the steps longer."""
        if self._levels is not None:
            fine, coarse = self._levels
            self._levels = fine.thinned(FINE_STEPS * factor), coarse.thinned(COARSE_STEPS * factor)

    def forget(self) -> None:
        """Drop everything but the last numbers."""
        self._levels = None

    def points(self) -> list[Point]:
        """Return the start and all points, the oldest first: coarse ones, and fine ones as far back as there are."""
        if self._levels is None:
            return [self.last]
        fine, coarse = self._levels
        points = [coarse.start]
        points += (point for point in coarse.points() if point.step < fine.start.step)
        later = [fine.start, *fine.points()]
        return points + later if later[0].numbers != points[-1].numbers else points + later[1:]


class Histories:
    """The histories of all queues, by the IDs of the queues. Their memory is counted in the budget."""

    def __init__(self, limit: int, budget: MemoryBudget) -> None:
        """Make them.

        Args:
            limit: the most bytes of all histories; 0 for no histories.
            budget: counts their memory.
        """
        self._limit = limit
        self._budget = budget
        self._by_queue: dict[str, History] = {}
        self.used = 0
        """The memory of all histories, in bytes."""
        self.factor = 1
        """How many times longer than usual steps are."""
        self.start = 0
        """The step in which recording began; 0 for not yet."""
        self._points_used = 0
        """The part of it that longer steps would reduce, in bytes."""
        self._is_short = False
        """Whether there was no room for a history since the histories were last made to fit."""
        self._refused = 0
        """The last step in which a history was refused or dropped for lack of room."""

    def __len__(self) -> int:
        return len(self._by_queue)

    @property
    def is_on(self) -> bool:
        """Whether histories are recorded."""
        return self._limit > 0

    def is_current(self, queue_id: str, activity: int) -> bool:
        """Return whether the numbers of a queue have not changed since they were recorded."""
        history = self._by_queue.get(queue_id)
        return activity == (0 if history is None else history.activity)

    def begin(self, step: int) -> None:
        """Begin to record, unless it has begun. Queues that are recorded in this step may have older messages."""
        self.start = self.start or step

    def record(self, queue_id: str, created: int, step: int, numbers: Numbers, activity: int) -> None:
        """Record the numbers of a queue.

        Args:
            queue_id: the queue.
            created: the step in which it was created.
            step: the step now.
            numbers: its numbers.
            activity: a number that changes whenever they do.
        """
        history = self._by_queue.get(queue_id)
        if history is None:
            # Half of the memory is for points, so that some queues have a history even if there are very many.
            if 2 * (len(self) + 1) * STILL_BYTES > self._limit or self.used + STILL_BYTES > self._limit:
                self._refused = step
                self._is_short = True
                return
            history = self._by_queue[queue_id] = History(self._beginning(created, step, numbers), activity)
            self._account(STILL_BYTES, 0)
        history.activity = activity
        if numbers == history.last.numbers:
            return
        # The last quarter of the memory is for points, so that a history grows before another one begins.
        if history.is_still and self.used + LEVELS_BYTES > self._limit * 3 // 4:
            history.last = Point(step, numbers)
            self._is_short = True
            return
        with self._counted(history):
            history.add(step, numbers, self.factor)

    def forget(self, queue_id: str) -> None:
        """Drop the history of a deleted queue."""
        history = self._by_queue.pop(queue_id, None)
        if history is not None:
            self._account(-history.size, -history.points_size)

    def expire(self, now: int) -> Iterator[None]:
        """Drop old points of all histories. It pauses after each."""
        for queue_id, history in list(self._by_queue.items()):
            if self._by_queue.get(queue_id) is history:
                with self._counted(history):
                    history.expire(now)
            yield

    def fit(self, now: int) -> Iterator[None]:
        """Make the histories fit into their limit. It pauses after each history."""
        if self.used * 4 < self._limit and self.factor > 1:
            self.factor //= 2
            return
        # Longer steps are of no use if it is the number of histories that takes the memory.
        is_short, self._is_short = self._is_short, False
        while (is_short or self.used > self._limit) and self._is_thinning_useful:
            is_short = False
            self.factor *= 2
            for queue_id, history in list(self._by_queue.items()):
                if self._by_queue.get(queue_id) is history:
                    with self._counted(history):
                        history.thin(self.factor)
                yield
        if self.used <= self._limit:
            return
        self._refused = now
        for queue_id in sorted(self._by_queue, key=lambda queue_id: self._by_queue[queue_id].last.step):
            if self.used <= self._limit:
                return
            self.forget(queue_id)
            yield

    @property
    def _is_thinning_useful(self) -> bool:
        return self.factor < MAX_FACTOR and self._points_used * 4 > self._limit

    def points(self, queue_id: str) -> list[Point]:
        """Return the points of a queue, the oldest first, where the first is the start; none if nothing is recorded."""
        history = self._by_queue.get(queue_id)
        return [] if history is None else history.points()

    def since(self, created: int) -> int:
        """Return since when a queue without points has had its present numbers."""
        return max(created, self.start, self._refused)

    def _beginning(self, created: int, step: int, numbers: Numbers) -> Point:
        """Return the point from which on a queue's numbers are known."""
        if step == self.start or (self._refused and created <= self._refused):
            return Point(step, numbers)
        return Point(max(created, self.start), NOTHING)

    @contextmanager
    def _counted(self, history: History) -> Iterator[None]:
        """Count how much memory a change of a history takes."""
        size, points_size = history.size, history.points_size
        yield
        self._account(history.size - size, history.points_size - points_size)

    def _account(self, size: int, points_size: int) -> None:
        self.used += size
        self._budget.used += size
        self._points_used += points_size


def thinned(points: list[Point], most: int) -> list[Point]:
    """Return at most `most` points, the last of each of equally long steps."""
    every = 1
    while len(points) > most:
        every *= 2
        last = {point.step // every: point for point in points}
        points = list(last.values())
    return points
