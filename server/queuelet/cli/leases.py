"""The commands `receive`, `ack`, `nack` and `extend`, which lease messages and settle leases by their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import click
from google.protobuf.duration_pb2 import Duration

from queuelet.cli.failures import REFUSED, report
from queuelet.cli.options import (
    YEAR,
    ClientCommand,
    Options,
    Seconds,
    Token,
    WholeNumber,
    consumer_option,
    lease_option,
    queue_argument,
    request_id_option,
)
from queuelet.cli.output import to_json, write, write_line
from queuelet.cli.session import connect
from queuelet.cli.show import show
from queuelet.errors import QueueEmpty
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import errors_from_pb

tokens_argument = click.argument(
    "tokens",
    type=Token(),
    nargs=-1,
    required=True,
    metavar="TOKEN...",
    help="Tokens of leases, as `queuelet receive` prints them.",
)


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet receive orders
    queuelet receive orders --count 10 --wait 20 --lease 60 | jq -r .token
    queuelet receive orders -o json | jq -r '.message.payload | @base64d'
    """,
)
@queue_argument
@click.option("-n", "--count", type=WholeNumber(min=1), default=1, help="The most messages to lease.")
@click.option(
    "--wait", type=Seconds(most=YEAR), default=0.0, metavar="DURATION", help="How long to wait for a message."
)
@lease_option
@consumer_option
@request_id_option
@click.pass_obj
def receive(  # noqa: PLR0913, PLR0917  # a flag is an argument
    options: Options, queue: str, count: int, wait: float, lease: float | None, consumer: str, request_id: str
) -> None:
    """Lease messages of a queue, and print them with their tokens.

    No other consumer gets a leased message. When the lease expires, the message is redelivered, in its old place.
    Before that, `queuelet ack` removes it, `nack` returns it to the queue, and `extend` extends the lease; they take
    the token that is printed here.

    In JSON, each message is one line: {"message": {...}, "token": "...", "deadline": ..., "count": 1}, where count is
    how many times the message was delivered. Exits with 1 if there was no message.
    """
    request = pb.ReceiveRequest(
        queue_id=queue,
        max=count,
        wait=_duration(wait),
        lease=_duration(lease),
        consumer=consumer,
        request_id=request_id,
    )
    with connect(options) as server:
        deliveries = server.call("Receive", request, pb.ReceiveResponse, wait=wait).deliveries
    if not deliveries:
        raise QueueEmpty(f"queue {queue} has no message that is ready")
    for place, delivery in enumerate(deliveries):
        if options.json:
            write_line(to_json(delivery))
        else:
            write(b"\n" if place else b"")
            show(delivery, as_json=False)


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet ack orders 1795000000000000001
    queuelet receive orders -n 10 | tee work.jsonl | jq -r .token | xargs queuelet ack orders
    """,
)
@queue_argument
@tokens_argument
@click.pass_obj
def ack(options: Options, queue: str, tokens: Sequence[int]) -> None:
    """Acknowledge leased messages, which removes them from the queue.

    This works even after the lease has expired, unless the message was redelivered meanwhile. Exits with 1 if a message
    is gone or was redelivered; the others are removed anyway.
    """
    with connect(options) as server:
        response = server.call("Ack", pb.AckRequest(queue_id=queue, tokens=tokens), pb.AckResponse)
    _finish(options, response, tokens, "ack", "acked")


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet nack orders 1795000000000000001
    queuelet nack orders 1795000000000000001 --delay 60 --reason "the printer is out of paper"
    """,
)
@queue_argument
@tokens_argument
@click.option(
    "--delay", type=Seconds(), default=0.0, metavar="DURATION", help="How long to wait before the redelivery."
)
@click.option(
    "--reason", default="", show_default=False, metavar="TEXT", help="Why they failed, for their delivery history."
)
@click.option("--dead", is_flag=True, help="Make the messages dead instead, because a retry would not help.")
@click.pass_obj
def nack(  # noqa: PLR0913  # click hands over each option
    options: Options, queue: str, tokens: Sequence[int], delay: float, reason: str, *, dead: bool
) -> None:
    """Return leased messages to their old places in the queue.

    A message that was delivered as many times as its queue allows becomes dead instead. Exits with 1 if a lease had
    already expired.
    """
    request = pb.NackRequest(queue_id=queue, tokens=tokens, delay=_duration(delay), reason=reason, dead=dead)
    with connect(options) as server:
        response = server.call("Nack", request, pb.NackResponse)
    _finish(options, response, tokens, "nack", "nacked")


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet extend orders 1795000000000000001
    queuelet extend orders 1795000000000000001 --lease 600
    """,
)
@queue_argument
@tokens_argument
@lease_option
@click.pass_obj
def extend(options: Options, queue: str, tokens: Sequence[int], lease: float | None) -> None:
    """Extend leases; the new duration counts from now.

    Exits with 1 if a lease had already expired; its consumer should then stop, because the message is redelivered.
    """
    request = pb.ExtendRequest(queue_id=queue, tokens=tokens, lease=_duration(lease))
    with connect(options) as server:
        response = server.call("Extend", request, pb.ExtendResponse)
    until = f"extended until {response.deadline.ToJsonString()}"
    _finish(options, response, tokens, "extend", until)


def _finish(
    options: Options,
    response: pb.AckResponse | pb.NackResponse | pb.ExtendResponse,
    tokens: Sequence[int],
    verb: str,
    done: str,
) -> None:
    """Print the result for each token, report refusals, and exit with 1 if there were any."""
    errors = errors_from_pb(response.results)
    if options.json:
        show(response, as_json=True)
    else:
        lines = (f"{token}  {'refused' if error else done}\n" for token, error in zip(tokens, errors, strict=True))
        write("".join(lines).encode())
    for token, error in zip(tokens, errors, strict=True):
        if error:
            report(f"cannot {verb} {token}: {error.message}")
    if any(errors):
        raise click.exceptions.Exit(REFUSED)


def _duration(seconds: float | None) -> Duration | None:
    """Return seconds as protobuf; None for 0 or None."""
    if not seconds:
        return None
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
