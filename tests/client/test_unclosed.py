"""Messages of a producer that was never closed are sent as the program ends, or the log says that they were not."""

from __future__ import annotations

import subprocess
import sys

from queuelet.client import Client
from support.patience import patient
from support.server_process import ServerProcess


def run(program: str, *arguments: str) -> str:
    """Run a program and return its log."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, timeout=patient(60)
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


BLOCKING = """
import sys
from queuelet.client import blocking

client = blocking.Client(sys.argv[1])
client.__enter__()
producer = blocking.Producer(client, sys.argv[2], linger=10)
producer.__enter__()
for number in range(100):
    producer.send(b"%d" % number)
del producer
"""


async def test_what_a_blocking_producer_holds_is_sent_at_the_end(
    client: Client, server: ServerProcess, queue: str
) -> None:
    printed = run(BLOCKING, server.address, queue)
    assert [int(each.payload) for each in await client.pop_batch(queue)] == list(range(100))
    assert f"a producer of queue {queue} was not closed; " in printed
    assert "messages as the program ends" in printed


def test_the_log_says_what_could_not_be_sent_at_the_end() -> None:
    printed = run(BLOCKING, "127.0.0.1:1", "orders")
    assert "100 messages of queue orders were not sent within 5 s" in printed
    assert "100 messages were not added" in printed


def test_a_program_that_closes_its_producer_ends_without_a_word(server: ServerProcess, queue: str) -> None:
    assert not run(BLOCKING.replace("del producer", "producer.close()"), server.address, queue)


async def test_the_log_reports_an_async_producer_that_was_not_closed(server: ServerProcess, queue: str) -> None:
    program = """
import asyncio, sys
from queuelet.client import Client, Producer

async def main():
    client = await Client(sys.argv[1]).__aenter__()
    producer = await Producer(client, sys.argv[2], linger=10).__aenter__()
    await producer.put(b"x")
    await producer.send(b"y")

asyncio.run(main())
"""
    printed = run(program, server.address, queue)
    assert f"a producer of queue {queue} was not closed; 1 of its messages were not sent" in printed
