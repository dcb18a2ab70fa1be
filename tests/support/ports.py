"""Ports for servers that go away and come back."""

from __future__ import annotations

import random
import socket

LASTING = range(15_000, 30_000)
"""Below the ports that systems give out by themselves, so that no other program gets one while its server is away."""


def lasting_port() -> int:
    """Return a port of loopback that nothing listens on, and that stays free while a server is away."""
    while True:
        port = random.choice(LASTING)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
