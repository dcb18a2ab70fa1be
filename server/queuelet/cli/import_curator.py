"""The command that brings a queue of Apache Curator over from ZooKeeper."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from queuelet.cli.batches import batches
from queuelet.cli.failures import INTERRUPTED, REFUSED, Failure, report
from queuelet.cli.options import FILE, ClientCommand, Options, queue_argument, tag_option
from queuelet.cli.output import messages, write, write_line
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

TOLD = 10
"""How many nodes are named in one warning. The JSON on standard output names all."""

OTHER_RECIPE = "its name is of another recipe"
"""Why a node was left."""


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
@click.argument("path", help="The node of Curator's queue, as in /queues/orders.")
@click.option(
    "--zookeeper",
    required=True,
    metavar="HOSTS",
    help="ZooKeeper's servers, as Curator takes them: host:port,host:port, and /path if clients live under one.",
)
@click.option(
    "--zookeeper-auth-file",
    type=FILE,
    help="A file with user:password, where the nodes have ACLs of the scheme digest.",
)
@click.option(
    "--recipe",
    type=click.Choice([each.value for each in Recipe]),
    show_default="told from the names of the nodes",
    help="Which of Curator's queues it is.",
)
@click.option("--remove", is_flag=True, help="Remove each node once the server has acknowledged all of its items.")
@click.option(
    "--lock-path",
    metavar="PATH",
    help="Where consumers that still run lock items: leave those that they work on. With --remove, lock the others.",
)
@click.option(
    "--id-tag", default="curator-id", metavar="KEY", help="The tag that gets the id of an item of a DistributedIdQueue."
)
@tag_option
@click.option("--wait", is_flag=True, help="Wait for room in a full queue, each time as long as --timeout allows.")
@click.option("--dry-run", is_flag=True, help="Only print what would be added.")
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
    """Add the items of an Apache Curator queue to a queue, in the order in which Curator would deliver them.

    Priorities stay priorities, delays stay delays, and the id of an item becomes a tag. The payload is what your
    QueueSerializer wrote. Without --remove, ZooKeeper stays as it is.

    If it stops half-way, run it again: what is still queued is not added twice. Let nobody consume from either queue
    until it is done, or give --lock-path. Nodes that are not Curator's are left and named; those that are, but could
    not be imported, are left too, and it exits with 1.
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
                _tell(options, queue, source.path, transfer.report, foreign)
        finally:
            # What was left is told however it ends: it may be that an item was taken twice.
            _warn(source.path, foreign, transfer.report.left)
    if transfer.report.left:
        raise click.exceptions.Exit(REFUSED)


def _zookeeper(options: Options, hosts: str, path: str, auth_file: Path | None) -> ZooKeeper:
    """Return a session to be opened. Clients do without kazoo unless they import."""
    try:
        module = import_module("queuelet.curator.zookeeper")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("queuelet"):
            raise
        raise Failure(
            f"cannot import from Curator: this needs the package {error.name}: pip install 'queuelet[curator]'"
        ) from error
    credentials = auth_file.read_text().strip() if auth_file else ""
    if auth_file and ":" not in credentials:
        raise ValueError(f"--zookeeper-auth-file: {auth_file} does not hold user:password")
    session: ZooKeeper = module.ZooKeeper(hosts, path, credentials=credentials, timeout=options.timeout or None)
    return session


def _names(context: click.Context, nodes: Sequence[str], recipe: Recipe | None) -> tuple[list[Name], list[str], Recipe]:
    """Return the names that a recipe made, in their order; all others; and the recipe, told from them if not given."""
    if recipe is None:
        try:
            recipe = recipe_of(nodes) or Recipe.QUEUE
        except AmbiguousNames as error:
            choices = ", ".join(each.value for each in Recipe)
            raise click.UsageError(f"{error}: say with --recipe what it is ({choices}).", context) from error
    found = {node: read(node, recipe) for node in nodes}
    names = in_order(name for name in found.values() if name)
    return names, sorted(node for node, name in found.items() if not name), recipe


