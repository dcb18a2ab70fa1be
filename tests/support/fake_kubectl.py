"""Stands in for kubectl, without a cluster.

`port-forward` passes connections on to the address in FORWARD_TO. `proxy` refuses all requests, unless REAL_KUBECTL is
the path of a real one, which then does it. The file in FORWARD_NOTES gets a line of JSON for each start: the arguments
and the process ID.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


async def _serve() -> None:
    local, _, remote = sys.argv[-1].partition(":")
    host, _, port = os.environ["FORWARD_TO"].rpartition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", int(local or 0))
    number = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"Forwarding from 127.0.0.1:{number} -> {remote}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _refuse() -> None:
    """Serve a socket as `kubectl proxy` does, of an API server that does not have the kind Queue."""
    (path,) = (each.partition("=")[2] for each in sys.argv if each.startswith("--unix-socket="))

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(respond, path)
    sys.stdout.write(f"Starting to serve on {path}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Note the arguments, then forward, or fail as FORWARD_FAILS says."""
    with Path(os.environ["FORWARD_NOTES"]).open("a") as notes:
        notes.write(json.dumps({"arguments": sys.argv[1:], "pid": os.getpid()}) + "\n")
    if failure := os.environ.get("FORWARD_FAILS"):
        sys.exit(failure)
    if sys.argv[1] == "port-forward":
        asyncio.run(_serve())
    if real := os.environ.get("REAL_KUBECTL"):
        os.execv(real, [real, *sys.argv[1:]])  # noqa: S606  # instead of this process
    asyncio.run(_refuse())


if __name__ == "__main__":
    main()
