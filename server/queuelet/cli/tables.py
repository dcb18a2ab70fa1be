"""Tables and records for terminals. This module imports rich, so import it on demand."""

from __future__ import annotations

import sys
from base64 import b64encode
from codecs import getincrementaldecoder
from collections.abc import Iterable, Mapping
from datetime import UTC

from google.protobuf.message import Message as ProtobufMessage
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from queuelet.cli.output import outcome_word, reason_word, state_word, write
from queuelet.printable import printable
from queuelet.v1 import queue_pb2 as pb

WIDE = 240
"""The width of output that is not a terminal, in columns."""

_STATES = ("ready", "delayed", "leased", "dead")


def console() -> Console:
    """Return a console for standard output."""
    plain = None if sys.stdout.isatty() else WIDE
    return Console(file=sys.stdout, width=plain, highlight=False, markup=False, emoji=False)


def show_response(response: ProtobufMessage) -> None:
    """Write a response to standard output as a table or a record."""
    _show(_view(response))


def show_servers(stats: pb.ServerStats) -> None:
    """Write the servers that share the queues to standard output, and the shards."""
    if not stats.servers:
        _show("The server shares its queues with no other.")
        return
    servers = _columns("SERVER", "SHARDS")
    for each in stats.servers:
        shards = ", ".join(map(str, each.shards)) or "-"
        servers.add_row(printable(each.address) + (" (answers)" if each.is_here else ""), shards)
    shards_of = _columns("SHARD", "OWNER", "EPOCH", right=["SHARD", "EPOCH"])
    for shard in stats.shards:
        shards_of.add_row(str(shard.shard), printable(shard.owner) or "none", f"{shard.epoch:,}")
    _show(Group(servers, "", shards_of, "", ", ".join(map(_store_fact, stats.stores))))


def _show(view: RenderableType) -> None:
    screen = console()
    with screen.capture() as captured:
        screen.print(view)
    lines = captured.get().splitlines()
    write("".join(f"{line.rstrip()}\n" for line in lines).encode(errors="replace"))


def _view(response: ProtobufMessage) -> RenderableType:
    view: RenderableType = printable(str(response))
    match response:
        case pb.ListQueuesResponse():
            view = queue_table(response.queues) if response.queues else "There are no queues."
        case pb.NewQueueResponse() | pb.GetQueueResponse():
            view = _queue_record(response.queue)
        case pb.AddResponse():
            view = _record({**_message_facts(response.message), "duplicate": "yes" if response.duplicate else "no"})
        case pb.PopResponse() | pb.PeekResponse():
            view = _record({**_message_facts(response.message), "payload": _payload(response.message.payload)})
        case pb.BrowseResponse():
            view = _message_table(response.messages)
        case pb.Delivery():
            view = _record(_delivery_facts(response))
        case pb.ListConsumersResponse():
            view = _consumers(response)
        case pb.GetStatsResponse():
            view = _record(
                _queue_facts(response.queue) if response.HasField("queue") else _server_facts(response.server)
            )
    return view


def _record(facts: Mapping[str, RenderableType]) -> Table:
    """Return a record: one line for each name and value."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, printable(fact) if isinstance(fact, str) else fact)
    return table


def _columns(*names: str, right: Iterable[str] = ()) -> Table:
    """Return an empty table with these columns; those in `right` are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def queue_table(queues: Iterable[pb.Queue]) -> Table:
    """Return a table with a line for each queue."""
    counts = [state.upper() for state in _STATES]
    table = _columns("QUEUE", "STORE", "LIMIT", *counts, "TAGS", right=["LIMIT", *counts])
    for queue in queues:
        numbers = [f"{getattr(queue.messages, state):,}" for state in _STATES]
        table.add_row(label(queue), _store(queue.store), _limit(queue), *numbers, _tags(queue.meta.tags))
    return table


def _queue_record(queue: pb.Queue) -> Table:
    """Return a record of one queue."""
    facts: dict[str, RenderableType] = {
        "name": queue.name or "-",
        "id": queue.meta.id,
        "created": _moment(queue.meta.created),
        "store": _store(queue.store),
        "limit": _limit(queue),
        "tags": _tags(queue.meta.tags) or Text("-"),
        "messages": _counts(queue.messages),
        "delivery": _delivery(queue.delivery),
        "draining": "yes" if queue.draining else "no",
        "revision": str(queue.revision),
    }
    if queue.owner.name:
        facts["owner"] = printable(f"{queue.owner.name} {queue.owner.uid}".strip())
    return _record(facts)


