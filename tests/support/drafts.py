"""Messages to add, and the parts of stored messages that tests compare."""

from __future__ import annotations

from queuelet.core.message import DeliveryRecord, Terms
from queuelet.core.stored_form import NewMessage, decode, id_of
from queuelet.definition import TryOutcome
from queuelet.v1 import queue_pb2 as pb

__all__ = ["draft", "id_of", "payload_of", "tries_of"]


def draft(payload: bytes, own_id: bytes = b"", *, terms: Terms | None = None) -> NewMessage:
    """Return a new message."""
    return NewMessage(payload, b"", own_id, terms)


def payload_of(body: bytes) -> bytes:
    """Return the payload of a stored message."""
    return decode(body).payload


def tries_of(delivery: DeliveryRecord) -> list[tuple[TryOutcome, int, int, str]]:
    """Return the failed tries of a message: outcome, token, end, and reason."""
    tries = pb.BrowsedMessage.FromString(delivery.history).tries
    return [(TryOutcome(each.outcome), each.token, each.ended.ToNanoseconds(), each.reason) for each in tries]
