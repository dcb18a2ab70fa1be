"""What a queue is or should be, as the operator keeps it of every queue: `queuelet.definition` with packed tags."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet.bounds import UNBOUNDED
from queuelet.definition import DeliverySettings, Owner, StoreKind
from queuelet_operator.packed_tags import PackedTags


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """What a queue is or should be. All but the store can change."""

    store: StoreKind = StoreKind.MEMORY
    name: str = ""
    limit: int = UNBOUNDED
    tags: PackedTags = PackedTags()  # noqa: RUF009  # it is frozen
    owner: Owner | None = None
    delivery: DeliverySettings = DeliverySettings()  # noqa: RUF009  # it is frozen
    draining: bool = False
