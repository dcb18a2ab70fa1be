"""Commands about single queues, which negz/q's `qcli` has too, and `stats`."""

from __future__ import annotations

import re
from typing import cast

import click

from queuelet.bounds import UNBOUNDED
from queuelet.cli.options import (
    ClientCommand,
    Options,
    delivery_options,
    queue_argument,
    selector_option,
    tag_option,
)
from queuelet.cli.orphans import is_orphan, queue_objects
from queuelet.cli.session import Session, connect
from queuelet.cli.show import show
from queuelet.tags import Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.values import tags_to_pb

STORE = click.Choice(["memory", "disk", "postgres", "boltdb"], case_sensitive=False)
"""The stores. `boltdb` is negz/q's name for `disk`."""


class NewCommand(ClientCommand):
    """A command that takes `-1` for a limit instead of a flag."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        context.ignore_unknown_options = any(re.fullmatch(r"-\d+", argument) for argument in args)
        return super().parse_args(context, args)


@click.command(
    "list",
    cls=ClientCommand,
    verb="list queues",
    examples="""
    queuelet list
    queuelet list -l team=checkout -o json | jq -r '.queues[].name'
    queuelet list --orphans
    """,
)
@selector_option
@click.option(
    "--orphans",
    "only_orphans",
    is_flag=True,
    help="Only queues that a Kubernetes Queue object declared and that no Queue object names any more. Uses kubectl.",
)
@click.option(
    "--instance",
    default="",
    show_default=False,
    metavar="NAME",
    help="With --orphans: only queues of the operator with this --instance. By default those of all operators.",
)
@click.pass_obj
def list_queues(options: Options, selector: str, instance: str, *, only_orphans: bool) -> None:
    """List queues, the oldest first."""
    if instance and not only_orphans:
        raise click.UsageError("--instance: only allowed together with --orphans.")
    # Queues are listed before objects, because the queue of an object created in between would look like an orphan.
    with connect(options) as server:
        queues = _all_queues(server, selector)
    if only_orphans:
        objects = queue_objects()
        queues = [queue for queue in queues if is_orphan(queue.owner.name, objects, instance)]
    show(pb.ListQueuesResponse(queues=queues), as_json=options.json)


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet get orders
    queuelet get orders -o json | jq -r .queue.messages.ready
    """,
)
@queue_argument
@click.pass_obj
def get(options: Options, queue: str) -> None:
    """Show a queue: its definition, and how many messages it holds."""
    with connect(options) as server:
        response = server.call("GetQueue", pb.GetQueueRequest(queue_id=queue), pb.GetQueueResponse)
    show(response, as_json=options.json)


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet delete orders
    """,
)
@queue_argument
@click.pass_obj
def delete(options: Options, queue: str) -> None:
    """Delete a queue with all its messages, even if it has an owner.

    Prints nothing. A queue that does not exist is not an error.
    """
    with connect(options) as server:
        server.call("DeleteQueue", pb.DeleteQueueRequest(queue_id=queue), pb.DeleteQueueResponse)


@click.command(
    cls=NewCommand,
    verb="create a queue",
    examples="""
    queuelet new memory --name orders
    queuelet new memory 1000 --name orders -t team=checkout -t tier=gold
    queuelet new memory --name mails --lease-seconds 60 --max-deliveries 10 --message-ttl-seconds 86400
    """,
)
@click.argument(
    "store",
    type=STORE,
    metavar="STORE",
    help="The store: memory, disk (or boltdb) or postgres.",
)
@click.argument(
    "limit", type=int, default=UNBOUNDED, help="The most messages the queue holds. By default -1: unlimited."
)
@tag_option
@click.option("--name", default="", show_default=False, help="A name that can be used instead of the queue's ID.")
@delivery_options
@click.pass_obj
def new(options: Options, /, store: str, limit: int, tags: Tags, name: str, **delivery: int | None) -> None:
    """Create a queue.

    Each call creates another queue, unless the name is taken. `queuelet declare` is idempotent instead.
    """
    request = pb.NewQueueRequest(
        store=store_number(store),
        limit=limit,
        tags=tags_to_pb(tags),
        name=name,
        delivery=pb.DeliverySettings(**delivery),
    )
    with connect(options) as server:
        response = server.call("NewQueue", request, pb.NewQueueResponse)
    show(response, as_json=options.json)


@click.command(
    cls=ClientCommand,
    verb="tag a queue",
    examples="""
    queuelet tag orders team checkout
    """,
)
@queue_argument
@click.argument("key", help="The tag's key. It may have other values already.")
@click.argument("value", help="The tag's value.")
@click.pass_obj
def tag(options: Options, queue: str, key: str, value: str) -> None:
    """Add a tag to a queue.

    Prints nothing. A tag that the queue already has is not an error.
    """
    request = pb.AddQueueTagRequest(queue_id=queue, tag=pb.Tag(key=key, value=value))
    with connect(options) as server:
        server.call("AddQueueTag", request, pb.AddQueueTagResponse)


@click.command(
    cls=ClientCommand,
    verb="untag a queue",
    examples="""
    queuelet untag orders team checkout
    """,
)
@queue_argument
@click.argument("key", help="The tag's key.")
@click.argument("value", help="The tag's value. Other values of the key stay.")
@click.pass_obj
def untag(options: Options, queue: str, key: str, value: str) -> None:
    """Delete a tag of a queue.

    Prints nothing. A tag that the queue does not have is not an error.
    """
    request = pb.DeleteQueueTagRequest(queue_id=queue, tag=pb.Tag(key=key, value=value))
    with connect(options) as server:
        server.call("DeleteQueueTag", request, pb.DeleteQueueTagResponse)


@click.command(
    cls=ClientCommand,
    verb="get statistics",
    examples="""
    queuelet stats
    queuelet stats orders
    """,
)
@click.argument("queue", default="", help="The ID or name of a queue; by default the whole server.")
@click.pass_obj
def stats(options: Options, queue: str) -> None:
    """Show the statistics of the server or of one queue."""
    with connect(options) as server:
        response = server.call("GetStats", pb.GetStatsRequest(queue_id=queue), pb.GetStatsResponse)
    show(response, as_json=options.json)


def _all_queues(server: Session, selector: str) -> list[pb.Queue]:
    """Return the queues that the selector selects, from all pages."""
    queues: list[pb.Queue] = []
    request = pb.ListQueuesRequest(selector=selector)
    while True:
        page = server.call("ListQueues", request, pb.ListQueuesResponse)
        queues += page.queues
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return queues


def store_number(store: str) -> pb.Queue.Store:
    """Return a store as protobuf."""
    return cast("pb.Queue.Store", pb.Queue.Store.Value(store.upper()))
