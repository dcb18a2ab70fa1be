"""A real gateway process for tests: `queuelet rest`, observed by its log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Self

from support.logged_process import LoggedProcess, clean_environment


class GatewayProcess(LoggedProcess):
    """`queuelet rest` as a process, on a free port of loopback unless the flags say otherwise."""

    def __init__(self, server: str, *flags: str, env: Mapping[str, str] | None = None) -> None:
        """Take the server's address, flags, and more environment."""
        command = [sys.executable, "-m", "queuelet", "rest", server, "--listen", "127.0.0.1:0", *flags]
        super().__init__(command, {**clean_environment(), **(env or {})})
        self.port = 0
        """Its port, once it serves."""

    def start(self) -> Self:
        """Start it and wait until it serves. Raises RuntimeError with its output if it ends instead."""
        self.launch()
        try:
            self.port = self.wait_for_log("gateway initialised")["port"]
        except BaseException:
            self.kill()
            raise
        return self

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"
