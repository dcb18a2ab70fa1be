"""The command `move`: moves all messages of a queue to another queue, on the same server or on another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from queuelet.cli.batches import ITEMS, batches
from queuelet.cli.failures import INTERRUPTED, report
from queuelet.cli.move_plan import Moved, check, delayed_in_order, in_order_of, to_new, with_facts
from queuelet.cli.options import FILE, ClientCommand, Options, queue_argument
from queuelet.cli.output import messages, write, write_line
from queuelet.cli.progress import progress
from queuelet.cli.session import open_client
from queuelet.errors import QueueHeld, QueueletError, Unreachable
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import error_from_pb

if TYPE_CHECKING:
    from queuelet.client import Client

HEARTBEAT = 5.0
"""How long the stream that holds the queue may be silent, in seconds."""

_STEP = 0.05
"""How often to look whether the leases have ended, in seconds."""


@click.command(
    cls=ClientCommand,
    verb="move",
    examples="""
    queuelet move orders --to orders-2
    queuelet move orders --to-server queuelet.new.svc:10002
    queuelet move orders --to orders-2 --end-leases
    """,
)
@queue_argument
@click.option("--to", "other", default="", show_default="the same name", metavar="QUEUE", help="The other queue.")
@click.option("--to-server", default="", show_default="the same server", metavar="ADDRESS", help="The other server.")
@click.option(
    "--to-token-file", type=FILE, help="A file with the other server's token. By default that of --token-file."
)
@click.option(
    "--to-tls-ca", type=FILE, help="The certificate authority of the other server. By default that of --tls-ca."
)
@click.option("--end-leases", is_flag=True, help="Move leased messages too, which ends their leases.")
@click.option("--dry-run", is_flag=True, help="Only count the messages.")
@click.pass_context
def move(  # noqa: PLR0913, PLR0917  # a flag is an argument
    context: click.Context,
    queue: str,
    other: str,
    to_server: str,
    to_token_file: Path | None,
    to_tls_ca: Path | None,
    *,
    end_leases: bool,
    dry_run: bool,
) -> None:
    """Move all messages of a queue to another queue, in the order in which they would be delivered.

    The other queue has to exist; its limit, lease and time to live apply. Messages keep their IDs, tags, priorities,
    delays, failed deliveries and the rest of their own time to live, and dead ones stay dead. A message is removed
    here only once it is stored there. If the command stops half-way, for any reason, run it again: it continues, and
    adds no message that is still in the other queue a second time.

    During the move this command is the exclusive consumer of the queue, so no other consumer gets its messages. Stop
    producers and consumers of both queues to keep the order; the documentation has ways for an application that cannot
    stop. Messages that are added meanwhile are moved too.
    """
    if not other and not to_server:
        raise click.UsageError("Give another queue with --to, or another server with --to-server.", context)
    options = context.ensure_object(Options)
    there = replace(
        options,
        server=to_server or options.server,
        token_file=to_token_file or options.token_file,
        tls_ca=to_tls_ca or options.tls_ca,
    )
    job = Move(queue=queue, other=other or queue, end_leases=end_leases, patience=options.timeout or None)
    with _so_far(job.moved), asyncio.Runner() as runner:
        count = runner.run(job.run(options, there, dry_run=dry_run))
    if options.json:
        done = job.moved
        facts = {"ready": done.ready, "delayed": done.delayed, "dead": done.dead, "duplicates": done.duplicates}
        write_line({"moved": done.total, **facts} if not dry_run else {"messages": count})
    elif dry_run:
        write(f"would move {messages(count)} from {queue} to {job.other}\n".encode())
    else:
        write(f"{_moved(job.moved)} from {queue} to {job.other}\n".encode())


@contextmanager
def _so_far(moved: Moved) -> Iterator[None]:
    """Add to an error how far the move came."""
    try:
        yield
    except QueueletError as error:
        if not moved.total:
            raise
        raise type(error)(f"{error.message}; {_moved(moved)}; {_AGAIN}", **error.facts) from error
    except KeyboardInterrupt:
        report(f"interrupted; {_moved(moved)}; {_AGAIN}")
        raise click.exceptions.Exit(INTERRUPTED) from None


_AGAIN = "run the command again to continue"


def _moved(moved: Moved) -> str:
    again = f" ({moved.duplicates:,} of them were there already)" if moved.duplicates else ""
    return f"moved {messages(moved.total)}{again}"


@dataclass(kw_only=True, slots=True)
class Move:
    """A move of all messages of a queue."""

    queue: str
    other: str
    end_leases: bool
    patience: float | None
    """How long to wait until the queue is held, and its leases have ended, in seconds; None for any time."""
    moved: Moved = field(default_factory=Moved)

    async def run(self, here: Options, there: Options, *, dry_run: bool) -> int:
        """Move until the queue is empty. Return how many messages it had at first."""
        async with open_client(here) as source, open_client(there) as target:
            before = await _get(source, self.queue)
            check(before, await _get(target, self.other), end_leases=self.end_leases)
            counts = before.messages
            total = counts.ready + counts.delayed + counts.leased + counts.dead
            if not dry_run:
                async with _held(source, self.queue, self.patience) as check_hold:
                    await self._all(source, target, total, check_hold)
            return total

    async def _all(self, source: Client, target: Client, total: int, check_hold: Callable[[], None]) -> None:
        with progress("messages", total) as advance:
            transfer = _Transfer(source, target, self.queue, self.other, self.moved, advance, check_hold)
            await transfer.until_no_lease(self.patience)
            while await transfer.all():
                pass  # messages may have been added meanwhile


@dataclass(slots=True)
class _Transfer:
    """The calls of a move, while the queue is held."""

    source: Client
    target: Client
    queue: str
    other: str
    moved: Moved
    advance: Callable[[int], None]
    check_hold: Callable[[], None]

    async def until_no_lease(self, patience: float | None) -> None:
        """Wait until the leases of other consumers have ended, because their messages may be the first ones."""
        async with asyncio.timeout(patience):
            while (await _get(self.source, self.queue)).messages.leased:  # noqa: ASYNC110  # another process ends them
                await asyncio.sleep(_STEP)

    async def all(self) -> int:
        """Move all messages that there are. Return how many."""
        before = self.moved.total
        # Listed before the ready ones are moved, because a delay may end meanwhile, and then its end is not known.
        delayed = delayed_in_order(await self._browse(pb.MESSAGE_STATE_DELAYED, payload_bytes=0))
        while peeked := await self._peek():
            ids = [each.meta.id for each in peeked]
            facts = await self._browse(pb.MESSAGE_STATE_READY, ids=ids, payload_bytes=0)
            await self._bring(with_facts(peeked, facts))
        for few in batches(delayed, size=lambda each: each.size):
            ids = [each.id for each in few]
            states = (pb.MESSAGE_STATE_DELAYED, pb.MESSAGE_STATE_READY)
            await self._bring(in_order_of(ids, await self._browse(*states, ids=ids)))
        async for page in self._pages(pb.MESSAGE_STATE_DEAD):
            await self._bring(page)
        return self.moved.total - before

    async def _peek(self) -> Sequence[pb.Message]:
        request = pb.PeekBatchRequest(queue_id=self.queue, max=ITEMS)
        return (await self.source.call("PeekBatch", request, pb.PeekBatchResponse)).messages

    async def _browse(
        self, *states: pb.MessageState, ids: Sequence[str] = (), payload_bytes: int | None = None
    ) -> list[pb.BrowsedMessage]:
        return [each async for page in self._pages(*states, ids=ids, payload_bytes=payload_bytes) for each in page]

    async def _pages(
        self, *states: pb.MessageState, ids: Sequence[str] = (), payload_bytes: int | None = None
    ) -> AsyncIterator[Sequence[pb.BrowsedMessage]]:
        request = pb.BrowseRequest(queue_id=self.queue, states=states, ids=ids, payload_bytes=payload_bytes)
        while True:
            page = await self.source.call("Browse", request, pb.BrowseResponse)
            yield page.messages
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def _bring(self, found: Sequence[pb.BrowsedMessage]) -> None:
        """Add messages to the other queue in their order, and purge those that it has confirmed."""
        pairs = [(each, to_new(each, time.time_ns())) for each in found]
        for batch in batches(pairs, size=lambda pair: pair[1].ByteSize()):
            self.check_hold()
            request = pb.AddBatchRequest(queue_id=self.other, messages=[new for _, new in batch])
            results = (await self.target.call("AddBatch", request, pb.AddBatchResponse)).results
            done = [each for (each, _), result in zip(batch, results, strict=True) if not result.HasField("error")]
            if done:
                ids = [each.message.meta.id for each in done]
                await self.source.call("Purge", pb.PurgeRequest(queue_id=self.queue, ids=ids), pb.PurgeResponse)
            self.moved.count(done)
            self.moved.duplicates += sum(result.duplicate for result in results)
            self.advance(len(done))
            for (each, _), result in zip(batch, results, strict=True):
                if result.HasField("error"):
                    error = error_from_pb(result.error)
                    raise type(error)(f"message {each.message.meta.id}: {error.message}", **error.facts)


async def _get(client: Client, queue: str) -> pb.Queue:
    return (await client.call("GetQueue", pb.GetQueueRequest(queue_id=queue), pb.GetQueueResponse)).queue


@asynccontextmanager
async def _held(client: Client, queue: str, patience: float | None) -> AsyncIterator[Callable[[], None]]:
    """Hold a queue as its exclusive consumer without taking a message. Yield a function that raises if it is lost."""
    stream = client.consume(queue, consumer="queuelet move", exclusive=True, heartbeat=HEARTBEAT)
    await stream.begin(pb.ConsumeRequest())
    is_held = asyncio.Event()

    async def read() -> None:
        async for update in stream:
            if update.holder_token:
                is_held.set()
        raise Unreachable("the server ended the stream that holds the queue")

    reading = asyncio.create_task(read())
    held = asyncio.create_task(is_held.wait())

    def check_hold() -> None:
        if reading.done():
            reading.result()

    try:
        await asyncio.wait({reading, held}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        check_hold()
        if not is_held.is_set():
            raise QueueHeld(f"queue {queue} is held by an exclusive consumer; stop it first")
        yield check_hold
    finally:
        for task in (held, reading):
            task.cancel()
            with suppress(QueueletError, asyncio.CancelledError):
                await task
        await stream.end(at_once=True)
