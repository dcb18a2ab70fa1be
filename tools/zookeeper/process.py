"""A ZooKeeper server and Curator in one process, controlled by lines on its standard input."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tools.zookeeper.errors import ZooKeeperError
from tools.zookeeper.jars import jars

_PROGRAM = Path(__file__).with_name("Curator.java")

_PATIENCE = 45.0
"""Timeout of a response, in seconds. It only keeps a defect from hanging a run."""


class Curator:
    """A ZooKeeper server on a free port of loopback, with data of its own, and Apache Curator. Use it in `with`.

    Methods raise `ZooKeeperError` with Java's message if they fail.
    """

    def __init__(self, folder: Path) -> None:
        """Take an empty folder for data and log."""
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        """ZooKeeper's address, once it is started."""

    def __enter__(self) -> Self:
        """Start it, and wait until Curator is connected."""
        self._data.mkdir()
        options = ["-Xmx128m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        path = ":".join(map(str, jars()))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["java", *options, "-classpath", path, str(_PROGRAM), str(self._data)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        try:
            self.port = int(self._line())
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it: its data is not needed any more."""
        self.kill()

    @property
    def address(self) -> str:
        """ZooKeeper's address."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Kill the process."""
        self._end()
        if self._process is not None:
            self._process.communicate()

    # Curator's commands

    def put(self, recipe: str, path: str, items: Iterable[tuple[bytes, str | int]]) -> None:
        """Put items into a queue, each with its priority, its epoch in milliseconds or its ID; '' if it has none."""
        self._ask("put", recipe, path, *(word for item, about in items for word in (item.hex(), str(about))))

    def put_multi(self, path: str, items: Iterable[bytes]) -> None:
        """Put items into a DistributedQueue as one node."""
        self._ask("multi", path, *(item.hex() for item in items))

    def deliver(self, recipe: str, path: str, count: int) -> list[bytes]:
        """Consume this many items; return them in the order of delivery."""
        return list(map(bytes.fromhex, self._ask("deliver", recipe, path, str(count))))

    def hold(self, path: str, locks: str) -> bytes:
        """Have a consumer of a DistributedQueue start to process the first item; return the item. See `release`."""
        (item,) = self._ask("hold", path, locks)
        return bytes.fromhex(item)

    def release(self) -> None:
        """Let the consumer finish its item, and stop it."""
        self._ask("release")

    def consume(self, path: str, locks: str) -> None:
        """Have a consumer of a DistributedQueue process all items in order. See `stop`. Once per process."""
        self._ask("consume", path, locks)

    def stop(self) -> list[bytes]:
        """Stop the consumer; return its items in the order of delivery."""
        return [bytes.fromhex(item) for item in self._ask("stop") if item]

    def fail(self, recipe: str, path: str, locks: str) -> None:
        """Have a consumer fail at the first item, so that Curator requeues it."""
        self._ask("fail", recipe, path, locks)

    def _ask(self, *words: str) -> list[str]:
        asked, _ = self._streams()
        asked.write("\t".join(words) + "\n")
        asked.flush()
        outcome, *response = self._line().split("\t")
        if outcome != "ok":
            raise ZooKeeperError(f"Curator could not {words[0]}: {response}; its log:\n{self._log.read_text()}")
        return response

    def _line(self) -> str:
        """Return the next line of output."""
        _, responses = self._streams()
        # Reading a pipe has no timeout, so a timer kills a process that hangs, which ends the read.
        guard = threading.Timer(_PATIENCE, self._end)
        guard.start()
        try:
            line = responses.readline()
        finally:
            guard.cancel()
        if not line:
            raise ZooKeeperError(f"ZooKeeper ended; its log:\n{self._log.read_text()}")
        return line.rstrip("\n")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _streams(self) -> tuple[IO[str], IO[str]]:
        """Return the process's standard input and output."""
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise ZooKeeperError("ZooKeeper is not started; use it in `with`")
        return self._process.stdin, self._process.stdout
