"""A user's program, only for type checkers: it uses the whole public API and asserts the expected types."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, assert_type

from queuelet.client import (
    BYTES,
    JSON,
    TEXT,
    Added,
    Client,
    Closed,
    Connection,
    ConnectionState,
    Consumer,
    ConsumerKind,
    Counts,
    DeathReason,
    DeclareOutcome,
    Delivery,
    DeliverySettings,
    EventKind,
    Handler,
    Message,
    MessageState,
    ModelSerializer,
    NewMessage,
    NotSent,
    OnError,
    PendingPut,
    Producer,
    PutsFailed,
    Queue,
    QueueChanges,
    QueueDeclaration,
    QueueRemoval,
    Received,
    RemoveResult,
    Serializer,
    Sharder,
    StoreKind,
    blocking,
)
from queuelet.errors import QueueFull, QueueletError
from queuelet.tags import Tag


@dataclass
class Order:
    """An item with the two methods of pydantic's models."""

    number: int

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self:
        """Parse an order."""
        return cls(int(json_data))

    def model_dump_json(self) -> str:
        """Serialize the order."""
        return str(self.number)


class Numbers:
    """A serializer of the user's own."""

    def dump(self, item: int, /) -> bytes:
        """Serialize a number."""
        return b"%d" % item

    def load(self, payload: bytes, /) -> int:
        """Parse a number."""
        return int(payload)


ORDERS = ModelSerializer(Order)
NUMBERS: Serializer[int] = Numbers()


def listener(state: ConnectionState) -> None:
    """Accept a change of the connection's state."""
    assert_type(state, ConnectionState)


def report(outcome: Added | QueueletError) -> None:
    """Accept the outcome of a put."""


async def handle_bytes(received: Received[bytes]) -> None:
    """Handle a message."""
    assert_type(received.item, bytes)
    assert_type(received.message, Message)
    assert_type(received.tags, tuple[Tag, ...])
    assert_type(received.deadline, datetime)
    assert_type((received.token, received.holder_token, received.count), tuple[int, int, int])
    received.nack(delay=1, reason="later", dead=False)


async def handle_order(received: Received[Order]) -> int:
    """Handle a message. The return value of a handler is ignored."""
    assert_type(received.item, Order)
    received.ack()
    return received.item.number


async def produce(client: Client) -> None:
    """Use every way to put."""
    async with Producer(client, "orders", linger=0.01, timeout=None) as producer:
        assert_type(producer, Producer[bytes])
        assert_type(await producer.put(b"x", tags=[Tag("a", "b")], priority=-1, ttl=60), Added)
        sent = await producer.send(b"x", not_before=datetime.now(UTC), timeout=1)
        assert_type(sent, PendingPut)
        sent.add_done_callback(report)
        assert_type((await sent).is_durable, bool)
        assert_type(await producer.flush(1), bool)
    async with Producer(client, "orders", ORDERS) as orders:
        assert_type(orders, Producer[Order])
        assert_type(await orders.put_many([Order(1)]), list[Added])
        await orders.put(b"x")  # type: ignore[arg-type]  # an error is expected  # pyright: ignore[reportArgumentType]
    async with Producer(client, "orders", TEXT) as texts, Producer(client, "orders", NUMBERS) as numbers:
        await texts.put("a text")
        await numbers.put(1)
    async with Producer(client, "orders", JSON) as anything, Producer(client, "orders", BYTES) as raw:
        await anything.put({"a": [1, None]})
        await raw.put(b"x")


async def consume(client: Client) -> None:
    """Use every way to receive."""
    handler: Handler[bytes] = handle_bytes
    await Consumer(client, "orders", handler, concurrency=8, on_error=OnError.DEAD_LETTER).run()
    await Consumer(client, "orders", handle_order, serializer=ORDERS, until_empty=True).run()
    async with Consumer(client, "orders", serializer=NUMBERS) as numbers:
        assert_type(numbers, Consumer[int])
        async for number in numbers:
            assert_type(number, Received[int])
        assert_type((numbers.done, numbers.failed, numbers.lost), tuple[int, int, int])
    consumer = Consumer(client, "orders", handle_bytes)
    assert_type(consumer, Consumer[bytes])
    consumer.stop()


async def share(client: Client) -> None:
    """Use several queues as one."""
    async with Sharder(client, "orders", ORDERS, shards=4, linger=0.01) as orders:
        assert_type(orders, Sharder[Order])
        assert_type(await orders.put(Order(1), key="a customer", priority=1), Added)
        await orders.run(handle_order, concurrency=2, until_empty=True)
        assert_type(orders.shards, tuple[str, ...])
    async with Sharder(client, "orders") as raw:
        assert_type(raw, Sharder[bytes])


