"""Parses the network addresses that a process listens on or connects to."""

from __future__ import annotations

import os

_MAX_PORT = 65_535


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`, `[host]:port` or `:port`; raise ValueError for anything else."""
    host, separator, port = address.rpartition(":")
    bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not separator or bare or not port.isdecimal() or int(port) > _MAX_PORT:
        raise ValueError(f"{address!r} is not a valid address; write host:port, [IPv6]:port, or :port for any")
    return host.removeprefix("[").removesuffix("]"), int(port)


def reason_of(error: OSError) -> str:
    """Return why an address cannot be listened on, without the address."""
    return os.strerror(error.errno) if error.errno else str(error)
