"""The command `consume`: runs another command for each message of a queue."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from typing import Unpack

import click

from queuelet.cli.failures import REFUSED, USAGE, Failure
from queuelet.cli.options import ClientCommand, Options, Seconds, WholeNumber, lease_option, queue_argument
from queuelet.cli.worker import Flags, Worker
from queuelet.limits import MAX_HEARTBEAT_SECONDS, MIN_HEARTBEAT_SECONDS


def _consumer() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet consume orders -- sh -c 'jq .total >> totals.txt'
    queuelet consume mails --concurrency 8 --nack-delay 60 -- ./send-mail
    queuelet consume orders --until-empty -- ./import && echo "all done"
    """,
)
@queue_argument
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...", help="The command and its arguments.")
@click.option("-c", "--concurrency", type=WholeNumber(1, 1_000), default=1, help="How many commands run at a time.")
@lease_option
@click.option(
    "--nack-delay",
    type=Seconds(),
    default=0.0,
    metavar="DURATION",
    help="How long a failed message waits before it is redelivered.",
)
@click.option(
    "--heartbeat",
    type=Seconds(MIN_HEARTBEAT_SECONDS, MAX_HEARTBEAT_SECONDS),
    default=5.0,
    show_default="5",
    metavar="DURATION",
    help="Interval of heartbeats on the stream. A side that is silent for three intervals counts as gone.",
)
@click.option("--max-messages", type=WholeNumber(min=1), metavar="COUNT", help="Exit after this many messages.")
@click.option("--once", is_flag=True, help="Exit after one message.")
@click.option("--until-empty", is_flag=True, help="Exit when no message is ready, and none is leased by any consumer.")
@click.option(
    "--exclusive", is_flag=True, help="Be the only consumer of the queue; wait while another exclusive one holds it."
)
@click.option(
    "--consumer",
    default=_consumer,
    show_default="this machine's name and the process ID",
    metavar="NAME",
    help="Name of this consumer in the delivery history of failed messages.",
)
@click.pass_context
def consume(
    context: click.Context, /, queue: str, command: tuple[str, ...], *, once: bool, **flags: Unpack[Flags]
) -> None:
    """Run a command for each message of a queue, with the payload on its standard input.

    The message stays leased for as long as the command runs. If the command exits with 0, the message is acknowledged
    and removed. Otherwise it returns to the queue with the reason "exit code N" or "killed by signal N", and becomes
    dead after the last delivery that the queue allows.

    \b
    The command has these environment variables:
      QUEUELET_MESSAGE_ID              the ID of the message
      QUEUELET_MESSAGE_QUEUE           the queue, as named on the command line
      QUEUELET_MESSAGE_TOKEN           the token of the lease, larger than any earlier one
      QUEUELET_MESSAGE_DELIVERY_COUNT  how many times the message was delivered, including this time
      QUEUELET_MESSAGE_DEADLINE        when the lease expires, unless it is extended
      QUEUELET_MESSAGE_TAGS            its tags as JSON: [{"key": ..., "value": ...}]
      QUEUELET_MESSAGE_CONSUMER        the name of this consumer
      QUEUELET_MESSAGE_HOLDER_TOKEN    with --exclusive: grows with each consumer that holds the queue
      QUEUELET_SERVER_ADDRESS          the server's address, for other queuelet commands

    If the connection is lost, the command reconnects until the server is back. If a message is redelivered while its
    command still runs, the command is not started a second time. On the first ^C or SIGTERM, it waits for the running
    commands; on the second, it stops them and returns their messages to the queue.

    At the end it prints a summary. Exits with 0 if no command failed, with 1 if one did, and with 130 or 143 after a
    second ^C or SIGTERM.
    """  # noqa: D301  # click's mark for lines that stay as they are
    if once and flags["max_messages"]:
        raise click.UsageError("Give --once or --max-messages, not both.", context)
    if once:
        flags["max_messages"] = 1
    if not shutil.which(command[0]):
        raise Failure(f"cannot consume: program {command[0]} not found", USAGE)
    worker = Worker(context.ensure_object(Options), queue, command, flags)
    try:
        asyncio.run(worker.run())
    finally:
        worker.report_summary()
    if worker.aborted_by:
        raise click.exceptions.Exit(128 + worker.aborted_by)
    if worker.failed or worker.lost:
        raise click.exceptions.Exit(REFUSED)
