"""The command `add`: adds one message, or one per line of a file or standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypedDict, Unpack, cast

import click

from queuelet.cli.batches import BYTES, batches
from queuelet.cli.failures import INTERRUPTED, report
from queuelet.cli.options import FILE, ClientCommand, Options, Seconds, WholeNumber, queue_argument, tag_option
from queuelet.cli.output import messages, write, write_line
from queuelet.cli.session import Session, connect
from queuelet.cli.show import show
from queuelet.errors import DeadlineExceeded, MessageTooLarge, QueueletError, ServerDraining, ShardMoved, Unreachable
from queuelet.tags import Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import tags_to_pb

if TYPE_CHECKING:
    from queuelet.client import Added, Producer
    from queuelet.client.options import PutOptions

MAX_PAYLOAD_BYTES = 1024 * 1024 * 1024
"""The most bytes to read for one message. Servers accept far less, and protobuf's own limit is twice as much."""


class _Terms(TypedDict):
    priority: int
    delay: float | None
    not_before: datetime | None
    ttl: float | None


class Moment(click.ParamType[datetime]):
    """A point in time in ISO 8601."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time; it is this machine's local time if it has no offset."""
        try:
            return datetime.fromisoformat(str(value)).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; write one like 2030-01-31T18:00:00Z", param, ctx)


@click.command(
    cls=ClientCommand,
    examples="""
    echo hello | queuelet add orders -t team=checkout
    queuelet add orders --payload hello --id 6f9c1d8e-0b1a-4f0e-9c55-3a1f0c9be001
    queuelet add mails --payload reminder --not-before 2030-01-31T18:00:00Z --ttl 3600
    queuelet add orders --lines --file orders.jsonl --wait --timeout 600
    """,
)
@queue_argument
@tag_option
@click.option("--payload", metavar="TEXT", help="The payload, instead of standard input.")
@click.option("--file", type=FILE, help="Read the payload from this file instead of standard input.")
@click.option("--lines", is_flag=True, help="Add each line as a message, without its LF or CRLF.")
@click.option(
    "--id",
    "message_id",
    metavar="UUID",
    help="Your own ID for the message. Adding the same ID again does nothing while the message is queued.",
)
@click.option("--wait", is_flag=True, help="If the queue is full, wait for room, for at most --timeout.")
@click.option(
    "--priority",
    type=WholeNumber(-(2**31), 2**31 - 1),
    default=0,
    help="Smaller numbers are delivered first; may be negative.",
)
@click.option("--delay", type=Seconds(), metavar="DURATION", help="How long to wait before the message is delivered.")
@click.option(
    "--not-before",
    type=Moment(),
    metavar="TIME",
    help="The earliest time to deliver the message, such as 2030-01-31T18:00:00Z.",
)
@click.option(
    "--ttl",
    type=Seconds(above=True),
    metavar="DURATION",
    help="Time to live: how long the message may wait before it becomes dead.",
)
@click.pass_context
def add(  # noqa: PLR0913, PLR0917  # a flag is an argument
    context: click.Context,
    queue: str,
    tags: Tags,
    payload: str | None,
    file: Path | None,
    message_id: str | None,
    *,
    lines: bool,
    wait: bool,
    **terms: Unpack[_Terms],
) -> None:
    """Add a message to a queue; the whole standard input is its payload.

    Prints the stored message. With --lines, adds many messages per call and finally prints how many were added. If the
    server refuses a line, the command stops, reports the line and how many messages were added, and exits with 1.
    """
    if payload is not None and (file or lines):
        raise click.UsageError("--payload: not allowed together with --file or --lines.", context)
    if message_id and lines:
        raise click.UsageError("--id: not allowed together with --lines, which adds many messages.", context)
    if terms["delay"] is not None and terms["not_before"]:
        raise click.UsageError("Give --delay or --not-before, not both.", context)
    options = context.ensure_object(Options)
    message = _new_message(tags, terms)
    if lines:
        _add_lines(options, queue, {"tags": tags, **_put_options(terms)}, file, wait=wait)
        return
    message.payload = os.fsencode(payload) if payload is not None else _read(file)
    message.id = message_id or ""
    with connect(options) as server:
        response = server.call("Add", pb.AddRequest(queue_id=queue, message=message, wait=wait), pb.AddResponse)
    show(response, as_json=options.json)


def _new_message(tags: Tags, terms: _Terms) -> pb.NewMessage:
    """Return a message that is complete but for its payload."""
    message = pb.NewMessage(tags=tags_to_pb(tags), priority=terms["priority"])
    if terms["delay"] is not None:
        message.delay.FromNanoseconds(int(terms["delay"] * 1e9))
    if terms["not_before"]:
        message.not_before.FromDatetime(terms["not_before"])
    if terms["ttl"] is not None:
        message.ttl.FromNanoseconds(int(terms["ttl"] * 1e9))
    return message


def _read(file: Path | None) -> bytes:
    if file:
        with file.open("rb") as source:
            return _all_of(source)
    source = _stdin()
    if source.isatty():
        click.echo("Type the payload, then ^D on a line of its own.", err=True)
    return _all_of(source)


def _all_of(source: BufferedReader) -> bytes:
    data = source.read(MAX_PAYLOAD_BYTES + 1)
    _check_size(len(data))
    return data


