"""The command that runs another one for each message of a queue."""

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
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...", help="What to run, with its arguments.")
@click.option("-c", "--concurrency", type=WholeNumber(1, 1_000), default=1, help="Run so many at a time.")
@lease_option
@click.option(
    "--nack-delay", type=Seconds(), default=0.0, metavar="DURATION", help="How long a failed message stays away."
)
@click.option(
    "--heartbeat",
    type=Seconds(0.1, 3_600),
    default=5.0,
    show_default="5",
    metavar="DURATION",
    help="How long the stream may be silent; a side that is silent for three times as long counts as gone.",
)
@click.option("--max-messages", type=WholeNumber(min=1), metavar="COUNT", help="End after so many messages.")
@click.option("--once", is_flag=True, help="End after one message.")
@click.option("--until-empty", is_flag=True, help="End when no message is ready, and none is leased to anybody.")
@click.option("--exclusive", is_flag=True, help="Be the only one who takes messages; stand in line while another is.")
@click.option(
    "--consumer",
    default=_consumer,
    show_default="this machine's name and the process id",
    metavar="NAME",
    help="What to call yourself in the history of messages that fail.",
)
@click.pass_context
def consume(
    context: click.Context, /, queue: str, command: tuple[str, ...], *, once: bool, **flags: Unpack[Flags]
) -> None:
    """Run a command for each message of a queue, with the payload on its standard input.

    The message is leased while the command runs, however long that takes. If the command exits with 0, the message is
    done and leaves the queue; otherwise it goes back, with "exit code N" or "killed by signal N" for a reason, and is
    dead once it was tried as often as the queue allows.

    \b
    The command finds in its environment:
      QUEUELET_MESSAGE_ID              the message's id
      QUEUELET_MESSAGE_QUEUE           the queue, as you named it
      QUEUELET_MESSAGE_TOKEN           the token of the lease, larger than any before
      QUEUELET_MESSAGE_DELIVERY_COUNT  how often it was delivered, this time included
      QUEUELET_MESSAGE_DEADLINE        when the lease ends, unless it is extended
      QUEUELET_MESSAGE_TAGS            its tags in JSON: [{"key": ..., "value": ...}]
      QUEUELET_MESSAGE_CONSUMER        the name of this consumer
      QUEUELET_MESSAGE_HOLDER_TOKEN    with --exclusive: larger for each consumer that holds the queue
      QUEUELET_SERVER_ADDRESS          the server, for another queuelet

    If the server goes away, it is asked for again until it is back; a message whose command still runs when it comes
    again is not begun twice. On ^C and on SIGTERM the commands that run may end; told twice, they are stopped, and
    their messages go back.

    At the end it says how many messages were done. Exits with 0 if it ended as told, with 1 if any command failed, with
    130 or 143 if it was told twice.
    """  # noqa: D301  # click's mark for lines that stay as they are
    if once and flags["max_messages"]:
        raise click.UsageError("Give --once or --max-messages, not both.", context)
    if once:
        flags["max_messages"] = 1
    if not shutil.which(command[0]):
        raise Failure(f"cannot consume: there is no program {command[0]} to run", USAGE)
    worker = Worker(context.ensure_object(Options), queue, command, flags)
    try:
        asyncio.run(worker.run())
    finally:
        worker.tell_summary()
    if worker.aborted_by:
        raise click.exceptions.Exit(128 + worker.aborted_by)
    if worker.failed or worker.lost:
        raise click.exceptions.Exit(REFUSED)
