"""A ZooKeeper server and Curator as one process, told by lines what to do."""

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
"""How long an answer may take, in seconds: only there so that no defect hangs a run."""


class Curator:
    """A ZooKeeper server on a free port of loopback, with data of its own, and Apache Curator. Use it in `with`.

    Methods raise `ZooKeeperError` with what Java says where it fails.
    """

    def __init__(self, folder: Path) -> None:
        """Take an empty folder for data and log."""
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        """Where ZooKeeper listens, once it is started."""

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
        """End it at once: nobody needs its data."""
        self.kill()

    @property
    def address(self) -> str:
        """Where ZooKeeper listens."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it."""
        self._end()
        if self._process is not None:
            self._process.communicate()

    # What Curator does

    def put(self, recipe: str, path: str, items: Iterable[tuple[bytes, str | int]]) -> None:
        """Put items into a queue, each with its priority, its epoch in milliseconds or its id; '' where it has none."""
        self._ask("put", recipe, path, *(word for item, about in items for word in (item.hex(), str(about))))

    def put_multi(self, path: str, items: Iterable[bytes]) -> None:
        """Put items into a DistributedQueue as one node."""
        self._ask("multi", path, *(item.hex() for item in items))

    def deliver(self, recipe: str, path: str, count: int) -> list[bytes]:
        """Consume so many items; return them in the order in which they came."""
        return list(map(bytes.fromhex, self._ask("deliver", recipe, path, str(count))))

    def hold(self, path: str, locks: str) -> bytes:
        """Have a consumer of a DistributedQueue begin to work on the first item, and return that. See `release`."""
        (item,) = self._ask("hold", path, locks)
        return bytes.fromhex(item)

    def release(self) -> None:
        """Have the consumer end its work, and stop it."""
        self._ask("release")

    def consume(self, path: str, locks: str) -> None:
        """Have a consumer of a DistributedQueue work on all items, one after another. See `stop`. Once a process."""
        self._ask("consume", path, locks)

    def stop(self) -> list[bytes]:
        """Stop the consumer; return its items in the order in which they came."""
        return [bytes.fromhex(item) for item in self._ask("stop") if item]

    def fail(self, recipe: str, path: str, locks: str) -> None:
        """Have a consumer fail at the first item, so that Curator requeues it."""
        self._ask("fail", recipe, path, locks)

    def _ask(self, *words: str) -> list[str]:
        asked, _ = self._streams()
        asked.write("\t".join(words) + "\n")
        asked.flush()
        outcome, *answer = self._line().split("\t")
        if outcome != "ok":
            raise ZooKeeperError(f"Curator could not {words[0]}: {answer}; its log:\n{self._log.read_text()}")
        return answer

    def _line(self) -> str:
        """Return the next line that it prints."""
        _, answers = self._streams()
        # A pipe has no timeout: what hangs is ended, and ends the wait.
        guard = threading.Timer(_PATIENCE, self._end)
        guard.start()
        try:
            line = answers.readline()
        finally:
            guard.cancel()
        if not line:
            raise ZooKeeperError(f"ZooKeeper ended; its log:\n{self._log.read_text()}")
        return line.rstrip("\n")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _streams(self) -> tuple[IO[str], IO[str]]:
        """Return its standard input and output."""
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise ZooKeeperError("it was not started: use it in `with`")
        return self._process.stdin, self._process.stdout
