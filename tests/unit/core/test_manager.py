"""The index of queues: lookup by ID and name, creation by calls or by declarations, and owners."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from queuelet.bounds import Bounds
from queuelet.core.budget import MemoryBudget
from queuelet.core.manager import Manager
from queuelet.core.removed_owners import MAX_REMOVALS, RETENTION_NS, RemovedOwners
from queuelet.core.tokens import Tokens
from queuelet.definition import Counts, Owner, QueueDefinition, StoreKind
from queuelet.errors import (
    InvalidArgument,
    MemoryExhausted,
    NotOwner,
    OwnerRemoved,
    QueueExists,
    QueueNotFound,
    StoreMismatch,
    StoreUnavailable,
    TooMany,
)
from queuelet.stores.memory import MemoryStore
from queuelet.tags import Tag
from queuelet.values import DeclareOutcome, QueueDeclaration
from support.queues import PLENTY, make_manager

OURS = Owner(name="main/shop/orders", uid="1")
THEIRS = Owner(name="other/shop/orders", uid="9")


@pytest.fixture
def manager() -> Manager:
    """A manager without queues."""
    return make_manager()


def declare(manager: Manager, definition: QueueDefinition, *, adopt: bool = False) -> DeclareOutcome:
    """Declare a queue and return the outcome."""
    return manager.declare(QueueDeclaration(definition=definition, adopt=adopt), now=1).outcome


def test_a_queue_is_found_by_id_in_any_case_and_by_name(manager: Manager) -> None:
    queue = manager.new(QueueDefinition(name="orders"), now=1)
    assert manager.get(queue.id) is manager.get(queue.id.upper()) is manager.get("orders") is queue


def test_an_unknown_queue_is_not_found_and_an_empty_reference_is_bad(manager: Manager) -> None:
    with pytest.raises(QueueNotFound, match="no queue orders"):
        manager.get("orders")
    with pytest.raises(InvalidArgument, match="queue_id: give the ID or the name"):
        manager.get("")


def test_names_and_ids_are_unique(manager: Manager) -> None:
    queue = manager.new(QueueDefinition(name="orders"), now=1)
    with pytest.raises(QueueExists, match="orders"):
        manager.new(QueueDefinition(name="orders"), now=1)
    with pytest.raises(QueueExists):
        manager.new(QueueDefinition(name="other"), now=1, queue_id=queue.id)


def test_there_may_be_many_queues_without_a_name(manager: Manager) -> None:
    assert len({manager.new(QueueDefinition(), now=1).id for _ in range(3)}) == 3


def test_a_deleted_queue_is_gone_and_its_name_is_free(manager: Manager) -> None:
    before = manager.budget.used
    queue = manager.new(QueueDefinition(name="orders", tags=(Tag("a", "b"),)), now=1)
    assert manager.budget.used > before
    assert manager.delete(queue) == Counts()
    assert manager.budget.used == before
    assert manager.find("orders") is manager.find(queue.id) is None
    assert manager.new(QueueDefinition(name="orders"), now=1) is manager.get("orders")


def test_queues_are_listed_in_order_of_creation_page_by_page(manager: Manager) -> None:
    queues = [manager.new(QueueDefinition(name=name), now=1) for name in "edcba"]
    manager.delete(queues[1])
    first = manager.after(0, 2)
    assert [queue.label for queue in first] == ["e", "c"]
    manager.delete(queues[2])
    assert [queue.label for queue in manager.after(first[-1].number, 10)] == ["b", "a"]


def test_the_number_of_queues_and_their_memory_are_bounded() -> None:
    few = make_manager(bounds=Bounds(queues=2))
    few.new(QueueDefinition(), now=1)
    few.new(QueueDefinition(), now=1)
    with pytest.raises(TooMany, match="--max-queues"):
        few.new(QueueDefinition(), now=1)
    with pytest.raises(MemoryExhausted):
        make_manager(watermark=100).new(QueueDefinition(), now=1)


def test_a_store_the_server_runs_without_is_refused_and_the_flag_named(manager: Manager) -> None:
    with pytest.raises(StoreUnavailable, match="DISK; it needs the flag --data-dir"):
        manager.new(QueueDefinition(store=StoreKind.DISK), now=1)


def test_tags_come_and_go_and_only_changes_raise_the_revision(manager: Manager) -> None:
    queue = manager.new(QueueDefinition(), now=1)
    manager.tag(queue, Tag("team", "a"), now=1)
    manager.tag(queue, Tag("team", "a"), now=1)
    manager.tag(queue, Tag("team", "b"), now=1)
    assert queue.revision == 3
    manager.untag(queue, Tag("team", "a"), now=1)
    manager.untag(queue, Tag("never", "there"), now=1)
    assert queue.definition.tags == (Tag("team", "b"),)
    assert queue.revision == 4


def test_tags_of_a_queue_are_bounded() -> None:
    manager = make_manager(bounds=Bounds(tags=1))
    queue = manager.new(QueueDefinition(tags=(Tag("a", "b"),)), now=1)
    with pytest.raises(InvalidArgument, match="tag: "):
        manager.tag(queue, Tag("c", "d"), now=1)


def test_a_declaration_creates_then_changes_then_leaves_alone(manager: Manager) -> None:
    wanted = QueueDefinition(name="orders", limit=5, tags=(Tag("a", "1"), Tag("b", "2")))
    assert declare(manager, wanted) is DeclareOutcome.CREATED
    assert declare(manager, wanted) is DeclareOutcome.UNCHANGED
    assert declare(manager, replace(wanted, tags=wanted.tags[::-1])) is DeclareOutcome.UNCHANGED
    assert declare(manager, replace(wanted, limit=6, draining=True)) is DeclareOutcome.UPDATED
    assert manager.get("orders").definition.limit == 6
    assert manager.get("orders").revision == 2


def test_a_declaration_may_carry_the_id_to_create_with_and_a_queue_keeps_its_own(manager: Manager) -> None:
    queue_id = "6f9c0000-1111-4222-8333-444455556666"
    declared = manager.declare(QueueDeclaration(definition=QueueDefinition(name="orders"), queue_id=queue_id), now=1)
    assert declared.queue.id == queue_id
    other = queue_id.replace("6666", "7777")
    again = manager.declare(QueueDeclaration(definition=QueueDefinition(name="orders"), queue_id=other), now=1)
    assert again.outcome is DeclareOutcome.UNCHANGED
    assert again.queue.id == queue_id


def test_a_queue_of_another_owner_is_refused_until_adopted(manager: Manager) -> None:
    theirs = QueueDefinition(name="orders", owner=THEIRS)
    ours = QueueDefinition(name="orders", owner=OURS)
    declare(manager, theirs)
    with pytest.raises(NotOwner, match="belongs to other/shop/orders, not to main/shop/orders; set adopt"):
        declare(manager, ours)
    adopted = manager.declare(QueueDeclaration(definition=ours, adopt=True), now=1)
    assert (adopted.outcome, adopted.previous_owner) == (DeclareOutcome.UPDATED, THEIRS)
    assert declare(manager, ours) is DeclareOutcome.UNCHANGED


def test_a_queue_made_by_hand_is_adopted_too(manager: Manager) -> None:
    manager.new(QueueDefinition(name="orders"), now=1)
    with pytest.raises(NotOwner, match="belongs to no owner"):
        declare(manager, QueueDefinition(name="orders", owner=OURS))
    assert declare(manager, QueueDefinition(name="orders", owner=OURS), adopt=True) is DeclareOutcome.UPDATED


def test_the_same_owner_with_a_new_uid_takes_its_queue_over_with_its_messages(manager: Manager) -> None:
    declare(manager, QueueDefinition(name="orders", owner=OURS))
    recreated = QueueDefinition(name="orders", owner=replace(OURS, uid="2"))
    renewed = manager.declare(QueueDeclaration(definition=recreated), now=1)
    assert (renewed.outcome, renewed.previous_owner) == (DeclareOutcome.UPDATED, OURS)


def test_a_declaration_without_owner_leaves_the_owner(manager: Manager) -> None:
    declare(manager, QueueDefinition(name="orders", owner=OURS))
    assert declare(manager, QueueDefinition(name="orders", limit=3)) is DeclareOutcome.UPDATED
    assert manager.get("orders").definition.owner == OURS


def test_a_queue_cannot_move_to_another_store() -> None:
    manager = make_manager()
    manager.stores = {**manager.stores, StoreKind.DISK: manager.stores[StoreKind.MEMORY]}
    declare(manager, QueueDefinition(name="orders"))
    with pytest.raises(StoreMismatch, match="in store MEMORY and cannot move to DISK"):
        declare(manager, QueueDefinition(name="orders", store=StoreKind.DISK))


def test_only_its_owner_removes_a_queue_where_one_is_given(manager: Manager) -> None:
    declare(manager, QueueDefinition(name="orders", owner=OURS))
    with pytest.raises(NotOwner):
        manager.remove("orders", THEIRS, now=1)
    with pytest.raises(NotOwner):
        manager.remove("orders", replace(OURS, uid="2"), now=1)
    assert manager.remove("orders", OURS, now=1) == Counts()
    assert manager.remove("orders", OURS, now=1) is None
    manager.new(QueueDefinition(name="plain"), now=1)
    with pytest.raises(NotOwner, match="no owner"):
        manager.remove("plain", OURS, now=1)
    assert manager.remove("plain", None, now=1) == Counts()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_late_declaration_does_not_recreate_a_queue(manager: Manager, *, is_there: bool) -> None:
    wanted = QueueDefinition(name="orders", owner=OURS)
    if is_there:
        declare(manager, wanted)
    manager.remove("orders", OURS, now=1)
    text = r"orders was removed along with its object main/shop/orders, uid 1; .* retry in a minute"
    with pytest.raises(OwnerRemoved, match=text):
        manager.declare(QueueDeclaration(definition=wanted), now=RETENTION_NS)
    another = replace(wanted, owner=replace(OURS, uid="2"))
    assert declare(manager, another) is DeclareOutcome.CREATED, "the next object of the name has another uid"
    with pytest.raises(OwnerRemoved):
        manager.declare(QueueDeclaration(definition=wanted), now=RETENTION_NS)
    manager.remove("orders", None, now=2)
    assert manager.declare(QueueDeclaration(definition=wanted), now=RETENTION_NS + 1).outcome is DeclareOutcome.CREATED


def test_a_removal_that_was_refused_or_names_no_object_is_not_remembered(manager: Manager) -> None:
    wanted = QueueDefinition(name="orders", owner=OURS)
    declare(manager, wanted)
    with pytest.raises(NotOwner):
        manager.remove("orders", THEIRS, now=1)
    assert declare(manager, QueueDefinition(name="theirs", owner=THEIRS)) is DeclareOutcome.CREATED
    nameless = Owner(name="by hand")
    for _ in range(2):
        assert declare(manager, QueueDefinition(name="plain", owner=nameless)) is DeclareOutcome.CREATED
        manager.remove("plain", nameless, now=1)


def test_removals_are_remembered_for_a_limited_time() -> None:
    removed = RemovedOwners()
    for number in range(MAX_REMOVALS + 1):
        removed.note(str(number), now=1)
    assert not removed.has("0", now=1)
    assert removed.has("1", now=1)
    assert removed.has("1", now=RETENTION_NS)
    assert not removed.has("1", now=RETENTION_NS + 1)


def test_listeners_are_notified_of_new_changed_and_deleted_queues_until_they_unsubscribe(manager: Manager) -> None:
    heard: list[tuple[str, int, bool]] = []
    leave = manager.subscribe(lambda queue: heard.append((queue.label, queue.revision, queue.deleted)))
    queue = manager.new(QueueDefinition(name="orders"), now=1)
    manager.tag(queue, Tag("a", "b"), now=1)
    manager.delete(queue)
    leave()
    manager.new(QueueDefinition(name="orders"), now=1)
    assert heard == [("orders", 1, False), ("orders", 2, False), ("orders", 2, True)]


def test_an_owner_of_another_namespace_of_the_same_name_is_another_owner(manager: Manager) -> None:
    before = replace(OURS, namespace_uid="ns-0")
    again = Owner(name=OURS.name, uid="2", namespace_uid="ns-1")
    wanted = QueueDefinition(name="shop.orders", owner=before)
    manager.declare(QueueDeclaration(definition=wanted), now=1)
    with pytest.raises(NotOwner, match=r"of namespace ns-0, not to .* of namespace ns-1"):
        manager.declare(QueueDeclaration(definition=replace(wanted, owner=again)), now=2)
    with pytest.raises(NotOwner):
        manager.remove("shop.orders", again, now=1)
    declared = manager.declare(QueueDeclaration(definition=replace(wanted, owner=OURS)), now=3)
    assert declared.queue.definition.owner == before, "known queues stay"
    adopted = manager.declare(QueueDeclaration(definition=replace(wanted, owner=again), adopt=True), now=4)
    assert (adopted.queue.definition.owner, adopted.previous_owner) == (again, before)


def test_an_owner_without_a_namespace_gets_the_one_that_is_declared(manager: Manager) -> None:
    wanted = QueueDefinition(name="shop.orders", owner=OURS)
    manager.declare(QueueDeclaration(definition=wanted), now=1)
    known = replace(OURS, namespace_uid="ns-1")
    renewed = manager.declare(QueueDeclaration(definition=replace(wanted, owner=known)), now=2)
    assert renewed.queue.definition.owner == known


class DurableStore(MemoryStore):
    """A store whose commit the test completes."""

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__(budget)
        self.ending = asyncio.get_running_loop().create_future()

    def commit(self) -> Awaitable[None]:  # type: ignore[override]  # memory has nothing to commit
        return self.ending


async def test_a_commit_completes_once_every_store_of_its_queues_has_committed() -> None:
    budget = MemoryBudget(PLENTY)
    stores = [DurableStore(budget), DurableStore(budget), DurableStore(budget)]
    manager = Manager(dict(zip(StoreKind, stores, strict=False)), bounds=Bounds(), budget=budget, tokens=Tokens(1))
    commit = manager.commit(stores[:2])
    assert commit is not None
    waiting = asyncio.ensure_future(commit)
    stores[0].ending.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    stores[1].ending.set_result(None)
    await waiting
    assert not stores[2].ending.done(), "a store without such queues may be full or slow"
