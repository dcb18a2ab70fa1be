"""Queue objects of Kubernetes, reduced to what the console shows: their generation and their conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

MAX_OBJECTS = 20_000
"""The most objects that a console keeps."""

MAX_CONDITIONS = 8
"""The most conditions of an object; our operator writes three."""

MAX_TEXT = 1_024
"""The most characters of a reason or of a message. The definition of Queue allows 32,768."""

UNSEEN = -1
"""The observedGeneration of an object that no operator has handled yet."""


class Condition(NamedTuple):
    """A condition of an object, in the order in which browsers get it."""

    type: str
    status: str
    """True, False or Unknown."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueObject:
    """A Queue object."""

    namespace: str
    name: str
    generation: int
    observed: int
    """The generation that the conditions describe; `UNSEEN` before the first."""
    since: int
    """Since when Ready is not True, in milliseconds since 1970; 0 if it is True, or if that is not known."""
    is_deleting: bool
    conditions: tuple[Condition, ...]

    @property
    def queue_name(self) -> str:
        """The name of its queue on the server. A namespace has no dot, so the first one ends it."""
        return f"{self.namespace}.{self.name}"


def queue_object_of(body: Mapping[str, Any]) -> QueueObject:
    """Return the object in JSON that the API server has validated.

    Raises:
        KeyError, TypeError, ValueError: it is not an object of Kubernetes.
    """
    meta = body["metadata"]
    status = body.get("status") or {}
    conditions = (status.get("conditions") or [])[:MAX_CONDITIONS]
    ready: Mapping[str, Any] = next((each for each in conditions if each["type"] == "Ready"), {})
    # The first conditions are those of the definition, which are older than the object.
    began = (ready.get("lastTransitionTime"), meta.get("creationTimestamp"))
    return QueueObject(
        namespace=meta["namespace"],
        name=meta["name"],
        generation=int(meta.get("generation", 1)),
        observed=int(status.get("observedGeneration", UNSEEN)),
        since=0 if ready.get("status") == "True" else max(_milliseconds(each) for each in began),
        is_deleting=bool(meta.get("deletionTimestamp")),
        conditions=tuple(
            Condition(
                type=each["type"],
                status=each["status"],
                reason=_cut(each.get("reason", "")),
                message=_cut(each.get("message", "")),
            )
            for each in conditions
        ),
    )


def class_of(body: Mapping[str, Any]) -> str:
    """Return the queue class of an object in JSON."""
    return str((body.get("spec") or {}).get("queueClassName", "default"))


class ObjectTable:
    """The objects that are known, up to a number. More are left out until some are gone and all are listed again."""

    def __init__(self, most: int = MAX_OBJECTS) -> None:
        self._most = most
        self._objects: dict[str, QueueObject] = {}
        self.is_cut = False
        """Whether objects were left out."""

    def __iter__(self) -> Iterator[QueueObject]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, each: QueueObject) -> bool:
        """Add or replace an object. Return whether that changed anything."""
        before = self._objects.get(each.queue_name)
        if before == each:
            return False
        if before is None and len(self._objects) >= self._most:
            self.is_cut = True
            return False
        self._objects[each.queue_name] = each
        return True

    def remove(self, queue_name: str) -> bool:
        """Remove an object. Return whether it was known."""
        return self._objects.pop(queue_name, None) is not None

    def names(self, namespace: str) -> list[str]:
        """Return the names of the queues of all objects in a namespace; of all if it is empty."""
        return [each.queue_name for each in self if namespace in {"", each.namespace}]

    def clear(self) -> None:
        """Forget all objects."""
        self._objects.clear()
        self.is_cut = False


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _milliseconds(timestamp: str | None) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp() * 1000) if timestamp else 0
