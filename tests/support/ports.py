"""Ports for servers that stop and start again."""

from __future__ import annotations

import random
import socket

LASTING = range(15_000, 30_000)
"""Below the ephemeral ports, so that no other program gets one while its server is down."""


def lasting_port() -> int:
    """Return a port of loopback that nothing listens on, and that stays free while a server is down."""
    while True:
        port = random.choice(LASTING)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
