"""The command `import-curator`: imports a queue of Apache Curator from ZooKeeper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from queuelet.cli.batches import batches
from queuelet.cli.failures import INTERRUPTED, REFUSED, Failure, report
from queuelet.cli.options import FILE, ClientCommand, Options, queue_argument, tag_option
from queuelet.cli.output import messages, write, write_line
from queuelet.cli.progress import progress
from queuelet.cli.session import Session, connect
from queuelet.curator.messages import Conversion, Node
from queuelet.curator.names import AmbiguousNames, Name, Recipe, in_order, is_item, is_shard, read, recipe_of
from queuelet.curator.transfer import LOCKED, Left, Outcome, Report, Sink, Transfer, windows
from queuelet.errors import InvalidArgument, QueueletError
from queuelet.printable import printable
from queuelet.tags import Tags
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import error_from_pb

if TYPE_CHECKING:
    from queuelet.curator.zookeeper import ZooKeeper

NAMED = 10
"""The most nodes that one warning names. The JSON on standard output names all."""

OTHER_RECIPE = "its name belongs to another recipe"
"""Why a node was skipped."""


@click.command(
    "import-curator",
    cls=ClientCommand,
    verb="import from Curator",
    examples="""
    queuelet import-curator orders /queues/orders --zookeeper zk1:2181,zk2:2181 --dry-run
    queuelet import-curator orders /queues/orders --zookeeper zk1:2181,zk2:2181/apps
    queuelet import-curator mails /queues/mails --zookeeper zk1 --lock-path /locks/mails --remove --wait --timeout 600
    """,
)
@queue_argument
@click.argument("path", help="The ZooKeeper path of Curator's queue, such as /queues/orders.")
@click.option(
    "--zookeeper",
    required=True,
    metavar="HOSTS",
    help="Curator's connection string: host:port,host:port, then /path if clients use a chroot.",
)
@click.option(
    "--zookeeper-auth-file",
    type=FILE,
    help="A file with user:password, for nodes with ACLs of the scheme digest.",
)
@click.option(
    "--recipe",
    type=click.Choice([each.value for each in Recipe]),
    show_default="detected from the names of the nodes",
    help="The Curator recipe of the queue.",
)
@click.option("--remove", is_flag=True, help="Delete each node once the server has confirmed all of its items.")
@click.option(
    "--lock-path",
    metavar="PATH",
    help="The lock path of consumers that still run. Items that they have locked are skipped. With --remove, the "
    "others are locked while they are imported.",
)
@click.option(
    "--id-tag", default="curator-id", metavar="KEY", help="The tag for the ID of an item of a DistributedIdQueue."
)
@tag_option
@click.option("--wait", is_flag=True, help="If the queue is full, wait for room, each time for at most --timeout.")
@click.option("--dry-run", is_flag=True, help="Only print the messages that would be added.")
@click.pass_context
def import_curator(  # noqa: PLR0913, PLR0917  # a flag is an argument
    context: click.Context,
    queue: str,
    path: str,
    zookeeper: str,
    zookeeper_auth_file: Path | None,
    recipe: str | None,
    lock_path: str | None,
    id_tag: str,
    tags: Tags,
    *,
    remove: bool,
    wait: bool,
    dry_run: bool,
) -> None:
    """Import the items of an Apache Curator queue, in the order in which Curator would deliver them.

    Priorities and delays are preserved, and the ID of an item becomes a tag. The payload is the bytes that your
    QueueSerializer wrote. Without --remove, the command does not change ZooKeeper.

    If it stops half-way, run it again: items that are still queued are not added twice. Stop all consumers of both
    queues until it is done, or give --lock-path. Nodes that are not Curator's are skipped and reported. If a node of
    Curator's could not be imported, it is skipped too, and the command exits with 1.
    """
    options = context.ensure_object(Options)
    with _zookeeper(options, zookeeper, path, zookeeper_auth_file) as source:
        if lock_path is not None:
            source.use_locks(lock_path)
        names, others, known = _names(context, source.children(), Recipe(recipe) if recipe else None)
        transfer = Transfer(
            source=source,
            conversion=Conversion(path=source.path, recipe=known, id_tag=id_tag, tags=tags),
            batches=partial(batches, size=lambda item: len(item[1].payload)),
            remove=remove,
            lock=remove and lock_path is not None,
        )
        foreign = [node for node in others if not is_item(node)]
        transfer.report.left += [Left(node, OTHER_RECIPE) for node in others if is_item(node)]
        if not transfer.lock or dry_run:
            names = _without_locked(names, source.locked(), transfer.report)
        try:
            if dry_run:
                _preview(options, transfer, names)
            else:
                with connect(options) as server:
                    _run(transfer, names, partial(_add, server, queue, wait=wait))
                _show_report(options, queue, source.path, transfer.report, foreign)
        finally:
            # Also after an error, because a skipped node may mean that an item is delivered twice.
            _warn(source.path, foreign, transfer.report.left)
    if transfer.report.left:
        raise click.exceptions.Exit(REFUSED)


def _zookeeper(options: Options, hosts: str, path: str, auth_file: Path | None) -> ZooKeeper:
    """Return a session that is not open yet. kazoo is imported on demand, because only this command needs it."""
    try:
        module = import_module("queuelet.curator.zookeeper")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("queuelet"):
            raise
        raise Failure(
            f"cannot import from Curator: package {error.name} is not installed; run: pip install 'queuelet[curator]'"
        ) from error
    credentials = auth_file.read_text().strip() if auth_file else ""
    if auth_file and ":" not in credentials:
        raise ValueError(f"--zookeeper-auth-file: {auth_file} has no user:password; write one line of that form")
    session: ZooKeeper = module.ZooKeeper(hosts, path, credentials=credentials, timeout=options.timeout or None)
    return session


def _names(context: click.Context, nodes: Sequence[str], recipe: Recipe | None) -> tuple[list[Name], list[str], Recipe]:
    """Return the names of the recipe in order, all others, and the recipe, which is detected if not given."""
    if recipe is None:
        try:
            recipe = recipe_of(nodes) or Recipe.QUEUE
        except AmbiguousNames as error:
            choices = ", ".join(each.value for each in Recipe)
            raise click.UsageError(f"{error}; give --recipe ({choices}).", context) from error
    found = {node: read(node, recipe) for node in nodes}
    names = in_order(name for name in found.values() if name)
    return names, sorted(node for node, name in found.items() if not name), recipe


def _without_locked(names: Sequence[Name], locked: set[str], report: Report) -> list[Name]:
    report.left += [Left(name.node, LOCKED) for name in names if name.node in locked]
    return [name for name in names if name.node not in locked]


# Adding


def _run(transfer: Transfer, names: Sequence[Name], sink: Sink) -> None:
    """Import the nodes, and show progress if on a terminal."""
    try:
        with progress("nodes", len(names)) as advance:
            transfer.run(names, sink, advance)
    except QueueletError as error:
        again = "run the command again to continue"
        raise type(error)(f"{error.message}; {_so_far(transfer.report)}; {again}", **error.facts) from error
    except KeyboardInterrupt:
        report(f"interrupted; {_so_far(transfer.report)}")
        raise click.exceptions.Exit(INTERRUPTED) from None


def _add(server: Session, queue: str, new: Sequence[pb.NewMessage], *, wait: bool) -> list[Outcome]:
    """Add messages in one call, or in several if the server refuses the batch for its size."""
    request = pb.AddBatchRequest(queue_id=queue, messages=new, wait=wait)
    try:
        response = server.call("AddBatch", request, pb.AddBatchResponse)
    except QueueletError as error:
        if not _may_fit_in_parts(error):
            raise
        if len(new) == 1:
            return [InvalidArgument(error.message)]
        half = len(new) // 2
        first = _add(server, queue, new[:half], wait=wait)
        return first + _add(server, queue, new[half:], wait=wait)
    return [error_from_pb(each.error) if each.HasField("error") else each.duplicate for each in response.results]


def _may_fit_in_parts(error: QueueletError) -> bool:
    """Return whether a call may have been refused for its size or for one of its messages."""
    return isinstance(error, InvalidArgument) and error.facts.get("field") != "queue_id"


# Reporting


def _preview(options: Options, transfer: Transfer, names: Sequence[Name]) -> None:
    """Print the messages that would be added."""
    for window in windows(names):
        for node, new in transfer.converted(window):
            for message in new:
                write_line(_facts(node, message)) if options.json else write(_line(node, message))


def _facts(node: Node, message: pb.NewMessage) -> dict[str, Any]:
    return {
        "node": node.name.node,
        "id": message.id,
        "bytes": len(message.payload),
        "priority": message.priority,
        "notBefore": message.not_before.ToJsonString() if message.HasField("not_before") else None,
        "tags": [{"key": tag.key, "value": tag.value} for tag in message.tags],
    }


def _line(node: Node, message: pb.NewMessage) -> bytes:
    parts = [f"{node.name.node}  {len(message.payload):,} bytes"]
    if message.priority:
        parts.append(f"priority {message.priority}")
    if message.HasField("not_before"):
        parts.append(f"not before {message.not_before.ToJsonString()}")
    parts += [f"{tag.key}={tag.value}" for tag in message.tags]
    return f"{printable('  '.join(parts))}\n".encode()


def _so_far(done: Report) -> str:
    """Return the result so far, in words."""
    removed = f"; {done.removed:,} removed" if done.removed else ""
    return f"{messages(done.added)} of {_nodes(done.nodes)} added, {done.duplicates:,} already queued{removed}"


def _nodes(count: int) -> str:
    return f"{count:,} node{'' if count == 1 else 's'}"


def _show_report(options: Options, queue: str, path: str, done: Report, foreign: Sequence[str]) -> None:
    """Print the result."""
    if options.json:
        left = [{"node": each.node, "reason": each.reason} for each in done.left]
        counts = {"added": done.added, "duplicates": done.duplicates, "nodes": done.nodes, "removed": done.removed}
        write_line({**counts, "left": left, "foreign": list(foreign)})
    else:
        write(f"{path} to {queue}: {_so_far(done)}\n".encode())


def _warn(path: str, foreign: Sequence[str], left: Sequence[Left]) -> None:
    """Report the nodes that were skipped."""
    shards = [node for node in foreign if is_shard(node)]
    others = [node for node in foreign if not is_shard(node)]
    if shards:
        report(f"{path} has shards of a QueueSharder, which are separate queues; import each one: {_some(shards)}")
    if others:
        report(f"skipped nodes in {path} that are not Curator's: {_some(others)}")
    for reason, nodes in _by_reason(left).items():
        report(f"left {_some(nodes)}: {reason}")


def _by_reason(left: Sequence[Left]) -> dict[str, list[str]]:
    nodes: dict[str, list[str]] = {}
    for each in left:
        nodes.setdefault(each.reason, []).append(each.node)
    return nodes


def _some(nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - NAMED:,} more" if len(nodes) > NAMED else ""
    return f"{', '.join(nodes[:NAMED])}{more}"
