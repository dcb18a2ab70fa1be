"""Made the database in this folder, with the server of commit d2cb3fd, the last one that wrote version 1.

A newer server cannot make it again. This program documents its contents, and is a pattern for the next version:

    git checkout d2cb3fd && PYTHONPATH=tests python tests/stores/disk_version_1/make.py FOLDER

The server is killed, so that some of the messages are only in its log.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Rpc
from support.server_process import ServerProcess

OWN_ID = "0d6a0000-0000-4000-8000-00000000000%d"


def new_queue(rpc: Rpc, name: str, **fields: object) -> None:
    """Create a Disk queue."""
    request = pb.NewQueueRequest(name=name, store=pb.Queue.DISK, **{"limit": -1, **fields})  # type: ignore[arg-type]  # fields of the request
    rpc.call("NewQueue", request, pb.NewQueueResponse)


def add(rpc: Rpc, queue: str, payload: bytes, **fields: object) -> None:
    """Add a message."""
    message = pb.NewMessage(payload=payload, **fields)  # type: ignore[arg-type]  # fields of the message
    rpc.call("Add", pb.AddRequest(queue_id=queue, message=message), pb.AddResponse)


def receive(rpc: Rpc, queue: str, count: int, consumer: str) -> list[int]:
    """Lease messages for a long time; return the tokens."""
    request = pb.ReceiveRequest(queue_id=queue, max=count, lease=Duration(seconds=3_600), consumer=consumer)
    return [each.token for each in rpc.call("Receive", request, pb.ReceiveResponse).deliveries]


def nack(rpc: Rpc, queue: str, token: int, **fields: object) -> None:
    """Nack a message."""
    request = pb.NackRequest(queue_id=queue, tokens=[token], **fields)  # type: ignore[arg-type]  # fields of the request
    rpc.call("Nack", request, pb.NackResponse)


def fill(rpc: Rpc) -> None:
    """Create queues with messages in all states."""
    settings = pb.DeliverySettings(lease_seconds=60, max_deliveries=3)
    tags = [pb.Tag(key="team", value="käse"), pb.Tag(key="team", value="")]
    new_queue(rpc, "states", tags=tags, delivery=settings, limit=1_000)
    for payload in (b"leased", b"nacked", b"delayed by a nack", b"dead", b"redriven"):
        add(rpc, "states", payload)
    leased, nacked, delayed, dead, redriven = receive(rpc, "states", 5, "a worker, ünïcode")
    nack(rpc, "states", nacked, reason="try again")
    nack(rpc, "states", delayed, delay=Duration(seconds=86_400), reason="later")
    nack(rpc, "states", dead, dead=True, reason="broken")
    nack(rpc, "states", redriven, dead=True, reason="broken too")
    browsed = rpc.call("Browse", pb.BrowseRequest(queue_id="states", page_size=10), pb.BrowseResponse).messages
    ids = [each.message.meta.id for each in browsed if each.message.payload == b"redriven"]
    rpc.call("Redrive", pb.RedriveRequest(queue_id="states", ids=ids), pb.RedriveResponse)
    add(rpc, "states", b"urgent", priority=-7)
    add(rpc, "states", b"delayed by its producer", delay=Duration(seconds=86_400), ttl=Duration(seconds=999_999))
    add(rpc, "states", b"with an id", id=OWN_ID % 1, tags=[pb.Tag(key="a", value="b")])
    add(rpc, "states", b"urgent, with an id", id=OWN_ID % 2, priority=-1)
    add(rpc, "states", b"")

    new_queue(rpc, "sizes")
    for size in (1, 100, 1_000, 5_000, 20_000):
        add(rpc, "sizes", b"x" * size)
    time.sleep(1.5)  # until the leases are written

    new_queue(rpc, "answers")
    add(rpc, "answers", b"popped with a request id")
    rpc.call(
        "Pop", pb.PopRequest(queue_id="answers", request_id="0d6a0000-0000-4000-8000-00000000000a"), pb.PopResponse
    )
    new_queue(rpc, "dropped")
    add(rpc, "dropped", bytes(100))
    rpc.delete_queue("dropped")
    new_queue(rpc, "empty")
    assert leased


def main() -> None:
    """Write the database and its log to a folder."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--data-dir", folder)
        with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
            fill(rpc)
            server.kill()
        for name in ("queuelet.db", "queuelet.db-wal"):
            shutil.copyfile(Path(folder) / name, target / name)


if __name__ == "__main__":
    main()
