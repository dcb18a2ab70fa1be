"""Connection states, and what goes on after an outage. Numbers refer to Curator's behaviours in docs/curator.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from queuelet.client import Client, Connection, ConnectionState, Consumer, Producer, Received
from queuelet.errors import QueueletError, Unreachable
from support.durable_server import DurableServer, durable
from support.polling import until
from support.ports import lasting_port
from support.server_process import ServerProcess

__all__ = ["durable"]

CONNECTED, SUSPENDED, RECONNECTED, LOST = ConnectionState

Servers = Callable[[], ServerProcess]


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Starts one server after another, at the same address."""
    with one_after_another() as servers:
        yield servers


@pytest.fixture
def durable_servers(durable: DurableServer) -> Iterator[Servers]:
    """Starts one server after another, at the same address and with the same durable store."""
    with one_after_another(*durable.flags) as servers:
        yield servers


@contextmanager
def one_after_another(*flags: str) -> Iterator[Servers]:
    """Yield a function that starts a server at the same address as the one before."""
    port = lasting_port()
    started: list[ServerProcess] = []

    def start() -> ServerProcess:
        server = ServerProcess("--listen", f"127.0.0.1:{port}", *flags)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        if server.is_running:
            server.kill()


class Heard:
    """A listener that records states."""

    def __init__(self) -> None:
        self.states: list[ConnectionState] = []
        self._news = asyncio.Event()

    def __call__(self, state: ConnectionState) -> None:
        """Record a state."""
        self.states.append(state)
        self._news.set()

    async def until(self, *states: ConnectionState) -> None:
        """Wait until exactly these states were reported."""
        while len(self.states) < len(states):
            self._news.clear()
            await self._news.wait()
        assert self.states == list(states)


async def test_c41_a_listener_is_notified_of_each_change_of_the_connection(servers: Servers) -> None:
    heard = Heard()
    server = servers()
    async with Client(Connection(server=server.address, lost_after=0.2)) as client:
        client.listen(heard)
        await heard.until(CONNECTED)
        server.kill()
        await heard.until(CONNECTED, SUSPENDED, LOST)
        servers()
        await heard.until(CONNECTED, SUSPENDED, LOST, RECONNECTED)
        assert client.state is RECONNECTED


async def test_c41_a_server_that_is_soon_back_is_never_lost(servers: Servers) -> None:
    heard = Heard()
    server = servers()
    async with Client(server.address) as client:
        client.listen(heard)
        await heard.until(CONNECTED)
        server.stop()
        await heard.until(CONNECTED, SUSPENDED)
        servers()
        await heard.until(CONNECTED, SUSPENDED, RECONNECTED)


async def test_c41_while_the_server_is_away_nothing_is_taken_for_done(
    durable: DurableServer, durable_servers: Servers
) -> None:
    """A put is in flight until its outcome is known, which it is not while SUSPENDED."""
    heard = Heard()
    server = durable_servers()
    async with Client(server.address) as client:
        name = (await client.new_queue(store=durable.store_name, name="orders")).name
        client.listen(heard)
        async with Producer(client, name) as producer:
            await producer.put(b"1")
            server.kill()
            await heard.until(CONNECTED, SUSPENDED)
            sent = await producer.send(b"2")
            assert not await producer.flush(0.05)
            assert not sent.done()
            durable_servers()
            await sent
        assert [message.payload for message in await client.pop_batch(name)] == [b"1", b"2"]


async def test_c41_a_call_that_may_not_be_repeated_raises_that_the_server_is_away(servers: Servers) -> None:
    server = servers()
    async with Client(server.address) as client:
        name = (await client.new_queue()).id
        server.kill()
        with pytest.raises(Unreachable):
            await client.pop(name)


async def test_cx1_every_listener_is_called_until_it_leaves_and_a_failing_one_harms_no_other(servers: Servers) -> None:
    heard, left = Heard(), Heard()

    def fail(state: ConnectionState) -> None:
        raise RuntimeError("it fails")

    server = servers()
    async with Client(server.address) as client:
        client.listen(fail)
        leave = client.listen(left)
        client.listen(heard)
        await heard.until(CONNECTED)
        leave()
        leave()
        server.kill()
        await heard.until(CONNECTED, SUSPENDED)
    assert left.states == [CONNECTED]


async def test_c19_a_consumer_gets_items_again_after_the_connection_was_lost(
    durable: DurableServer, durable_servers: Servers
) -> None:
    heard = Heard()
    got: list[bytes] = []
    server = durable_servers()
    async with Client(Connection(server=server.address, lost_after=0.1)) as client:
        name = (await client.new_queue(store=durable.store_name, name="orders")).name
        await client.add(name, b"before")
        client.listen(heard)

        async def handle(received: Received[bytes]) -> None:
            got.append(received.item)

        consumer = Consumer(client, name, handle, max_messages=2)
        work = asyncio.create_task(consumer.run())

        async def is_acknowledged() -> bool:
            return consumer.done == 1  # and committed, which the server's count does not say

        await until(is_acknowledged)
        server.kill()
        await heard.until(CONNECTED, SUSPENDED, LOST)
        durable_servers()
        async with Client(server.address) as other:
            await added_once_it_is_back(other, name, b"after")
        await work
    assert got == [b"before", b"after"]


async def has_lease(received: Received[bytes], *, expected: bool) -> bool:
    """Return whether the message is known to be leased, or not to be, as expected."""
    return received.is_leased is expected


async def added_once_it_is_back(client: Client, queue: str, payload: bytes) -> None:
    """Add a message as soon as that is possible."""
    while True:
        with suppress(QueueletError):
            await client.add(queue, payload)
            return
        await asyncio.sleep(0.05)


async def test_cx9_work_that_outlives_its_server_knows_that_others_may_have_its_message(
    durable: DurableServer, durable_servers: Servers
) -> None:
    """The token of its redelivery is larger, so that systems that the work writes to can refuse the old one."""
    server = durable_servers()
    async with Client(server.address) as client:
        name = (await client.new_queue(store=durable.store_name, name="orders")).name
        await client.add(name, b"x")
        async with Consumer(client, name) as consumer:
            received = await anext(aiter(consumer))
            first = received.token
            server.kill()
            await until(lambda: has_lease(received, expected=False))
            durable_servers()
            await until(lambda: has_lease(received, expected=True))
            assert received.token > first
        assert consumer.done == 1
