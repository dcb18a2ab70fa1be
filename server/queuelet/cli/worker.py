"""A consumer that runs a command for each message: what is behind `queuelet consume`.

A message goes through three places here: a command runs for it (`_running`), its outcome is on its way to the server
(`_unsettled`), and it is counted. The first two outlive a connection: what the server has not confirmed is said again
on the next one, and a message that comes again while its command still runs only brings a new lease.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, TypedDict

from queuelet.cli.failures import report
from queuelet.cli.options import Options
from queuelet.cli.output import messages
from queuelet.cli.session import open_client
from queuelet.errors import (
    DeadlineExceeded,
    MessageNotFound,
    QueueletError,
    QueueNotFound,
    ServerDraining,
    StoreFailed,
    Unreachable,
)

if TYPE_CHECKING:
    from queuelet.client import Client, Consumption, Delivery, News

TEMPORARY = (Unreachable, DeadlineExceeded, ServerDraining, StoreFailed)
"""What goes by itself: the server is away, or just starts."""

SOONEST, LATEST = 0.1, 5.0
"""How long to wait before the server is tried again, in seconds: twice as long each time."""

LOOK = 0.25
"""How often to look whether the queue is empty, in seconds."""

SIGN_OF_LIFE = 20.0
"""How often to make a call at least, in seconds: a stream on which nothing comes does not notice that it is cut."""

PATIENCE = 2.0
"""How long a command may take to end when it is told to, in seconds."""


class Flags(TypedDict):
    """What a worker is told on the command line."""

    concurrency: int
    lease: float | None
    nack_delay: float
    max_messages: int | None
    until_empty: bool
    exclusive: bool
    consumer: str


@dataclass
class _Run:
    """A command that runs for a message."""

    delivery: Delivery
    """The newest delivery of the message."""
    is_leased: bool = True
    """Whether the message is still this consumer's, for all it knows."""
    process: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True)
class _Outcome:
    """What became of a message, which the server has not confirmed yet."""

    message_id: str
    failure: str
    """Why it failed; empty if it is done."""


class _Outage:
    """Whether the server is away, and how long to wait before it is tried again."""

    def __init__(self, patience: float) -> None:
        """Take how long a queue may be missing from a server that is back, in seconds; 0 for ever."""
        self._patience = patience
        self._delay = SOONEST
        self._is_away = False
        self._missing_since = 0.0
        self.was_connected = False

    def end(self) -> None:
        """Note that the server answers."""
        if self._is_away:
            report("the server is back")
        self._is_away, self._delay, self._missing_since = False, SOONEST, 0.0
        self.was_connected = True

    def next_delay(self, error: QueueletError) -> float:
        """Return how long to wait now, or raise an error that does not go by itself.

        Whoever cannot be reached from the beginning is not waited for: the address may be wrong. A server that has just
        started may lack the queue until somebody declares it again.
        """
        if not self.was_connected or (isinstance(error, QueueNotFound) and not self._is_awaited()):
            raise error
        if not self._is_away:
            self._is_away = True
            report(f"{error.message}; trying again until it is back")
        delay, self._delay = self._delay, min(LATEST, 2 * self._delay)
        return delay * random.uniform(0.5, 1)  # noqa: S311  # it guards nothing

    def _is_awaited(self) -> bool:
        """Tell whether a queue that is not there may still come."""
        self._missing_since = self._missing_since or monotonic()
        return self._is_away and (not self._patience or monotonic() - self._missing_since < self._patience)


