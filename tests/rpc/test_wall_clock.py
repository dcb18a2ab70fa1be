"""The wall clock is stepped by an hour while the server runs, and while it is down: no duration changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from queuelet.stores.disk.database import open_for_writing, set_meta
from queuelet.v1 import queue_pb2 as pb
from support.both_stores import STORES as EACH
from support.durable_server import DurableServer, durable
from support.postgres_server import own_schema
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess
from support.wall_clock import WallClock

__all__ = ["durable"]

HOUR = 3600
STEPPED = "the wall clock was stepped; times of messages are by the server's own clock"
LONG, SHORT = 600, 1
"""Durations in seconds: one that is longer than any test, and a short one."""

STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
STORES = pytest.mark.parametrize("store", list(EACH.values()), ids=list(EACH))


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@contextmanager
def served(folder: Path, wall_clock: WallClock) -> Iterator[tuple[ServerProcess, Rpc]]:
    """A server on a folder, with a wall clock that can be stepped."""
    with (
        own_schema() as postgres,
        ServerProcess("--data-dir", str(folder / "data"), *postgres, env=wall_clock.environment) as server,
        closing(Rpc(server.address)) as rpc,
    ):
        yield server, rpc


def begin(rpc: Rpc, store: pb.Queue.Store) -> None:
    """Start a long and a short lease, delay, time to live and delivery time each."""
    for name in ("leased", "delayed", "mortal", "timed"):
        rpc.call("NewQueue", pb.NewQueueRequest(name=name, store=store, limit=-1), pb.NewQueueResponse)
    for name, seconds in (("long", LONG), ("short", SHORT)):
        payload = name.encode()
        rpc.add("leased", payload)
        assert rpc.receive("leased", lease=seconds)
        add(rpc, "delayed", pb.NewMessage(payload=payload, delay={"seconds": seconds}))
        add(rpc, "mortal", pb.NewMessage(payload=payload, ttl={"seconds": seconds}))


def add(rpc: Rpc, queue: str, message: pb.NewMessage) -> None:
    """Add a message with these fields."""
    rpc.call("Add", pb.AddRequest(queue_id=queue, message=message), pb.AddResponse)


def check_only_the_short_ones_end(rpc: Rpc) -> None:
    """Check that the short durations end and the long ones continue."""
    for queue in ("leased", "delayed"):
        (message,) = rpc.receive(queue, wait=30, lease=LONG)
        assert message.message.payload == b"short"
        assert not rpc.receive(queue)
    eventually(
        lambda: [each.message.payload for each in rpc.browse("mortal", pb.MESSAGE_STATE_DEAD)] == [b"short"],
        "the short TTL has expired",
    )
    assert [each.message.payload for each in rpc.browse("mortal", pb.MESSAGE_STATE_READY)] == [b"long"]


@STORES
@STEPS
def test_a_step_of_the_wall_clock_ends_nothing_and_prolongs_nothing(
    tmp_path: Path, wall_clock: WallClock, store: pb.Queue.Store, step: int
) -> None:
    with served(tmp_path, wall_clock) as (_, rpc):
        begin(rpc, store)
        wall_clock.step(step)
        check_only_the_short_ones_end(rpc)


@STEPS
def test_what_waits_goes_on_waiting_when_the_wall_clock_is_stepped(
    tmp_path: Path, wall_clock: WallClock, step: int
) -> None:
    with served(tmp_path, wall_clock) as (_, rpc):
        queue = rpc.new_queue().meta.id
        short = rpc.start("Receive", pb.ReceiveRequest(queue_id=queue, wait={"seconds": SHORT}))
        eventually(lambda: rpc.stats(queue).waiting_calls == 1, "a call waits")
        wall_clock.step(step)
        assert pb.ReceiveResponse.FromString(short.result(30)) == pb.ReceiveResponse()
        waiting = rpc.start("Receive", pb.ReceiveRequest(queue_id=queue, wait={"seconds": 20}))
        eventually(lambda: rpc.stats(queue).waiting_calls == 1, "a call waits")
        wall_clock.step(-step)
        rpc.add(queue, b"a")
        assert len(pb.ReceiveResponse.FromString(waiting.result(30)).deliveries) == 1


@STEPS
def test_a_step_of_the_wall_clock_while_the_server_is_down_ends_nothing_in_a_durable_store(
    durable: DurableServer, wall_clock: WallClock, step: int
) -> None:
    with ServerProcess(*durable.flags, env=wall_clock.environment) as server, closing(Rpc(server.address)) as rpc:
        begin(rpc, durable.store)
        assert server.stop() == 0
    wall_clock.step(step)
    with ServerProcess(*durable.flags, env=wall_clock.environment) as server, closing(Rpc(server.address)) as rpc:
        assert server.wait_for_log(STEPPED)["stepped_seconds"] == pytest.approx(step, abs=1)
        check_only_the_short_ones_end(rpc)


@STEPS
def test_after_a_reboot_a_step_does_no_more_harm_than_its_length(
    tmp_path: Path, wall_clock: WallClock, step: int
) -> None:
    with served(tmp_path, wall_clock) as (server, rpc):
        begin(rpc, pb.Queue.DISK)
        assert rpc.receive("mortal", 1, lease=2 * HOUR)
        assert server.stop() == 0
    with closing(open_for_writing(tmp_path / "data" / "queuelet.db")) as connection:
        set_meta(connection, "clock_boot_id", "another boot")
    wall_clock.step(step)
    with served(tmp_path, wall_clock) as (_, rpc):
        # The server cannot know how long the machine was down. If the clock was stepped forward, durations with less
        # time left have expired. If it was stepped back, time continues where it was, and no duration starts again.
        ready = 2 if step > 0 else 1
        eventually(lambda: rpc.get_queue("leased").messages == pb.MessageCounts(ready=ready, leased=2 - ready), "it is")
        assert rpc.get_queue("mortal").messages.leased == 1


@STEPS
def test_a_deadline_is_shown_as_wall_time_after_a_step(tmp_path: Path, wall_clock: WallClock, step: int) -> None:
    with served(tmp_path, wall_clock) as (_, rpc):
        queue = rpc.new_queue().meta.id
        rpc.add(queue, b"a")
        wall_clock.step(step)
        (delivery,) = rpc.receive(queue, lease=LONG)
        (browsed,) = rpc.browse(queue)
        shown = [delivery.deadline, browsed.until]
        extended = pb.ExtendRequest(queue_id=queue, tokens=[delivery.token], lease={"seconds": LONG})
        shown.append(rpc.call("Extend", extended, pb.ExtendResponse).deadline)
        for each in shown:
            assert 0 < each.ToNanoseconds() / 1e9 - wall_clock.now() <= LONG + 1


@STEPS
def test_not_before_is_a_wall_time_at_its_add_and_a_duration_from_then_on(
    tmp_path: Path, wall_clock: WallClock, step: int
) -> None:
    with served(tmp_path, wall_clock) as (_, rpc):
        queue = rpc.new_queue().meta.id
        wall_clock.step(step)
        for name, seconds in (("long", LONG), ("short", SHORT)):
            moment = Timestamp()
            moment.FromNanoseconds(int((wall_clock.now() + seconds) * 1e9))
            add(rpc, queue, pb.NewMessage(payload=name.encode(), not_before=moment))
        (delivery,) = rpc.receive(queue, wait=30)
        assert delivery.message.payload == b"short"
        wall_clock.step(-step)
        assert not rpc.receive(queue)
