"""The client library: producers and consumers of queues.

    async with Client("localhost:10002") as client:
        async with Producer(client, "orders") as producer:
            await producer.put(b"an order")

        async def handle(order: Received[bytes]) -> None:
            print(order.item)

        await Consumer(client, "orders", handle).run()

`Producer` and `Consumer` retry and reconnect during outages. `Client` has every RPC of the server as a method, which
takes and returns plain values; it raises the errors of `queuelet.errors`, and `Client.listen` reports the state of the
connection.

`Sharder` uses several queues as one. `queuelet.client.blocking` is for programs without an event loop.

`client.py` has the client, whose methods are in `queue_calls.py`, `message_calls.py` and `lease_calls.py`. `calls.py`
makes their calls, over the channel of `connection.py`, `connection_state.py` and `cached_files.py`; `retries.py` says
which errors to retry, `direct.py` connects to the owners of queues, and `forks.py` detects forks. `producer.py` fills
`send_buffer.py` with `pending_put.py`, and sends its batches by `batch_call.py`, with `encoding.py` and
`put_failures.py`. `consumer.py` takes messages from `inbox.py`, with `received_message.py` and `prefetch.py`, and gives
them to `handler_loop.py` or `iteration.py`; when their work ends, `settlement.py` settles them. `lease_session.py`
fills the inbox, and reconnects after an outage, by `consume_stream.py`, with `finished.py` and `heartbeat.py`.
`messages.py`, `serializers.py`, `options.py` and `errors.py` are the types that programs see, checked by
`validation.py` and `text.py`; those about queues are in `queuelet.values` and `queuelet.definition`. `sharder.py` and
`blocking/` build on all of these. `raw_calls.py` passes on encoded calls, for the REST gateway.
"""

import os

# gRPC's own support for forks starts threads in a child whose parent uses a channel, and they crash. gRPC reads this
# variable when it is imported, so it has to be set before.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from queuelet.client.client import Client
from queuelet.client.connection import Connection
from queuelet.client.connection_state import ConnectionState
from queuelet.client.consume_stream import Consumption
from queuelet.client.consumer import Consumer
from queuelet.client.errors import BadResponse, Closed, Forked, NotSent, PutsFailed
from queuelet.client.handler_loop import Handler
from queuelet.client.messages import (
    BrowsedMessage,
    ConsumeUpdate,
    Delivery,
    Message,
    NewMessage,
    TailBatch,
    TailEvent,
    Try,
)
from queuelet.client.options import OnError
from queuelet.client.pending_put import Added, PendingPut
from queuelet.client.producer import Producer
from queuelet.client.received_message import Received
from queuelet.client.serializers import BYTES, JSON, TEXT, ModelSerializer, Serializer
from queuelet.client.sharder import Sharder
from queuelet.definition import (
    Counts,
    DeathReason,
    DeliverySettings,
    Durability,
    EventKind,
    MessageState,
    Owner,
    QueueDefinition,
    StoreKind,
    TryOutcome,
)
from queuelet.values import (
    ConsumerInfo,
    ConsumerKind,
    DeclareOutcome,
    DeclareResult,
    HistoryPoint,
    Queue,
    QueueChanges,
    QueueConsumers,
    QueueCounts,
    QueueDeclaration,
    QueueHistory,
    QueueRemoval,
    QueueStats,
    RedriveProgress,
    RemovedQueue,
    RemoveOutcome,
    RemoveResult,
    ServerStats,
    StoreState,
)

__all__ = [
    "BYTES", "JSON", "TEXT", "Added", "BadResponse", "BrowsedMessage", "Client", "Closed", "Connection",
    "ConnectionState", "ConsumeUpdate", "Consumer", "ConsumerInfo", "ConsumerKind", "Consumption", "Counts",
    "DeathReason", "DeclareOutcome", "DeclareResult", "Delivery", "DeliverySettings", "Durability", "EventKind",
    "Forked", "Handler", "HistoryPoint", "Message", "MessageState", "ModelSerializer", "NewMessage", "NotSent",
    "OnError", "Owner", "PendingPut", "Producer", "PutsFailed", "Queue", "QueueChanges", "QueueConsumers",
    "QueueCounts", "QueueDeclaration", "QueueDefinition", "QueueHistory", "QueueRemoval", "QueueStats", "Received",
    "RedriveProgress", "RemoveOutcome", "RemoveResult", "RemovedQueue", "Serializer", "ServerStats", "Sharder",
    "StoreKind", "StoreState", "TailBatch", "TailEvent", "Try", "TryOutcome",
]  # fmt: skip
