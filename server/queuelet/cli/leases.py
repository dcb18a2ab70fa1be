"""Commands that take messages under leases, and settle them by their tokens."""

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
@click.option("-n", "--count", type=WholeNumber(min=1), default=1, help="Take up to so many messages.")
@click.option("--wait", type=Seconds(most=YEAR), default=0.0, metavar="DURATION", help="Wait so long for a message.")
@lease_option
@consumer_option
@request_id_option
@click.pass_obj
def receive(  # noqa: PLR0913, PLR0917  # a flag is an argument
    options: Options, queue: str, count: int, wait: float, lease: float | None, consumer: str, request_id: str
) -> None:
    """Take messages out of a queue for a while, and print them with their leases.

    Until its lease ends a message is yours, and then it is back in its old place, unless you say what became of it:
    `queuelet ack` removes it, `nack` gives it back, `extend` makes the lease longer. All take the token printed here.

    As JSON, each message is a line of its own: {"message": {...}, "token": "...", "deadline": ..., "count": 1}, where
    the count tells how often the message was delivered. Exits with 1 if there was no message.
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
    """Remove leased messages for good: their work is done.

    The token of a message's last lease does even when the lease is over, until the message is delivered again. Exits
    with 1 if a message was gone, or given to another; the others are removed all the same.
    """
    with connect(options) as server:
        answer = server.call("Ack", pb.AckRequest(queue_id=queue, tokens=tokens), pb.AckResponse)
    _finish(options, answer, tokens, "ack", "acked")


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
    "--delay", type=Seconds(), default=0.0, metavar="DURATION", help="Deliver it no sooner than so long from now."
)
@click.option(
    "--reason", default="", show_default=False, metavar="TEXT", help="Why; it stands in the message's history."
)
@click.option("--dead", is_flag=True, help="They are dead at once: another try would not help.")
@click.pass_obj
def nack(  # noqa: PLR0913  # click hands over each option
    options: Options, queue: str, tokens: Sequence[int], delay: float, reason: str, *, dead: bool
) -> None:
    """Give leased messages back: they return to their old places in the queue.

    One that was delivered as often as the queue allows is dead then. Exits with 1 if a lease was over already.
    """
    request = pb.NackRequest(queue_id=queue, tokens=tokens, delay=_duration(delay), reason=reason, dead=dead)
    with connect(options) as server:
        answer = server.call("Nack", request, pb.NackResponse)
    _finish(options, answer, tokens, "nack", "given back")


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
    """Make leases last so long from now.

    Exits with 1 if a lease was over already: whoever works on the message should stop.
    """
    request = pb.ExtendRequest(queue_id=queue, tokens=tokens, lease=_duration(lease))
    with connect(options) as server:
        answer = server.call("Extend", request, pb.ExtendResponse)
    until = f"extended until {answer.deadline.ToJsonString()}"
    _finish(options, answer, tokens, "extend", until)


def _finish(
    options: Options,
    answer: pb.AckResponse | pb.NackResponse | pb.ExtendResponse,
    tokens: Sequence[int],
    verb: str,
    done: str,
) -> None:
    """Print what became of each lease, tell of refusals, and exit with 1 if there were any."""
    errors = errors_from_pb(answer.results)
    if options.json:
        show(answer, as_json=True)
    else:
        lines = (f"{token}  {'refused' if error else done}\n" for token, error in zip(tokens, errors, strict=True))
        write("".join(lines).encode())
    for token, error in zip(tokens, errors, strict=True):
        if error:
            report(f"cannot {verb} {token}: {error.message}")
    if any(errors):
        raise click.exceptions.Exit(REFUSED)


def _duration(seconds: float | None) -> Duration | None:
    """Return seconds as they are sent; nothing where there are none."""
    if not seconds:
        return None
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
