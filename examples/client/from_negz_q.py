"""Move from negz/q: its generated classes, which work unchanged, next to the client library.

Programs can move one by one, because both work with the same server and the same queues.
"""

from __future__ import annotations

import argparse
from typing import Any

import grpc

from queuelet.client import blocking
from queuelet.compat import q_pb2 as q  # what protoc makes of negz/q's q.proto
from queuelet.errors import QueueEmpty
from queuelet.tags import Tag


class QStub:
    """What protoc's plugin for gRPC makes of it: yours is in q_pb2_grpc.py."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401  # gRPC does not say what it carries
        make = channel.unary_unary
        self.NewQueue = make("/proto.Q/NewQueue", q.NewQueueRequest.SerializeToString, q.NewQueueResponse.FromString)
        self.Add = make("/proto.Q/Add", q.AddRequest.SerializeToString, q.AddResponse.FromString)
        self.Pop = make("/proto.Q/Pop", q.PopRequest.SerializeToString, q.PopResponse.FromString)


def with_negz_q(server: str, count: int) -> str:
    with grpc.insecure_channel(server) as channel:
        stub = QStub(channel)
        queue_id: str = stub.NewQueue(q.NewQueueRequest(store=q.Queue.MEMORY, limit=100)).queue.meta.id
        for number in range(count):
            message = q.NewMessage(payload=b"message %d" % number, tags=[q.Tag(key="by", value="negz/q")])
            stub.Add(q.AddRequest(queue_id=queue_id, message=message))
        print(stub.Pop(q.PopRequest(queue_id=queue_id)).message.payload)
        return queue_id


def with_queuelet(server: str, queue_id: str) -> None:
    with blocking.Client(server) as client:
        with blocking.Producer(client, queue_id) as producer:
            producer.put(b"one more", tags=[Tag("by", "queuelet")])
        # Acknowledged when the next is asked for: what ends in between does not lose the message, as Pop would.
        with blocking.Consumer(client, queue_id, until_empty=True) as messages:
            for message in messages:
                print(message.item, *message.tags)
        try:
            client.pop(queue_id)
        except QueueEmpty as error:  # its own kind, where the generated classes have only a status code
            print(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="localhost:10002")
    parser.add_argument("--count", type=int, default=3)
    given = parser.parse_args()
    with_queuelet(given.server, with_negz_q(given.server, given.count))