def _message_facts(message: pb.Message) -> dict[str, RenderableType]:
    facts: dict[str, RenderableType] = {
        "id": message.meta.id,
        "created": _moment(message.meta.created),
        "tags": _tags(message.meta.tags) or Text("-"),
    }
    if message.priority:
        facts["priority"] = f"{message.priority:,}"
    if message.HasField("not_before"):
        facts["not before"] = _moment(message.not_before)
    if message.HasField("ttl"):
        facts["time to live"] = f"{message.ttl.ToTimedelta().total_seconds():,g} s"
    return facts


def _delivery_facts(delivery: pb.Delivery) -> dict[str, RenderableType]:
    message = delivery.message
    return {
        "token": str(delivery.token),
        "deadline": _moment(delivery.deadline),
        "delivery": f"{delivery.count:,}",
        **_message_facts(message),
        "payload": _payload(message.payload),
    }


def _message_table(browsed: Iterable[pb.BrowsedMessage]) -> Table:
    table = _columns("STATE", "ID", "CREATED", "COUNT", "DETAILS", "TAGS", right=["COUNT"])
    table.add_column("PAYLOAD", no_wrap=True, overflow="ellipsis")
    for each in browsed:
        message = each.message
        cut = _first_line(message.payload, each.payload_size)
        facts = (state_word(each.state), printable(message.meta.id), _moment(message.meta.created), f"{each.count:,}")
        table.add_row(*facts, _details(each), _tags(message.meta.tags), cut)
    return table


def _details(browsed: pb.BrowsedMessage) -> Text:
    """Return details of a message's state: its end, the consumer, why it is dead, and how its last delivery failed."""
    details: list[str] = []
    if browsed.HasField("until"):
        details.append(f"until {_moment(browsed.until)}")
    if browsed.consumer:
        details.append(f"by {browsed.consumer}")
    if browsed.reason:
        details.append(reason_word(browsed.reason))
    if browsed.tries:
        last = browsed.tries[-1]
        details.append(f"last {outcome_word(last.outcome)}" + (f": {last.reason}" if last.reason else ""))
    return Text(printable(", ".join(details)).replace("\n", " "))


def _first_line(data: bytes, size: int) -> Text:
    """Return the first line of a payload, of which the data may be only the beginning."""
    if size <= len(data):
        first, *more = _payload(data).plain.split("\n")
        return Text(f"{first[:WIDE]} ..." if more else first[:WIDE])
    whole = Text(f"({size:,} bytes)", style="dim")
    if not data:
        return whole
    try:
        text = getincrementaldecoder("utf-8")().decode(data)  # leaves out a character that is cut
    except UnicodeDecodeError:
        text = ""
    first = _payload(text.encode() or data).plain.split("\n")[0]
    return Text.assemble(f"{first[:WIDE]} ... ", whole)


