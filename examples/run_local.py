"""Queues as manifests, on this machine: what `make run` does.

A real Kubernetes API server, our server and our operator run as local processes. The example queues are applied, and a
message is passed through each. Everything keeps running until ^C, so that you can try more; `--once` stops it after the
messages.
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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from queuelet.client import Client
from tools.control_plane import ControlPlane, ControlPlaneError, binaries
from tools.control_plane.guard import Guard
from tools.postgres import PortTakenError, Postgres, PostgresError

ROOT = Path(__file__).parents[1]
QUEUES = ROOT / "examples" / "manifests" / "base"

READY_WITHIN = 60.0
"""Seconds. On an idle machine everything is ready in a few."""

RESTART_AFTER, MAX_RESTART_PAUSE = 1.0, 30.0
"""Seconds until a program that ended is restarted: the first wait, and the maximum if it never gets ready."""


class RunError(Exception):
    """A program failed or did not become ready."""


async def main(*, once: bool, postgres: bool = False) -> int:
    """Start everything, pass messages through it, and wait. Return the exit code."""
    async with AsyncExitStack() as running:
        showing = asyncio.create_task(show(running, once=once, postgres=postgres))

        def stop() -> None:
            # Only once, because a second ^C must not interrupt the shutdown that the first one started.
            if not showing.cancelling():
                showing.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        with suppress(asyncio.CancelledError):
            await showing
    print("Everything has stopped, and nothing is left of it.")
    return 0


async def show(running: AsyncExitStack, *, once: bool, postgres: bool) -> None:
    """Start everything and pass messages through it; then wait until cancelled. The stack stops everything."""
    control_plane = running.enter_context(ControlPlane())
    control_plane.api.define(ROOT / "crds" / "queues.yaml")
    print("A Kubernetes API server runs, and knows the kind Queue.")
    server = await serving(running, *(database(running) if postgres else ()))
    address = f"localhost:{server['port']}"
    console = f"http://localhost:{server['http_port']}"
    print(f"The queue server serves gRPC on {address}, metrics on http://localhost:{server['metrics_port']}.")
    print(f"Its console and its REST API are at {console}.")
    await running.enter_async_context(
        process(
            "The operator",
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
        kubectl, tools = binaries.get("kubectl"), Path(sys.executable).parent
        kubeconfig = control_plane.kubeconfig
        print(NEXT.format(kubeconfig=kubeconfig, kubectl=kubectl, address=address, tools=tools, console=console))
        await asyncio.Event().wait()


async def serving(running: AsyncExitStack, *flags: str) -> dict[str, Any]:
    """Start the server with these flags, and return the log line that has its ports."""
    folder = running.enter_context(TemporaryDirectory(prefix="queuelet-"))
    guard = Guard(Path(folder))
    running.callback(guard.dismiss)
    usual = (10002, 10003, 8080)
    for ports in (usual, (0, 0, 0)):
        grpc, metrics, http = (f"127.0.0.1:{free_port(port)}" for port in ports)
        program = ("queuelet", "server", "--data-dir", folder, *flags)
        addresses = ("--listen", grpc, "--metrics", metrics, "--http", http)
        started = process("The queue server", *program, *addresses, ready="serving", guard=guard)
        try:
            return dict(await running.enter_async_context(started))
        except RunError:  # another `make run` that began at the same time may have taken a port
            if ports != usual:
                raise
    raise AssertionError


def database(running: AsyncExitStack) -> tuple[str, ...]:
    """Start a PostgreSQL, and return the flags of a server that keeps queues in it."""
    folder = Path(running.enter_context(TemporaryDirectory(prefix="queuelet-pg-")))
    started = Postgres(folder, free_port(5432))
    running.callback(started.stop)
    try:
        started.start()
    except PortTakenError:  # by another `make run` that began at the same time
        started.port = free_port(0)
        started.start()
    print(f"A PostgreSQL runs, for queues with `store: Postgres`: psql {started.url}")
    return "--postgres", started.url


NEXT = """
See the queues in a browser: {console}

Try next, in another terminal:

    export KUBECONFIG={kubeconfig} QUEUELET_SERVER_ADDRESS={address}
    export PATH="{tools}:$PATH"
    alias kubectl={kubectl}
    kubectl get queues --all-namespaces --watch
    kubectl explain queue.spec
    kubectl --namespace shop patch queue orders --type merge --patch '{{"spec": {{"limit": 7}}}}'
    queuelet delete shop.orders       # the operator creates it again
    queuelet list
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
    """Run kubectl, which prints what it does. Raises `RunError` if it fails."""
    environment = os.environ | control_plane.environment
    done = await asyncio.create_subprocess_exec(
        binaries.get("kubectl"), *arguments, env=environment, start_new_session=True
    )
    try:
        if await done.wait():
            raise RunError(f"kubectl {arguments[0]} failed")
    finally:
        if done.returncode is None:
            done.kill()
            await done.wait()


