"""`queuelet move` between real servers: messages arrive as they were, also after kills at any moment."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli, Ended, assert_failed
from support.durable_server import durable_server
from support.patience import patient
from support.rpc import Rpc, add_request, eventually
from support.server_process import ServerProcess

QUEUE = "orders"
READY, DELAYED, DEAD = pb.MESSAGE_STATE_READY, pb.MESSAGE_STATE_DELAYED, pb.MESSAGE_STATE_DEAD


@dataclass
class Side:
    """A server with one queue, which can be killed and started again on the same store."""

    flags: tuple[str, ...]
    store: pb.Queue.Store

    def __post_init__(self) -> None:
        self.stack = ExitStack()
        self.start()
        self.new_queue(QUEUE)

    def start(self) -> None:
        """Start the server, and wait until its queue can be used."""
        self.server = self.stack.enter_context(ServerProcess(*self.flags))
        self.rpc = self.stack.enter_context(closing(Rpc(self.server.address)))
        if self.store == pb.Queue.POSTGRES:
            eventually(lambda: bool(self.server.log("postgres store opened")), "the store is open")

    def restart(self) -> None:
        """Kill the server, and start it again."""
        self.server.kill()
        self.stack.close()
        self.start()

    def new_queue(self, name: str, *, limit: int = -1) -> None:
        delivery = pb.DeliverySettings(max_deliveries=2, lease_seconds=600)
        request = pb.NewQueueRequest(store=self.store, limit=limit, name=name, delivery=delivery)
        self.rpc.call("NewQueue", request, pb.NewQueueResponse)

    @property
    def depth(self) -> int:
        counts = self.rpc.get_queue(QUEUE).messages
        return counts.ready + counts.delayed + counts.leased + counts.dead


@contextmanager
def side(kind: str, folder: Path) -> Iterator[Side]:
    with ExitStack() as stack:
        if kind == "memory":
            made = Side((), pb.Queue.MEMORY)
        else:
            durable = stack.enter_context(durable_server(kind, folder))
            made = Side(durable.flags, durable.store)
        stack.callback(made.stack.close)
        yield made


@pytest.fixture(params=[("disk", "postgres"), ("memory", "disk")], ids="-to-".join)
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """Two servers with a queue each."""
    one, other = request.param
    with side(one, tmp_path / "one") as source, side(other, tmp_path / "other") as target:
        yield source, target


def move(source: Side, target: Side, *flags: str) -> Ended:
    return Cli(source.server.address)("move", QUEUE, "--to-server", target.server.address, *flags)


def add(rpc: Rpc, payload: str, **terms: int) -> None:
    """Add a message with an own ID and a tag; the delay and the time to live are in seconds."""
    new = pb.NewMessage(
        payload=payload.encode(),
        id=str(uuid4()),
        tags=[pb.Tag(key="is", value=payload)],
        priority=terms.get("priority", 0),
    )
    for term in ("delay", "ttl"):
        if term in terms:
            getattr(new, term).FromSeconds(terms[term])
    rpc.call("Add", pb.AddRequest(queue_id=QUEUE, message=new), pb.AddResponse)


def fail(rpc: Rpc, times: int, *, dead: bool = False) -> None:
    """Have the first message fail."""
    for number in range(times):
        (delivery,) = rpc.receive(QUEUE, 1, consumer="ada")
        assert rpc.nack(QUEUE, delivery.token, reason=f"no milk {number}", dead=dead) == [""]


def fill(rpc: Rpc) -> None:
    """Add messages of all kinds."""
    add(rpc, "rejected")
    fail(rpc, 1, dead=True)
    add(rpc, "failed too often")
    fail(rpc, 2)
    add(rpc, "redriven")
    fail(rpc, 2)
    add(rpc, "soon", delay=1)
    add(rpc, "in an hour", delay=3_600, priority=3)
    add(rpc, "in half an hour", delay=1_800, ttl=7_200)
    add(rpc, "failed once")
    fail(rpc, 1)
    rpc.add_batch(QUEUE, [b"plain", b""])
    add(rpc, "low", priority=7)
    add(rpc, "high", priority=-(2**31))
    add(rpc, "high too", priority=-(2**31))
    redriven = next(each for each in rpc.browse(QUEUE, DEAD) if each.message.payload == b"redriven")
    rpc.redrive(QUEUE, ids=[redriven.message.meta.id])
    eventually(lambda: rpc.get_queue(QUEUE).messages.delayed == 2, "the short delay has ended")


READY_IN_ORDER = [b"high", b"high too", b"failed once", b"plain", b"", b"redriven", b"soon", b"low"]


def facts(browsed: pb.BrowsedMessage) -> tuple[object, ...]:
    """Return what a move must not change."""
    message = browsed.message
    return (
        message.meta.id,
        message.payload,
        [(tag.key, tag.value) for tag in message.meta.tags],
        message.priority,
        browsed.state,
        browsed.until.ToNanoseconds(),
        browsed.count,
        browsed.reason,
        browsed.died.ToNanoseconds(),
        [each.SerializeToString() for each in browsed.tries],
    )


def test_everything_arrives_as_it_was(sides: tuple[Side, Side]) -> None:
    """Order, IDs, tags, priorities, delays, failed deliveries and dead messages; also after the server was killed."""
    source, target = sides
    fill(source.rpc)
    before = {each.message.meta.id: facts(each) for each in source.rpc.browse(QUEUE)}
    order = [each.payload for each in source.rpc.call(
        "PeekBatch", pb.PeekBatchRequest(queue_id=QUEUE), pb.PeekBatchResponse
    ).messages]  # fmt: skip
    assert order == READY_IN_ORDER
    assert move(source, target).json == {"moved": 12, "ready": 8, "delayed": 2, "dead": 2, "duplicates": 0}
    assert source.depth == 0
    target.restart()
    after = target.rpc.browse(QUEUE)
    assert {each.message.meta.id: facts(each) for each in after} == before
    (ttl,) = [each.message.ttl.ToSeconds() for each in after if each.message.HasField("ttl")]
    assert 7_000 < ttl <= 7_200
    assert [each.payload for each in target.rpc.pop_all(QUEUE)] == READY_IN_ORDER
    assert target.rpc.redrive(QUEUE, all=True)[-1].redriven == 2
    assert {each.payload for each in target.rpc.pop_all(QUEUE)} == {b"rejected", b"failed too often"}


def test_deliveries_continue_to_count(sides: tuple[Side, Side]) -> None:
    """A message that failed once dies after one more failure, because the queue allows two."""
    source, target = sides
    add(source.rpc, "failed once")
    fail(source.rpc, 1)
    assert move(source, target).code == 0
    (delivery,) = target.rpc.receive(QUEUE, 1)
    assert delivery.count == 2
    target.rpc.nack(QUEUE, delivery.token, reason="still no milk")
    (dead,) = target.rpc.browse(QUEUE, DEAD)
    assert [each.reason for each in dead.tries] == ["no milk 0", "still no milk"]


COUNT = 300
"""Messages of 40 KB, so that one call moves few of them."""


def add_many(rpc: Rpc) -> list[bytes]:
    """Add many messages; return their payloads in order."""
    payloads = [(b"%d." % number).ljust(40_000, b"x") for number in range(COUNT)]
    for start in range(0, COUNT, 50):
        rpc.add_batch(QUEUE, payloads[start : start + 50])
    return payloads


def interrupt(source: Side, target: Side, kill: Callable[[subprocess.Popen[bytes]], None]) -> bool:
    """Start a move, and kill something once it has moved further. Return whether that interrupted it."""
    before = target.depth
    moving = Cli(source.server.address).start(
        "move", QUEUE, "--to-server", target.server.address, stderr=subprocess.PIPE
    )
    try:
        eventually(lambda: target.depth > before or moving.poll() is not None, "it moves")
        kill(moving)
        return moving.wait(patient(30)) != 0
    finally:
        moving.kill()
        moving.communicate()


def assert_complete(source: Side, target: Side, payloads: Sequence[bytes]) -> None:
    ended = move(source, target)
    assert ended.code == 0, ended.err
    assert source.depth == 0
    popped = target.rpc.pop_all(QUEUE)
    assert [each.payload.split(b".")[0] for each in popped] == [each.split(b".")[0] for each in payloads]


def test_a_move_that_is_killed_continues_when_it_is_repeated(sides: tuple[Side, Side]) -> None:
    source, target = sides
    payloads = add_many(source.rpc)
    ids = {each.meta.id for each in source.rpc.browse_all(QUEUE)}
    killed = [interrupt(source, target, lambda moving: moving.kill()) for _ in range(4)]
    assert any(killed)
    both = {each.meta.id for one in sides for each in one.rpc.browse_all(QUEUE)}
    assert both == ids, "nothing is lost at any moment"
    assert_complete(source, target, payloads)


def test_a_move_continues_after_the_other_server_was_killed(sides: tuple[Side, Side]) -> None:
    source, target = sides
    payloads = add_many(source.rpc)
    interrupted = []
    for _ in range(2):
        interrupted.append(interrupt(source, target, lambda _: target.server.kill()))
        target.restart()
    assert any(interrupted)
    assert_complete(source, target, payloads)


def test_a_move_continues_after_the_server_of_the_queue_was_killed(tmp_path: Path) -> None:
    with side("disk", tmp_path / "one") as source, side("postgres", tmp_path / "other") as target:
        payloads = add_many(source.rpc)
        interrupted = interrupt(source, target, lambda _: source.server.kill())
        source.restart()
        assert interrupted
        assert_complete(source, target, payloads)


# On one server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    """One server for several tests."""
    with side("disk", tmp_path_factory.mktemp("shared")) as made:
        made.rpc.delete_queue(QUEUE)
        yield made


@pytest.fixture
def one(shared: Side) -> Iterator[Side]:
    """One server with the queue, and another queue, `others`, for at most two messages."""
    shared.new_queue(QUEUE)
    shared.new_queue("others", limit=2)
    yield shared
    shared.rpc.delete_queue(QUEUE)
    shared.rpc.delete_queue("others")


def test_a_full_queue_stops_the_move_until_it_has_room(one: Side) -> None:
    one.rpc.add_batch(QUEUE, [b"1", b"2", b"3"])
    cli = Cli(one.server.address)
    ended = cli("move", QUEUE, "--to", "others")
    assert ended.code == 1
    assert "queue others is full" in ended.err
    assert "moved 2 messages; run the command again to continue" in ended.err
    assert cli("move", QUEUE, "--to", "others").code == 1
    assert [each.payload for each in one.rpc.pop_all("others")] == [b"1", b"2"]
    assert cli("move", QUEUE, "--to", "others").json["moved"] == 1
    assert [each.payload for each in one.rpc.pop_all("others")] == [b"3"]


def test_messages_that_are_there_already_are_not_added_twice(one: Side) -> None:
    """As if the command was killed before it removed them."""
    one.rpc.add_batch(QUEUE, [b"1", b"2"])
    first = one.rpc.browse_all(QUEUE)[0]
    again = pb.NewMessage(id=first.meta.id, payload=first.payload)
    one.rpc.call("Add", pb.AddRequest(queue_id="others", message=again), pb.AddResponse)
    ended = Cli(one.server.address)("move", QUEUE, "--to", "others", "-o", "table")
    assert ended.out == b"moved 2 messages (1 of them were there already) from orders to others\n"
    assert [each.payload for each in one.rpc.pop_all("others")] == [b"1", b"2"]


def test_leased_messages_are_moved_only_on_request(one: Side) -> None:
    one.rpc.add_batch(QUEUE, [b"1", b"2"])
    (lease,) = one.rpc.receive(QUEUE, 1)
    cli = Cli(one.server.address)
    assert_failed(cli("move", QUEUE, "--to", "others"), 1, "cannot move: queue orders has leased messages (1); ")
    assert cli("move", QUEUE, "--to", "others", "--dry-run").code == 1
    assert cli("move", QUEUE, "--to", "others", "--dry-run", "--end-leases").json == {"messages": 2}
    assert cli("move", QUEUE, "--to", "others", "--end-leases").json["moved"] == 2
    assert one.rpc.ack(QUEUE, lease.token) == ["MESSAGE_NOT_FOUND"]
    assert [each.count for each in one.rpc.receive("others")] == [2, 1]


def test_a_queue_with_an_exclusive_consumer_is_not_moved(one: Side) -> None:
    holder = one.rpc.consume(QUEUE, exclusive=True)
    holder.until(lambda so_far: so_far.holder_token)
    one.rpc.add(QUEUE, b"1")
    ended = Cli(one.server.address)("move", QUEUE, "--to", "others", "--timeout", "1")
    assert_failed(ended, 1, "cannot move: queue orders is held by an exclusive consumer; stop it first")
    holder.cancel()
    assert one.depth == 1


def test_a_move_needs_another_queue(one: Side) -> None:
    cli = Cli(one.server.address)
    assert_failed(cli("move", QUEUE), 2, "cannot move: give another queue with --to, or another server")
    assert_failed(cli("move", QUEUE, "--to", QUEUE), 1, "cannot move: --to: orders is the queue itself")
    assert_failed(cli("move", QUEUE, "--to", "nothing"), 1, "cannot move: ")
    memory = pb.NewQueueRequest(store=pb.Queue.MEMORY, limit=-1, name="in-memory")
    one.rpc.call("NewQueue", memory, pb.NewQueueResponse)
    assert_failed(cli("move", QUEUE, "--to", "in-memory"), 1, "cannot move: --to: queue in-memory is in memory")


def test_a_message_with_past_deliveries_wakes_no_consumer_if_it_is_dead(one: Side) -> None:
    receiving = one.rpc.start("Receive", pb.ReceiveRequest(queue_id=QUEUE, wait={"seconds": 20}))
    eventually(lambda: one.rpc.stats(QUEUE).waiting_calls == 1, "it waits")
    dead = pb.NewMessage(payload=b"1", past=pb.PastDeliveries(reason=pb.DEATH_REASON_REJECTED))
    one.rpc.call("Add", pb.AddRequest(queue_id=QUEUE, message=dead), pb.AddResponse)
    one.rpc.raw("queuelet.v1.QueueService/Add", add_request(QUEUE, b"2").SerializeToString())
    response = pb.ReceiveResponse.FromString(receiving.result(patient(30)))
    assert [each.message.payload for each in response.deliveries] == [b"2"]
    (browsed,) = one.rpc.browse(QUEUE, DEAD)
    assert browsed.died.ToNanoseconds() > 0
