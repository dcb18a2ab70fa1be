"""The commands `dead list`, `dead redrive` and `dead purge`, for dead messages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from queuelet.cli.browsing import max_option, show_messages
from queuelet.cli.failures import INTERRUPTED, report
from queuelet.cli.messages import purge_messages
from queuelet.cli.options import (
    ClientCommand,
    ClientGroup,
    Options,
    WholeNumber,
    all_option,
    check_choice,
    dry_run_option,
    id_option,
    queue_argument,
    selector_option,
)
from queuelet.cli.output import messages
from queuelet.cli.session import connect
from queuelet.cli.show import show
from queuelet.v1 import queue_pb2 as pb


@click.group(
    cls=ClientGroup,
    verb="work on dead messages",
    subcommand_metavar="COMMAND ...",
    examples="""
    queuelet dead list orders
    queuelet dead redrive orders --all
    queuelet dead purge orders -l tier=test
    """,
)
def dead() -> None:
    """List dead messages, make them ready again (redrive), or delete them.

    A message becomes dead if it was delivered as many times as its queue allows without being acknowledged, or if it
    waited longer than its time to live. It stays in its queue, counts towards the limit, and keeps its history.
    """


@dead.command(
    "list",
    cls=ClientCommand,
    under="dead",
    verb="list dead messages",
    short_help="Print dead messages and why they died.",
    examples="""
    queuelet dead list orders
    queuelet dead list orders -o json | jq -r '[.message.meta.id, .reason, .tries[-1].reason] | @tsv'
    """,
)
@queue_argument
@selector_option
@max_option
@click.pass_obj
def list_dead(options: Options, queue: str, selector: str, most: int | None) -> None:
    """Print the dead messages of a queue, why they died, and how their deliveries failed.

    In JSON, each message is one line, as `queuelet browse` prints it, with the last 20 deliveries as "tries".
    """
    states = [pb.MessageState.MESSAGE_STATE_DEAD]
    show_messages(options, pb.BrowseRequest(queue_id=queue, selector=selector, states=states), most)


@dead.command(
    cls=ClientCommand,
    under="dead",
    short_help="Make dead messages ready again.",
    examples="""
    queuelet dead redrive orders --all --dry-run
    queuelet dead redrive orders --all --rate 50
    queuelet dead redrive orders --id 6f9c1d8e-0b1a-4f0e-9c55-000000000001
    """,
)
@queue_argument
@id_option
@selector_option
@all_option
@click.option("--rate", type=WholeNumber(min=1), help="The most messages per second. Unlimited by default.")
@dry_run_option
@click.pass_context
def redrive(  # noqa: PLR0913  # a flag is an argument
    context: click.Context,
    queue: str,
    ids: Sequence[str],
    selector: str,
    rate: int | None,
    *,
    everything: bool,
    dry_run: bool,
) -> None:
    """Make dead messages ready again, as if they had just been added, and print their number.

    They keep their history, and may be delivered as many times as new messages. ^C stops the command; messages that
    are ready by then stay ready.
    """
    check_choice(context, ids, selector, everything=everything)
    options = context.ensure_object(Options)
    request = pb.RedriveRequest(
        queue_id=queue, ids=ids, selector=selector, all=everything, rate=rate or 0, dry_run=dry_run
    )
    response = pb.RedriveResponse()
    with connect(options) as server, _progress() as advance:
        try:
            for response in server.stream("Redrive", request, pb.RedriveResponse):
                advance(response)
        except KeyboardInterrupt:
            report(f"interrupted; {messages(response.redriven)} or more redriven")
            raise click.exceptions.Exit(INTERRUPTED) from None
    if options.json:
        show(response, as_json=True)
    else:
        click.echo(f"{'would redrive' if dry_run else 'redrove'} {messages(response.redriven)}")


@contextmanager
def _progress() -> Iterator[Callable[[pb.RedriveResponse], None]]:
    """Show progress if on a terminal; yields a function for each response."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _response: None
        return
    # As in `show`.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    looks = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*looks, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda response: progress.update(
            task, completed=response.redriven, total=response.redriven + response.remaining, refresh=True
        )


@dead.command(
    cls=ClientCommand,
    under="dead",
    verb="purge dead messages",
    short_help="Delete dead messages.",
    examples="""
    queuelet dead purge orders --all --dry-run
    queuelet dead purge orders --all
    queuelet dead purge orders -l tier=test
    """,
)
@queue_argument
@id_option
@selector_option
@all_option
@dry_run_option
@click.pass_context
def purge(  # noqa: PLR0913  # a flag is an argument
    context: click.Context, queue: str, ids: Sequence[str], selector: str, *, everything: bool, dry_run: bool
) -> None:
    """Delete dead messages, and print their number. Other messages are not affected."""
    check_choice(context, ids, selector, everything=everything)
    states = [pb.MessageState.MESSAGE_STATE_DEAD]
    request = pb.PurgeRequest(
        queue_id=queue, ids=ids, selector=selector, all=everything, states=states, dry_run=dry_run
    )
    purge_messages(context.ensure_object(Options), request)
