"""The queues of a server: looked up by ID or name, created and deleted by calls or by declarations.

`declarations.py` decides what a declaration changes and who may make it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from queuelet.bounds import Bounds
from queuelet.core.alarms import Alarms
from queuelet.core.budget import MemoryBudget
from queuelet.core.declarations import check_removal, definition_after, owner_removed
from queuelet.core.queue import QUEUE_OVERHEAD, Queue
from queuelet.core.removed_owners import RemovedOwners
from queuelet.core.storage import Placement, Store, StoredQueue, StoreState
from queuelet.core.tokens import Tokens
from queuelet.definition import Counts, Owner, QueueDefinition, StoreKind
from queuelet.errors import (
    InvalidArgument,
    QueueExists,
    QueueletError,
    QueueNotFound,
    StoreFailed,
    StoreUnavailable,
    TooMany,
)
from queuelet.ids import new_uuid, parse_uuid, why_not_uuid
from queuelet.tags import Tag
from queuelet.values import DeclareOutcome, QueueDeclaration

STORE_FLAGS = {StoreKind.DISK: "--data-dir", StoreKind.POSTGRES: "--postgres"}
"""The flags that enable the stores that are optional."""


class DeclaredQueue(NamedTuple):
    """The outcome of a declaration, and its queue."""

    outcome: DeclareOutcome
    queue: Queue
    previous_owner: Owner | None = None
    """The previous owner, if the owner or its uid has changed."""


class Manager:
    """The index of queues. Subscribers are notified of new, changed and removed queues."""

    def __init__(  # noqa: PLR0913  # each is a part of its own, and all are named
        self,
        stores: Mapping[StoreKind, Store],
        *,
        bounds: Bounds,
        budget: MemoryBudget,
        tokens: Tokens,
        alarms: Alarms | None = None,
        placement: Placement | None = None,
        now: int = 0,
    ) -> None:
        """Load the queues of all stores.

        Args:
            stores: the stores that are enabled.
            bounds: the limits on the number of queues, tags and waiting calls.
            budget: counts the memory of queues and messages.
            tokens: hands out the tokens of leases and exclusive consumers.
            alarms: the alarms for all queues.
            placement: which store has a queue, if several servers share the queues; `stores` is empty then.
            now: the time, in nanoseconds since 1970.
        """
        self.stores = stores
        self.bounds = bounds
        self.budget = budget
        self.alarms = alarms or Alarms()
        self._tokens = tokens
        self._tokens_of: dict[Store, Tokens] = {}
        """The tokens of the stores that have their own."""
        self._placement = placement
        self._by_id: dict[str, Queue] = {}
        self._by_name: dict[str, Queue] = {}
        self._by_number: dict[int, Queue] = {}
        self._numbers: list[int] = []
        self._next_number = 1
        self._removed_owners = RemovedOwners()
        self._partly_loaded: set[Store] = set()
        self._listeners: list[Callable[[Queue], None]] = []
        for kind in stores:
            self.load(kind, now=now)

    def __len__(self) -> int:
        """Return the number of queues."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Queue]:
        """Iterate over a copy of the current queues, in order of creation."""
        return iter(list(self._by_id.values()))

    @property
    def states(self) -> Mapping[StoreKind, StoreState]:
        """The states of the stores that are enabled."""
        return {self._placement.kind: self._placement} if self._placement else self.stores

    def find(self, reference: str) -> Queue | None:
        """Return the queue with this ID or name, or None. A reference that parses as a UUID is an ID."""
        queue_id = parse_uuid(reference)
        return self._by_id.get(queue_id) if queue_id else self._by_name.get(reference)

    def get(self, reference: str, field: str = "queue_id") -> Queue:
        """Return the queue with this ID or name.

        Raises:
            QueueNotFound: there is no such queue.
            StoreFailed: a store could not be read, and may have the queue.
            ShardMoved: another server may have the queue.
            InvalidArgument: the reference is empty.
        """
        queue = self._by_id.get(reference) or self.find(reference)
        if queue is not None:
            return queue
        _check_given(reference, field)
        self._check_complete(reference)
        if len(reference) > self.bounds.name_length:
            shown = f"{reference[:80]}..."
            raise QueueNotFound(f"there is no queue {shown}", queue=shown, why=why_not_uuid(reference))
        raise QueueNotFound(f"there is no queue {reference}", queue=parse_uuid(reference) or reference)

    def _check_complete(self, reference: str) -> None:
        """Raise `StoreFailed` or `ShardMoved` if an unknown queue may exist.

        A store whose queues could not be read may have it, or a store of another server.
        """
        if self._placement:
            self._placement.check_absent(reference)
            return
        for store in self.stores.values():
            if not store.epoch or store in self._partly_loaded:
                raise StoreFailed(f"there is no such queue in memory, and the others cannot be read: {store.problem}")

    def after(self, number: int, count: int) -> list[Queue]:
        """Return up to `count` queues with larger numbers than this, in order of creation."""
        start = bisect_right(self._numbers, number)
        return [self._by_number[number] for number in self._numbers[start : start + count]]

    def new(self, definition: QueueDefinition, *, now: int, queue_id: str = "") -> Queue:
        """Create a queue from a validated definition.

        Raises:
            QueueExists: another queue has the name or the ID.
            StoreFailed: a store could not be read when the server started, and may have a queue with this name.
            ShardMoved: another server has the shard of the queue.
            StoreUnavailable: this server runs without the store.
            TooMany: the server has the maximum number of queues.
            MemoryExhausted: the memory budget has no room for another queue.
        """
        store = self._store(definition)
        taken = self._by_name.get(definition.name) or self._by_id.get(queue_id)
        if taken:
            raise QueueExists(f"queue {taken.label} already exists", queue=taken.id)
        # The object of an owner has one store for ever, so that its queue is not among those that cannot be read.
        if definition.name and definition.owner is None:
            self._check_complete(definition.name)
        if len(self) >= self.bounds.queues:
            raise TooMany(
                f"the server has {len(self):,} queues, the maximum; delete some, or raise --max-queues",
                queues=len(self),
            )
        self.budget.check(_cost(definition))
        queue_id = queue_id or new_uuid()
        messages = store.new(queue_id, now, definition)
        stored = StoredQueue(queue_id=queue_id, created=now, revision=1, definition=definition, messages=messages)
        queue = self._index(store, stored, now)
        self._notify(queue)
        return queue

    def load(self, kind: StoreKind, *, now: int, store: Store | None = None, tokens: Tokens | None = None) -> None:
        """Load the queues of a store: at the start, and again after the store was reopened.

        A queue that was loaded before keeps its number.

        Args:
            kind: the kind of store.
            now: the time, in nanoseconds since 1970.
            store: which store of this kind, if there are several.
            tokens: hands out the tokens for its queues, if they have their own.

        Raises:
            StoreFailed: the store has failed meanwhile. Calls on its queues fail until they are loaded again.
        """
        store = store or self.stores[kind]
        if tokens:
            self._tokens_of[store] = tokens
        self._partly_loaded.add(store)
        stored = {each.queue_id: each for each in store.queues()}
        for queue in self:
            if queue.store is not store:
                continue
            queue.close(StoreFailed())
            if queue.id not in stored:
                queue.deleted = True
                self._drop_from_index(queue)
                self._notify(queue)
        for each in stored.values():
            self._notify(self._index(store, each, now))
        self._partly_loaded.discard(store)

    def suspend(self, kind: StoreKind, error: QueueletError, *, store: Store | None = None) -> None:
        """Close the queues of a failed store: calls on them fail with this error until the store is loaded again."""
        store = store or self.stores[kind]
        for queue in self:
            if queue.store is store:
                queue.close(error)

    def unload(self, store: Store, error: QueueletError) -> None:
        """Forget the queues of a store that another server gets: calls that wait on them end with this error."""
        for queue in self:
            if queue.store is store:
                queue.close(error)
                queue.has_moved = True
                self._drop_from_index(queue)
                self._notify(queue)
        self._partly_loaded.discard(store)
        self._tokens_of.pop(store, None)

    def _index(self, store: Store, stored: StoredQueue, now: int) -> Queue:
        """Make a queue from its stored form, and add it to the index, in place of an earlier one with its ID.

        It has the number of the earlier one, or the next number.
        """
        earlier = self._by_id.get(stored.queue_id)
        number = earlier.number if earlier else self._next_number
        queue = Queue(
            queue_id=stored.queue_id,
            number=number,
            created=stored.created,
            definition=stored.definition,
            store=store,
            messages=stored.messages,
            budget=self.budget,
            tokens=self._tokens_of.get(store, self._tokens),
            alarms=self.alarms,
            now=now,
            revision=stored.revision,
            max_waiting=self.bounds.waiting,
            max_waiting_per_peer=self.bounds.waiting_per_peer,
        )
        if earlier:
            self.budget.used -= _cost(earlier.definition)
        else:
            self._next_number += 1
            self._numbers.append(number)
        self.budget.used += _cost(queue.definition)
        self._by_id[queue.id] = queue
        self._by_number[number] = queue
        if queue.definition.name:
            self._by_name[queue.definition.name] = queue
        # Once it is in the index, because a store that fails now has its queues closed, which releases their memory.
        if len(stored.messages):
            queue.advance(now)
        return queue

    def delete(self, queue: Queue) -> Counts:
        """Delete a queue with its messages, and return their counts."""
        dropped = queue.delete()
        self._drop_from_index(queue)
        self._notify(queue)
        return dropped

    def redefine(self, queue: Queue, definition: QueueDefinition, *, now: int) -> None:
        """Change the definition of a queue; store and name stay the same.

        Raises:
            MemoryExhausted: the memory budget has no room for additional tags.
        """
        growth = _cost(definition) - _cost(queue.definition)
        if growth > 0:
            self.budget.check(growth)
        queue.redefine(definition, now)
        self.budget.used += growth
        self._notify(queue)

    def tag(self, queue: Queue, tag: Tag, *, now: int) -> None:
        """Add a tag to a queue. Adding a tag that it has does nothing."""
        tags = queue.definition.tags
        if tag in tags:
            return
        if len(tags) >= self.bounds.tags:
            raise InvalidArgument(
                f"tag: queue {queue.label} has {len(tags)} tags, the maximum; remove one first", field="tag"
            )
        self.redefine(queue, replace(queue.definition, tags=(*tags, tag)), now=now)

    def untag(self, queue: Queue, tag: Tag, *, now: int) -> None:
        """Remove a tag from a queue. Removing a tag that it does not have does nothing."""
        tags = queue.definition.tags
        if tag in tags:
            self.redefine(queue, replace(queue.definition, tags=tuple(t for t in tags if t != tag)), now=now)

    def declare(self, declaration: QueueDeclaration, *, now: int) -> DeclaredQueue:
        """Create a queue or change it so that it matches its declaration, as `definition_after` says.

        Raises:
            OwnerRemoved: the queue of the owner's object was removed recently.
            QueueletError: also the errors of `definition_after`, `new` and `redefine`.
        """
        wanted = declaration.definition
        if wanted.owner and self._removed_owners.has(wanted.owner.uid, now):
            raise owner_removed(wanted, wanted.owner)
        queue = self._by_name.get(wanted.name)
        if queue is None:
            return DeclaredQueue(DeclareOutcome.CREATED, self.new(wanted, now=now, queue_id=declaration.queue_id))
        present, wanted = queue.definition, definition_after(queue, declaration)
        if wanted == present:
            return DeclaredQueue(DeclareOutcome.UNCHANGED, queue)
        self.redefine(queue, wanted, now=now)
        previous = present.owner if wanted.owner != present.owner else None
        return DeclaredQueue(DeclareOutcome.UPDATED, queue, previous)

    def remove(self, reference: str, owner: Owner | None, *, now: int) -> Counts | None:
        """Delete a queue if it has this owner, or if no owner is given. Return its counts; None if it did not exist.

        Raises:
            NotOwner: the queue has another owner or none, or its owner's object has a different uid.
            StoreFailed: a store could not be read when the server started, and may have the queue.
            ShardMoved: another server may have the queue.
            InvalidArgument: the reference is empty.
        """
        _check_given(reference, "queue_id")
        queue = self.find(reference)
        if queue is None:
            self._check_complete(reference)
        if queue and owner:
            check_removal(queue, owner)
        if owner and owner.uid:
            self._removed_owners.note(owner.uid, now)
        return self.delete(queue) if queue else None

    def subscribe(self, listener: Callable[[Queue], None]) -> Callable[[], None]:
        """Call `listener` with each queue that is created, changed, deleted or moved. Return a function to end this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def end_waiting(self, error: QueueletError) -> None:
        """End every call that waits on a queue with an error."""
        for queue in self:
            queue.end_waiting(error)

    def _drop_from_index(self, queue: Queue) -> None:
        self.budget.used -= _cost(queue.definition)
        self._by_name.pop(queue.definition.name, None)
        del self._by_id[queue.id]
        del self._by_number[queue.number]
        del self._numbers[bisect_left(self._numbers, queue.number)]

    def commit(self, stores: Iterable[StoreState]) -> Awaitable[None] | None:
        """Return an awaitable for the commit of all changes to queues in these stores; None if all are durable.

        Awaiting it raises `StoreFailed` if it is not known whether a store saved the changes.
        """
        commits = [commit for store in stores if (commit := store.commit()) is not None]
        return _all(commits) if commits else None

    def _store(self, definition: QueueDefinition) -> Store:
        kind = definition.store
        if self._placement:
            if kind is self._placement.kind:
                return self._placement.store_for(definition.name)
            raise StoreUnavailable(
                f"store: {kind.name} is not possible, because several servers share the queues; create the queue with "
                f"store {self._placement.kind.name}",
                store=kind.name,
            )
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
        raise InvalidArgument(f"{field}: give the ID or the name of a queue", field=field)


def _cost(definition: QueueDefinition) -> int:
    return QUEUE_OVERHEAD + sum(len(key) + len(value) for key, value in definition.tags)
