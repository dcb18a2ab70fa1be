"""A real operator process for tests."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import ceil
from typing import Self

from support.logged_process import LoggedProcess, clean_environment
from support.patience import patient


def lease_flags(duration: float, renew_deadline: float, retry_period: float) -> tuple[str, ...]:
    """Return the flags of a Lease, in seconds on a quiet machine: on a busy one a leader renews it more slowly."""
    # Kubernetes stores the duration in whole seconds.
    times = {
        "duration": ceil(patient(duration)),
        "renew-deadline": patient(renew_deadline),
        "retry-period": patient(retry_period),
    }
    return tuple(text for name, each in times.items() for text in (f"--lease-{name}", f"{each:g}"))


_QUICK = lease_flags(2, 1.5, 0.3)
"""Tests do not wait for the Lease of an operator that they killed."""


class OperatorProcess(LoggedProcess):
    """`queuelet-operator` as a process, with its metrics on a free port of loopback."""

    def __init__(self, *flags: str, env: Mapping[str, str], quick_lease: bool = True) -> None:
        """Take flags, and the environment with which it finds the API server."""
        command = [sys.executable, "-m", "queuelet_operator", "--metrics", "127.0.0.1:0"]
        super().__init__([*command, *(_QUICK if quick_lease else ()), *flags], {**clean_environment(), **env})
        self.metrics_port = 0
        """The HTTP port, once it started."""

    def start(self) -> Self:
        """Start it and wait until it leads. Raises RuntimeError with its output if it ends instead."""
        self.launch()
        try:
            self.wait_until_started()
            self.wait_until_leading()
        except BaseException:
            self.kill()
            raise
        return self

    def wait_until_started(self) -> None:
        """Wait until it serves its metrics: a standby does so too."""
        self.metrics_port = self.wait_for_log("started")["metrics_port"]

    def wait_until_leading(self, timeout: float = 30.0) -> None:
        """Wait until it leads."""
        self.wait_for_log("leading", timeout=timeout)

    @property
    def metrics_url(self) -> str:
        """The base URL of its HTTP port."""
        return f"http://127.0.0.1:{self.metrics_port}"
