"""The commands `pop`, `peek`, `browse` and `purge`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

import click

from queuelet.cli.browsing import STATES, max_option, show_messages, state_option
from queuelet.cli.failures import INTERRUPTED, REFUSED, report
from queuelet.cli.options import (
    MAX_SIZE_BYTES,
    YEAR,
    ClientCommand,
    Options,
    Seconds,
    WholeNumber,
    all_option,
    check_choice,
    dry_run_option,
    id_option,
    queue_argument,
    request_id_option,
    selector_option,
)
from queuelet.cli.output import messages, stdout, to_json, write, write_line
from queuelet.cli.session import Session, connect
from queuelet.cli.show import show
from queuelet.errors import QueueEmpty
from queuelet.v1 import queue_pb2 as pb

AT_ONCE = 100
"""The most messages that `pop` takes in one call, which bounds how many are lost if writing the output fails."""

raw_option = click.option("--raw", is_flag=True, help="Print only the payload.")


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet pop orders
    queuelet pop orders --count 100 --wait 20 | jq -r .message.meta.id
    queuelet pop orders --raw > payload.bin
    """,
)
@queue_argument
@click.option("-n", "--count", type=WholeNumber(min=1), help="The most messages to remove.")
@click.option(
    "--wait", type=Seconds(most=YEAR), default=0.0, metavar="DURATION", help="How long to wait for messages, in total."
)
@raw_option
@request_id_option
@click.pass_obj
def pop(  # noqa: PLR0913  # a flag is an argument
    options: Options, queue: str, count: int | None, wait: float, request_id: str, *, raw: bool
) -> None:
    """Remove the first message of a queue and print it.

    The message is then gone. To keep it in the queue until it has been processed, use `receive` or `consume` instead.
    With --count, prints each message when it arrives, as a line of JSON (with --raw as its payload and a newline),
    until there are --count messages, or no more within --wait. Exits with 1 if there was none. If messages cannot be
    written to standard output, reports how many were lost.
    """
    stdout()
    with connect(options) as server:
        if count is None:
            request = pb.PopRequest(queue_id=queue, request_id=request_id)
            _pop_one(server, request, wait, lambda response: _write_response(options, response, raw=raw))
        else:
            batch = pb.PopBatchRequest(queue_id=queue, request_id=request_id)
            _pop_many(server, batch, count, wait, lambda message: _write_of_many(options, message, raw=raw))


def _pop_one(
    server: Session, request: pb.PopRequest, wait: float, write_response: Callable[[pb.PopResponse], None]
) -> None:
    if wait:
        request.wait.FromNanoseconds(int(wait * 1e9))
    response = server.call("Pop", request, pb.PopResponse, wait=wait)
    _hand_over([response.message], lambda _: write_response(response))


def _pop_many(
    server: Session, request: pb.PopBatchRequest, count: int, wait: float, write_message: Callable[[pb.Message], None]
) -> None:
    """Pop in several calls, or in a single one if there is a request ID, which makes only that call idempotent."""
    taken = 0
    end = monotonic() + wait
    while taken < count:
        request.max = count if request.request_id else min(AT_ONCE, count - taken)
        left = max(0.0, end - monotonic())
        if left:
            request.wait.FromNanoseconds(int(left * 1e9))
        messages = server.call("PopBatch", request, pb.PopBatchResponse, wait=left).messages
        _hand_over(messages, write_message)
        taken += len(messages)
        if not messages or request.request_id:
            break
    if not taken:
        raise QueueEmpty(f"queue {request.queue_id} has no message that is ready")


