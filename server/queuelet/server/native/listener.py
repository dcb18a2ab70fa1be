"""Opens a port, and accepts connections to it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from queuelet.addresses import split_address

_BATCH = 100
"""The most connections accepted in one turn of the event loop."""

_PAUSE = 0.5
"""Seconds until accepting is tried again if the process has no files left."""

_ANY = ("::", "0.0.0.0")  # noqa: S104  # the user chose to listen on all addresses
"""If the first one cannot be used, because this machine has no IPv6, the second one is."""

_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors of an address that this machine does not have."""


def open_sockets(address: str) -> list[socket.socket]:
    """Open a port on each address of a host, such as `localhost:10002` or `[::]:0`.

    Raises:
        OSError: none of the addresses can be listened on, or one is in use.
    """
    host, port = split_address(address)
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for each in _ANY if host == _ANY[0] else _addresses(host, port):
            family = socket.AF_INET6 if ":" in each else socket.AF_INET
            is_any = each == _ANY[0]
            try:
                made = socket.create_server(
                    (each, port), family=family, backlog=socket.SOMAXCONN, dualstack_ipv6=is_any
                )
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
                continue
            made.setblocking(False)  # noqa: FBT003  # the library's signature
            opened.append(made)
            port = made.getsockname()[1]
            if is_any:
                break
    except OSError:
        for each_opened in opened:
            each_opened.close()
        raise
    if not opened:
        raise missing or OSError(errno.EADDRNOTAVAIL, "the host has no address")
    return opened


def _addresses(host: str, port: int) -> Iterable[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)


def peer_name(accepted: socket.socket) -> str:
    """Return the peer of a socket as gRPC writes it, such as `ipv4:127.0.0.1:8` or `ipv6:%5B::1%5D:8`.

    Raises:
        OSError: the peer has disconnected.
    """
    host, port, *_ = accepted.getpeername()
    return f"ipv6:%5B{host}%5D:{port}" if accepted.family == socket.AF_INET6 else f"ipv4:{host}:{port}"


class Listener:
    """Accepts connections, and passes their sockets on."""

    def __init__(self, sockets: Iterable[socket.socket], accept: Callable[[socket.socket], None]) -> None:
        """Make it for listening sockets; `accept` gets each connection."""
        self._sockets = list(sockets)
        self._accept = accept
        self._pauses: set[asyncio.TimerHandle] = set()

    def start(self) -> None:
        """Start to accept."""
        for each in self._sockets:
            asyncio.get_running_loop().add_reader(each, self._accept_all, each)

    def close(self) -> None:
        """Close the port."""
        for pause in self._pauses:
            pause.cancel()
        for each in self._sockets:
            asyncio.get_running_loop().remove_reader(each)
            each.close()

    def _accept_all(self, listening: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                accepted, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no file is left, or no memory
                self._pause(listening)
                return
            accepted.setblocking(False)  # noqa: FBT003  # the library's signature
            with suppress(OSError):  # some systems refuse it if the peer has disconnected already
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accept(accepted)

    def _pause(self, listening: socket.socket) -> None:
        """Try again after a moment, because the socket stays readable."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)

        def go_on() -> None:
            self._pauses.discard(pause)
            loop.add_reader(listening, self._accept_all, listening)

        pause = loop.call_later(_PAUSE, go_on)
        self._pauses.add(pause)
