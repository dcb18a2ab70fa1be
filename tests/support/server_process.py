"""A real server process for tests: started with flags, observed by its log, ended by signals."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from support.logged_process import LoggedProcess, LogLine, clean_environment

__all__ = ["OBSERVED", "LogLine", "ServerProcess", "server_command"]

OBSERVED = (sys.executable, str(Path(__file__).with_name("observed_server.py")))
"""Starts the server with the same flags, and logs the contents of its event loop at SIGUSR1."""

TRANSPORT = os.environ.get("QUEUELET_TRANSPORT", "")
"""The transport of all servers that tests start, the usual one if empty: `make test-native` sets it."""

_EPHEMERAL = ("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--http", "127.0.0.1:0")


class ServerProcess(LoggedProcess):
    """`queuelet server` as a process, on free ports of loopback unless the flags say otherwise."""

    def __init__(
        self,
        *flags: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] | None = None,
        free_ports: bool = True,
    ) -> None:
        """Take flags, more environment, a command to run instead, and whether to put flags for free ports first."""
        command = [*(program or server_command()), *(_EPHEMERAL if free_ports else ()), *flags]
        transport = {"QUEUELET_SERVER_TRANSPORT": TRANSPORT} if TRANSPORT else {}
        super().__init__(command, {**clean_environment(), **transport, **(env or {})})
        self.port = 0
        """The gRPC port, once it serves."""
        self.metrics_port = 0
        """The HTTP port, once it serves."""
        self.http_port = 0
        """The gateway's port, once it serves; 0 if there is none."""

    def start(self) -> Self:
        """Start it and wait until it serves. Raises RuntimeError with its output if it ends instead."""
        self.launch()
        try:
            serving = self.wait_for_log("serving")
        except BaseException:
            self.kill()
            raise
        self.port, self.metrics_port = serving["port"], serving["metrics_port"]
        self.http_port = serving.get("http_port", 0)
        return self

    @property
    def address(self) -> str:
        """The gRPC address."""
        return f"127.0.0.1:{self.port}"

    @property
    def metrics_url(self) -> str:
        """The base URL of the HTTP port."""
        return f"http://127.0.0.1:{self.metrics_port}"

    @property
    def rest_url(self) -> str:
        """The base URL of the gateway."""
        return f"http://127.0.0.1:{self.http_port}"


def server_command() -> list[str]:
    """Return the command that starts a server, without flags."""
    return [sys.executable, "-m", "queuelet", "server"]
