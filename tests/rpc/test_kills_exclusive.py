"""A server with a durable store is killed: leases of its streams end, in their old places, and others continue."""

from __future__ import annotations

from contextlib import closing

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.durable_server import DurableServer, durable
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess

__all__ = ["durable"]

QUEUE = "orders"


@pytest.mark.parametrize("is_exclusive", [True, False], ids=["exclusive", "shared"])
def test_the_leases_of_a_stream_end_when_the_server_is_killed(durable: DurableServer, *, is_exclusive: bool) -> None:
    """Some of them were written and some were not; the order of delivery must not depend on that."""
    payloads = [b"%d" % number for number in range(40)]
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name=QUEUE, store=durable.store, limit=-1), pb.NewQueueResponse)
        rpc.add_batch(QUEUE, payloads)
        holder = rpc.consume(QUEUE, credit=10, exclusive=is_exclusive, lease={"seconds": 600})
        holder.take(10)
        holder.say(ack=holder.tokens[:2])
        eventually(lambda: durable.leases() == 8, "the leases are committed")
        holder.say(credit=10)
        holder.take(20)
        server.kill()
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        assert rpc.get_queue(QUEUE).messages == pb.MessageCounts(ready=38)
        holder = rpc.consume(QUEUE, credit=40, exclusive=is_exclusive)
        holder.take(38)
        assert holder.payloads == payloads[2:]
        assert [each.count for each in holder.deliveries[:8]] == [2] * 8
        holder.cancel()


def test_a_lease_of_receive_goes_on_when_the_server_is_killed(durable: DurableServer) -> None:
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name=QUEUE, store=durable.store, limit=-1), pb.NewQueueResponse)
        rpc.add_batch(QUEUE, [b"a", b"b"])
        # A message that was leased by a stream before does not count as the stream's.
        consumer = rpc.consume(QUEUE, credit=1, lease={"seconds": 600})
        consumer.take(1)
        consumer.cancel()
        eventually(lambda: rpc.get_queue(QUEUE).messages.ready == 2, "the stream has ended")
        tokens = [delivery.token for delivery in rpc.receive(QUEUE, 2, lease=600)]
        eventually(lambda: durable.leases() == 2, "the leases are committed")
        server.kill()
    with ServerProcess(*durable.flags) as server, closing(Rpc(server.address)) as rpc:
        assert rpc.get_queue(QUEUE).messages == pb.MessageCounts(leased=2)
        assert rpc.ack(QUEUE, *tokens) == ["", ""]
