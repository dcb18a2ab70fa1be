"""What becomes of a node: a message for each of its items."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from queuelet.curator import items
from queuelet.curator.names import Name, Recipe
from queuelet.tags import Tags
from queuelet.v1 import queue_pb2 as pb

_NAMESPACE = UUID("5e3b9f0a-6f0e-4c44-9f0d-2f7a64c1b8d3")
"""Of the ids of imported messages. Another one would let an import that is run again add everything twice."""

_LATEST = 7_258_118_399_999
"""In milliseconds since 1970: the end of 2199, up to which a server takes delays. Who means never says later times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A node as it was read."""

    name: Name
    data: bytes

    created: int
    """The transaction that made it (czxid)."""

    created_at: int
    """When that was, in milliseconds since 1970 (ctime)."""

    version: int
    """How often its data were changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """How nodes of one queue become messages."""

    path: str
    """The node of the queue, from ZooKeeper's very root."""

    recipe: Recipe

    id_tag: str
    """The key of the tag that has the id of an item."""

    tags: Tags = ()
    """What all messages get."""

    def messages(self, node: Node) -> list[pb.NewMessage]:
        """Return a message for each item of a node, in their order. The same node gives the same ids each time.

        Raises:
            DamagedNode: it is not what Curator writes.
        """
        payloads = items.decode(node.data) if self.recipe.has_frames else [node.data]
        return [self._message(node, index, payload) for index, payload in enumerate(payloads)]

    def _message(self, node: Node, index: int, payload: bytes) -> pb.NewMessage:
        name = node.name
        # Two ensembles may have the same path and count to the same transaction, but hardly within one millisecond.
        origin = f"{self.path}/{name.node}\n{node.created}\n{node.created_at}\n{index}"
        message = pb.NewMessage(id=str(uuid5(_NAMESPACE, origin)), payload=payload, priority=name.priority)
        for tag in self.tags:
            message.tags.add(key=tag.key, value=tag.value)
        if name.id:
            message.tags.add(key=self.id_tag, value=name.id)
        if name.due:
            message.not_before.FromMilliseconds(min(name.due, _LATEST))
        return message