async def pass_messages(address: str) -> None:
    """Add a message to each queue, and pop it."""
    async with Client(address) as client:
        for queue in await client.list_queues():
            added = await client.add(queue.name, f"hello, {queue.name}".encode())
            popped = await client.pop(queue.name)
            assert popped.id == added.id
            print(f"Put a message into {queue.name}, and took it: {popped.payload.decode()}.")


@asynccontextmanager
async def process(
    name: str,
    module: str,
    *arguments: str,
    ready: str,
    env: dict[str, str] | None = None,
    guard: Guard | None = None,
) -> AsyncIterator[Any]:
    """Run one of our programs; yield the log line that says that it is ready; stop it at the end.

    If the program ends by itself it is restarted, as its Pod would be, because an operator ends if it loses its Lease,
    for example on a slow machine. It is an error only if it ends before it was ever ready. `guard` kills it if this
    process is killed.
    """
    first: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    command = (sys.executable, "-m", module, *arguments)
    running = asyncio.create_task(keep_running(name, command, ready, os.environ | (env or {}), first, guard))
    try:
        yield await asyncio.wait_for(first, READY_WITHIN)
    finally:
        running.cancel()
        await asyncio.wait({running})


async def keep_running(  # noqa: PLR0913, PLR0917  # all are needed for each start
    name: str,
    command: Sequence[str],
    ready: str,
    env: Mapping[str, str],
    first: asyncio.Future[dict[str, Any]],
    guard: Guard | None,
) -> None:
    """Run a program and restart it whenever it ends, until cancelled. `first` gets the first log line `ready`."""
    pause = RESTART_AFTER
    while True:
        started = await asyncio.create_subprocess_exec(
            *command,
            stderr=PIPE,
            start_new_session=True,  # so that ^C reaches only this process, which then stops the program
            env=env,
        )
        if guard:
            guard.watch(started.pid)
        log = asyncio.create_task(read_log(name, started, ready, first))
        try:
            code = await started.wait()
        finally:
            if started.returncode is None:
                started.terminate()
            was_ready = await log
            await started.wait()
        if not first.done():
            first.set_exception(RunError(f"{name} ended before it was ready"))
        if first.exception():
            return
        pause = RESTART_AFTER if was_ready else min(2 * pause, MAX_RESTART_PAUSE)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        print(f"{name} has ended {how}. It is started again in {pause:g} s.", file=sys.stderr)
        await asyncio.sleep(pause)


async def read_log(name: str, started: Process, ready: str, first: asyncio.Future[dict[str, Any]]) -> bool:
    """Read a program's log to its end, because a full pipe would stop it. Return whether the program was ready.

    Warnings and errors are printed.
    """
    was_ready = False
    assert started.stderr
    async for line in started.stderr:
        try:
            entry = json.loads(line)
        except ValueError:
            print(line.decode(), end="", file=sys.stderr)
            continue
        if entry["msg"] == ready and not was_ready:
            was_ready = True
            if first.done():
                print(f"{name} is ready again.", file=sys.stderr)
            else:
                first.set_result(entry)
        elif sentence := sentence_of(entry):
            print(sentence, file=sys.stderr)
    return was_ready


def sentence_of(entry: Mapping[str, Any]) -> str:
    """Return the text to print for a log entry: empty unless it is a warning or an error."""
    level = entry["level"]
    if level not in {"warning", "error", "critical"}:
        return ""
    if level == "error" and "reason" in entry:
        # A refused call: the caller got the error, and the server is not at fault.
        return ""
    why = entry.get("error") or entry.get("why") or entry.get("problem") or entry.get("exception")
    return f"{level}: {entry['msg']}: {why}" if why else f"{level}: {entry['msg']}"


def free_port(wanted: int) -> int:
    """Return the port if it is free on loopback, else another. A restarted program gets the same port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise RunError("no port is free on loopback")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--once", action="store_true", help="stop after the messages")
    parser.add_argument("--postgres", action="store_true", help="also keep queues in a PostgreSQL")
    given = parser.parse_args()
    try:
        sys.exit(asyncio.run(main(once=given.once, postgres=given.postgres)))
    except (ControlPlaneError, PostgresError, RunError) as error:
        sys.exit(f"make run: {error}")