async def call(client: Client) -> None:
    """Call the client's methods."""
    assert_type(client.state, ConnectionState | None)
    leave = client.listen(listener)
    leave()
    assert_type(await client.add("orders", b"x"), Message)
    assert_type(await client.pop("orders", wait=1), Message)
    for delivery in await client.receive("orders", 10, lease=60):
        assert_type(delivery, Delivery)
        assert_type(await client.ack("orders", [delivery.token]), list[QueueletError | None])
    assert_type(await client.add_batch("orders", [NewMessage(b"x", ttl=60)]), list[Added | QueueletError])
    async for browsed in client.browse("orders", selector="a=b", states=[MessageState.DEAD]):
        assert_type(browsed.message.payload, bytes)
        assert_type(browsed.reason, DeathReason | None)
    async for browsed in client.browse("orders", ids=["6f9c"], contains="x", newest_first=True, payload_bytes=0):
        assert_type(browsed.payload_size, int)
    assert_type(await client.purge("orders", everything=True, dry_run=True), int)
    queue = await client.new_queue(name="orders", store=StoreKind.DISK, delivery=DeliverySettings(max_deliveries=3))
    assert_type(queue, Queue)
    assert_type(queue.messages.ready, int)
    for result in await client.declare_queues([queue.definition, QueueDeclaration(definition=queue.definition)]):
        assert_type(result.outcome, DeclareOutcome)
        assert_type(result.queue, Queue | None)
    assert_type(await client.remove_queues([QueueRemoval(queue="orders")]), list[RemoveResult])
    assert_type((await client.stats("orders")).oldest_ready_age, timedelta | None)
    assert_type((await client.server_stats()).memory_bytes, int)
    async for changes in client.watch_queues():
        assert_type(changes, QueueChanges)
    async for changes in client.watch_queues(counts_apart=True):
        assert_type([each.oldest_ready for each in changes.counts], list[datetime | None])
    assert_type([each.kind for each in (await client.list_consumers("orders")).consumers], list[ConsumerKind])
    assert_type([each.messages for each in (await client.history("orders")).points], list[Counts])
    async for batch in client.tail("orders", per_second=100):
        assert_type([(each.kind, each.held) for each in batch.events], list[tuple[EventKind, timedelta | None]])
    async for progress in client.redrive("orders", everything=True):
        assert_type(progress.remaining, int)


async def main() -> None:
    """Run a program with an event loop."""
    connection = Connection(server="queues:10002", tls_ca=Path("ca.pem"), timeout=None)
    async with Client(connection) as client:
        try:
            await asyncio.gather(produce(client), consume(client), share(client), call(client))
        except (Closed, NotSent, QueueFull) as error:
            assert_type(error.message, str)
        except PutsFailed as error:
            assert_type(error.errors, list[QueueletError])


# Without an event loop


def handle_without_a_loop(received: Received[Order]) -> None:
    """Handle a message."""
    assert_type(received.item, Order)


def main_without_a_loop() -> None:
    """Run a program without an event loop."""
    with blocking.Client("localhost:10002") as client:
        client.listen(listener)()
        assert_type(client.add("orders", b"x", priority=1), Message)
        assert_type(client.pop("orders", wait=1).payload, bytes)
        client.pop("orders", wayt=1)  # type: ignore[call-arg]  # an error is expected  # pyright: ignore[reportCallIssue]
        for browsed in client.browse("orders", page_size=10):
            assert_type(browsed.message.payload, bytes)
        with blocking.Producer(client, "orders", ORDERS, linger=0.01) as orders:
            assert_type(orders, blocking.Producer[Order])
            assert_type(orders.put(Order(1), priority=1, delay=0.5), Added)
            assert_type(orders.put_many([Order(2)]), list[Added])
            assert_type(orders.send(Order(3)).result(timeout=1), Added)
            orders.put(b"x")  # type: ignore[arg-type]  # an error is expected  # pyright: ignore[reportArgumentType]
        with blocking.Producer(client, "orders") as raw:
            assert_type(raw, blocking.Producer[bytes])
        handler: blocking.Handler[Order] = handle_without_a_loop
        blocking.Consumer(client, "orders", handler, serializer=ORDERS, concurrency=4).run()
        with blocking.Consumer(client, "orders", on_error=OnError.DROP) as consumer:
            for received in consumer:
                assert_type(received, Received[bytes])
        for anything in blocking.Consumer(client, "orders", serializer=JSON, max_messages=1):
            assert_type(anything, Received[Any])


if __name__ == "__main__":
    asyncio.run(main())
    main_without_a_loop()
