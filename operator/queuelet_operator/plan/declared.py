"""A queue's definition as the operator stores it: that of `queuelet.definition`, with packed tags to save memory."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet.bounds import UNBOUNDED
from queuelet.definition import DeliverySettings, Owner, QueueDefinition, StoreKind
from queuelet.values import QueueDeclaration
from queuelet_operator.packed_tags import PackedTags


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A queue's definition, either observed or wanted. Everything except the store and the name can change."""

    store: StoreKind = StoreKind.MEMORY
    name: str = ""
    limit: int = UNBOUNDED
    tags: PackedTags = PackedTags()  # noqa: RUF009  # it is frozen
    owner: Owner | None = None
    delivery: DeliverySettings = DeliverySettings()  # noqa: RUF009  # it is frozen
    draining: bool = False

    def declaration(self, *, queue_id: str, adopt: bool) -> QueueDeclaration:
        """Return the declaration of this queue. The server uses `queue_id` only if it has to create the queue."""
        definition = QueueDefinition(
            store=self.store,
            name=self.name,
            limit=self.limit,
            tags=tuple(self.tags),
            owner=self.owner,
            delivery=self.delivery,
            draining=self.draining,
        )
        return QueueDeclaration(definition=definition, queue_id=queue_id, adopt=adopt)
