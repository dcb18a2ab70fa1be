"""Commands of `queuelet` for tests: as real processes, with their output piped or on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from support.patience import patient
from support.rpc import Rpc, eventually

QUEUELET = (sys.executable, "-m", "queuelet")

OWN_TERMINAL = ("setsid", "--ctty")
"""Makes the terminal the controlling one of the process, so that ^C typed there interrupts it."""

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

PATIENCE = patient(30)
"""Timeout of a command, in seconds. It only keeps a defect from hanging a run."""


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401  # any JSON value
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Runs commands."""

    def __init__(self, address: str = "") -> None:
        """Take the server that commands use by default."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("QUEUELET_", "Q_", "QCLI_"))}
        self.env = kept | ({"QUEUELET_SERVER_ADDRESS": address} if address else {})

    def __call__(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        """Run a command with its output piped."""
        command = [*QUEUELET, *arguments]
        env = {**self.env, **(env or {})}
        ended = subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, env=env, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr.decode())

    def start(self, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401  # passed on to Popen
        """Start a command."""
        return subprocess.Popen([*QUEUELET, *arguments], env=self.env, **streams)

    def on_terminal(self, *arguments: str, typed: bytes = b"") -> Ended:
        """Run a command on a terminal of 120 columns: `err` is the text it shows, `out` the same with colours."""
        with Terminal(self, *arguments, typed=typed) as terminal:
            return terminal.end()


class Terminal:
    """A command on a terminal."""

    def __init__(self, cli: Cli, *arguments: str, typed: bytes = b"") -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
        env = cli.env | {"TERM": "xterm"}
        self.process = subprocess.Popen(
            [*OWN_TERMINAL, *QUEUELET, *arguments], stdin=slave, stdout=slave, stderr=slave, env=env
        )
        os.close(slave)
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.type(typed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:
                return
            self._shown += data

    @property
    def shown(self) -> str:
        return self._shown.decode().replace("\r\n", "\n")

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for(self, text: str) -> None:
        eventually(lambda: text in self.shown, f"the terminal shows {text!r}")

    def end(self) -> Ended:
        code = self.process.wait(PATIENCE)
        self._reader.join()
        return Ended(code, self.shown.encode(), _COLOURS.sub("", self.shown))


def payloads(rpc: Rpc, queue: str) -> list[bytes]:
    return [message.payload for message in rpc.browse_all(queue)]


def assert_failed(ended: Ended, code: int, *texts: str) -> None:
    """One line on standard error, no traceback, nothing on standard output, and the exit code."""
    assert ended.code == code, ended.err
    assert ended.err.startswith("queuelet: ")
    assert ended.err.count("\n") == 1
    assert not ended.out
    for text in texts:
        assert text in ended.err
