"""A server on disk is killed: the leases of its streams end, in their old places, and those of Receive continue."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from queuelet.stores.disk.database import open_for_reading, value
from queuelet.v1 import queue_pb2 as pb
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess

QUEUE = "orders"


def leases_on_disk(folder: Path) -> int:
    """Return how many leases are on disk."""
    with closing(open_for_reading(folder / "queuelet.db")) as connection:
        return int(value(connection, "SELECT count(*) FROM deliveries"))


@pytest.mark.parametrize("is_exclusive", [True, False], ids=["exclusive", "shared"])
def test_the_leases_of_a_stream_end_when_the_server_is_killed(tmp_path: Path, *, is_exclusive: bool) -> None:
    """Some of them were written and some were not; the order of delivery must not depend on that."""
    payloads = [b"%d" % number for number in range(40)]
    with ServerProcess("--data-dir", str(tmp_path)) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name=QUEUE, store=pb.Queue.DISK, limit=-1), pb.NewQueueResponse)
        rpc.add_batch(QUEUE, payloads)
        holder = rpc.consume(QUEUE, credit=10, exclusive=is_exclusive, lease={"seconds": 600})
        holder.take(10)
        holder.say(ack=holder.tokens[:2])
        eventually(lambda: leases_on_disk(tmp_path) == 8, "the leases are on the disk")
        holder.say(credit=10)
        holder.take(20)
        server.kill()
    with ServerProcess("--data-dir", str(tmp_path)) as server, closing(Rpc(server.address)) as rpc:
        assert rpc.get_queue(QUEUE).messages == pb.MessageCounts(ready=38)
        holder = rpc.consume(QUEUE, credit=40, exclusive=is_exclusive)
        holder.take(38)
        assert holder.payloads == payloads[2:]
        assert [each.count for each in holder.deliveries[:8]] == [2] * 8
        holder.cancel()


def test_a_lease_of_receive_goes_on_when_the_server_is_killed(tmp_path: Path) -> None:
    with ServerProcess("--data-dir", str(tmp_path)) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name=QUEUE, store=pb.Queue.DISK, limit=-1), pb.NewQueueResponse)
        rpc.add_batch(QUEUE, [b"a", b"b"])
        # A message that was leased by a stream before does not count as the stream's.
        consumer = rpc.consume(QUEUE, credit=1, lease={"seconds": 600})
        consumer.take(1)
        consumer.cancel()
        eventually(lambda: rpc.get_queue(QUEUE).messages.ready == 2, "the stream has ended")
        tokens = [delivery.token for delivery in rpc.receive(QUEUE, 2, lease=600)]
        eventually(lambda: leases_on_disk(tmp_path) == 2, "the leases are on the disk")
        server.kill()
    with ServerProcess("--data-dir", str(tmp_path)) as server, closing(Rpc(server.address)) as rpc:
        assert rpc.get_queue(QUEUE).messages == pb.MessageCounts(leased=2)
        assert rpc.ack(QUEUE, *tokens) == ["", ""]
