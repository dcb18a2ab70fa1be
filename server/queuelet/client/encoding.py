"""Encodes messages as the field `messages = 2` of an `AddBatchRequest`.

A payload is copied into the request directly, because building a generated message for each one costs about ten times
as much as everything else that a producer does with it, mostly for copies. A change of the field numbers of
`AddBatchRequest.messages` or `NewMessage.payload` in queue.proto has to be made here too; a property test compares this
module with the generated classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.varint import varint

_MESSAGES = b"\x12"
_PAYLOAD = b"\x12"


class EncodedMessage(NamedTuple):
    """An encoded message, in two parts so that the payload is not copied."""

    head: bytes
    payload: bytes

    @property
    def size(self) -> int:
        """The number of bytes in a request."""
        return len(self.head) + len(self.payload)


def encode_payload(payload: bytes) -> EncodedMessage:
    """Encode a message that only has a payload."""
    return EncodedMessage(_head(len(payload)), payload)


def encode_message(message: pb.NewMessage) -> EncodedMessage:
    """Encode a message with further fields."""
    data = message.SerializeToString()
    return EncodedMessage(_MESSAGES + varint(len(data)) + data, b"")


def request_bytes(request: pb.AddBatchRequest, messages: Iterable[EncodedMessage]) -> bytes:
    """Encode a request, which has no messages of its own, with these messages."""
    # In protobuf's encoding, fields may be in any order, and joined encodings of a message are its merged encoding.
    return b"".join([request.SerializeToString(), *(part for message in messages for part in message)])


@lru_cache(maxsize=4_096)
def _head(size: int) -> bytes:
    """Return the bytes before a payload of this size. Cached, because a producer's messages often have one size."""
    if not size:
        return _MESSAGES + varint(0)
    field = _PAYLOAD + varint(size)
    return _MESSAGES + varint(len(field) + size) + field