def _hand_over(messages: Sequence[pb.Message], write_message: Callable[[pb.Message], None]) -> None:
    """Write messages that were removed from their queue. If that fails, report how many are lost."""
    written = 0
    try:
        for message in messages:
            write_message(message)
            written += 1
    except (OSError, KeyboardInterrupt) as error:
        lost = len(messages) - written
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else error.strerror
        report(f"cannot pop: {why}; {lost} of the messages removed from the queue could not be written and are lost")
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else REFUSED
        raise click.exceptions.Exit(code) from error


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet peek orders
    """,
)
@queue_argument
@raw_option
@click.pass_obj
def peek(options: Options, queue: str, *, raw: bool) -> None:
    """Print the first message of a queue without removing it."""
    with connect(options) as server:
        response = server.call("Peek", pb.PeekRequest(queue_id=queue), pb.PeekResponse)
    _write_response(options, response, raw=raw)


def _write_response(options: Options, response: pb.PopResponse | pb.PeekResponse, *, raw: bool) -> None:
    if raw:
        write(response.message.payload)
    else:
        show(response, as_json=options.json)


def _write_of_many(options: Options, message: pb.Message, *, raw: bool) -> None:
    if raw:
        write(message.payload + b"\n")
    elif options.json:
        write_line({"message": to_json(message)})
    else:
        show(pb.PopResponse(message=message), as_json=False)
        write(b"\n")


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet browse orders --newest-first --max 10
    queuelet browse orders -l tier=gold | jq -r '.message.payload | @base64d'
    queuelet browse orders --contains '"customer":"ada"' --payload-bytes 200
    queuelet browse orders --id 6f9c1d8e-0b1a-4f0e-9c55-000000000001
    """,
)
@queue_argument
@id_option
@selector_option
@click.option(
    "--contains",
    default="",
    show_default=False,
    metavar="TEXT",
    help="Only messages whose payload contains this text, of up to 256 bytes. It is not a pattern.",
)
@state_option
@click.option("--newest-first", is_flag=True, help="Begin with the message that was added last.")
@click.option(
    "--payload-bytes",
    type=WholeNumber(min=0, max=MAX_SIZE_BYTES),
    help="Only the first bytes of each payload, at most this many. By default whole payloads.",
)
@max_option
@click.pass_obj
def browse(  # noqa: PLR0913  # a flag is an argument
    options: Options,
    queue: str,
    *,
    ids: Sequence[str],
    selector: str,
    contains: str,
    states: Sequence[str],
    newest_first: bool,
    payload_bytes: int | None,
    most: int | None,
) -> None:
    """Print the messages of a queue in the order in which they were added, without removing them.

    In JSON, each message is one line, as `pop --count` prints it, with its state and delivery history, and the size of
    the whole payload:
    {"message": {"meta": {"id": ..., "created": ..., "tags": [...]}, "payload": ...}, "state": "leased", "count": 2,
    "until": ..., "consumer": ..., "tries": [{"outcome": "nacked", "reason": ..., ...}], "payloadSize": "7"}
    """
    request = pb.BrowseRequest(
        queue_id=queue,
        ids=ids,
        selector=selector,
        contains=contains,
        states=[STATES[state] for state in states],
        payload_bytes=payload_bytes,
        descending=newest_first,
    )
    show_messages(options, request, most)


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet purge orders --all --dry-run
    queuelet purge orders --all
    queuelet purge orders -l tier=test --state ready --state delayed
    queuelet purge orders --id 6f9c1d8e-0b1a-4f0e-9c55-000000000001
    """,
)
@queue_argument
@id_option
@selector_option
@all_option
@state_option
@dry_run_option
@click.pass_context
def purge(  # noqa: PLR0913  # a flag is an argument
    context: click.Context,
    queue: str,
    ids: Sequence[str],
    selector: str,
    states: Sequence[str],
    *,
    everything: bool,
    dry_run: bool,
) -> None:
    """Delete messages of a queue, and print their number."""
    check_choice(context, ids, selector, everything=everything)
    request = pb.PurgeRequest(
        queue_id=queue,
        ids=ids,
        selector=selector,
        all=everything,
        states=[STATES[state] for state in states],
        dry_run=dry_run,
    )
    purge_messages(context.ensure_object(Options), request)


def purge_messages(options: Options, request: pb.PurgeRequest) -> None:
    """Purge the messages that a request selects, and print their number."""
    with connect(options) as server:
        response = server.call("Purge", request, pb.PurgeResponse)
    if options.json:
        show(response, as_json=True)
    else:
        click.echo(f"{'would purge' if request.dry_run else 'purged'} {messages(response.purged)}")
