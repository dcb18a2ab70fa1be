"""A real server for the tests of the client library, and queues on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from queuelet.client import Client, DeliverySettings
from support.rpc import unique_name
from support.server_process import ServerProcess
from support.shared_server import server

__all__ = ["server"]


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    """A client of the shared server."""
    async with Client(server.address) as opened:
        yield opened


@pytest.fixture
async def queue(client: Client) -> AsyncIterator[str]:
    """The name of a new, unlimited queue with the largest number of deliveries."""
    patient = DeliverySettings(max_deliveries=1_000)
    made = await client.new_queue(name=unique_name(), delivery=patient)
    yield made.name
    await client.delete_queue(made.name)


@pytest.fixture
async def small(client: Client) -> AsyncIterator[str]:
    """The name of a new queue with a limit of one message."""
    made = await client.new_queue(name=unique_name(), limit=1)
    yield made.name
    await client.delete_queue(made.name)
