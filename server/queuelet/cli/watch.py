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
    request = pb.WatchQueuesRequest(selector=selector, counts_apart=True)
    with connect(options) as server:
        batches = server.stream("WatchQueues", request, pb.WatchQueuesResponse)
        try:
            if options.json:
                _write_lines(batches)
            elif sys.stdout.isatty():
                _show_live(batches)
            else:
                _write_plainly(batches)
        except KeyboardInterrupt:
            return


class WatchedQueues:
    """The queues of a watch whose counts come apart from the definitions."""

    def __init__(self) -> None:
        self.by_id: dict[str, pb.Queue] = {}
        self._just_defined: set[str] = set()

    def apply(self, batch: pb.WatchQueuesResponse) -> list[pb.Queue]:
        """Apply a batch, and return the queues that are new or changed, whole."""
        changed: list[pb.Queue] = []
        for queue in batch.queues:
            self.by_id[queue.meta.id] = queue
            self._just_defined.add(queue.meta.id)
            changed.append(queue)
        for counts in batch.counts:
            known = self.by_id.get(counts.id)
            if known is None:
                continue
            # A definition has counts too, which the server repeats with the totals.
            is_repeated = counts.id in self._just_defined and counts.messages == known.messages
            self._just_defined.discard(counts.id)
            if not is_repeated:
                queue = pb.Queue()
                queue.CopyFrom(known)
                queue.messages.CopyFrom(counts.messages)
                self.by_id[counts.id] = queue
                changed.append(queue)
        for removed in batch.removed:
            self.by_id.pop(removed.id, None)
            self._just_defined.discard(removed.id)
        return changed


def _write_lines(batches: Iterator[pb.WatchQueuesResponse]) -> None:
    queues = WatchedQueues()
    for batch in batches:
        for event in _events(batch, queues.apply(batch)):
            write_line(event)


def _events(batch: pb.WatchQueuesResponse, changed: list[pb.Queue]) -> Iterator[dict[str, Any]]:
    for store in batch.stores:
        yield {"store": to_json(store)}
    for queue in changed:
        yield {"queue": to_json(queue)}
    for removed in batch.removed:
        yield {"removed": to_json(removed)}
    if batch.snapshot_complete:
        yield {"snapshotComplete": True}


def _write_plainly(batches: Iterator[pb.WatchQueuesResponse]) -> None:
    """Write a line for each new, changed or removed queue, because the output is not a terminal."""
    queues = WatchedQueues()
    for batch in batches:
        for queue in queues.apply(batch):
            counts = queue.messages
            states = f"{counts.ready} ready, {counts.delayed} delayed, {counts.leased} leased, {counts.dead} dead"
            write(f"{queue.name or queue.meta.id}  {states}\n".encode())
        for removed in batch.removed:
            write(f"{removed.name or removed.id}  removed\n".encode())


def _show_live(batches: Iterator[pb.WatchQueuesResponse]) -> None:
    # As in `show`.
    from rich.live import Live  # noqa: PLC0415

    from queuelet.cli import tables  # noqa: PLC0415

    queues = WatchedQueues()
    screen = tables.console()
    with Live(console=screen, auto_refresh=False) as live:
        for batch in batches:
            queues.apply(batch)
            if not batch.stores:
                live.update(tables.live(queues.by_id.values(), screen.height), refresh=True)
