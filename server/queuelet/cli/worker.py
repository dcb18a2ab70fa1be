"""A consumer that runs a command for each message: what is behind `queuelet consume`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypedDict

from queuelet.cli.failures import report
from queuelet.cli.options import Options
from queuelet.cli.output import messages
from queuelet.cli.session import open_client

if TYPE_CHECKING:
    from queuelet.client import Client, Consumer, Received

PATIENCE = 2.0
"""How long a command may take to end when it is told to, in seconds."""


class Flags(TypedDict):
    """What a worker is told on the command line."""

    concurrency: int
    lease: float | None
    nack_delay: float
    heartbeat: float
    max_messages: int | None
    until_empty: bool
    exclusive: bool
    consumer: str


class Worker:
    """Consumes a queue until it is told to end, or has done what it was told to."""

    def __init__(self, options: Options, queue: str, command: Sequence[str], flags: Flags) -> None:
        """Take which server, which queue, what to run, and how."""
        self._options = options
        self._queue = queue
        self._command = command
        self._flags = flags
        self._consumer: Consumer[bytes] | None = None
        self._consuming: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.aborted_by = 0
        """The signal that ended it at once, if one did."""
        self.failed = 0
        """Commands that did not exit with 0."""

    @property
    def lost(self) -> int:
        """Messages that were done but may be delivered again."""
        return self._consumer.lost if self._consumer else 0

    async def run(self) -> None:
        """Consume, over as many connections as it takes. Raises what does not go by itself."""
        with _told(), self._signals():
            async with open_client(self._options) as client:
                self._consumer = self._make_consumer(client)
                self._consuming = asyncio.ensure_future(self._consumer.run())
                with suppress(asyncio.CancelledError):
                    await self._consuming

    def tell_summary(self) -> None:
        """Say what was done, if there was a server to do it with."""
        consumer = self._consumer
        if consumer is None or not consumer.was_connected:
            return
        parts = [f"{messages(consumer.done)} done", f"{self.failed:,} failed"]
        if consumer.lost:
            parts.append(f"{consumer.lost:,} done that may come again")
        if consumer.unconfirmed:
            parts.append(f"{consumer.unconfirmed:,} of which the server has not heard")
        report(", ".join(parts))

    def _make_consumer(self, client: Client) -> Consumer[bytes]:
        # As in `open_client`.
        from queuelet.client import Consumer  # noqa: PLC0415

        flags = self._flags
        return Consumer(
            client,
            self._queue,
            self._work,
            concurrency=flags["concurrency"],
            # A command takes long beside a message's way, and others may be free to run one.
            prefetch=0,
            lease=flags["lease"] or 0,
            heartbeat=flags["heartbeat"],
            exclusive=flags["exclusive"],
            name=flags["consumer"],
            max_messages=flags["max_messages"],
            until_empty=flags["until_empty"],
            close_timeout=None,
            reach_for=0,
            missing_for=self._options.timeout or float("inf"),
        )

    # Its end

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for a wish to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end_by, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _end_by(self, number: int) -> None:
        """End when the commands that run have ended; told twice, at once."""
        if self._is_stopping:
            self.aborted_by = number
            if self._consuming:
                self._consuming.cancel()
            return
        self._is_stopping = True
        if self._consumer:
            if self._consumer.in_work:
                report(f"waiting for {self._consumer.in_work:,} running; once more to stop them")
            self._consumer.stop()

    # Messages

    async def _work(self, received: Received[bytes]) -> None:
        """Run the command for a message to its end, and settle the message."""
        failure = await self._execute(received)
        if failure:
            self.failed += 1
            report(f"message {received.id} failed: {failure}")
            received.nack(delay=self._flags["nack_delay"], reason=failure)

    async def _execute(self, received: Received[bytes]) -> str:
        """Run the command, and return why it failed; nothing if it did not."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                env=self._environment(received),
                # So that ^C on a terminal does not end it, and that all it has started ends with it.
                process_group=0,
            )
        except OSError as error:
            return f"cannot run {self._command[0]}: {error.strerror}"
        try:
            await process.communicate(received.payload)
        finally:
            await _end(process)
        code = process.returncode or 0
        if not code:
            return ""
        return f"exit code {code}" if code > 0 else f"killed by signal {-code}"

    def _environment(self, received: Received[bytes]) -> dict[str, str]:
        """Return what a command finds in its environment."""
        facts = {
            "ID": received.id,
            "QUEUE": self._queue,
            "TOKEN": str(received.token),
            "DELIVERY_COUNT": str(received.count),
            "DEADLINE": received.deadline.isoformat().replace("+00:00", "Z"),
            "TAGS": json.dumps([{"key": tag.key, "value": tag.value} for tag in received.tags]),
            "CONSUMER": self._flags["consumer"],
        }
        if received.holder_token:
            facts["HOLDER_TOKEN"] = str(received.holder_token)
        told = {f"QUEUELET_MESSAGE_{name}": fact for name, fact in facts.items()}
        return {**os.environ, "QUEUELET_SERVER_ADDRESS": self._options.server, **told}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Have a command end with all it has started: asked for first, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await process.wait()


@contextmanager
def _told() -> Iterator[None]:
    """Tell people what the client library logs."""
    log, handler = logging.getLogger("queuelet.client"), _Reporter()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Reporter(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        report(record.getMessage())