class Worker:
    """Consumes a queue until it is told to end, or has done what it was told to."""

    def __init__(self, options: Options, queue: str, command: Sequence[str], flags: Flags) -> None:
        """Take which server, which queue, what to run, and how."""
        self._options = options
        self._queue = queue
        self._command = command
        self._flags = flags
        self._running: dict[str, _Run] = {}
        self._unsettled: dict[int, _Outcome] = {}
        self._given_back: set[str] = set()
        self._outage = _Outage(options.timeout)
        self._stream: Consumption | None = None
        self._credit = 0
        self._begun = 0
        self._lease = 0.0
        self._holder_token = 0
        self._is_empty = False
        self._is_stopping = False
        self._is_aborted = False
        self._changed = asyncio.Event()
        self.aborted_by = 0
        """The signal that ended it at once, if one did."""
        self.done = 0
        """Messages whose command exited with 0, and that are out of the queue."""
        self.failed = 0
        """Commands that did not exit with 0."""
        self.lost = 0
        """Messages that were done but may be delivered again."""

    async def run(self) -> None:
        """Consume, over as many connections as it takes. Raises what does not go by itself."""
        with self._signals():
            try:
                await _first_of(self._connect(), self._wait_for_end())
            finally:
                await self._stop_commands()

    def tell_summary(self) -> None:
        """Say what was done, if there was a server to do it with."""
        if not self._outage.was_connected:
            return
        parts = [f"{messages(self.done)} done", f"{self.failed:,} failed"]
        if self.lost:
            parts.append(f"{self.lost:,} done that may come again")
        if self._unsettled:
            parts.append(f"{len(self._unsettled):,} of which the server has not heard")
        report(", ".join(parts))

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
        elif self._running:
            report(f"waiting for {len(self._running):,} running; once more to stop them")
        self._is_stopping = True
        self._changed.set()

    async def _wait_for_end(self) -> None:
        while not self._is_over and not self.aborted_by:
            self._changed.clear()
            await self._changed.wait()
        # Before the stream ends and its messages are given to others.
        await self._stop_commands()

    @property
    def _is_over(self) -> bool:
        """Whether nothing is left to do."""
        if self._running:
            return False
        if self._is_stopping:
            return not self._unsettled or self._stream is None
        return self._has_enough and not self._unsettled

    @property
    def _has_enough(self) -> bool:
        """Whether no more messages are wanted."""
        most = self._flags["max_messages"]
        return self._is_empty or (most is not None and self._begun >= most)

    async def _stop_commands(self) -> None:
        """Have the commands that still run end: asked for first, then by force. Their messages go back."""
        self._is_aborted = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            tasks = [run.task for run in self._running.values() if run.task]
            if not tasks:
                return
            for run in self._running.values():
                if run.process and run.process.returncode is None:
                    with suppress(ProcessLookupError):
                        os.killpg(run.process.pid, number)
            await asyncio.wait(tasks, timeout=PATIENCE)

    # Connections

    async def _connect(self) -> None:
        """Consume over one connection after the other."""
        while True:
            try:
                async with open_client(self._options) as client:
                    await self._consume(client)
            except (*TEMPORARY, QueueNotFound) as error:
                await asyncio.sleep(self._outage.next_delay(error))

    async def _consume(self, client: Client) -> None:
        """Consume over one connection, until it ends."""
        queue = await client.get_queue(self._queue)
        lease, flags = self._flags["lease"] or 0, self._flags
        self._lease = lease or queue.delivery.lease_seconds
        stream = client.consume(self._queue, lease=lease, consumer=flags["consumer"], exclusive=flags["exclusive"])
        async with stream:
            self._outage.end()
            try:
                look = [self._look_for_end(client)] if flags["until_empty"] else []
                await _first_of(self._listen(stream), self._extend(client), *look)
            finally:
                self._stream = None
                for run in self._running.values():
                    run.is_leased = False
                self._changed.set()

    async def _listen(self, stream: Consumption) -> None:
        """Do what the server says, after saying again what it may not have heard."""
        self._stream, self._credit = stream, 0
        for token, outcome in list(self._unsettled.items()):
            await self._tell(stream, token, outcome)
        await self._grant(stream)
        async for news in stream:
            await self._hear(stream, news)
            self._changed.set()
        raise Unreachable("the server ended the stream")

    async def _hear(self, stream: Consumption, news: News) -> None:
        if news.holder_token:
            self._holder_token = news.holder_token
            report(f"holds queue {self._queue} now, with token {news.holder_token}")
        for token in news.settled:
            self._settle(token, None)
        for token, error in news.refused.items():
            self._settle(token, error)
        for delivery in news.deliveries:
            await self._take(stream, delivery)

    async def _extend(self, client: Client) -> None:
        """Keep the leases of messages whose commands run. A call shows too that the server is still there."""
        while True:
            await asyncio.sleep(min(self._lease / 3, SIGN_OF_LIFE))
            runs = [run for run in self._running.values() if run.is_leased]
            if not runs:
                await client.get_queue(self._queue)
                continue
            tokens = [run.delivery.token for run in runs]
            _, errors = await client.extend(self._queue, tokens, lease=self._lease)
            for run, token, error in zip(runs, tokens, errors, strict=True):
                is_news = self._running.get(run.delivery.message.id) is run and run.delivery.token == token
                if error and is_news and run.is_leased:
                    run.is_leased = False
                    report(f"message {run.delivery.message.id} may be delivered to others: {error.message}")

    async def _look_for_end(self, client: Client) -> None:
        """Look whether the queue is empty. A message that is leased is not gone: it may come back."""
        while True:
            await asyncio.sleep(LOOK)
            if not self._running and not self._unsettled:
                counts = (await client.get_queue(self._queue)).messages
                if not counts.ready and not counts.leased:
                    self._is_empty = True
                    self._changed.set()

    # Messages

    def _free(self) -> int:
        """Return how many more messages may come, and count on them."""
        if self._is_stopping or self._is_empty:
            return 0
        free = self._flags["concurrency"] - len(self._running) - self._credit
        if self._flags["max_messages"] is not None:
            free = min(free, self._flags["max_messages"] - self._begun - self._credit)
        free = max(0, free)
        self._credit += free
        return free

    async def _grant(self, stream: Consumption) -> None:
        free = self._free()
        if free:
            await stream.credit(free)

    async def _take(self, stream: Consumption, delivery: Delivery) -> None:
        """Run the command for a message, unless it runs already or none is to be begun any more."""
        self._credit -= 1
        message_id = delivery.message.id
        run = self._running.get(message_id)
        if run:
            run.delivery, run.is_leased = delivery, True
            await self._grant(stream)
        elif not self._is_stopping:
            self._begun += 1
            run = self._running[message_id] = _Run(delivery)
            run.task = asyncio.create_task(self._work(run))
        elif message_id not in self._given_back:
            # Only once: if nobody else takes it, it would come again and again, and be dead soon.
            self._given_back.add(message_id)
            await stream.nack(delivery.token, reason="the consumer was ending")

    async def _work(self, run: _Run) -> None:
        """Run the command for a message to its end, and tell the server what became of it."""
        failure = await self._execute(run)
        del self._running[run.delivery.message.id]
        if self._is_aborted:
            return
        token, outcome = run.delivery.token, _Outcome(run.delivery.message.id, failure)
        self._unsettled[token] = outcome
        if failure:
            self.failed += 1
            report(f"message {outcome.message_id} failed: {failure}")
        self._changed.set()
        if self._stream:
            # It is told again on the next connection if this one ends.
            with suppress(QueueletError):
                await self._tell(self._stream, token, outcome)

    async def _execute(self, run: _Run) -> str:
        """Run the command, and return why it failed; nothing if it did not."""
        try:
            run.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                env=self._environment(run.delivery),
                # So that ^C on a terminal does not end it, and that all it has started ends with it.
                process_group=0,
            )
        except OSError as error:
            return f"cannot run {self._command[0]}: {error.strerror}"
        await run.process.communicate(run.delivery.message.payload)
        code = run.process.returncode or 0
        if not code:
            return ""
        return f"exit code {code}" if code > 0 else f"killed by signal {-code}"

    def _environment(self, delivery: Delivery) -> dict[str, str]:
        """Return what a command finds in its environment."""
        message = delivery.message
        facts = {
            "ID": message.id,
            "QUEUE": self._queue,
            "TOKEN": str(delivery.token),
            "DELIVERY_COUNT": str(delivery.count),
            "DEADLINE": delivery.deadline.isoformat().replace("+00:00", "Z"),
            "TAGS": json.dumps([{"key": tag.key, "value": tag.value} for tag in message.tags]),
            "CONSUMER": self._flags["consumer"],
        }
        if self._holder_token:
            facts["HOLDER_TOKEN"] = str(self._holder_token)
        told = {f"QUEUELET_MESSAGE_{name}": fact for name, fact in facts.items()}
        return {**os.environ, "QUEUELET_SERVER_ADDRESS": self._options.server, **told}

    async def _tell(self, stream: Consumption, token: int, outcome: _Outcome) -> None:
        """Tell the server what became of a message, and how many more may come."""
        if outcome.failure:
            delay = self._flags["nack_delay"]
            await stream.nack(token, delay=delay, reason=outcome.failure, credit=self._free())
        else:
            await stream.ack(token, credit=self._free())

    def _settle(self, token: int, error: QueueletError | None) -> None:
        """Take the server's word on what became of a message."""
        outcome = self._unsettled.pop(token, None)
        if outcome is None or outcome.failure:
            return
        if error is None or isinstance(error, MessageNotFound):
            # What is not there will not come again.
            self.done += 1
        else:
            self.lost += 1
            report(f"message {outcome.message_id} was done, but may be delivered again: {error.message}")


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Do things at the same time until one of them ends, then end the others. Raises what that one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
