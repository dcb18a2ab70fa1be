"""An example of the request and of the response of each operation, as JSON of queue.proto's messages.

The requests work on a server without queues that runs with `--store memory`, if NewQueue is the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]


class Example(NamedTuple):
    """A request and a response. The response of a stream is one of its batches."""

    request: Json
    response: Json


_QUEUE_NAME = "shop.orders"
_QUEUE_ID = "7f3f2c9e-4d0b-4c55-9d1c-0a6f1f0a2b11"
_MESSAGE_ID = "0c2a41d6-93a5-4f6e-8a52-5b3c7e01a41f"
_EPOCH = "f1c7a6b4-6a43-4b8c-b6d1-3e2d5a9c8e70"
_LEASE = "1796000000000000001"
_NOON = "2026-01-31T12:00:00Z"
_LATER = "2026-01-31T12:00:30Z"

_TAG = {"key": "team", "value": "checkout"}

_TO_ADD = {"payload": "eyJvcmRlciI6IDM1fQ==", "tags": [{"key": "region", "value": "eu"}]}

_MESSAGE = {
    "meta": {"id": _MESSAGE_ID, "created": _NOON, "tags": [{"key": "region", "value": "eu"}]},
    "payload": "eyJvcmRlciI6IDM1fQ==",
}

_OF = {"queue_id": _QUEUE_NAME}

_QUEUE = {
    "meta": {"id": _QUEUE_ID, "created": _NOON, "tags": [_TAG]},
    "store": "MEMORY",
    "name": _QUEUE_NAME,
    "limit": "10000",
    "delivery": {"lease_seconds": 30, "max_deliveries": 5},
    "revision": "1",
    "messages": {"ready": "1"},
    "epoch": _EPOCH,
}

_STORE = {"store": "MEMORY", "epoch": _EPOCH}

_NOT_LEASED = {
    "error": {
        "code": 5,
        "reason": "MESSAGE_NOT_FOUND",
        "message": "no message for this token: it was acked, popped or purged",
    }
}

_TRY = {
    "outcome": "OUTCOME_NACKED",
    "began": _NOON,
    "ended": _LATER,
    "consumer": "worker-3",
    "reason": "payment gateway: 504",
    "token": _LEASE,
}

_BROWSED = {
    "message": _MESSAGE,
    "state": "MESSAGE_STATE_DEAD",
    "count": 5,
    "reason": "DEATH_REASON_MAX_DELIVERIES",
    "died": _LATER,
    "tries": [_TRY],
    "payload_size": "13",
}

_QUEUE_STATS = {"queue": _QUEUE, "enqueued": "35", "consumed": "2", "acked": "32", "stored_bytes": "212"}

EXAMPLES: Mapping[str, Example] = {
    "ListQueues": Example({"selector": "team=checkout"}, {"queues": [_QUEUE]}),
    "NewQueue": Example({"store": "MEMORY", "limit": "10000", "name": _QUEUE_NAME, "tags": [_TAG]}, {"queue": _QUEUE}),
    "GetQueue": Example(_OF, {"queue": _QUEUE}),
    "DeleteQueue": Example(_OF, {}),
    "AddQueueTag": Example({**_OF, "tag": {"key": "tier", "value": "gold"}}, {}),
    "DeleteQueueTag": Example({**_OF, "tag": {"key": "tier", "value": "gold"}}, {}),
    "Add": Example({**_OF, "message": _TO_ADD}, {"message": _MESSAGE, "durability": "DURABILITY_MEMORY"}),
    "Pop": Example({**_OF, "wait": "1s"}, {"message": _MESSAGE, "durability": "DURABILITY_MEMORY"}),
    "Peek": Example(_OF, {"message": _MESSAGE}),
    "AddBatch": Example(
        {**_OF, "messages": [_TO_ADD, {"payload": "eyJvcmRlciI6IDM2fQ==", "delay": "60s", "priority": -1}]},
        {
            "results": [{"id": _MESSAGE_ID}, {"id": "5b7d0f52-0f7e-4a5e-9a6f-2f1d7c3b9e02"}],
            "durability": "DURABILITY_MEMORY",
        },
    ),
    "PopBatch": Example({**_OF, "max": 10, "wait": "1s"}, {"messages": [_MESSAGE], "durability": "DURABILITY_MEMORY"}),
    "PeekBatch": Example({**_OF, "max": 10}, {"messages": [_MESSAGE]}),
    "Receive": Example(
        {**_OF, "max": 10, "wait": "1s", "lease": "30s", "consumer": "worker-3"},
        {"deliveries": [{"message": _MESSAGE, "token": _LEASE, "deadline": _LATER, "count": 1}]},
    ),
    "Ack": Example({**_OF, "tokens": [_LEASE]}, {"results": [_NOT_LEASED], "durability": "DURABILITY_MEMORY"}),
    "Nack": Example(
        {**_OF, "tokens": [_LEASE], "delay": "10s", "reason": "payment gateway: 504"}, {"results": [_NOT_LEASED]}
    ),
    "Extend": Example({**_OF, "tokens": [_LEASE], "lease": "60s"}, {"results": [{}], "deadline": _LATER}),
    "Redrive": Example({**_OF, "all": True, "rate": 50, "dry_run": True}, {"redriven": "71", "remaining": "47"}),
    "Browse": Example(
        {**_OF, "states": ["MESSAGE_STATE_DEAD", "MESSAGE_STATE_DELAYED"], "page_size": 100, "payload_bytes": 256},
        {"messages": [_BROWSED], "next_page_token": "Zm9vYmFy"},
    ),
    "GetMessage": Example({**_OF, "ids": [_MESSAGE_ID]}, {"messages": [_BROWSED]}),
    "Purge": Example({**_OF, "all": True, "states": ["MESSAGE_STATE_DEAD"], "dry_run": True}, {"purged": "3"}),
    "DeclareQueues": Example(
        {"queues": [{"name": "shop.refunds", "store": "MEMORY", "limit": "10000", "tags": [_TAG]}]},
        {"results": [{"outcome": "OUTCOME_CREATED", "queue": {**_QUEUE, "name": "shop.refunds"}}]},
    ),
    "RemoveQueues": Example(
        {"queues": [{"queue_id": "shop.refunds"}]},
        {"results": [{"outcome": "OUTCOME_REMOVED", "dropped": {"ready": "1"}}]},
    ),
    "WatchQueues": Example(
        {"counts_apart": True},
        {"counts": [{"id": _QUEUE_ID, "messages": {"ready": "1204", "dead": "3"}, "enqueued": "1300", "acked": "93"}]},
    ),
    "GetStats": Example(
        {},
        {
            "server": {
                "version": "1.0.0",
                "started": _NOON,
                "stores": [_STORE],
                "queues": "1",
                "messages": {"ready": "1"},
                "memory_bytes": "48000000",
                "memory_watermark_bytes": "400000000",
            }
        },
    ),
    "GetQueueStats": Example(_OF, {"queue": _QUEUE_STATS}),
    "ListConsumers": Example(
        _OF,
        {
            "consumers": [
                {
                    "kind": "KIND_STREAM",
                    "name": "worker-3",
                    "peer": "10.1.2.3:41234",
                    "since": _NOON,
                    "credit": "84",
                    "leases": "16",
                    "last_settled": _LATER,
                }
            ],
            "waiting_for_message": "2",
        },
    ),
    "Tail": Example(
        {**_OF, "per_second": 20, "payload_bytes": 256},
        {
            "events": [{"kind": "KIND_ADDED", "time": _NOON, "message": _MESSAGE, "payload_size": "13"}],
            "skipped": "64",
        },
    ),
    "GetHistory": Example(
        {**_OF, "max_points": 360},
        {
            "points": [{"time": _NOON, "messages": {"ready": "1"}, "enqueued": "35", "removed": "34"}],
            "since": _NOON,
        },
    ),
}
"""The examples by operation. Additional routes of a method without an entry have that of the method."""