def _payload(data: bytes) -> Text:
    """Return a payload as text, or in base64 if it is not text or contains control characters."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text == printable(text):
        return Text(text)
    if not data:
        return Text("(empty)", style="dim")
    return Text.assemble(b64encode(data).decode(), (f"  (base64: {len(data):,} bytes, not text)", "dim"))


def _consumers(response: pb.ListConsumersResponse) -> RenderableType:
    """Return a table of consumers, and below it what else takes messages or waits."""
    table = _columns("CONSUMER", "ADDRESS", "KIND", "SINCE", "LEASES", "CREDIT", "SETTLED", right=["LEASES", "CREDIT"])
    for each in response.consumers:
        kind = "receive" if each.kind == pb.Consumer.KIND_RECEIVE else "stream"
        if each.exclusive:
            kind = "exclusive" if each.holds_queue else "in line"
        settled = _moment(each.last_settled) if each.HasField("last_settled") else "-"
        facts = (printable(each.name) or "-", printable(each.peer), kind, _moment(each.since))
        table.add_row(*facts, f"{each.leases:,}", f"{each.credit:,}", settled)
    rest = (
        f"{response.waiting_for_message:,} waiting for a message, {response.waiting_for_space:,} for space; "
        f"{response.other_leases:,} leases of Receive calls"
    )
    return Group(table, rest) if response.consumers else f"There are no consumers: {rest}."


def _queue_facts(stats: pb.QueueStats) -> dict[str, RenderableType]:
    oldest = stats.oldest_ready_age
    return {
        "queue": label(stats.queue),
        "store": _store(stats.queue.store),
        "messages": _counts(stats.queue.messages),
        "limit": _limit(stats.queue),
        "enqueued": f"{stats.enqueued:,}",
        "consumed": f"{stats.consumed:,}",
        "leased": f"{stats.leased:,}, {stats.redelivered:,} of them redelivered",
        "acked": f"{stats.acked:,}",
        "returned": f"{stats.nacked:,} by nack, {stats.released:,} by the end of a stream, {stats.expired:,} by expiry",
        "died": f"{stats.buried:,}, {stats.redriven:,} redriven",
        "purged": f"{stats.purged:,}",
        "refused, full": f"{stats.refused_full:,}",
        "stored": f"{stats.stored_bytes:,} bytes",
        "oldest ready": str(oldest.ToTimedelta()) if stats.HasField("oldest_ready_age") else "-",
        "waiting calls": f"{stats.waiting_calls:,}",
        **({"damaged": f"{stats.damaged:,}, set aside: see `queuelet check`"} if stats.damaged else {}),
    }


def _server_facts(stats: pb.ServerStats) -> dict[str, RenderableType]:
    return {
        "version": stats.version,
        "started": _moment(stats.started),
        "stores": ", ".join(map(_store_fact, stats.stores)),
        "queues": f"{stats.queues:,}",
        "messages": _counts(stats.messages),
        "memory": f"{stats.memory_bytes:,} of {stats.memory_watermark_bytes:,} bytes",
    }


def live(queues: Iterable[pb.Queue], height: int) -> RenderableType:
    """Return a table of as many queues as fit the screen, and the number of the others."""
    ordered = sorted(queues, key=label)
    fitting = max(1, height - 3)
    if len(ordered) <= fitting:
        return queue_table(ordered)
    return Group(queue_table(ordered[:fitting]), Text(f"... and {len(ordered) - fitting:,} more", style="dim"))


def label(queue: pb.Queue) -> str:
    """Return a queue's name, or its ID if it has none."""
    return printable(queue.name or queue.meta.id)


def _store(number: pb.Queue.Store) -> str:
    """Return a store's name."""
    return pb.Queue.Store.Name(number).capitalize()


def _store_fact(store: pb.StoreEpoch) -> str:
    """Return a store with what its changes survive, its epoch, and its problem if it has one."""
    fact = f"{_durability(store)}epoch {store.epoch}" if store.epoch else "not opened"
    return f"{_store(store.store)} ({fact}{f': {store.problem}' if store.problem else ''})"


def _durability(store: pb.StoreEpoch) -> str:
    """Return what changes in a store survive, before more text; empty if the server is too old to tell."""
    name = pb.Durability.Name(store.durability).removeprefix("DURABILITY_").lower()
    return f"{name}, " if store.durability else ""


def _limit(queue: pb.Queue) -> str:
    """Return a queue's limit."""
    return "none" if queue.limit < 0 else f"{queue.limit:,}"


def _tags(pairs: Iterable[pb.Tag]) -> Text:
    """Return tags as one line."""
    return Text(", ".join(printable(f"{tag.key}={tag.value}") for tag in pairs))


def _counts(of: pb.MessageCounts) -> str:
    """Return counts by state."""
    return ", ".join(f"{getattr(of, state):,} {state}" for state in _STATES)


def _moment(at: Timestamp) -> str:
    """Return a time to the second."""
    return f"{at.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _delivery(settings: pb.DeliverySettings) -> str:
    ends = f"{settings.message_ttl_seconds:,} s" if settings.HasField("message_ttl_seconds") else "for ever"
    return f"lease {settings.lease_seconds:,} s, {settings.max_deliveries:,} deliveries, kept {ends}"
