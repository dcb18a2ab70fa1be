"""The definitions and numbers of all queues, packed so that the same bytes serve every browser.

A browser reads a snapshot once, which has a list for each column, and then frames, which have only what has changed. A
queue keeps its row, which is its index in the columns, as long as the board exists. Queue objects of Kubernetes are
known by the name of their queue, and the browser joins them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from queuelet.console.queue_objects import QueueObject

LOG_BYTES = 8 * 1024 * 1024
"""The most bytes of frames that are kept for browsers that are behind."""

LOG_FRAMES = 60
"""The most frames that are kept."""


class Numbers(NamedTuple):
    """The numbers of a queue, in the order in which frames have them."""

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0
    added: int = 0
    """The number of messages that were ever added."""
    removed: int = 0
    """The number of messages that were ever popped or acknowledged."""
    oldest: int = 0
    """When the first ready message was added, in milliseconds since 1970; 0 if none is ready."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a queue, as browsers get it."""

    id: str
    name: str
    tags: tuple[str, ...]
    """The tags, each as `key=value`."""
    store: str
    limit: int
    owner: str
    draining: bool
    created: int
    """When the queue was created, in milliseconds since 1970."""


class Frame(NamedTuple):
    """One event of the stream."""

    number: int
    data: bytes


class Board:
    """The rows of all queues, and the frames that report their changes."""

    def __init__(self, board_id: str) -> None:
        """Make an empty board. Browsers see by its ID that the rows of an earlier board are not valid here."""
        self.id = board_id
        self.number = 0
        """The number of the newest frame."""
        self._definitions: list[Definition | None] = []
        self._numbers: list[Numbers] = []
        self._rows: dict[str, int] = {}
        self._stores: Sequence[Mapping[str, Any]] = ()
        self._server: Mapping[str, Any] = {}
        self._kubernetes: Mapping[str, Any] | None = None
        self._objects: dict[str, QueueObject] = {}
        self._objects_changed: set[str] = set()
        self._counted: set[int] = set()
        self._defined: set[int] = set()
        self._gone: list[int] = []
        self._is_new = {"stores": False, "server": False, "kubernetes": False}
        self._log: deque[Frame] = deque()
        self._log_bytes = 0

    def __len__(self) -> int:
        """Return the number of queues."""
        return len(self._rows)

    @property
    def is_sparse(self) -> bool:
        """Whether so many queues were deleted that a new board would be much smaller."""
        return len(self._definitions) > 2 * len(self._rows) + 1_000

    @property
    def has_changes(self) -> bool:
        """Whether something has changed since the newest frame."""
        changes = self._counted or self._defined or self._gone or self._objects_changed
        return bool(changes or any(self._is_new.values()))

    def define(self, definition: Definition) -> None:
        """Add a queue, or replace its definition."""
        row = self._rows.get(definition.id)
        if row is None:
            row = self._rows[definition.id] = len(self._definitions)
            self._definitions.append(definition)
            self._numbers.append(Numbers())
        elif self._definitions[row] == definition:
            return
        self._definitions[row] = definition
        self._defined.add(row)

    def count(self, queue_id: str, numbers: Numbers) -> None:
        """Replace the numbers of a queue."""
        row = self._rows.get(queue_id)
        if row is not None and self._numbers[row] != numbers:
            self._numbers[row] = numbers
            self._counted.add(row)

    def numbers(self, queue_id: str) -> Numbers:
        """Return the numbers of a queue; zeros if it is not known."""
        row = self._rows.get(queue_id)
        return Numbers() if row is None else self._numbers[row]

    def remove(self, queue_id: str) -> None:
        """Remove a queue. Its row is not used again."""
        row = self._rows.pop(queue_id, None)
        if row is not None:
            self._definitions[row] = None
            self._counted.discard(row)
            self._defined.discard(row)
            self._gone.append(row)

    def set_stores(self, stores: Sequence[Mapping[str, Any]]) -> None:
        """Replace the stores, with their epochs and problems."""
        self._set("stores", stores)

    def set_server(self, server: Mapping[str, Any]) -> None:
        """Replace the facts of the server."""
        self._set("server", server)

    def set_kubernetes(self, facts: Mapping[str, Any]) -> None:
        """Replace the facts of the watch of Queue objects. Without any, the server reads no objects."""
        self._set("kubernetes", facts)

    def set_object(self, queue_name: str, each: QueueObject | None) -> None:
        """Replace the object of a queue, which there may be without the queue; None if there is none any more."""
        if each:
            self._objects[queue_name] = each
        else:
            self._objects.pop(queue_name, None)
        self._objects_changed.add(queue_name)

    def _set(self, part: str, value: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> None:
        if value != getattr(self, f"_{part}"):
            setattr(self, f"_{part}", value)
            self._is_new[part] = True

    def frame(self, at: int) -> bytes:
        """Return the next frame, with all changes since the previous one.

        If there are none, it has only the time, and is not kept for others.

        Args:
            at: the time, in milliseconds since 1970.
        """
        if not self.has_changes:
            return self._event({"at": at})
        data: dict[str, Any] = {"at": at}
        if self._is_new["stores"]:
            data["stores"] = self._stores
        if self._is_new["server"]:
            data["server"] = self._server
        if self._is_new["kubernetes"]:
            data["kubernetes"] = self._kubernetes
        if self._objects_changed:
            data["objects"] = [_object_columns(name, self._objects.get(name)) for name in sorted(self._objects_changed)]
        if self._gone:
            data["gone"] = self._gone
        if self._defined:
            data["queues"] = [[row, *_columns(self._definitions[row])] for row in sorted(self._defined)]
        if self._counted:
            data["counts"] = [[row, *self._numbers[row]] for row in sorted(self._counted)]
        self.number += 1
        event = self._event(data)
        self._counted, self._defined, self._gone, self._objects_changed = set(), set(), [], set()
        self._is_new = dict.fromkeys(self._is_new, False)
        self._keep(Frame(self.number, event))
        return event

    def frames_after(self, number: int) -> bytes | None:
        """Return all frames after this number, or None if they are no longer known or never were."""
        if number > self.number:
            return None
        missing = self.number - number
        if missing > len(self._log):
            return None
        return b"".join(frame.data for frame in list(self._log)[len(self._log) - missing :]) if missing else b""

    def snapshot(self, at: int) -> bytes:
        """Return everything up to the newest frame, as JSON with a list for each column.

        Args:
            at: the time, in milliseconds since 1970.
        """
        present = [(row, each) for row, each in enumerate(self._definitions) if each is not None]
        numbers = [self._numbers[row] for row, _ in present]
        return _json(
            {
                "board": self.id,
                "number": self.number,
                "at": at,
                "stores": self._stores,
                "server": self._server,
                "kubernetes": self._kubernetes,
                "objects": _packed(list(self._objects.values())),
                "row": [row for row, _ in present],
                **dict(zip(DEFINED, _transposed([_columns(each) for _, each in present], len(DEFINED)), strict=True)),
                **dict(zip(Numbers._fields, _transposed(numbers, len(Numbers._fields)), strict=True)),
            }
        )

    def _event(self, data: Mapping[str, Any]) -> bytes:
        return b"id: %d\ndata: %s\n\n" % (self.number, _json(data))

    def _keep(self, frame: Frame) -> None:
        self._log.append(frame)
        self._log_bytes += len(frame.data)
        while len(self._log) > LOG_FRAMES or self._log_bytes > LOG_BYTES:
            self._log_bytes -= len(self._log.popleft().data)


DEFINED = ("id", "name", "tags", "store", "limit", "owner", "draining", "created")
"""The columns of a definition, in the order in which frames have them."""


def _columns(definition: Definition | None) -> list[Any]:
    """Return the values of the columns. The ID is left out if there is a name, because 10,000 IDs are 200 KB."""
    values = [getattr(definition, column) for column in DEFINED]
    if definition and definition.name:
        values[0] = ""
    return values


OBJECT = ("name", "generation", "observed", "since", "deleting", "conditions")
"""The columns of an object, in the order in which frames have them."""


def _object_columns(queue_name: str, each: QueueObject | None) -> list[Any]:
    """Return the values of the columns: only the name if there is no such object any more."""
    if each is None:
        return [queue_name]
    return [queue_name, each.generation, each.observed, each.since, each.is_deleting, each.conditions]


def _packed(objects: Sequence[QueueObject]) -> dict[str, Any]:
    """Return objects with a list for each column. Conditions are indices, because most objects have the same ones."""
    states: dict[Any, int] = {}
    rows = [_object_columns(each.queue_name, each) for each in objects]
    for row in rows:
        row[-1] = states.setdefault(row[-1], len(states))
    return {"states": list(states), **dict(zip(OBJECT, _transposed(rows, len(OBJECT)), strict=True))}


def _transposed(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
