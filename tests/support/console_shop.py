"""Queues of a shop with messages in all states, for tests and pictures of the console."""

from __future__ import annotations

import json
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Rpc, tags_to_pb

HOSTILE = "<img src=x onerror=alert(1)>"
"""A text that would run as a script if it became part of a page."""

GATEWAY = "payment gateway: 504"

_FEW_TRIES = pb.DeliverySettings(max_deliveries=2)


def payload(number: int) -> bytes:
    """Return the payload of an order, with a number that a double cannot hold."""
    order = {
        "order": 3544790567247868102 + number,
        "sku": "espresso-1kg",
        "items": [{"n": number % 7 + 1, "price": 17.90}],
        "note": HOSTILE,
    }
    return json.dumps(order).encode()


def fill_shop(rpc: Rpc, *, store: pb.Queue.Store = pb.Queue.MEMORY) -> None:
    """Create the queues and their messages."""
    orders = _queue(rpc, "shop.orders", "team=checkout", store=store, limit=10_000)
    _add(rpc, orders, [payload(n) for n in range(24)], tags=("region=eu-1",))
    die(rpc, orders, "worker-3", GATEWAY)
    _add(rpc, orders, [payload(n) for n in range(300)], tags=("region=eu-1",))
    _add(rpc, orders, [b"later"] * 12, delay=86_400)
    _receive(rpc, orders, 16, consumer="worker-1", lease=3_600)
    _queue(rpc, "shop.refunds", "team=checkout", store=store)
    outbox = _queue(rpc, "mail.outbox", "tier=gold", store=store)
    _add(rpc, outbox, [b"To: someone@example.com\nSubject: hello"] * 118)
    die(rpc, outbox, "smtp-2", "smtp 421: too many connections", most=118)
    _add(rpc, outbox, [b"To: someone@example.com"] * 4_800)
    _add(rpc, outbox, [b"To: someone@example.com"] * 230, delay=7_200)
    thumbnails = _queue(rpc, "media.thumbnails", "team=media")
    _add(rpc, thumbnails, [bytes(range(256))] * 312)
    _receive(rpc, thumbnails, 32, consumer="resizer", lease=3_600)
    full = _queue(rpc, "billing.invoices", "team=billing", store=store, limit=500)
    _add(rpc, full, [b"{}"] * 500)
    reindex = _queue(rpc, "search.reindex", "team=search", store=store)
    _add(rpc, reindex, [b"shard"] * 21)
    die(rpc, reindex, "indexer", "bad shard", most=21)
    _add(rpc, reindex, [b"shard"] * 512)
    audit = _queue(rpc, "ops.audit", "team=ops", store=store)
    _add(rpc, audit, [b"who did what"] * 77)
    scratch = _queue(rpc, "scratch")
    _add(rpc, scratch, [b""] * 4)


def die(rpc: Rpc, queue: str, consumer: str, reason: str, most: int = 3) -> None:
    """Let the first messages of a queue die: the first is rejected, the others are given back twice."""
    for attempt in range(2):
        tokens = _receive(rpc, queue, most, consumer=f"{consumer}", lease=30)
        rejected, others = (tokens[:1], tokens[1:]) if attempt == 0 else ([], tokens)
        for dead, which in ((True, rejected), (False, others)):
            if which:
                rpc.call(
                    "Nack", pb.NackRequest(queue_id=queue, tokens=which, reason=reason, dead=dead), pb.NackResponse
                )


def _queue(rpc: Rpc, name: str, *tags: str, store: pb.Queue.Store = pb.Queue.MEMORY, limit: int = -1) -> str:
    pairs = [(key, value) for key, _, value in (tag.partition("=") for tag in tags)]
    request = pb.NewQueueRequest(store=store, limit=limit, name=name, tags=tags_to_pb(pairs), delivery=_FEW_TRIES)
    return rpc.call("NewQueue", request, pb.NewQueueResponse).queue.name


def _add(rpc: Rpc, queue: str, payloads: Sequence[bytes], *, tags: Sequence[str] = (), delay: int = 0) -> None:
    pairs = tags_to_pb([(key, value) for key, _, value in (tag.partition("=") for tag in tags)])
    messages = [
        pb.NewMessage(payload=each, tags=pairs, delay=Duration(seconds=delay) if delay else None) for each in payloads
    ]
    rpc.call("AddBatch", pb.AddBatchRequest(queue_id=queue, messages=messages), pb.AddBatchResponse)


def _receive(rpc: Rpc, queue: str, most: int, *, consumer: str, lease: int) -> list[int]:
    request = pb.ReceiveRequest(queue_id=queue, max=most, consumer=consumer, lease=Duration(seconds=lease))
    return [each.token for each in rpc.call("Receive", request, pb.ReceiveResponse).deliveries]
