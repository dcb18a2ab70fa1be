"""Queues as manifests, on this machine: what `make run` does.

A real Kubernetes API server, our server and our operator run as local processes. The example queues are applied, and a
message is passed through each. All of it stays until ^C, so that you can try more; `--once` ends it after that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from queuelet.client import Client
from tools.control_plane import ControlPlane, ControlPlaneError, binaries

ROOT = Path(__file__).parents[1]
QUEUES = ROOT / "examples" / "manifests" / "base"

READY_WITHIN = 60.0
"""Seconds. Everything is ready in a few, on a machine with little else to do."""


async def main(*, once: bool) -> int:
    """Start everything, pass messages through it, stay. Return the exit code."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as running:
        control_plane = running.enter_context(ControlPlane())
        control_plane.api.define(ROOT / "crds" / "queues.yaml")
        print("A Kubernetes API server runs, and knows the kind Queue.")
        folder = running.enter_context(TemporaryDirectory(prefix="queuelet-"))
        server = await running.enter_async_context(
            process(
                *("queuelet", "server", "--data-dir", folder),
                *("--listen", f"127.0.0.1:{free_port(10002)}", "--metrics", f"127.0.0.1:{free_port(10003)}"),
                ready="serving",
            )
        )
        address = f"localhost:{server['port']}"
        print(f"The queue server serves gRPC on {address}, metrics on http://localhost:{server['metrics_port']}.")
        await running.enter_async_context(
            process(
                *("queuelet_operator", "--server", address),
                *("--metrics", f"127.0.0.1:{free_port(10004)}"),
                ready="leading",
                env=control_plane.environment,
            )
        )
        print("The operator leads.\n")
        await apply_queues(control_plane)
        await pass_messages(address)
        if not once:
            print(NEXT.format(kubeconfig=control_plane.kubeconfig, kubectl=binaries.get("kubectl"), address=address))
            await stopped.wait()
    print("Everything has stopped, and nothing is left of it.")
    return 0


NEXT = """
Try next, in another terminal:

    export KUBECONFIG={kubeconfig} QUEUELET_SERVER_ADDRESS={address}
    alias kubectl={kubectl}
    kubectl get queues --all-namespaces --watch
    kubectl explain queue.spec
    kubectl --namespace shop patch queue orders --type merge --patch '{{"spec": {{"limit": 7}}}}'
    .venv/bin/queuelet delete shop.orders       # the operator makes it anew
    .venv/bin/queuelet list
    kubectl --namespace shop describe queue orders

^C stops everything."""


async def apply_queues(control_plane: ControlPlane) -> None:
    """Apply the example queues as a user does, wait until they are Ready, and show them."""
    print("$ kubectl apply --kustomize examples/manifests/base")
    await kubectl(control_plane, "apply", "--kustomize", str(QUEUES))
    print("$ kubectl wait --for=condition=Ready queues --all --namespace shop")
    await kubectl(control_plane, "wait", "--for=condition=Ready", "queues", "--all", "--namespace=shop")
    print("$ kubectl get queues --namespace shop --output wide")
    await kubectl(control_plane, "get", "queues", "--namespace=shop", "--output=wide")
    print()


async def kubectl(control_plane: ControlPlane, *arguments: str) -> None:
    """Run kubectl, which prints what it does. Raises SystemExit where it fails."""
    environment = os.environ | control_plane.environment
    done = await asyncio.create_subprocess_exec(
        binaries.get("kubectl"), *arguments, env=environment, start_new_session=True
    )
    if await done.wait():
        raise SystemExit(f"kubectl {arguments[0]} failed")


async def pass_messages(address: str) -> None:
    """Put a message into each queue, and take it out."""
    async with Client(address) as client:
        for queue in await client.list_queues():
            added = await client.add(queue.name, f"hello, {queue.name}".encode())
            popped = await client.pop(queue.name)
            assert popped.id == added.id
            print(f"Put a message into {queue.name}, and took it: {popped.payload.decode()}.")


@asynccontextmanager
async def process(module: str, *arguments: str, ready: str, env: dict[str, str] | None = None) -> AsyncIterator[Any]:
    """Run one of our programs; give the log line that says that it is ready; have it stop at the end."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stderr=PIPE,
        start_new_session=True,  # ^C is for us to pass on
        env=os.environ | (env or {}),
    )
    line: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    log = asyncio.create_task(read_log(started, ready, line))
    try:
        yield await asyncio.wait_for(line, READY_WITHIN)
    finally:
        if started.returncode is None:
            started.terminate()
        await log
        await started.wait()


async def read_log(started: Process, ready: str, found: asyncio.Future[dict[str, Any]]) -> None:
    """Read a program's log to its end, as a pipe that nobody reads would stop it; show what went wrong."""
    assert started.stderr
    async for line in started.stderr:
        try:
            entry = json.loads(line)
        except ValueError:
            print(line.decode(), end="", file=sys.stderr)
            continue
        if entry["msg"] == ready and not found.done():
            found.set_result(entry)
        elif entry["level"] in {"warning", "error", "critical"}:
            print(f"{entry['level']}: {entry['msg']} {entry.get('error', '')}", file=sys.stderr)
    if not found.done():
        found.set_exception(SystemExit("a program ended before it was ready"))


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
    parser.add_argument("--once", action="store_true", help="stop after the messages")
    try:
        sys.exit(asyncio.run(main(once=parser.parse_args().once)))
    except ControlPlaneError as error:
        sys.exit(f"make run: {error}")