def _check_size(size: int) -> None:
    """Refuse input that never ends, before it uses all memory."""
    if size > MAX_PAYLOAD_BYTES:
        raise MessageTooLarge(f"payload: more than {MAX_PAYLOAD_BYTES:,} bytes, which is too large for a message")


def _stdin() -> BufferedReader:
    if sys.stdin is None:
        raise click.UsageError("standard input is closed; give --payload or --file.", click.get_current_context())
    return cast("BufferedReader", sys.stdin.buffer)


def _put_options(terms: _Terms) -> PutOptions:
    """Return the terms as arguments for `Producer.send`."""
    return {
        "priority": terms["priority"],
        "delay": terms["delay"] or 0,
        "not_before": terms["not_before"],
        "ttl": terms["ttl"] or 0,
    }


def _add_lines(options: Options, queue: str, like: PutOptions, file: Path | None, *, wait: bool) -> None:
    with (
        connect(options) as server,
        server.producer(queue, wait_for_room=wait) as producer,
        _opened(file) as source,
        _progress(source) as advance,
    ):
        adding = _Adding(server, producer, like)
        try:
            for batch in _lines(source):
                adding.add(batch)
                advance(sum(map(len, batch)) + len(batch), adding.added)
        except KeyboardInterrupt:
            report(f"interrupted; {adding.so_far}")
            raise click.exceptions.Exit(INTERRUPTED) from None
    if options.json:
        write_line({"added": adding.added})
    else:
        write(f"added {messages(adding.added)} to {queue}\n".encode())


@dataclass
class _Adding:
    """Adds lines in batches, and counts them."""

    server: Session
    producer: Producer[bytes]
    like: PutOptions
    """The options that all messages share."""
    sent: int = 0
    """Lines whose result is known."""
    added: int = 0
    in_doubt: str = ""
    """A clause that names the lines in flight, which may have been added."""

    @property
    def so_far(self) -> str:
        """The result so far, in words."""
        return f"{messages(self.added)} added{self.in_doubt}"

    def add(self, lines: Sequence[bytes]) -> None:
        """Add lines in order. Raises the first error, with the number of its line."""
        self._doubt(1, len(lines))
        outcomes = self.server.do(self._put(lines))
        first = next((place for place, outcome in enumerate(outcomes) if isinstance(outcome, QueueletError)), None)
        self.added += sum(not isinstance(outcome, QueueletError) for outcome in outcomes)
        self.in_doubt = ""
        if first is not None:
            self._raise(outcomes[first], first, len(lines))
        self.sent += len(lines)

    async def _put(self, lines: Sequence[bytes]) -> list[Added | QueueletError]:
        sent = [await self.producer.send(line, **self.like) for line in lines]
        outcomes: list[Added | QueueletError] = []
        for each in sent:
            try:
                outcomes.append(await each)
            except QueueletError as error:
                outcomes.append(error)
        return outcomes

    def _doubt(self, first: int, last: int) -> None:
        self.in_doubt = f", and lines {self.sent + first:,} to {self.sent + last:,} may have been"

    def _raise(self, outcome: object, place: int, count: int) -> NoReturn:
        """Raise an error that names the line that was refused, or the lines that may have been added."""
        # As in `open_client`.
        from queuelet.client import NotSent  # noqa: PLC0415

        assert isinstance(outcome, QueueletError)  # noqa: S101  # it was looked for
        if isinstance(outcome, NotSent):
            raise Unreachable(f"{outcome.message}; {self.so_far}") from outcome
        if isinstance(outcome, (Unreachable, DeadlineExceeded, ServerDraining, ShardMoved)):
            self._doubt(place + 1, count)
            raise type(outcome)(f"{outcome.message}; {self.so_far}") from outcome
        line = self.sent + place + 1
        later = self.added - (line - 1)
        others = f", {later:,} of them from later lines" if later else ""
        raise type(outcome)(f"line {line:,}: {outcome.message}; {self.so_far}{others}") from outcome


def _lines(source: BufferedReader) -> Iterator[list[bytes]]:
    """Yield lines without their line ends, in batches. A batch has the lines that are available, and may be small."""
    partial: list[bytes] = []
    held = 0
    while chunk := source.read1(BYTES):
        first, *others = chunk.split(b"\n")
        partial.append(first)
        held += len(first)
        _check_size(held)
        if others:
            *whole, rest = [b"".join(partial), *others]
            # Lines of files from Windows end with a carriage return and a line feed.
            whole = [line.removesuffix(b"\r") for line in whole]
            partial, held = [rest], len(rest)
            yield from batches(whole, len)
    if last := b"".join(partial):
        yield [last]


@contextmanager
def _opened(file: Path | None) -> Iterator[BufferedReader]:
    if file is None:
        yield _stdin()
    else:
        with file.open("rb") as source:
            yield source


@contextmanager
def _progress(source: BufferedReader) -> Iterator[Callable[[int, int], None]]:
    """Show progress if on a terminal; yields a function for the bytes read and the messages added."""
    if source.isatty() or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _read, _added: None
        return
    # As in `show`.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    size = os.fstat(source.fileno()).st_size or None
    looks = (TextColumn("{task.fields[added]:,} messages"), BarColumn(), DownloadColumn())
    with Progress(*looks, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=size, added=0)
        yield lambda read, added: progress.update(task, advance=read, added=added)
