"""Relays connections into a sandbox: python relay.py FOLDER FD=HOST:PORT...

Each FD is a socket that listens in the machine's network. It was opened before this process moved into the sandbox's
network, and a socket stays in the network it was opened in. So connections are accepted in one network and made in the
other.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

_CHUNK = 65536


async def main() -> None:
    """Relay until killed."""
    servers = []
    for argument in sys.argv[2:]:
        number, _, target = argument.partition("=")
        host, _, port = target.rpartition(":")
        listening = socket.socket(fileno=int(number))
        servers.append(await asyncio.start_server(_to(host, int(port)), sock=listening))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _to(host: str, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inside_reader, inside_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, inside_writer), _pump(inside_reader, writer))
        for each in (writer, inside_writer):
            each.close()

    return carry


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Pass a lost connection on to the other side like a closed one.
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()


if __name__ == "__main__":
    asyncio.run(main())
