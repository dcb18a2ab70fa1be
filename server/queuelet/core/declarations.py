"""Decides declarations and removals of queues: which owner may make them, and what changes."""

from __future__ import annotations

from dataclasses import replace

from queuelet.core.host import Host
from queuelet.definition import Owner, QueueDefinition
from queuelet.errors import NotOwner, OwnerRemoved, StoreMismatch
from queuelet.values import QueueDeclaration


def owner_removed(wanted: QueueDefinition, owner: Owner) -> OwnerRemoved:
    """Return the error for a declaration that comes after its object's queue was removed."""
    return OwnerRemoved(
        f"queue {wanted.name} was removed along with its object {owner.name}, uid {owner.uid}; "
        "declare it for an object that exists, or retry in a minute",
        uid=owner.uid,
    )


def definition_after(queue: Host, declaration: QueueDeclaration) -> QueueDefinition:
    """Return the definition that a queue has after a declaration.

    A declaration without an owner does not change the owner. The order of tags does not matter.

    Raises:
        NotOwner: the queue has another owner, or none, and the declaration does not adopt it.
        StoreMismatch: the queue is in another store.
    """
    present, wanted = queue.definition, declaration.definition
    if wanted.owner and not declaration.adopt and not (present.owner and present.owner.may_be(wanted.owner)):
        raise _not_owner(queue, wanted.owner, "set adopt to take it over")
    if wanted.store != present.store:
        raise StoreMismatch(
            f"queue {queue.label} is in store {present.store.name} and cannot move to {wanted.store.name}; "
            "delete it first, or use another name for the new queue",
            queue=queue.id,
            store=present.store.name,
        )
    if set(wanted.tags) == set(present.tags):
        wanted = replace(wanted, tags=present.tags)
    return replace(wanted, owner=_owner_after(present.owner, wanted.owner))


def check_removal(queue: Host, owner: Owner) -> None:
    """Raise `NotOwner` if the queue has another owner or none, or its owner's object has a different uid."""
    present = queue.definition.owner
    same_object = present and (not owner.uid or not present.uid or owner.uid == present.uid)
    if not present or not present.may_be(owner) or not same_object:
        raise _not_owner(queue, owner, "omit the owner to remove it anyway")


def _owner_after(present: Owner | None, declared: Owner | None) -> Owner | None:
    """Return the owner after a declaration. A known uid of the namespace stays if the declaration has none."""
    if present and declared and present.name == declared.name and not declared.namespace_uid:
        return replace(declared, namespace_uid=present.namespace_uid)
    return declared or present


def _not_owner(queue: Host, owner: Owner, remedy: str) -> NotOwner:
    present = queue.definition.owner
    return NotOwner(
        f"queue {queue.label} belongs to {_described(present)}, not to {_described(owner)}; {remedy}",
        queue=queue.id,
        owner=present.name if present else "",
        uid=present.uid if present else "",
    )


def _described(owner: Owner | None) -> str:
    if owner is None:
        return "no owner"
    return f"{owner.name} of namespace {owner.namespace_uid}" if owner.namespace_uid else owner.name
