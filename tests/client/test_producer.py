"""The producer: refused messages, cancelled callers, and servers with small limits."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from math import inf, nan
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from queuelet.client import Client, Closed, Connection, NotSent, Producer, PutsFailed
from queuelet.errors import InvalidArgument, MessageTooLarge, QueueFull, QueueletError, Unreachable
from queuelet.tags import Tag
from support.polling import until
from support.server_process import ServerProcess

MEBIBYTE = 1024 * 1024

BROKEN_RULES: list[dict[str, Any]] = [
    {"tags": [Tag("k" * 300, "v")]},
    {"delay": -1},
    {"delay": nan},
    {"delay": 1e30},
    {"ttl": -1},
    {"ttl": inf},
    {"priority": 2**31},
    {"priority": -(2**31) - 1},
    {"message_id": "no UUID"},
    {"priority": "high"},
    {"tags": [("key",)]},
    {"tags": {"key": "value"}},
]


class CountingClient(Client):
    """A client that counts batches."""

    batches = 0

    async def call_once(self, name: str, request: bytes, *, at_most: float) -> bytes:
        self.batches += 1
        return await super().call_once(name, request, at_most=at_most)


async def payloads(client: Client, queue: str) -> list[bytes]:
    """Pop all messages."""
    return [message.payload for message in await client.pop_batch(queue)]


async def test_pairs_and_uuids_of_python_will_do(client: Client, queue: str) -> None:
    given: dict[str, Any] = {"tags": [("team", "a")], "message_id": UUID("6f9c0000-1111-4222-8333-444455556666")}
    async with Producer(client, queue) as producer:
        await producer.put(b"x", **given)
    message = await client.pop(queue)
    assert (message.id, message.tags) == ("6f9c0000-1111-4222-8333-444455556666", (Tag("team", "a"),))


@pytest.mark.parametrize("is_awaited", [False, True], ids=["sent", "put"])
async def test_closing_while_the_queue_is_full_reports_it_for_each_message(client: Client, is_awaited: bool) -> None:  # noqa: FBT001  # pytest gives it
    queue = (await client.new_queue(limit=1)).id
    await client.add(queue, b"first")
    puts: list[asyncio.Task[object]] = []
    with suppress(PutsFailed):
        async with Producer(client, queue, timeout=None, close_timeout=0.2) as producer:
            sent = [] if is_awaited else [await producer.send(b"%d" % number) for number in range(3)]
            if is_awaited:
                puts.append(asyncio.create_task(producer.put(b"0")))
            await asyncio.sleep(0.1)
    outcomes = await asyncio.gather(*sent, *puts, return_exceptions=True)
    assert outcomes
    for outcome in outcomes:
        assert isinstance(outcome, QueueFull)
        assert "it holds 1 ready" in outcome.message
    assert (await client.get_queue(queue)).messages.ready == 1


async def test_a_message_that_breaks_a_rule_fails_and_no_other_does(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        sent = [
            await producer.send(b"%d" % number, tags=[Tag("k" * 300, "v")] if number == 5 else ())  # any
            for number in range(10)
        ]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, InvalidArgument)] == [5]
    assert await payloads(client, queue) == [b"%d" % number for number in range(10) if number != 5]


async def test_an_item_of_another_type_is_refused_and_the_producer_goes_on(client: Client, queue: str) -> None:
    async with Producer(client, queue) as producer:
        await producer.send(b"1")
        with pytest.raises(TypeError, match="the serializer returned str for str instead of bytes"):
            await producer.put("2")  # type: ignore[arg-type]  # the mistake
        await producer.put(b"3")
    assert await payloads(client, queue) == [b"1", b"3"]


async def test_a_payload_that_is_not_bytes_is_refused_by_its_name(client: Client, queue: str) -> None:
    with pytest.raises(TypeError, match="payload: str is not bytes"):
        await client.add(queue, "1")  # type: ignore[arg-type]  # the mistake


async def test_a_busy_task_leaves_room_to_others(client: Client, queue: str) -> None:
    """Calls that wait for room in the buffer get it in FIFO order."""
    async with Producer(client, queue, buffer_messages=10) as producer:

        async def keep_busy() -> None:
            while True:
                await producer.send(b"busy")

        busy = asyncio.create_task(keep_busy())
        for _ in range(20):
            await producer.put(b"urgent", timeout=30)
        busy.cancel()
        await asyncio.wait([busy])


async def test_batches_are_as_small_as_the_server_wants_them() -> None:
    with ServerProcess("--max-batch", "7", "--max-message-bytes", "16Ki") as server:
        async with Client(server.address) as client:
            queue = (await client.new_queue()).id
            async with Producer(client, queue) as producer:
                outcomes = await producer.put_many(b"%d" % number for number in range(100))
            assert len({outcome.id for outcome in outcomes}) == 100
            taken = [message.payload for _ in range(20) for message in await client.pop_batch(queue, 7)]
            assert taken == [b"%d" % number for number in range(100)]


async def test_messages_larger_than_a_batch_go_alone_and_in_order(client: Client, queue: str) -> None:
    """This includes a request that gRPC refuses for its size."""
    async with Producer(client, queue, batch_bytes=100 * MEBIBYTE) as producer:
        await producer.put_many(bytes((number,)) * MEBIBYTE for number in range(10))
    firsts = [(await client.pop(queue)).payload[0] for _ in range(10)]
    assert firsts == list(range(10))


@pytest.mark.parametrize("size", [4 * MEBIBYTE, 5 * MEBIBYTE])
async def test_a_message_larger_than_the_server_takes_fails_and_no_other_does(
    server: ServerProcess, queue: str, size: int
) -> None:
    """The server or gRPC may refuse it. Later messages are still sent in batches."""
    async with CountingClient(server.address) as client:
        async with Producer(client, queue, batch_bytes=100 * MEBIBYTE) as producer:
            sent = [await producer.send(bytes(size) if number == 50 else b"%d" % number) for number in range(100)]
            outcomes = await asyncio.gather(*sent, return_exceptions=True)
            client.batches = 0
            await producer.put_many([b"x"] * 100)
        assert client.batches == 1
    error = outcomes.pop(50)
    assert isinstance(error, MessageTooLarge)
    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    reported, limit = [int(each.replace(",", "")) for each in re.findall(r"[\d,]{7,}", error.message)]
    assert size <= reported < size + 1_000
    assert 4 * MEBIBYTE <= limit < 5 * MEBIBYTE
    assert "--max-message-bytes" in error.message


@pytest.mark.parametrize("options", BROKEN_RULES, ids=lambda options: str(options)[:30])
async def test_a_refusal_names_what_was_given_to_put(client: Client, queue: str, options: dict[str, Any]) -> None:
    """It does not name the place in a batch, which means nothing to the caller of a put."""
    (name,) = options
    async with Producer(client, queue) as producer:
        with pytest.raises(InvalidArgument, match=f"^{name}.*: ") as refusal:
            await producer.put(b"x", **options)
        assert str(refusal.value.facts["field"]).startswith(name)
        await producer.put(b"next")
    assert await payloads(client, queue) == [b"next"]


async def test_a_put_that_is_cancelled_on_its_way_has_no_more_than_one_message(client: Client, queue: str) -> None:
    """Its outcome is that of the call in flight, and later messages go on."""
    async with Producer(client, queue) as producer:
        putting = asyncio.create_task(producer.put(b"cancelled"))
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await producer.put(b"next")
    assert await payloads(client, queue) in ([b"cancelled", b"next"], [b"next"])


async def test_a_put_that_is_cancelled_before_it_is_sent_is_called_back(client: Client, small: str) -> None:
    """Here an earlier message is in flight, because the queue is full."""
    async with Producer(client, small) as producer:
        await producer.put(b"first")
        under_way = asyncio.create_task(producer.put(b"under way"))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(producer.put(b"waiting"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await payloads(client, small) == [b"first"]
        await under_way
        assert await payloads(client, small) == [b"under way"]
        await producer.put(b"last")
    assert await payloads(client, small) == [b"last"]


async def test_who_does_not_want_to_try_again_hears_at_once() -> None:
    connection = Connection(server="127.0.0.1:1", retry_for=0)
    async with Client(connection) as client, Producer(client, "orders", timeout=None) as producer:
        with pytest.raises(NotSent, match=r"cannot reach the server at 127\.0\.0\.1:1"):
            await producer.put(b"x")


async def test_what_found_no_connection_is_not_in_the_queue() -> None:
    """This holds even after many retries of its batch."""
    async with Client("127.0.0.1:1") as client, Producer(client, "orders") as producer:
        with pytest.raises(NotSent, match=r"is not in queue orders .*cannot reach the server"):
            await producer.put(b"x", timeout=0.5)


async def test_a_message_whose_response_was_lost_may_be_in_the_queue() -> None:
    """This holds even if later tries found no connection."""
    with ServerProcess() as server:
        async with Client(server.address) as client, Producer(client, "orders") as producer:
            await client.new_queue(name="orders", limit=1)
            await producer.put(b"in the way")
            putting = asyncio.create_task(producer.put(b"x", timeout=2))
            await until(lambda: is_waited(client, "orders"))
            server.kill()
            with pytest.raises(Unreachable):
                await putting
            with pytest.raises(NotSent):
                await producer.put(b"y", timeout=0.1)


async def is_waited(client: Client, queue: str) -> bool:
    """Return whether a call waits for room."""
    return (await client.stats(queue)).waiting_calls == 1


# Closed clients and unexpected errors


async def test_a_client_that_is_closed_ends_its_producers(server: ServerProcess, small: str) -> None:
    """Messages in flight may be in the queue, buffered ones are not, and nothing waits forever."""
    client = await Client(server.address).__aenter__()
    async with Client(server.address) as other, Producer(client, small, timeout=None, close_timeout=None) as producer:
        await producer.put(b"in the way")
        under_way = await producer.send(b"under way")
        flushing = asyncio.create_task(producer.flush())
        await until(lambda: is_waited(other, small))
        waiting = [asyncio.create_task(producer.put(b"waiting")) for _ in range(2)]
        await asyncio.sleep(0)
        await client.__aexit__(None, None, None)
        with pytest.raises(Unreachable):
            await under_way
        for put in waiting:
            with pytest.raises(Closed, match=r"the client was closed .* it is not in the queue"):
                await put
        assert await flushing
        with pytest.raises(Closed, match="the client was closed or not opened"):
            await producer.put(b"late")


async def test_a_client_that_is_closed_ends_a_put_of_one_message(server: ServerProcess, small: str) -> None:
    client = await Client(server.address).__aenter__()
    async with Client(server.address) as other, Producer(client, small, timeout=None) as producer:
        await producer.put(b"in the way")
        putting = asyncio.create_task(producer.put(b"under way"))
        await until(lambda: is_waited(other, small))
        await client.__aexit__(None, None, None)
        with pytest.raises(Unreachable):
            await putting


async def test_closing_ends_a_put_of_one_message(client: Client, small: str) -> None:
    """The server would still wait for room, so the call is repeated without a wait."""
    async with Producer(client, small, timeout=None, close_timeout=0) as producer:
        await producer.put(b"in the way")
        putting = asyncio.create_task(producer.put(b"under way"))
        await until(lambda: is_waited(client, small))
    with pytest.raises(QueueFull):
        await putting


async def test_a_client_that_was_not_opened_raises_an_error(server: ServerProcess) -> None:
    client = Client(server.address)
    with pytest.raises(Closed, match="the client is not open"):
        await client.list_queues()
    with pytest.raises(Closed, match="the client is not open"):
        client.listen(print)
    async with Producer(client, "orders") as producer:
        with pytest.raises(Closed, match="closed or not opened"):
            await producer.put(b"x")


async def test_a_call_whose_client_is_closed_raises_an_error(server: ServerProcess, queue: str) -> None:
    """A cancelled call stays cancelled."""
    client = await Client(server.address).__aenter__()
    popping, cancelled = (asyncio.create_task(client.pop(queue, wait=600)) for _ in range(2))
    async with Client(server.address) as other:

        async def is_begun() -> bool:
            return (await other.stats(queue)).waiting_calls == 2

        await until(is_begun)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await client.__aexit__(None, None, None)
    with pytest.raises(Unreachable, match="the client was closed"):
        await popping


@pytest.fixture
async def tokenless(server: ServerProcess, tmp_path: Path) -> AsyncIterator[Client]:
    """A client whose calls fail unexpectedly, because the file with its token is gone."""
    async with Client(Connection(server=server.address, token_file=tmp_path / "token")) as client:
        yield client


async def test_an_unforeseen_error_is_the_outcome_of_all_that_is_here(tokenless: Client) -> None:
    producer = await Producer(tokenless, "orders", timeout=None, close_timeout=None).__aenter__()
    asked_after, also, _ = [await producer.send(b"x") for _ in range(3)]
    for each in (asked_after, also):
        with pytest.raises(QueueletError, match="unexpected error: FileNotFoundError") as failure:
            await each
        assert isinstance(failure.value.__cause__, FileNotFoundError)
    with pytest.raises(Closed, match="FileNotFoundError"):
        await producer.put(b"late")
    with pytest.raises(PutsFailed, match="1 message was not added"):
        await producer.__aexit__(None, None, None)


async def test_an_unforeseen_error_is_the_outcome_of_one_put(tokenless: Client) -> None:
    async with Producer(tokenless, "orders", timeout=None, close_timeout=None) as producer:
        with pytest.raises(QueueletError, match="unexpected error: FileNotFoundError"):
            await producer.put(b"x")


async def test_a_callback_that_raises_is_logged(client: Client, queue: str, caplog: pytest.LogCaptureFixture) -> None:
    reported = asyncio.Event()

    def fail(_: object) -> None:
        reported.set()
        raise RuntimeError("it fails")

    async with Producer(client, queue) as producer:
        (await producer.send(b"x")).add_done_callback(fail)
        await reported.wait()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("queuelet.client", logging.ERROR)
    assert record.exc_info
    assert str(record.exc_info[1]) == "it fails"


async def test_many_producers_at_the_same_time_do_without_being_remembered(client: Client, queue: str) -> None:
    """A queue remembers 1,000 request IDs, but the message of another producer is added all the same."""
    async with Producer(client, queue) as producer:
        await producer.put_many([b"x"] * 999)
    for number in range(999):  # and the request ID of the batch is one more
        await client.pop(queue, request_id=f"call {number}")
    async with Producer(client, queue) as producer:
        await producer.put(b"more")
    assert await payloads(client, queue) == [b"more"]


@pytest.mark.parametrize("name", ["linger", "timeout", "close_timeout"])
@pytest.mark.parametrize("value", [-1, nan])
def test_times_that_make_no_sense_are_refused(name: str, value: float) -> None:
    options: Any = {name: value}
    with pytest.raises(ValueError, match=f"{name}: {value} is out of range; use 0 or more"):
        Producer(Client(), "orders", **options)


@pytest.mark.parametrize("value", [-1, nan])
async def test_a_timeout_of_a_put_that_makes_no_sense_is_refused(client: Client, queue: str, value: float) -> None:
    async with Producer(client, queue) as producer:
        with pytest.raises(ValueError, match=f"timeout: {value} is out of range; use 0 or more"):
            await producer.put(b"x", timeout=value)
    assert await payloads(client, queue) == []
