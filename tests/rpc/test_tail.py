"""Tail: a sample of what happens to the messages of a queue, on both stores."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from select import select

import grpc
import pytest

from queuelet.client import Client, EventKind, TailEvent
from queuelet.errors import QueueNotFound
from queuelet.server.handlers.tail import MAX_TAILS, MAX_TAILS_OF_QUEUE
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from support.both_stores import both, cli, client, name, new_queue, rpc, store
from support.commands import PATIENCE, Cli, Terminal, assert_failed
from support.rpc import Refused, Rpc, Stream, eventually, refusal
from support.server_process import ServerProcess

__all__ = ["both", "cli", "client", "name", "rpc", "store"]

KINDS = pb.TailEvent.Kind


class Tailed:
    """A Tail stream, and the events so far."""

    def __init__(self, call: Stream) -> None:
        self._call = call
        self.events: list[pb.TailEvent] = []
        self.skipped = 0

    def read(self) -> pb.TailResponse:
        """Read one response."""
        try:
            response = pb.TailResponse.FromString(next(self._call))
        except grpc.RpcError as error:
            raise refusal(error) from None
        self.events += response.events
        self.skipped += response.skipped
        return response

    def take(self, count: int) -> list[pb.TailEvent]:
        """Read until there are this many events."""
        while len(self.events) < count:
            self.read()
        return self.events

    @property
    def kinds(self) -> list[str]:
        """Return what happened, in words."""
        return [KINDS.Name(event.kind).removeprefix("KIND_").lower() for event in self.events]


@contextmanager
def tailing(
    rpc: Rpc, queue: str, selector: str = "", per_second: int = 0, payload_bytes: int = 256
) -> Iterator[Tailed]:
    """Tail a queue from now on."""
    request = pb.TailRequest(
        queue_id=queue, selector=selector, per_second=per_second, payload_bytes=payload_bytes
    ).SerializeToString()
    call = rpc.stream("Tail", request)
    try:
        tailed = Tailed(call)
        first = tailed.read()
        assert first == pb.TailResponse(), "the first response comes at once, and is empty"
        yield tailed
    finally:
        call.cancel()


def test_the_life_of_a_message_is_reported(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name) as tail:
        added = rpc.add(name, b"payload", tags=[("region", "eu")])
        (first,) = rpc.receive(name, 1, consumer="worker 3")
        tail.take(2)
        rpc.nack(name, first.token, reason="busy")
        tail.take(3)
        (second,) = rpc.receive(name, 1)
        rpc.nack(name, second.token, dead=True)
        tail.take(5)
        rpc.redrive(name, all=True)
        tail.take(6)
        rpc.ack(name, rpc.receive(name, 1, consumer="worker 4")[0].token)
        tail.take(8)
        assert tail.kinds == ["added", "leased", "returned", "leased", "died", "redriven", "leased", "acked"]
        assert [each.consumer for each in tail.events] == [
            "",
            "worker 3",
            "worker 3",
            "",
            "",
            "",
            "worker 4",
            "worker 4",
        ]
        assert {each.message.meta.id for each in tail.events} == {added.meta.id}
        assert {(each.message.payload, each.payload_size) for each in tail.events} == {(b"payload", 7)}
        assert [each.HasField("held") for each in tail.events] == [False, False, True, False, False, False, False, True]
        times = [each.time.ToDatetime(UTC) for each in tail.events]
        assert times == sorted(times)
        assert abs(times[0] - datetime.now(UTC)) < timedelta(minutes=5)
        assert tail.skipped == 0


def test_popped_and_purged_messages_are_reported(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name) as tail:
        rpc.add_batch(name, [b"0", b"1", b"2"])
        rpc.pop(name)
        rpc.call("PopBatch", pb.PopBatchRequest(queue_id=name, max=1), pb.PopBatchResponse)
        rpc.call("Purge", pb.PurgeRequest(queue_id=name, all=True), pb.PurgeResponse)
        tail.take(6)
        assert tail.kinds == ["added"] * 3 + ["popped"] * 2 + ["purged"]
        assert [each.message.payload for each in tail.events] == [b"0", b"1", b"2", b"0", b"1", b"2"]


def test_a_consume_stream_and_its_end_are_reported(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name) as tail:
        rpc.add_batch(name, [b"0", b"1"])
        stream = rpc.consume(name, credit=2, consumer="me")
        stream.take(2)
        stream.say(ack=stream.tokens[:1])
        stream.until(lambda so_far: so_far.settled)
        tail.take(5)
        stream.cancel()
        tail.take(6)
        assert tail.kinds == ["added", "added", "leased", "leased", "acked", "returned"]
        assert {each.consumer for each in tail.events[2:]} == {"me"}


def test_an_ack_that_is_refused_or_given_twice_is_not_reported(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name) as tail:
        rpc.add(name)
        (lease,) = rpc.receive(name, 1)
        assert rpc.ack(name, lease.token, lease.token, 7) == ["", "MESSAGE_NOT_FOUND", "MESSAGE_NOT_FOUND"]
        rpc.ack(name, lease.token)
        rpc.add(name)
        tail.take(4)
        assert tail.kinds == ["added", "leased", "acked", "added"]


def test_what_happened_before_is_not_reported(rpc: Rpc, name: str) -> None:
    rpc.add(name, b"before")
    with tailing(rpc, name) as tail:
        rpc.add(name, b"after")
        assert [each.message.payload for each in tail.take(1)] == [b"after"]


def test_payloads_are_cut(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name, payload_bytes=3) as tail, tailing(rpc, name, payload_bytes=0) as without:
        rpc.add(name, b"x" * 100_000, tags=[("k", "v")])
        rpc.add(name, b"abc")
        assert [(each.message.payload, each.payload_size) for each in tail.take(2)] == [(b"xxx", 100_000), (b"abc", 3)]
        assert [(each.message.payload, each.payload_size) for each in without.take(2)] == [(b"", 100_000), (b"", 3)]
        assert tail.events[0].message.meta.tags == [pb.Tag(key="k", value="v")]


def test_without_a_number_of_bytes_a_payload_has_at_most_256(rpc: Rpc, name: str) -> None:
    call = rpc.stream("Tail", pb.TailRequest(queue_id=name).SerializeToString())
    tail = Tailed(call)
    tail.read()
    rpc.add(name, bytes(1_000))
    assert len(tail.take(1)[0].message.payload) == 256
    call.cancel()


def test_a_selector_selects_messages_whatever_happens_to_them(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name, "region=eu") as tail:
        for region in ("us", "eu", "us"):
            rpc.add(name, region.encode(), tags=[("region", region)])
        leases = rpc.receive(name, 3)
        rpc.nack(name, leases[0].token, leases[1].token)
        rpc.ack(name, leases[2].token)
        rpc.call("Purge", pb.PurgeRequest(queue_id=name, all=True), pb.PurgeResponse)
        tail.take(4)
        assert tail.kinds == ["added", "leased", "returned", "purged"]
        assert {each.message.payload for each in tail.events} == {b"eu"}
        assert tail.skipped == 0


def test_what_exceeds_the_rate_is_skipped_and_counted(rpc: Rpc, name: str) -> None:
    """Every event is either sent or counted."""
    with tailing(rpc, name, per_second=5) as tail:
        rpc.add_batch(name, [b"%d" % number for number in range(1_000)])
        rpc.pop_all(name)
        while len(tail.events) + tail.skipped < 2_000:
            tail.read()
        assert len(tail.events) + tail.skipped == 2_000
        assert 5 <= len(tail.events) < 500


def test_skipped_events_are_counted_once_with_a_selector_too(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name, "a=b", per_second=5) as tail:
        messages = [pb.NewMessage(tags=[pb.Tag(key="a", value="b")])] * 900
        rpc.call("AddBatch", pb.AddBatchRequest(queue_id=name, messages=messages), pb.AddBatchResponse)
        while len(tail.events) + tail.skipped < 900:
            tail.read()
        assert len(tail.events) + tail.skipped == 900
        assert 5 <= len(tail.events) < 300


def test_a_reader_that_does_not_read_neither_blocks_nor_loses_an_add(both: ServerProcess, rpc: Rpc, name: str) -> None:
    """20 MB of events for readers that read nothing, while every Add and Pop is served, and memory stays bounded."""
    readers = [Rpc(both.address) for _ in range(5)]
    request = pb.TailRequest(queue_id=name, per_second=1_000, payload_bytes=65_536).SerializeToString()
    calls = [reader.stream("Tail", request) for reader in readers]
    for call in calls:
        assert next(call) == b""
    before = rpc.server_stats().memory_bytes
    ids = [result.id for _ in range(40) for result in rpc.add_batch(name, [bytes(50_000)] * 10)]
    assert len(set(ids)) == 400
    ids.append(rpc.add(name, b"x" * 3_000_000).meta.id)
    stored = 400 * 51_000 + 3_001_000
    if rpc.get_queue(name).store == pb.Queue.MEMORY:
        assert rpc.server_stats().memory_bytes - before < stored + len(calls) * 5_000_000
    popped = [rpc.pop(name).meta.id for _ in ids]
    assert popped == ids
    for call in calls:
        call.cancel()
    eventually(lambda: rpc.server_stats().memory_bytes <= before + 1_000_000, "the buffers are released")
    for reader in readers:
        reader.close()


def test_a_slow_reader_learns_how_much_it_missed(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name, per_second=1_000, payload_bytes=65_536) as tail:
        for _ in range(20):
            rpc.add_batch(name, [bytes(65_536)] * 50)
        while len(tail.events) + tail.skipped < 1_000:
            tail.read()
        assert len(tail.events) + tail.skipped == 1_000
        assert tail.events


def test_a_tail_ends_when_its_queue_is_deleted(rpc: Rpc, name: str) -> None:
    with tailing(rpc, name) as tail:
        rpc.delete_queue(name)
        with pytest.raises(Refused, match="NOT_FOUND"):
            tail.read()


def test_tailing_an_unknown_queue_is_not_found(rpc: Rpc) -> None:
    with pytest.raises(Refused, match="NOT_FOUND"):
        Tailed(rpc.stream("Tail", pb.TailRequest(queue_id="absent").SerializeToString())).read()


def test_the_number_of_tails_is_bounded_and_an_ended_one_makes_room(rpc: Rpc, store: pb.Queue.Store) -> None:
    queues = [new_queue(rpc, store) for _ in range(MAX_TAILS // MAX_TAILS_OF_QUEUE)]
    requests = [pb.TailRequest(queue_id=queue).SerializeToString() for queue in queues]
    calls: list[Stream] = []
    for request in requests:
        calls += [rpc.stream("Tail", request) for _ in range(MAX_TAILS_OF_QUEUE)]
        for call in calls[-MAX_TAILS_OF_QUEUE:]:
            next(call)
        if len(calls) == MAX_TAILS_OF_QUEUE:
            with pytest.raises(Refused, match=f"RESOURCE_EXHAUSTED: queue {queues[0]} has 10 Tail streams"):
                Tailed(rpc.stream("Tail", request)).read()
    with pytest.raises(Refused, match="RESOURCE_EXHAUSTED: the server has 100 Tail streams"):
        Tailed(rpc.stream("Tail", requests[0])).read()
    calls.pop(0).cancel()

    def has_room() -> bool:
        call = rpc.stream("Tail", requests[0])
        try:
            Tailed(call).read()
        except Refused:
            return False
        calls.append(call)
        return True

    eventually(has_room, "another may tail")
    for queue in queues:
        rpc.add(queue)
    for call in calls:
        assert pb.TailResponse.FromString(next(call)).events
        call.cancel()


def test_a_tail_ends_when_the_server_drains(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue().meta.id
        with tailing(rpc, queue) as tail:
            server.signal(signal.SIGTERM)
            with pytest.raises(Refused, match="UNAVAILABLE"):
                tail.read()
        assert server.wait() == 0


# The client and the command


async def test_the_client_yields_batches_of_values(client: Client, name: str) -> None:
    batches = client.tail(name, selector="region=eu", payload_bytes=2, per_second=100)
    first = await anext(batches)
    assert (first.events, first.skipped) == ((), 0)
    added = await client.add(name, b"payload", tags=[Tag("region", "eu")])
    (delivery,) = await client.receive(name, consumer="me")
    await client.ack(name, [delivery.token])
    events: list[TailEvent] = []
    async for batch in batches:
        events += batch.events
        if len(events) == 3:
            break
    assert [each.kind for each in events] == [EventKind.ADDED, EventKind.LEASED, EventKind.ACKED]
    assert {(each.message.id, each.message.payload, each.payload_size) for each in events} == {(added.id, b"pa", 7)}
    assert [each.consumer for each in events] == ["", "me", "me"]
    assert events[2].held is not None
    assert events[2].held >= timedelta()
    assert events[0].time <= events[2].time


async def test_the_clients_tail_ends_with_its_queue(client: Client) -> None:
    queue = await client.new_queue()
    batches = client.tail(queue.id)
    await anext(batches)
    await client.delete_queue(queue.id)
    with pytest.raises(QueueNotFound):
        await anext(batches)


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\r\n\tend"


def test_the_command_prints_lines_that_cannot_control_a_terminal(rpc: Rpc, cli: Cli, name: str) -> None:
    with Terminal(cli, "tail", name, "--rate", "1000") as terminal:
        eventually(lambda: _is_tailed(rpc, name, terminal), "it tails")
        rpc.pop_all(name)
        rpc.add(name, HOSTILE.encode() + b"\xff\x00", tags=[("region", HOSTILE)])
        rpc.receive(name, 100, consumer=HOSTILE)
        terminal.wait_for("leased")
        terminal.wait_for(f"by {escaped(HOSTILE)}")
        terminal.wait_for(f"region={escaped(HOSTILE)}")
        terminal.wait_for(escaped(HOSTILE) + r"\xff\x00")
        assert "\x1b]" not in terminal.shown
        assert "\u202e" not in terminal.shown
        terminal.type(b"\x03")
        assert terminal.end().code == 0


def escaped(text: str) -> str:
    """Return a text as the command shows it."""
    return text.encode("unicode_escape").decode()


def _is_tailed(rpc: Rpc, name: str, terminal: Terminal) -> bool:
    rpc.add(name, b"probe")
    return "probe" in terminal.shown


def test_the_command_prints_json(rpc: Rpc, cli: Cli, name: str) -> None:
    running = cli.start("tail", name, "--rate", "1000", "--payload-bytes", "3", stdout=subprocess.PIPE)
    printed = running.stdout
    assert printed

    def has_printed() -> bool:
        rpc.add(name, b"payload")
        rpc.pop(name)
        return bool(select([printed], [], [], 0)[0])

    eventually(has_printed, "it prints events")
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    event = json.loads(out.splitlines()[0])["event"]
    assert event["kind"] in {"added", "popped"}
    assert event["message"]["payload"] == "cGF5"
    assert event["payloadSize"] == "7"


def test_the_command_says_what_is_wrong(cli: Cli) -> None:
    assert_failed(cli("tail", "absent"), 1, "cannot tail a queue: there is no queue absent")
    assert_failed(cli("tail", "absent", "--rate", "0"), 2, "--rate")
