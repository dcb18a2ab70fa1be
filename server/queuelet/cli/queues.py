"""Commands about queues one by one, those of negz/q's `qcli`, and about what a server counts."""

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
from queuelet.cli.orphans import orphans, queue_objects
from queuelet.cli.session import connect
from queuelet.cli.show import show
from queuelet.tags import Tags
from queuelet.v1 import queue_pb2 as pb

STORE = click.Choice(["memory", "disk", "boltdb"], case_sensitive=False)
"""Where messages live. `boltdb` is the word that negz/q's clients know `disk` by."""


class NewCommand(ClientCommand):
    """Takes `-1` for a limit, and not for a flag."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
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
    help="Only those that a Queue object of Kubernetes declared and that none names any more. It asks kubectl.",
)
@click.option(
    "--instance",
    default="",
    show_default=False,
    metavar="NAME",
    help="With --orphans: only those of the operator that has this --instance. By default those of all.",
)
@click.pass_obj
def list_queues(options: Options, selector: str, instance: str, *, only_orphans: bool) -> None:
    """List queues, the oldest first."""
    if instance and not only_orphans:
        raise click.UsageError("--instance goes with --orphans.")
    # The queues first: an object that comes in between has no queue among them that could look like an orphan.
    with connect(options) as server:
        queues = server.list_queues(selector)
    if only_orphans:
        queues = orphans(queues, queue_objects(), instance)
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
        answer = server.call("GetQueue", pb.GetQueueRequest(queue_id=queue), pb.GetQueueResponse)
    show(answer, as_json=options.json)


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet delete orders
    """,
)
@queue_argument
@click.pass_obj
def delete(options: Options, queue: str) -> None:
    """Delete a queue with all its messages, whoever owns it.

    Prints nothing. Deleting a queue that is not there is no error.
    """
    with connect(options) as server:
        server.call("DeleteQueue", pb.DeleteQueueRequest(queue_id=queue), pb.DeleteQueueResponse)


@click.command(
    cls=NewCommand,
    verb="make a queue",
    examples="""
    queuelet new memory --name orders
    queuelet new memory 1000 --name orders -t team=checkout -t tier=gold
    queuelet new memory --name mails --lease-seconds 60 --max-deliveries 10 --message-ttl-seconds 86400
    """,
)
@click.argument("store", type=STORE, metavar="STORE", help="Where the messages live: memory, or disk (or boltdb).")
@click.argument("limit", type=int, default=UNBOUNDED, help="The most messages it holds. By default -1: no bound.")
@tag_option
@click.option("--name", default="", show_default=False, help="A name of its own, to use in place of its id.")
@delivery_options
@click.pass_obj
def new(options: Options, /, store: str, limit: int, tags: Tags, name: str, **delivery: int | None) -> None:
    """Make a queue.

    Each call makes another one, unless the name is taken. `queuelet declare` can be repeated.
    """
    request = pb.NewQueueRequest(
        store=store_number(store),
        limit=limit,
        tags=tags_to_pb(tags),
        name=name,
        delivery=pb.DeliverySettings(**delivery),
    )
    with connect(options) as server:
        answer = server.call("NewQueue", request, pb.NewQueueResponse)
    show(answer, as_json=options.json)


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

    Prints nothing. Adding a tag that is there is no error.
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
@click.argument("value", help="The tag's value; other values of the key stay.")
@click.pass_obj
def untag(options: Options, queue: str, key: str, value: str) -> None:
    """Take a tag from a queue.

    Prints nothing. Taking a tag that is not there is no error.
    """
    request = pb.DeleteQueueTagRequest(queue_id=queue, tag=pb.Tag(key=key, value=value))
    with connect(options) as server:
        server.call("DeleteQueueTag", request, pb.DeleteQueueTagResponse)


@click.command(
    cls=ClientCommand,
    verb="get figures",
    examples="""
    queuelet stats
    queuelet stats orders
    """,
)
@click.argument("queue", default="", help="A queue's id or name; without one, the whole server's figures.")
@click.pass_obj
def stats(options: Options, queue: str) -> None:
    """Show what the server counts, of itself or of one queue."""
    with connect(options) as server:
        answer = server.call("GetStats", pb.GetStatsRequest(queue_id=queue), pb.GetStatsResponse)
    show(answer, as_json=options.json)


def store_number(store: str) -> pb.Queue.Store:
    """Return a store's number on the wire."""
    return cast("pb.Queue.Store", pb.Queue.Store.Value(store.upper()))


def tags_to_pb(tags: Tags) -> list[pb.Tag]:
    """Return tags as they are sent."""
    return [pb.Tag(key=tag.key, value=tag.value) for tag in tags]
