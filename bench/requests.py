"""Requests to our server, serialized in advance, so that no benchmark measures how a client makes them."""

from __future__ import annotations

from collections.abc import Sequence

from queuelet.v1 import queue_pb2 as pb


def requests(queue: str, payloads: Sequence[bytes]) -> dict[str, bytes]:
    """Return the methods that add and remove messages, in this order, and their requests."""
    messages = [pb.NewMessage(payload=payload) for payload in payloads]
    if len(messages) == 1:
        return {
            "Add": pb.AddRequest(queue_id=queue, message=messages[0]).SerializeToString(),
            "Peek": pb.PeekRequest(queue_id=queue).SerializeToString(),
            "Pop": pb.PopRequest(queue_id=queue).SerializeToString(),
        }
    return {
        "AddBatch": pb.AddBatchRequest(queue_id=queue, messages=messages).SerializeToString(),
        "PopBatch": pb.PopBatchRequest(queue_id=queue, max=len(messages)).SerializeToString(),
    }
