"""The client and the command line report a response that cannot be decoded as such."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuelet.client import BadResponse, Client, Consumer, Producer
from support.commands import Cli
from support.server_process import ServerProcess

PROGRAM = (sys.executable, str(Path(__file__).parent.parent / "support" / "bare_server.py"), "garbage")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server with truncated responses."""
    with ServerProcess(program=PROGRAM, free_ports=False) as server:
        yield server.address


def test_a_client_names_the_call_whose_response_cannot_be_decoded(address: str) -> None:
    async def run() -> None:
        async with Client(address) as client:
            with pytest.raises(
                BadResponse, match=r"^PopBatch: the response of 10 bytes is not a valid PopBatchResponse"
            ):
                await client.pop_batch("orders")
            async with client.consume("orders", credit=1) as consumption:
                with pytest.raises(BadResponse, match=r"^Consume: "):
                    await anext(consumption)

    asyncio.run(run())


async def handle_none(client: Client) -> None:
    """Consume until the consumer ends."""
    async with Consumer(client, "orders") as consumer:
        async for _ in consumer:
            pass


def test_a_producer_and_a_consumer_end_with_that_error(address: str) -> None:
    async def run() -> None:
        async with Client(address) as client:
            async with Producer(client, "orders") as producer:
                with pytest.raises(BadResponse, match=r"^AddBatch: "):
                    await (await producer.send(b"one"))
            with pytest.raises(BadResponse, match=r"^GetQueue: "):
                await handle_none(client)

    asyncio.run(run())


@pytest.mark.parametrize(
    "command", [["pop"], ["peek"], ["browse"], ["stats"], ["consume", "--", "true"], ["add", "--payload", "x"]]
)
def test_a_command_fails_with_a_sentence_instead_of_a_traceback(address: str, command: list[str]) -> None:
    name, *rest = command
    ended = Cli(address)(name, "orders", *rest)
    assert ended.code == 1
    assert ended.err.startswith("queuelet: cannot ")
    assert "is not a valid " in ended.err
    assert ended.err.count("\n") == 1
