"""The server's state as the operator observed it: its queues, its stores, and whether it can be reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from queuelet.definition import Counts, Durability, StoreKind
from queuelet.errors import StoreFailed, StoreFull
from queuelet.values import Queue, StoreState
from queuelet_operator.packed_tags import PackedTags
from queuelet_operator.plan.declared import Declared


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedQueue:
    """A queue as the server last reported it."""

    id: str
    definition: Declared
    revision: int
    counts: Counts
    epoch: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreProblem:
    """A store of the server that is full or has failed."""

    is_full: bool
    """True if the store is full: messages cannot be added. False if it failed: every call is refused."""

    message: str
    is_database: bool = False
    """Whether it is a store in a database, which can write nothing at all while it is full."""

    was_opened: bool = True
    """False if it is a database that the server has never reached since it started."""

    since: float
    """When the operator first observed the problem, in seconds by `queuelet.clock`."""

    message_since: float = 0.0
    """When the message last changed, in seconds by `queuelet.clock`."""

    @property
    def blocks_calls(self) -> bool:
        """Whether no call on the store's queues can succeed."""
        return self.is_database or not self.is_full


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """The state of the connection to the server, and of the server's stores."""

    epochs: Mapping[StoreKind, str] | None = None
    """The epoch of each store that the server runs with; None while it is unreachable."""

    problems: Mapping[StoreKind, StoreProblem] = field(default_factory=dict)
    """The stores that are full or have failed."""

    durabilities: Mapping[StoreKind, Durability] = field(default_factory=dict)
    """What committed changes survive in each store that works, unless the server is too old to report it."""

    away_since: float = 0.0
    """When the server became unreachable, in seconds by `queuelet.clock`."""

    why_away: str = ""
    """Why the server is unreachable; empty before the first attempt to connect."""

    why_lately: str = ""
    """The error of the latest attempts if it differs from `why_away`, which it replaces after a while."""

    lately_since: float = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the server is unreachable."""
        return self.epochs is None


MESSAGE_LASTS = 60.0
"""Seconds for which a store's problem keeps its message, because each change of it costs one write per Queue."""


def server_away(why: str, before: Server, now: float, *, lasts: float) -> Server:
    """Return the state of a server after an attempt to reach it failed because of `why`.

    A new reason replaces the old one only after it has lasted for `lasts` seconds, because each change of it costs one
    write per Queue.
    """
    if not before.is_away or not before.why_away:
        return Server(away_since=now if not before.is_away else before.away_since, why_away=why)
    if why == before.why_away:
        return replace(before, why_lately="", lately_since=0.0)
    if why != before.why_lately:
        return replace(before, why_lately=why, lately_since=now)
    if now < before.lately_since + lasts:
        return before
    return Server(away_since=before.away_since, why_away=why)


def server_with(stores: Iterable[StoreState], before: Server, now: float) -> Server:
    """Return the state of a server that reported these stores. A problem that continues keeps its start time."""
    epochs: dict[StoreKind, str] = {}
    problems: dict[StoreKind, StoreProblem] = {}
    durabilities: dict[StoreKind, Durability] = {}
    for each in stores:
        epochs[each.store] = each.epoch
        if each.problem:
            # A reason of a later server version counts as a failed store, because then the operator tries nothing.
            is_full = each.reason == StoreFull.reason
            # A database has no epoch before the server has read it. A file without one is damaged.
            is_database = each.store is StoreKind.POSTGRES
            problem = StoreProblem(
                is_full=is_full,
                message=each.problem,
                is_database=is_database,
                was_opened=bool(each.epoch) or not is_database,
                since=now,
                message_since=now,
            )
            problems[each.store] = _continued(problem, before.problems.get(each.store))
        if each.durability and each.reason != StoreFailed.reason:
            durabilities[each.store] = each.durability
    return Server(epochs=epochs, problems=problems, durabilities=durabilities)


def _continued(problem: StoreProblem, old: StoreProblem | None) -> StoreProblem:
    """Return a problem with the start of the old one if that continues, and with its message for a while."""
    if old is None or (old.is_full, old.was_opened) != (problem.is_full, problem.was_opened):
        return problem
    if problem.message == old.message or problem.since < old.message_since + MESSAGE_LASTS:
        return old
    return replace(problem, since=old.since)


def observed_queue(queue: Queue) -> ObservedQueue:
    """Return what the operator stores of a queue that the server reported."""
    return ObservedQueue(
        id=queue.id,
        definition=Declared(
            store=queue.store,
            name=queue.name,
            limit=queue.limit,
            tags=PackedTags(queue.tags),
            owner=queue.owner,
            delivery=queue.delivery,
            draining=queue.draining,
        ),
        revision=queue.revision,
        counts=queue.messages,
        epoch=queue.epoch,
    )
