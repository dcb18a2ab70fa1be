"""Messages on their way out, as the field `messages = 2` of an `AddBatchRequest`.

A payload is joined into a request as it is. To make a generated message of each costs some ten times as much as all
else that a producer does with it, most of it for copies. Whoever changes the numbers of `AddBatchRequest.messages` or
`NewMessage.payload` in queue.proto changes them here; a property test holds this to what the generated classes write.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.varint import varint

_MESSAGES = b"\x12"
_PAYLOAD = b"\x12"


class Outgoing(NamedTuple):
    """A message, encoded: what stands before the payload, and the payload."""

    head: bytes
    payload: bytes

    @property
    def size(self) -> int:
        """How many bytes it takes in a request."""
        return len(self.head) + len(self.payload)


def plain(payload: bytes) -> Outgoing:
    """Return a message that has a payload and nothing else."""
    return Outgoing(_head(len(payload)), payload)


def encoded(message: pb.NewMessage) -> Outgoing:
    """Return a message that has more."""
    data = message.SerializeToString()
    return Outgoing(_MESSAGES + varint(len(data)) + data, b"")


def request_bytes(request: pb.AddBatchRequest, messages: Iterable[Outgoing]) -> bytes:
    """Return a request, which has no messages yet, with these."""
    # Fields may stand in any order, and those of what is joined are one message (protobuf's encoding).
    return b"".join([request.SerializeToString(), *(part for message in messages for part in message)])


@lru_cache(maxsize=4_096)
def _head(size: int) -> bytes:
    """Return what stands before a payload of so many bytes. A producer's messages are often of the same size."""
    if not size:
        return _MESSAGES + varint(0)
    field = _PAYLOAD + varint(size)
    return _MESSAGES + varint(len(field) + size) + field