def _without_locked(names: Sequence[Name], locked: set[str], report: Report) -> list[Name]:
    report.left += [Left(name.node, LOCKED) for name in names if name.node in locked]
    return [name for name in names if name.node not in locked]


# Adding


def _run(transfer: Transfer, names: Sequence[Name], sink: Sink) -> None:
    """Bring them over, and show on a terminal how far it is."""
    try:
        with _progress(len(names)) as advance:
            transfer.run(names, sink, advance)
    except QueueletError as error:
        again = "run it again to go on"
        raise type(error)(f"{error.message}; {_so_far(transfer.report)}; {again}", **error.facts) from error
    except KeyboardInterrupt:
        report(f"interrupted; {_so_far(transfer.report)}")
        raise click.exceptions.Exit(INTERRUPTED) from None


def _add(server: Session, queue: str, new: Sequence[pb.NewMessage], *, wait: bool) -> list[Outcome]:
    """Add messages in one call, or in several where a server takes less."""
    request = pb.AddBatchRequest(queue_id=queue, messages=new, wait=wait)
    try:
        answer = server.call("AddBatch", request, pb.AddBatchResponse)
    except QueueletError as error:
        if not _may_fit_in_parts(error):
            raise
        if len(new) == 1:
            return [InvalidArgument(error.message)]
        half = len(new) // 2
        first = _add(server, queue, new[:half], wait=wait)
        return first + _add(server, queue, new[half:], wait=wait)
    return [error_from_pb(each.error) if each.HasField("error") else each.duplicate for each in answer.results]


def _may_fit_in_parts(error: QueueletError) -> bool:
    """Tell whether a whole call was refused for its size, or for one of its messages."""
    return isinstance(error, InvalidArgument) and error.facts.get("field") != "queue_id"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far it is; yield what takes the number of nodes that were looked at."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    # As in `show`.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    looks = (TextColumn("nodes"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*looks, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)


# Telling


def _preview(options: Options, transfer: Transfer, names: Sequence[Name]) -> None:
    """Print what would be added, message by message."""
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
    """Return in words what was done."""
    removed = f"; {done.removed:,} removed" if done.removed else ""
    return f"{messages(done.added)} of {_nodes(done.nodes)} added, and {done.duplicates:,} were there before{removed}"


def _nodes(count: int) -> str:
    return f"{count:,} node{'' if count == 1 else 's'}"


def _tell(options: Options, queue: str, path: str, done: Report, foreign: Sequence[str]) -> None:
    """Print what became of all of it."""
    if options.json:
        left = [{"node": each.node, "reason": each.reason} for each in done.left]
        counts = {"added": done.added, "duplicates": done.duplicates, "nodes": done.nodes, "removed": done.removed}
        write_line({**counts, "left": left, "foreign": list(foreign)})
    else:
        write(f"{path} to {queue}: {_so_far(done)}\n".encode())


def _warn(path: str, foreign: Sequence[str], left: Sequence[Left]) -> None:
    """Name nodes that were left."""
    shards = [node for node in foreign if is_shard(node)]
    others = [node for node in foreign if not is_shard(node)]
    if shards:
        report(f"{path} has shards of a QueueSharder, each of them a queue; import them one by one: {_some(shards)}")
    if others:
        report(f"nodes in {path} that are not Curator's were left alone: {_some(others)}")
    for reason, nodes in _by_reason(left).items():
        report(f"left {_some(nodes)}: {reason}")


def _by_reason(left: Sequence[Left]) -> dict[str, list[str]]:
    nodes: dict[str, list[str]] = {}
    for each in left:
        nodes.setdefault(each.reason, []).append(each.node)
    return nodes


def _some(nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - TOLD:,} more" if len(nodes) > TOLD else ""
    return f"{', '.join(nodes[:TOLD])}{more}"
