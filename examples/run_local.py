"""A server on this machine, and a message through it: what `make run` does.

It stays until ^C, so that you can try more; `--once` ends it after the message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process

from queuelet.client import Client
from queuelet.tags import Tag

READY_WITHIN = 30.0
"""Seconds. A server is ready in less than one."""


async def main(*, once: bool) -> int:
    """Start a server, pass a message through it, stay. Return the server's exit code."""
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "queuelet", "server"),
        *("--listen", f"127.0.0.1:{free_port(10002)}", "--metrics", f"127.0.0.1:{free_port(10003)}"),
        stderr=PIPE,
        start_new_session=True,  # ^C is for us to pass on
    )
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        serving = await asyncio.wait_for(first_line(server), READY_WITHIN)
        address, metrics = f"localhost:{serving['port']}", f"localhost:{serving['metrics_port']}"
        print(f"Serving gRPC on {address}, metrics and health on http://{metrics}.")
        await pass_a_message(address)
        if not once:
            print(NEXT.format(address=address, metrics=metrics))
            await stopped.wait()
    finally:
        if server.returncode is None:
            server.terminate()
        await server.communicate()
    print("The server has drained and stopped.")
    return server.returncode or 0


NEXT = """
Try next, in another terminal:

    export QUEUELET_SERVER_ADDRESS={address}
    .venv/bin/queuelet list
    echo hello | .venv/bin/queuelet add orders
    .venv/bin/queuelet pop orders
    .venv/bin/queuelet watch
    curl http://{metrics}/metrics

^C stops the server."""


async def first_line(server: Process) -> dict[str, str]:
    """Return the log line that says where the server listens."""
    assert server.stderr
    async for line in server.stderr:
        entry: dict[str, str] = json.loads(line)
        if entry["msg"] == "serving":
            return entry
    raise SystemExit("the server ended before it was ready")


async def pass_a_message(address: str) -> None:
    """Make a queue, add a message, take it."""
    async with Client(address) as client:
        queue = await client.new_queue(name="orders", limit=1_000, tags=[Tag("team", "checkout")])
        print(f"Made the queue {queue.name} ({queue.meta.id}), which holds up to {queue.limit:,} messages.")
        added = await client.add("orders", b"one espresso", tags=[Tag("size", "small")])
        print(f"Added the message {added.id}.")
        popped = await client.pop("orders")
        assert popped.id == added.id
        print(f"Took it: {popped.payload.decode()}.")


def free_port(wanted: int) -> int:
    """Return the port if it is free on loopback, else 0, for any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--once", action="store_true", help="stop after the message")
    sys.exit(asyncio.run(main(once=parser.parse_args().once)))
