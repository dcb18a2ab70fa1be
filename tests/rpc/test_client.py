"""The client against a real server: leases as plain values, and the stream of a consumer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from queuelet.client import (
    Added,
    Client,
    Counts,
    DeathReason,
    DeclareOutcome,
    Delivery,
    MessageState,
    NewMessage,
    Owner,
    QueueDeclaration,
    QueueDefinition,
    QueueRemoval,
    RemoveOutcome,
    StoreKind,
    TryOutcome,
)
from queuelet.errors import InvalidArgument, LeaseLost, MessageNotFound, NotOwner, QueueFull, QueueNotFound
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from support.rpc import unique_name
from support.server_process import ServerProcess


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    """A client of the shared server."""
    async with Client(server.address) as opened:
        yield opened


async def test_receive_returns_deliveries_as_plain_values(client: Client, queue: pb.Queue) -> None:
    name = queue.meta.id
    added = await client.add(name, b"x")
    (delivery,) = await client.receive(name, lease=60, consumer="me")
    assert delivery.message == added
    assert delivery.count == 1
    assert abs(delivery.deadline - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=30)
    assert await client.ack(name, [delivery.token]) == [None]


async def test_settling_reports_the_error_of_each_lease(client: Client, queue: pb.Queue) -> None:
    name = queue.meta.id
    await client.add(name, b"x")
    (delivery,) = await client.receive(name)
    deadline, (extended, *_) = await client.extend(name, [delivery.token, 1], lease=600)
    assert extended is None
    assert deadline > delivery.deadline
    assert await client.nack(name, [delivery.token], delay=600, reason="not now") == [None]
    late, *unknown = await client.nack(name, [delivery.token, 1, 2])
    assert isinstance(late, LeaseLost)
    assert [type(error) for error in unknown] == [MessageNotFound] * 2
    assert len({str(error) for error in unknown}) == 1


async def test_redrive_yields_how_far_it_is(client: Client, queue: pb.Queue) -> None:
    name = queue.meta.id
    await client.add(name, b"x")
    for _ in range(queue.delivery.max_deliveries):
        (delivery,) = await client.receive(name)
        await client.nack(name, [delivery.token])
    *_, last = [response async for response in client.redrive(name, everything=True)]
    assert (last.redriven, last.remaining) == (1, 0)


async def test_a_queue_is_declared_browsed_watched_and_removed_with_values(client: Client) -> None:
    name = unique_name()
    (created,) = await client.declare_queues([QueueDefinition(name=name, limit=1, tags=(Tag("team", "a"),))])
    assert created.outcome is DeclareOutcome.CREATED
    assert created.queue
    assert created.queue == await client.get_queue(name)
    wanted = replace(created.queue.definition, limit=2, owner=Owner(name="a/b/c", uid="1"))
    unchanged, updated, refused = await client.declare_queues(
        [
            created.queue.definition,
            QueueDeclaration(definition=wanted, adopt=True),
            QueueDefinition(name=name, store=StoreKind.MEMORY, owner=Owner(name="x/y/z")),
        ]
    )
    assert unchanged.outcome is DeclareOutcome.UNCHANGED
    assert (updated.outcome, updated.previous_owner) == (DeclareOutcome.UPDATED, None)
    assert refused.outcome is DeclareOutcome.REFUSED
    assert isinstance(refused.error, NotOwner)
    assert refused.queue
    assert refused.queue.definition == wanted

    batch = [NewMessage(b"1", delay=600), NewMessage(b"2"), NewMessage(b"3")]
    first, second, third = await client.add_batch(name, batch)
    assert isinstance(first, Added)
    assert isinstance(second, Added)
    assert isinstance(third, QueueFull)
    delayed, ready = [each async for each in client.browse(name)]
    assert (delayed.message.id, delayed.state, ready.state) == (first.id, MessageState.DELAYED, MessageState.READY)
    assert delayed.until
    assert (ready.until, ready.reason, ready.died, ready.tries) == (None, None, None, ())
    assert [each.name for each in await client.list_queues("team=a") if each.name == name] == [name]
    changes = await anext(client.watch_queues())
    (memory,) = [each for each in changes.stores if each.store is StoreKind.MEMORY]
    assert (memory.epoch, memory.problem) == (created.queue.epoch, "")

    kept, gone, absent = await client.remove_queues(
        [
            QueueRemoval(queue=name, owner=Owner(name="x/y/z")),
            QueueRemoval(queue=name, owner=wanted.owner),
            QueueRemoval(queue=name),
        ]
    )
    assert kept.outcome is RemoveOutcome.REFUSED
    assert isinstance(kept.error, NotOwner)
    assert (gone.outcome, gone.dropped) == (RemoveOutcome.REMOVED, Counts(ready=1, delayed=1))
    assert absent.outcome is RemoveOutcome.ABSENT


async def test_a_dead_message_has_its_history(client: Client, queue: pb.Queue) -> None:
    name = queue.meta.id
    await client.add(name, b"x")
    (delivery,) = await client.receive(name, consumer="me")
    await client.nack(name, [delivery.token], dead=True, reason="no use")
    (dead,) = [each async for each in client.browse(name, states=[MessageState.DEAD])]
    assert (dead.reason, dead.count) == (DeathReason.REJECTED, 1)
    (failed,) = dead.tries
    assert (failed.outcome, failed.consumer, failed.reason) == (TryOutcome.NACKED, "me", "no use")
    assert failed.token == delivery.token
    assert dead.died
    assert failed.began <= failed.ended <= dead.died
    assert await client.purge(name, everything=True, states=[MessageState.READY]) == 0
    assert await client.purge(name, everything=True, states=[MessageState.DEAD]) == 1


async def test_messages_are_found_by_id_and_content_newest_first_with_cut_payloads(
    client: Client, queue: pb.Queue
) -> None:
    name = queue.meta.id
    results = await client.add_batch(name, [NewMessage(b"toast %d" % number) for number in range(5)])
    ids = [each.id for each in results if isinstance(each, Added)]
    browsed = [each async for each in client.browse(name, newest_first=True, payload_bytes=3, page_size=2)]
    assert [each.message.id for each in browsed] == ids[::-1]
    assert {(each.message.payload, each.payload_size) for each in browsed} == {(b"toa", 7)}
    assert [each.message.payload async for each in client.browse(name, contains="t 3")] == [b"toast 3"]
    found = client.browse(name, ids=[ids[3], ids[1]], page_size=1)
    assert [each.message.payload async for each in found] == [b"toast 1", b"toast 3"]
    with pytest.raises(InvalidArgument, match="payload_bytes: -1 is negative") as refused:
        await anext(client.browse(name, payload_bytes=-1))
    assert refused.value.facts["field"] == "payload_bytes"
    with pytest.raises(InvalidArgument, match=r"^contains: .* cannot be encoded"):
        await anext(client.browse(name, contains="\ud800"))
    with pytest.raises(InvalidArgument, match="contains: 257 bytes are too many; use at most 256"):
        await anext(client.browse(name, contains="x" * 257))


async def test_a_dry_run_counts_what_purge_then_removes(client: Client, queue: pb.Queue) -> None:
    name = queue.meta.id
    await client.add_batch(name, [NewMessage(b"%d" % number, tags=[Tag("n", str(number % 2))]) for number in range(5)])
    assert await client.purge(name, selector="n=1", dry_run=True) == 2
    assert (await client.get_queue(name)).messages.ready == 5
    assert await client.purge(name, selector="n=1") == 2


async def test_statistics_are_those_of_a_queue_or_of_the_server(client: Client, queue: pb.Queue) -> None:
    await client.ping()
    await client.add(queue.meta.id, b"x")
    stats = await client.stats(queue.meta.id)
    assert (stats.enqueued, stats.queue.messages.ready) == (1, 1)
    assert stats.oldest_ready_age is not None
    server = await client.server_stats()
    assert server.queues >= 1
    assert 0 < server.memory_bytes < server.memory_watermark_bytes
    assert server.started < datetime.now(UTC)
    with pytest.raises(InvalidArgument, match=r"^queue: empty"):
        await client.stats("")


async def test_a_value_that_cannot_be_sent_is_named(client: Client) -> None:
    with pytest.raises(InvalidArgument, match=r"^declaration: .*cannot be encoded in UTF-8"):
        await client.declare_queues([QueueDefinition(name="men\udcfc")])
    with pytest.raises(InvalidArgument, match=r"^states: "):
        await client.purge("orders", everything=True, states=[9])  # type: ignore[list-item]  # the mistake


async def deliveries(client: Client, queue: str, count: int) -> list[Delivery]:
    """Return this many deliveries of a stream, each acked on arrival."""
    taken: list[Delivery] = []
    async with client.consume(queue, credit=1, consumer="me") as stream:
        async for news in stream:
            for delivery in news.deliveries:
                taken.append(delivery)
                await stream.ack(delivery.token, credit=1)
            if len(taken) == count:
                break
    return taken


async def test_a_stream_brings_as_many_messages_as_it_has_credit_for(client: Client, queue: pb.Queue) -> None:
    """And results of earlier requests still arrive."""
    name = queue.meta.id
    for payload in (b"1", b"2", b"3"):
        await client.add(name, payload)
    taken = await deliveries(client, name, 2)
    assert [delivery.message.payload for delivery in taken] == [b"1", b"2"]
    stats = await client.stats(name)
    assert stats.acked == 2
    assert stats.queue.messages.leased == 0


async def test_what_becomes_of_a_lease_is_news(client: Client, queue: pb.Queue) -> None:
    name = queue.meta.id
    await client.add(name, b"x")
    async with client.consume(name, credit=1) as stream:
        (delivery,) = (await anext(stream)).deliveries
        await stream.extend(delivery.token)
        assert (await anext(stream)).settled == (delivery.token,)
        await stream.nack(delivery.token, delay=600, reason="not now")
        assert (await anext(stream)).settled == (delivery.token,)
        await stream.ack(7)
        assert isinstance((await anext(stream)).refused[7], MessageNotFound)


async def test_an_exclusive_consumer_gets_its_token(client: Client, queue: pb.Queue) -> None:
    async with client.consume(queue.meta.id, exclusive=True) as stream:
        first = (await anext(stream)).holder_token
    async with client.consume(queue.meta.id, exclusive=True) as stream:
        assert (await anext(stream)).holder_token > first > 0


async def test_a_stream_that_is_refused_raises_why(client: Client, queue: pb.Queue) -> None:
    """While it is read and while it is written."""
    async with client.consume("nowhere") as stream:
        with pytest.raises(QueueNotFound):
            await anext(stream)
        with pytest.raises(QueueNotFound):
            await stream.credit(1)
    async with client.consume(queue.meta.id) as stream:
        await stream.credit(-1)
        with pytest.raises(InvalidArgument):
            await anext(stream)
