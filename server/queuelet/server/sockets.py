"""Finds the open connections to a port of this process in /proc, because gRPC, which owns them, does not list them.

On systems other than Linux it finds none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

_FOLDER = Path("/proc/self/fd")

_TCP_INFO_BYTES = 136
_BYTES_RECEIVED = slice(128, 136)
"""The offset of `tcpi_bytes_received` in `struct tcp_info`; it is stable, because the struct only grows at its end."""


class Peer(NamedTuple):
    """The remote end of a connection."""

    host: str
    port: int


class Connection(NamedTuple):
    """An open connection."""

    peer: Peer
    file: int
    """Its file descriptor."""
    received: int
    """Bytes received, whether or not the process has read them."""


def peer_of(text: str) -> Peer:
    """Parse a peer as gRPC writes it, such as `ipv4:127.0.0.1:8` or `ipv6:%5B::1%5D:8`."""
    host, _, port = unquote(text).partition(":")[2].rpartition(":")
    return Peer(_plain(host.strip("[]")), int(port) if port.isdigit() else 0)


def connections(port: int) -> Iterator[Connection]:
    """Yield the open connections to a local port."""
    with suppress(OSError):
        for name in os.listdir(_FOLDER):  # noqa: PTH208  # a Path for each of thousands of files costs too much
            found = _inspect(int(name), port)
            if found:
                yield found


def cut(connection: Connection, port: int) -> bool:
    """Shut a connection down if its file descriptor still belongs to it; return whether it does.

    To gRPC it looks as if the peer had disconnected.
    """
    with _borrowed(connection.file) as opened:
        if opened is None or _peer(opened, port) != connection.peer:
            return False
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)
        return True


def _inspect(file: int, port: int) -> Connection | None:
    with _borrowed(file) as opened:
        if opened is None:
            return None
        peer = _peer(opened, port)
        if peer is None:
            return None
        try:
            info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return None
    return Connection(peer, file, int.from_bytes(info[_BYTES_RECEIVED], "little"))


@contextmanager
def _borrowed(file: int) -> Iterator[socket.socket | None]:
    """Use a file descriptor that someone else owns as a socket; yields None if it is not a socket.

    The descriptor is not duplicated, because a duplicate has to be closed, and closing drops all of this process's
    locks on the file, which by then may be the database of the Disk store. If the owner closes it meanwhile, calls on
    the socket only raise OSError.
    """
    try:
        opened = socket.socket(fileno=file)
    except OSError:
        yield None
        return
    try:
        yield opened
    finally:
        opened.detach()


def _peer(opened: socket.socket, port: int) -> Peer | None:
    """Return the peer of a TCP connection to a local port, None for any other socket."""
    if opened.family not in {socket.AF_INET, socket.AF_INET6} or opened.type != socket.SOCK_STREAM:
        return None
    try:
        if opened.getsockname()[1] != port:
            return None
        host, peer_port, *_ = opened.getpeername()
    except OSError:
        return None
    return Peer(_plain(host), peer_port)


def _plain(host: str) -> str:
    """Return an address without its scope, and an IPv4-mapped IPv6 address as IPv4."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
