"""Converts nodes to messages, one for each item."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from queuelet.curator import items
from queuelet.curator.names import Name, Recipe
from queuelet.tags import Tags
from queuelet.v1 import queue_pb2 as pb

_NAMESPACE = UUID("5e3b9f0a-6f0e-4c44-9f0d-2f7a64c1b8d3")
"""The UUID namespace of imported messages. A change would make a repeated import add everything twice."""

_LATEST = 7_258_118_399_999
"""The end of 2199 in milliseconds since 1970, the server's latest delivery time. Curator users write later times for
never.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A node as it was read."""

    name: Name
    data: bytes

    created: int
    """The transaction that created it (czxid)."""

    created_at: int
    """When it was created, in milliseconds since 1970 (ctime)."""

    version: int
    """How often its content was changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """How the nodes of one queue become messages."""

    path: str
    """The path of the queue's node, from the root of ZooKeeper."""

    recipe: Recipe

    id_tag: str
    """The key of the tag that holds an item's ID."""

    tags: Tags = ()
    """Tags for all messages."""

    def messages(self, node: Node) -> list[pb.NewMessage]:
        """Return a message for each item of a node, in their order. The same node always gives the same message IDs.

        Raises:
            DamagedNode: The node is not in Curator's format.
        """
        payloads = items.decode(node.data) if self.recipe.has_frames else [node.data]
        return [self._message(node, index, payload) for index, payload in enumerate(payloads)]

    def _message(self, node: Node, index: int, payload: bytes) -> pb.NewMessage:
        name = node.name
        # Nodes of two ensembles may have the same path and transaction, but hardly in the same millisecond.
        origin = f"{self.path}/{name.node}\n{node.created}\n{node.created_at}\n{index}"
        message = pb.NewMessage(id=str(uuid5(_NAMESPACE, origin)), payload=payload, priority=name.priority)
        for tag in self.tags:
            message.tags.add(key=tag.key, value=tag.value)
        if name.id:
            message.tags.add(key=self.id_tag, value=name.id)
        if name.due:
            message.not_before.FromMilliseconds(min(name.due, _LATEST))
        return message
