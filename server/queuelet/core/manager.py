"""The queues of a server: found by id or name, made and dropped, by hand or by declaration."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from queuelet.bounds import Bounds
from queuelet.core.alarms import Alarms
from queuelet.core.budget import MemoryBudget
from queuelet.core.queue import QUEUE_OVERHEAD, Queue
from queuelet.core.removed_owners import RemovedOwners
from queuelet.core.storage import Store, StoredQueue
from queuelet.core.tokens import Tokens
from queuelet.definition import Counts, Definition, Owner, StoreKind
from queuelet.errors import (
    InvalidArgument,
    NotOwner,
    OwnerRemoved,
    QueueExists,
    QueueletError,
    QueueNotFound,
    StoreFailed,
    StoreMismatch,
    StoreUnavailable,
    TooMany,
)
from queuelet.ids import new_uuid, parse_uuid, why_not_uuid
from queuelet.tags import Tag

STORE_FLAGS = {StoreKind.DISK: "--data-dir"}
"""The flag that turns on each store that is not always there."""


class Outcome(Enum):
    """What a declaration led to."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """What a queue should be, by name."""

    definition: Definition
    queue_id: str = ""
    """The id to create it with, in canonical form; empty to have one made. An existing queue keeps its own."""

    adopt: bool = False
    """Whether to take over a queue of another owner."""


class Declared(NamedTuple):
    """What became of a declaration."""

    outcome: Outcome
    queue: Queue
    previous_owner: Owner | None = None
    """The owner before, where the owner or its uid changed."""


class Manager:
    """Index of queues. Whoever wants to know of new, changed and removed ones subscribes."""

    def __init__(  # noqa: PLR0913  # each is a part of its own, and all are named
        self,
        stores: Mapping[StoreKind, Store],
        *,
        bounds: Bounds,
        budget: MemoryBudget,
        tokens: Tokens,
        alarms: Alarms | None = None,
        now: int = 0,
    ) -> None:
        """Take the stores this server runs with, the bounds it holds to, and up the queues that the stores hold."""
        self.stores = stores
        self.bounds = bounds
        self.budget = budget
        self.alarms = alarms or Alarms()
        self._tokens = tokens
        self._by_id: dict[str, Queue] = {}
        self._by_name: dict[str, Queue] = {}
        self._by_number: dict[int, Queue] = {}
        self._numbers: list[int] = []
        self._next_number = 1
        self._removed_owners = RemovedOwners()
        self._listeners: list[Callable[[Queue], None]] = []
        for kind in stores:
            self.load(kind, now=now)

    def __len__(self) -> int:
        """Return how many queues there are."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Queue]:
        """Go through the queues as they are now, in order of creation."""
        return iter(list(self._by_id.values()))

    def find(self, reference: str) -> Queue | None:
        """Return the queue of this id or name: what parses as a UUID is an id, anything else a name."""
        queue_id = parse_uuid(reference)
        return self._by_id.get(queue_id) if queue_id else self._by_name.get(reference)

    def get(self, reference: str, field: str = "queue_id") -> Queue:
        """Return the queue of this id or name.

        Raises:
            QueueNotFound: there is none.
            InvalidArgument: the reference is empty.
        """
        queue = self._by_id.get(reference) or self.find(reference)
        if queue is not None:
            return queue
        _check_given(reference, field)
        if len(reference) > self.bounds.name_length:
            shown = f"{reference[:80]}..."
            raise QueueNotFound(f"there is no queue {shown}", queue=shown, why=why_not_uuid(reference))
        raise QueueNotFound(f"there is no queue {reference}", queue=parse_uuid(reference) or reference)

    def after(self, number: int, count: int) -> list[Queue]:
        """Return up to `count` queues in order of creation, past the one of this number, which need not be there."""
        start = bisect_right(self._numbers, number)
        return [self._by_number[number] for number in self._numbers[start : start + count]]

    def new(self, definition: Definition, *, now: int, queue_id: str = "") -> Queue:
        """Make a queue of a checked definition.

        Raises:
            QueueExists: the name or the id is taken.
            StoreUnavailable: this server runs without the store.
            TooMany: there are as many queues as there may be.
            MemoryExhausted: there is no memory for another.
        """
        store = self._store(definition.store)
        taken = self._by_name.get(definition.name) or self._by_id.get(queue_id)
        if taken:
            raise QueueExists(f"there is a queue {taken.label} already", queue=taken.id)
        if len(self) >= self.bounds.queues:
            raise TooMany(
                f"the server has {len(self):,} queues, the most it may have: delete some, or raise --max-queues",
                queues=len(self),
            )
        self.budget.check(_cost(definition))
        queue_id = queue_id or new_uuid()
        messages = store.new(queue_id, now, definition)
        stored = StoredQueue(queue_id=queue_id, created=now, revision=1, definition=definition, messages=messages)
        queue = self._take_up(store, stored, self._next_number, now)
        self._next_number += 1
        self._numbers.append(queue.number)
        self._notify(queue)
        return queue

    def load(self, kind: StoreKind, *, now: int) -> None:
        """Take up the queues that a store holds: at the start, and again after the store was opened anew.

        A queue that was there before keeps its number.
        """
        store = self.stores[kind]
        before = {queue.id: queue for queue in self if queue.store is store}
        stored = {each.queue_id: each for each in store.queues()}
        for queue in before.values():
            queue.close(StoreFailed())
            self.budget.used -= _cost(queue.definition)
            self._by_name.pop(queue.definition.name, None)
            if queue.id not in stored:
                queue.deleted = True
                self._drop_from_index(queue)
                self._notify(queue)
        for each in stored.values():
            known = before.get(each.queue_id)
            number = known.number if known else self._next_number
            queue = self._take_up(store, each, number, now)
            if known is None:
                self._next_number += 1
                self._numbers.append(number)
            self._notify(queue)

    def suspend(self, kind: StoreKind, error: QueueletError) -> None:
        """Refuse whoever waits on queues of a store that has failed, and every call until it is loaded again."""
        for queue in self:
            if queue.store is self.stores[kind]:
                queue.close(error)

    def _take_up(self, store: Store, stored: StoredQueue, number: int, now: int) -> Queue:
        """Make a queue of what its store holds, and index it."""
        queue = Queue(
            queue_id=stored.queue_id,
            number=number,
            created=stored.created,
            definition=stored.definition,
            store=store,
            messages=stored.messages,
            budget=self.budget,
            tokens=self._tokens,
            alarms=self.alarms,
            now=now,
            revision=stored.revision,
            max_waiting=self.bounds.waiting,
            max_waiting_per_peer=self.bounds.waiting_per_peer,
        )
        self.budget.used += _cost(queue.definition)
        self._by_id[queue.id] = queue
        self._by_number[number] = queue
        if queue.definition.name:
            self._by_name[queue.definition.name] = queue
        return queue

    def delete(self, queue: Queue) -> Counts:
        """Drop a queue; return what was dropped with it."""
        dropped = queue.delete()
        self._by_name.pop(queue.definition.name, None)
        self._drop_from_index(queue)
        self.budget.used -= _cost(queue.definition)
        self._notify(queue)
        return dropped

    def redefine(self, queue: Queue, definition: Definition, *, now: int) -> None:
        """Give a queue another definition, of the same store and name.

        Raises:
            MemoryExhausted: there is no memory for the new one.
        """
        growth = _cost(definition) - _cost(queue.definition)
        if growth > 0:
            self.budget.check(growth)
        queue.redefine(definition, now)
        self.budget.used += growth
        self._notify(queue)

    def tag(self, queue: Queue, tag: Tag, *, now: int) -> None:
        """Add a tag to a queue; one that is there changes nothing."""
        tags = queue.definition.tags
        if tag in tags:
            return
        if len(tags) >= self.bounds.tags:
            raise InvalidArgument(
                f"tag: queue {queue.label} has {len(tags)} tags, the most it may have; take one away first", field="tag"
            )
        self.redefine(queue, replace(queue.definition, tags=(*tags, tag)), now=now)

    def untag(self, queue: Queue, tag: Tag, *, now: int) -> None:
        """Take a tag from a queue; one that is not there changes nothing."""
        tags = queue.definition.tags
        if tag in tags:
            self.redefine(queue, replace(queue.definition, tags=tuple(t for t in tags if t != tag)), now=now)

    def declare(self, declaration: Declaration, *, now: int) -> Declared:
        """Make a queue what its declaration says.

        A declaration without an owner leaves the owner as it is. The order of tags does not matter.

        Raises:
            NotOwner: the queue has another owner, or none, and the declaration does not adopt.
            OwnerRemoved: the queue of the owner's object was removed a short time ago.
            StoreMismatch: the queue lives in another store.
            and what `new` and `redefine` raise.
        """
        wanted = declaration.definition
        queue = self._by_name.get(wanted.name)
        if wanted.owner and self._removed_owners.has(wanted.owner.uid, now):
            raise OwnerRemoved(
                f"queue {wanted.name} was removed for {wanted.owner.name}, uid {wanted.owner.uid}: "
                "declare it for an object that is there, or again in a minute",
                uid=wanted.owner.uid,
            )
        if queue is None:
            return Declared(Outcome.CREATED, self.new(wanted, now=now, queue_id=declaration.queue_id))
        present = queue.definition
        if wanted.owner and not declaration.adopt and not (present.owner and present.owner.may_be(wanted.owner)):
            raise _not_owner(queue, wanted.owner, "set adopt to take it over")
        if wanted.store != present.store:
            raise StoreMismatch(
                f"queue {queue.label} is in store {present.store.name} and cannot move to {wanted.store.name}: "
                "delete it first, or give the new one another name",
                queue=queue.id,
                store=present.store.name,
            )
        if set(wanted.tags) == set(present.tags):
            wanted = replace(wanted, tags=present.tags)
        wanted = replace(wanted, owner=_owner_after(present.owner, wanted.owner))
        if wanted == present:
            return Declared(Outcome.UNCHANGED, queue)
        self.redefine(queue, wanted, now=now)
        previous = present.owner if wanted.owner != present.owner else None
        return Declared(Outcome.UPDATED, queue, previous)

    def remove(self, reference: str, owner: Owner | None, *, now: int) -> Counts | None:
        """Drop a queue if the owner is its own, or none is given; return what was dropped, None if there was none.

        Raises:
            NotOwner: the queue has another owner, or none, or its owner's object has another uid by now.
            InvalidArgument: the reference is empty.
        """
        _check_given(reference, "queue_id")
        queue = self.find(reference)
        if queue and owner:
            present = queue.definition.owner
            same_object = present and (not owner.uid or not present.uid or owner.uid == present.uid)
            if not present or not present.may_be(owner) or not same_object:
                raise _not_owner(queue, owner, "leave out the owner to remove it all the same")
        if owner and owner.uid:
            self._removed_owners.note(owner.uid, now)
        return self.delete(queue) if queue else None

    def subscribe(self, listener: Callable[[Queue], None]) -> Callable[[], None]:
        """Have `listener` called with each queue made, redefined or deleted; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def end_waiting(self, error: QueueletError) -> None:
        """Refuse every call that waits on a queue."""
        for queue in self:
            queue.end_waiting(error)

    def _drop_from_index(self, queue: Queue) -> None:
        del self._by_id[queue.id]
        del self._by_number[queue.number]
        del self._numbers[bisect_left(self._numbers, queue.number)]

    def commit(self) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes to queues, in every store; None if all are durable.

        Awaiting it raises `StoreFailed` if a store cannot say what became of the changes.
        """
        commits = [commit for store in self.stores.values() if (commit := store.commit()) is not None]
        return _all(commits) if commits else None

    def _store(self, kind: StoreKind) -> Store:
        store = self.stores.get(kind)
        if store is None:
            raise StoreUnavailable(
                f"store: this server runs without {kind.name}; it needs the flag {STORE_FLAGS[kind]}", store=kind.name
            )
        return store

    def _notify(self, queue: Queue) -> None:
        for listener in list(self._listeners):
            listener(queue)


async def _all(commits: Sequence[Awaitable[None]]) -> None:
    for commit in commits:
        await commit


def _check_given(reference: str, field: str) -> None:
    if not reference:
        raise InvalidArgument(f"{field}: give the id or the name of a queue", field=field)


def _owner_after(present: Owner | None, declared: Owner | None) -> Owner | None:
    """Return the owner after a declaration. One that does not know its namespace's uid leaves what is known."""
    if present and declared and present.name == declared.name and not declared.namespace_uid:
        return replace(declared, namespace_uid=present.namespace_uid)
    return declared or present


def _cost(definition: Definition) -> int:
    return QUEUE_OVERHEAD + sum(len(key) + len(value) for key, value in definition.tags)


def _not_owner(queue: Queue, owner: Owner, remedy: str) -> NotOwner:
    present = queue.definition.owner
    return NotOwner(
        f"queue {queue.label} belongs to {_described(present)}, not to {_described(owner)}: {remedy}",
        queue=queue.id,
        owner=present.name if present else "",
        uid=present.uid if present else "",
    )


def _described(owner: Owner | None) -> str:
    if owner is None:
        return "nobody"
    return f"{owner.name} of namespace {owner.namespace_uid}" if owner.namespace_uid else owner.name
