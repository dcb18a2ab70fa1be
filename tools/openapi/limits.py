"""What JSON Schema can say of the limits in the comments of queue.proto, by message and field.

JSON Schema counts characters where the server counts bytes, and knows nothing of relations between fields. So it
allows some requests that the server refuses, but refuses none that the server allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BATCH = {"minItems": 1, "maxItems": 10_000}
_COUNT = {"minimum": 0}
_ID = {"maxLength": 64}
_LIMIT = {"pattern": "^(-1|[1-9][0-9]{0,17})$"}
_NAME = {"pattern": r"^[a-z0-9]([a-z0-9.\-]{0,315}[a-z0-9])?$", "maxLength": 317}
_QUEUE = {"minLength": 1}
_REASON = {"maxLength": 1024}
_SELECTOR = {"maxLength": 4096}
_STORE = {"enum": ["MEMORY", "DISK", "POSTGRES", "BOLTDB"]}
_TAGS = {"maxItems": 64}
# Not by its format, because swagger-ui has no field for it.
_UUID = {"pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"}
_UUIDS = {"maxItems": 10_000, "items": _UUID}
_WORKER = {"maxLength": 256}

DURATION = r"^[0-9]{1,9}(\.[0-9]{1,9})?s$"
"""Durations in requests are not negative."""

LIMITS: Mapping[str, Mapping[str, Any]] = {
    "AckRequest.tokens": _BATCH,
    "AddBatchRequest.messages": _BATCH,
    "AddBatchRequest.request_id": _ID,
    "AddBatchRequest.settled_request_id": _ID,
    "BrowseRequest.contains": {"maxLength": 256},
    "BrowseRequest.ids": _UUIDS,
    "BrowseRequest.page_size": _COUNT,
    "BrowseRequest.payload_bytes": _COUNT,
    "BrowseRequest.selector": _SELECTOR,
    "DeclareQueuesRequest.queues": _BATCH,
    "DeliverySettings.lease_seconds": {"minimum": 1, "maximum": 43_200},
    "DeliverySettings.max_deliveries": {"minimum": 1, "maximum": 1_000},
    "DeliverySettings.message_ttl_seconds": {"pattern": "^[1-9][0-9]{0,8}$"},
    "ExtendRequest.tokens": _BATCH,
    "GetHistoryRequest.max_points": {"minimum": 0, "maximum": 10_000},
    "ListQueuesRequest.page_size": _COUNT,
    "ListQueuesRequest.selector": _SELECTOR,
    "NackRequest.reason": _REASON,
    "NackRequest.tokens": _BATCH,
    "NewMessage.id": {"pattern": "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"},
    "NewMessage.tags": _TAGS,
    "NewQueueRequest.limit": _LIMIT,
    "NewQueueRequest.name": _NAME,
    "NewQueueRequest.store": _STORE,
    "NewQueueRequest.tags": _TAGS,
    "PeekBatchRequest.max": _COUNT,
    "PopBatchRequest.max": _COUNT,
    "PopBatchRequest.request_id": _ID,
    "PopRequest.request_id": _ID,
    "PurgeRequest.ids": _UUIDS,
    "PurgeRequest.selector": _SELECTOR,
    "QueueDeclaration.limit": _LIMIT,
    "QueueDeclaration.name": _NAME,
    "QueueDeclaration.store": _STORE,
    "QueueDeclaration.tags": _TAGS,
    "QueueRemoval.queue_id": _QUEUE,
    "ReceiveRequest.consumer": _WORKER,
    "ReceiveRequest.max": _COUNT,
    "ReceiveRequest.request_id": _ID,
    "RedriveRequest.ids": _UUIDS,
    "RedriveRequest.rate": _COUNT,
    "RedriveRequest.selector": _SELECTOR,
    "RemoveQueuesRequest.queues": _BATCH,
    "Tag.key": {"minLength": 1, "maxLength": 256},
    "Tag.value": {"maxLength": 4096},
    "TailRequest.payload_bytes": {"minimum": 0, "maximum": 65_536},
    "TailRequest.per_second": {"minimum": 0, "maximum": 1_000},
    "TailRequest.selector": _SELECTOR,
    "WatchQueuesRequest.selector": _SELECTOR,
}
"""Keywords of JSON Schema for fields of requests."""
