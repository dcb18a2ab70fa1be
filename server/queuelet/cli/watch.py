"""The command `watch`: shows queues as they change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from queuelet.cli.options import ClientCommand, Options, selector_option
from queuelet.cli.output import to_json, write, write_line
from queuelet.cli.session import connect
from queuelet.v1 import queue_pb2 as pb


@click.command(
    cls=ClientCommand,
    verb="watch queues",
    examples="""
    queuelet watch
    queuelet watch -l team=checkout -o json | jq -r 'select(.queue) | .queue.name'
    """,
)
@selector_option
@click.pass_obj
def watch(options: Options, selector: str) -> None:
    """Show queues and their counts as they change, until ^C, which exits with 0.

    On a terminal, a table is kept up to date. In JSON, each line is an event: first {"store": {"store": ..., "epoch":
    ...}} for each store, {"queue": ...} for each queue, as `queuelet get` prints it, and {"snapshotComplete": true};
    then {"queue": ...} for each new or changed queue, at most once a second if only its counts changed, and
    {"removed": {"id": ..., "name": ...}} for each queue that was deleted or is no longer selected.
    """
    with connect(options) as server:
        batches = server.stream("WatchQueues", pb.WatchQueuesRequest(selector=selector), pb.WatchQueuesResponse)
        try:
            if options.json:
                _write_lines(batches)
            elif sys.stdout.isatty():
                _show_live(batches)
            else:
                _write_plainly(batches)
        except KeyboardInterrupt:
            return


def _write_lines(batches: Iterator[pb.WatchQueuesResponse]) -> None:
    for batch in batches:
        for event in _events(batch):
            write_line(event)


def _events(batch: pb.WatchQueuesResponse) -> Iterator[dict[str, Any]]:
    for store in batch.stores:
        yield {"store": to_json(store)}
    for queue in batch.queues:
        yield {"queue": to_json(queue)}
    for removed in batch.removed:
        yield {"removed": to_json(removed)}
    if batch.snapshot_complete:
        yield {"snapshotComplete": True}


def _write_plainly(batches: Iterator[pb.WatchQueuesResponse]) -> None:
    """Write a line for each new, changed or removed queue, because the output is not a terminal."""
    for batch in batches:
        for queue in batch.queues:
            counts = queue.messages
            states = f"{counts.ready} ready, {counts.delayed} delayed, {counts.leased} leased, {counts.dead} dead"
            write(f"{queue.name or queue.meta.id}  {states}\n".encode())
        for removed in batch.removed:
            write(f"{removed.name or removed.id}  removed\n".encode())


def _show_live(batches: Iterator[pb.WatchQueuesResponse]) -> None:
    # As in `show`.
    from rich.live import Live  # noqa: PLC0415

    from queuelet.cli import tables  # noqa: PLC0415

    queues: dict[str, pb.Queue] = {}
    screen = tables.console()
    with Live(console=screen, auto_refresh=False) as live:
        for batch in batches:
            queues.update((queue.meta.id, queue) for queue in batch.queues)
            for removed in batch.removed:
                queues.pop(removed.id, None)
            if not batch.stores:
                live.update(tables.live(queues.values(), screen.height), refresh=True)
