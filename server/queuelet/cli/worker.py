"""The consumer of `queuelet consume`, which runs a command for each message."""

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
"""Seconds that a command gets to exit after each signal."""


class Flags(TypedDict):
    """The flags of `queuelet consume`."""

    concurrency: int
    lease: float | None
    nack_delay: float
    heartbeat: float
    max_messages: int | None
    until_empty: bool
    exclusive: bool
    consumer: str


class Worker:
    """Consumes a queue until it is stopped by a signal, or has reached the end that its flags set."""

    def __init__(self, options: Options, queue: str, command: Sequence[str], flags: Flags) -> None:
        self._options = options
        self._queue = queue
        self._command = command
        self._flags = flags
        self._consumer: Consumer[bytes] | None = None
        self._consuming: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.aborted_by = 0
        """The signal that ended it immediately, 0 if none did."""
        self.failed = 0
        """How many commands failed."""

    @property
    def lost(self) -> int:
        """How many messages were processed but may be redelivered."""
        return self._consumer.lost if self._consumer else 0

    async def run(self) -> None:
        """Consume, and reconnect as often as necessary. Raises errors that a retry would not solve."""
        with _reported(), self._signals():
            async with open_client(self._options) as client:
                self._consumer = self._make_consumer(client)
                self._consuming = asyncio.ensure_future(self._consumer.run())
                with suppress(asyncio.CancelledError):
                    await self._consuming

    def report_summary(self) -> None:
        """Print how many messages were processed, unless there never was a connection."""
        consumer = self._consumer
        if consumer is None or not consumer.was_connected:
            return
        parts = [f"{messages(consumer.done)} done", f"{self.failed:,} failed"]
        if consumer.lost:
            parts.append(f"{consumer.lost:,} done that may be redelivered")
        if consumer.unconfirmed:
            parts.append(f"{consumer.unconfirmed:,} not confirmed by the server")
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
            # No prefetching: a command takes much longer than a fetch, and other consumers may be idle.
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

    # Shutdown

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM by a shutdown."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end_by, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _end_by(self, number: int) -> None:
        """Stop once the running commands have exited; on a second signal, stop immediately."""
        if self._is_stopping:
            self.aborted_by = number
            if self._consuming:
                self._consuming.cancel()
            return
        self._is_stopping = True
        if self._consumer:
            if self._consumer.in_work:
                report(f"waiting for {self._consumer.in_work:,} running commands; a second signal stops them")
            self._consumer.stop()

    # Messages

    async def _work(self, received: Received[bytes]) -> None:
        """Run the command for a message, and nack the message if it fails."""
        failure = await self._execute(received)
        if failure:
            self.failed += 1
            report(f"message {received.id} failed: {failure}")
            received.nack(delay=self._flags["nack_delay"], reason=failure)

    async def _execute(self, received: Received[bytes]) -> str:
        """Run the command; return why it failed, or an empty text if it succeeded."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                env=self._environment(received),
                # In a process group of its own, so that ^C does not reach it, and that its child processes end with it.
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
        """Return the environment variables of a command."""
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
        variables = {f"QUEUELET_MESSAGE_{name}": fact for name, fact in facts.items()}
        return {**os.environ, "QUEUELET_SERVER_ADDRESS": self._options.server, **variables}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop a command and its child processes, by SIGTERM and then by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await process.wait()


@contextmanager
def _reported() -> Iterator[None]:
    """Print the log lines of the client library to standard error."""
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
