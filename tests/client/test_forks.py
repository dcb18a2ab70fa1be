"""A fork with an open blocking client: the child has its own connection, or fails at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from queuelet.client import Client
from support.counts import soaked
from support.documents import free_ports
from support.patience import patient
from support.polling import until
from support.server_process import ServerProcess

PATIENCE = patient(60)
"""How long a program may take, in seconds. A child used to hang forever."""

CHILD = """
import os, sys, threading
from queuelet.client import Forked, blocking

def in_child(work):
    \"\"\"Do work in a child that ends as a program does; return whether it went well.\"\"\"
    child = os.fork()
    if not child:
        try:
            work()
        except Exception as error:
            print(type(error).__name__, error, flush=True)
            sys.exit(1)
        sys.exit(0)
    return os.waitpid(child, 0)[1] == 0

address, queue = sys.argv[1:]
"""


def run(program: str, *arguments: str) -> str:
    """Run a program and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD + program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_a_client_and_a_producer_go_on_in_a_child_and_in_its_parent(
    client: Client, server: ServerProcess, queue: str
) -> None:
    """Each has its own connection and producer, because a copied one would repeat the other's request IDs."""
    program = f"""
with blocking.Client(address) as client, blocking.Producer(client, queue) as producer:
    producer.put(b"parent")
    for number in range({soaked(20, 200)}):
        assert in_child(lambda: producer.put(b"child"))
        producer.put(b"parent")
    with blocking.Client(address) as other:
        assert in_child(lambda: (client.peek(queue), other.peek(queue)))
"""
    run(program, server.address, queue)
    counts = {b"parent": soaked(21, 1_001), b"child": soaked(20, 200)}
    taken = [each.payload for each in await client.pop_batch(queue)]
    assert {payload: taken.count(payload) for payload in taken} == counts


async def test_a_child_opens_a_client_of_its_own(server: ServerProcess, queue: str) -> None:
    program = """
def use_own():
    with blocking.Client(address) as own, blocking.Producer(own, queue) as producer:
        producer.put(b"x")
        with blocking.Consumer(own, queue, max_messages=1) as consumer:
            print(len(list(consumer)))

with blocking.Client(address) as client:
    client.list_queues()
    assert in_child(use_own)
    # And a child of the child.
    assert in_child(lambda: (client.list_queues(), in_child(use_own)))
"""
    assert run(program, server.address, queue).split() == ["1", "1"]


async def test_a_child_of_a_client_in_use_gets_an_error_at_once(
    client: Client, server: ServerProcess, queue: str
) -> None:
    """No client works in the child. The parent goes on."""
    program = """
def use_old():
    client.list_queues()

def use_own():
    with blocking.Client(address) as own:
        own.list_queues()

with blocking.Client(address) as client:
    with blocking.Consumer(client, queue, lambda message: None, max_messages=1) as consumer:
        for work in use_old, use_own, consumer.wait, consumer.stop:
            assert not in_child(work)
        with blocking.Producer(client, queue) as producer:
            producer.put(b"x")
        consumer.wait()
        print(consumer.done)
"""
    *lines, done = run(program, server.address, queue).splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.startswith("Forked ")
    assert "open clients after the fork" in lines[0]
    assert done == "1"


async def test_what_the_parent_has_under_way_is_its_own(server: ServerProcess, queue: str) -> None:
    program = """
with blocking.Client(address) as client, blocking.Producer(client, queue) as producer:
    sent = producer.send(b"x")
    sent.result()
    assert not in_child(sent.result)
"""
    assert run(program, server.address, queue).startswith("Forked the message was sent by the parent of this process")


async def test_threads_go_on_while_others_fork(client: Client, server: ServerProcess, queue: str) -> None:
    """Calls wait for the fork, and none is lost or repeated."""
    program = f"""
with blocking.Client(address) as client, blocking.Producer(client, queue) as producer:
    def put():
        for number in range(200):
            producer.put(b"x")

    putting = [threading.Thread(target=put) for _ in range(2)]
    for thread in putting:
        thread.start()
    for number in range({soaked(10, 200)}):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    for thread in putting:
        thread.join()
"""
    run(program, server.address, queue)
    assert (await client.get_queue(queue)).messages.ready == 400


async def test_multiprocessing_with_fork(client: Client, server: ServerProcess, queue: str) -> None:
    program = """
import multiprocessing

def put(number):
    producer.put(b"%d" % number)
    return len(client.list_queues()) > 0

with blocking.Client(address) as client, blocking.Producer(client, queue) as producer:
    client.list_queues()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert all(pool.map(put, range(100)))
"""
    run(program, server.address, queue)
    assert {int(each.payload) for each in await client.pop_batch(queue)} == set(range(100))


async def test_a_client_in_an_event_loop_is_refused_in_a_child(server: ServerProcess, queue: str) -> None:
    program = """
import asyncio
from queuelet.client import Client

async def use(client):
    await client.list_queues()

async def main():
    async with Client(address) as client:
        await client.list_queues()
        assert not in_child(lambda: in_a_new_loop(lambda: use(client)))
        assert not in_child(lambda: in_a_new_loop(use_own))
        await client.list_queues()
    # Once it is closed too: a child that opened its own would hang now and then.
    del client
    assert not in_child(lambda: in_a_new_loop(use_own))

async def use_own():
    async with Client(address) as own:
        await own.list_queues()

def in_a_new_loop(work):
    asyncio._set_running_loop(None)
    asyncio.run(work())

asyncio.run(main())
"""
    lines = run(program, server.address, queue).splitlines()
    assert [line.split()[0] for line in lines] == ["Forked"] * 3


APPLICATION = """
import os
from queuelet.client import blocking

client = blocking.Client(os.environ["SERVER"])
client.__enter__()
producer = blocking.Producer(client, os.environ["QUEUE"])
producer.__enter__()
producer.put(b"loaded")

def application(environ, start_response):
    producer.put(b"%d" % os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % client.get_queue(os.environ["QUEUE"]).messages.ready]
"""


@contextmanager
def gunicorn(folder: Path, port: int, environment: dict[str, str]) -> Iterator[None]:
    (folder / "shop.py").write_text(APPLICATION)
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "--workers",
        "3",
        "--bind",
        f"127.0.0.1:{port}",
        "shop:application",
    ]
    with subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()
            try:
                server.wait(PATIENCE)
            finally:
                server.kill()


async def test_gunicorn_with_preload(client: Client, server: ServerProcess, queue: str, tmp_path: Path) -> None:
    """The application is loaded once, with its client open and used, then its workers are forked."""
    (port,) = free_ports(1)

    def ask() -> bytes:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
            return bytes(response.read())

    async def is_up() -> bool:
        try:
            return bool(ask())
        except OSError:
            return False

    with gunicorn(tmp_path, port, {"SERVER": server.address, "QUEUE": queue}):
        await until(is_up)
        responses = [int(ask()) for _ in range(20)]
    assert responses == sorted(responses)
    taken = [each.payload for each in await client.pop_batch(queue)]
    assert taken[0] == b"loaded"
    assert len(taken) == 22


@pytest.mark.parametrize("ending", ["sys.exit()", "os._exit(0)", "pass"])
async def test_a_program_ends_after_it_has_forked(server: ServerProcess, queue: str, ending: str) -> None:
    program = f"""
client = blocking.Client(address)
client.__enter__()
client.list_queues()
in_child(lambda: client.list_queues())
{ending}
"""
    run(program, server.address, queue)
