"""`queuelet console` as a real process, and a browser that signs in without being one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from support.logged_process import LoggedProcess, clean_environment
from support.patience import patient
from support.rest import Answer, Rest


class ConsoleCommand(LoggedProcess):
    """The process. It prints addresses as lines of JSON."""

    def __init__(self, *flags: str, env: Mapping[str, str] | None = None) -> None:
        """Take flags, and more environment."""
        command = [sys.executable, "-m", "queuelet", "console", "--output=json", *flags]
        super().__init__(command, {**clean_environment(), **(env or {})})
        self.addresses: list[str] = []
        """The addresses that it has printed."""
        self._news_of_addresses = threading.Condition()
        self._printer: threading.Thread | None = None
        self._closed = False

    def launch(self) -> Self:
        """Start it without waiting."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._env,
        )
        for read, name in ((self._read, "errors"), (self._read_addresses, "output")):
            thread = threading.Thread(target=read, name=f"{name} of {self.pid}", daemon=True)
            thread.start()
            if name == "errors":
                self._reader = thread
        return self

    def start(self) -> Self:
        """Start it, and wait for its first address."""
        self.launch()
        self.wait_for_addresses(1)
        return self

    def wait_for_addresses(self, count: int) -> str:
        """Return the newest address once there are this many."""
        with self._news_of_addresses:
            self._news_of_addresses.wait_for(lambda: len(self.addresses) >= count or self._closed, patient(30))
            if len(self.addresses) >= count:
                return self.addresses[-1]
        raise AssertionError(f"{len(self.addresses)} addresses: {self.output()}")

    def wait_for_output(self, text: str) -> str:
        """Return all that it said once that contains a text."""
        with self._news:
            assert self._news.wait_for(lambda: text in "".join(self._lines), patient(30)), "".join(self._lines)
            return "".join(self._lines)

    @property
    def url(self) -> str:
        """The base URL of the console."""
        return self.addresses[0].partition("#")[0].rstrip("/")

    def kill(self) -> None:
        """End it if it still runs: with SIGTERM first, so that it ends its kubectl."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patient(10))
        super().kill()

    def _read_addresses(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                with self._news_of_addresses:
                    self.addresses.append(json.loads(line)["address"])
                    self._news_of_addresses.notify_all()
        with self._news_of_addresses:
            self._closed = True
            self._news_of_addresses.notify_all()


def exchange(address: str) -> Answer:
    """Exchange the key of an address for a cookie, as the page does."""
    url, _, key = address.partition("#key=")
    return Rest(url.rstrip("/")).ask("POST", "/key", {"key": key})


class FakeKubectl:
    """A folder with a `kubectl` that forwards to an address, and what it was called with."""

    def __init__(self, folder: Path, to: str) -> None:
        """Write it. `to` is the address that it forwards to."""
        folder.mkdir()
        script = folder / "kubectl"
        program = Path(__file__).with_name("fake_kubectl.py")
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
        script.chmod(0o755)
        self._notes = folder / "notes"
        self._notes.touch()
        self.env = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "FORWARD_TO": to,
            "FORWARD_NOTES": str(self._notes),
        }
        """The environment in which this kubectl is found first."""

    def calls(self, command: str = "port-forward") -> list[list[str]]:
        """The arguments of each start of a command."""
        return [each["arguments"] for each in self._starts(command)]

    def pid(self, command: str = "port-forward") -> int:
        """The process ID of the newest start of a command."""
        pid: int = self._starts(command)[-1]["pid"]
        return pid

    def _starts(self, command: str) -> list[dict[str, Any]]:
        starts = [json.loads(line) for line in self._notes.read_text().splitlines()]
        return [each for each in starts if each["arguments"][0] == command]
