"""Free ports of loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def free_ports(count: int) -> list[int]:
    """Return distinct ports that nothing listens on. Another process may take one first: be ready to retry."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Reserve distinct ports for servers that take long to start.

    The ports are bound without listening, so that no connection gets one as its own port. A server that sets
    SO_REUSEADDR, as nearly all do, can still listen on it.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each, port in zip(sockets, free_ports(count), strict=True):
            each.bind(("127.0.0.1", port))
        yield [each.getsockname()[1] for each in sockets]
