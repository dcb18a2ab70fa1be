"""Commands that show what happens in a queue, `consumers` and `tail`, and between servers: `servers`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

import click

from queuelet.cli.options import ClientCommand, Options, WholeNumber, queue_argument, selector_option
from queuelet.cli.output import event_word, to_json, to_text, write, write_line
from queuelet.cli.session import connect
from queuelet.cli.show import show
from queuelet.printable import printable
from queuelet.v1 import queue_pb2 as pb


@click.command(
    cls=ClientCommand,
    verb="list consumers",
    examples="""
    queuelet consumers orders
    queuelet consumers orders -o json | jq '.consumers[].name'
    """,
)
@queue_argument
@click.pass_obj
def consumers(options: Options, queue: str) -> None:
    """List who takes messages from a queue: the open streams, and the Receive calls that wait.

    Producers are not listed, because the server does not track them.
    """
    with connect(options) as server:
        response = server.call("ListConsumers", pb.ListConsumersRequest(queue_id=queue), pb.ListConsumersResponse)
    show(response, as_json=options.json)


@click.command(
    cls=ClientCommand,
    verb="tail a queue",
    examples="""
    queuelet tail orders
    queuelet tail orders -l region=eu --rate 100 --payload-bytes 0
    queuelet tail orders -o json | jq -r 'select(.event.kind == "died") | .event.message.meta.id'
    """,
)
@queue_argument
@selector_option
@click.option("--rate", type=WholeNumber(1, 1_000), default=20, help="The most events per second.")
@click.option(
    "--payload-bytes", type=WholeNumber(0, 65_536), default=256, help="The most bytes of each payload that are shown."
)
@click.pass_obj
def tail(options: Options, queue: str, selector: str, rate: int, payload_bytes: int) -> None:
    """Show what happens to the messages of a queue from now on, until ^C, which exits with 0.

    It shows a sample: events beyond the rate are skipped and counted, and the queue is never slowed down. In JSON, each
    line is {"event": {"kind": ..., "time": ..., "message": ...}} or {"skipped": ...}. The kinds are added, leased,
    popped, acked, returned, died, redriven and purged.
    """
    request = pb.TailRequest(queue_id=queue, selector=selector, per_second=rate, payload_bytes=payload_bytes)
    with connect(options) as server:
        batches = server.stream("Tail", request, pb.TailResponse)
        try:
            for batch in batches:
                if options.json:
                    for line in _events(batch):
                        write_line(line)
                else:
                    write("".join(map(_line, batch.events)).encode(errors="replace"))
                    if batch.skipped:
                        write(f"... {batch.skipped:,} skipped\n".encode())
        except KeyboardInterrupt:
            return


@click.command(
    cls=ClientCommand,
    verb="list servers",
    examples="""
    queuelet servers
    queuelet servers -o json | jq '.shards[] | select(.owner == "")'
    """,
)
@click.pass_obj
def servers(options: Options) -> None:
    """List the servers that share the queues in PostgreSQL, and the shards with their owners.

    An epoch is the number of owners that a shard has had. Any server can be asked.
    """
    with connect(options) as server:
        stats = server.call("GetStats", pb.GetStatsRequest(), pb.GetStatsResponse).server
    if options.json:
        found = to_json(stats)
        write(to_text({key: found[key] for key in ("servers", "shards", "stores")}))
        return
    # Imported on demand, as in `show`.
    from queuelet.cli.tables import show_servers  # noqa: PLC0415

    show_servers(stats)


def _events(batch: pb.TailResponse) -> Iterator[dict[str, Any]]:
    for each in batch.events:
        event = to_json(each) | {"kind": event_word(each.kind)}
        if not each.consumer:
            del event["consumer"]
        yield {"event": event}
    if batch.skipped:
        yield {"skipped": str(batch.skipped)}


def _line(event: pb.TailEvent) -> str:
    """Return an event as one line that cannot control a terminal, whatever is in the message."""
    message = event.message
    time = event.time.ToDatetime(UTC).strftime("%H:%M:%S.%f")[:-3]
    parts = [time, f"{event_word(event.kind):8}", message.meta.id]
    if event.consumer:
        parts.append(f"by {event.consumer}")
    if event.HasField("held"):
        parts.append(f"after {event.held.ToTimedelta().total_seconds():,.3f} s")
    parts += [f"{tag.key}={tag.value}" for tag in message.meta.tags]
    payload = message.payload.decode(errors="backslashreplace")
    if len(message.payload) < event.payload_size:
        payload += f"... ({event.payload_size:,} bytes)"
    parts.append(payload)
    return printable("  ".join(filter(None, parts))).replace("\n", "\\n").replace("\t", "\\t") + "\n"
