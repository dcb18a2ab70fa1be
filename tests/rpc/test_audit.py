"""The server's log has a line for each call that changed queues, or many messages at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.rest import Rest
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess

TOKEN = "opensesame-opensesame"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with a token, whose log is only of the test."""
    (tmp_path / "token").write_text(TOKEN)
    with ServerProcess("--token-file", str(tmp_path / "token")) as process:
        yield process
        assert process.stop() == 0
        assert not [line for line in process.log() if "exception" in line]


@pytest.fixture
def rpc(own: ServerProcess) -> Iterator[Rpc]:
    """A client of it."""
    with closing(Rpc(own.address, metadata=(("authorization", f"Bearer {TOKEN}"),))) as client:
        yield client


def lines(server: ServerProcess, count: int) -> list[dict[str, Any]]:
    """Return the lines of the audit once there are this many, without their times and the addresses of clients."""
    eventually(lambda: len(written(server)) >= count, f"{count} lines are written")
    kept = written(server)
    for line in kept:
        assert line["level"] == "info"
        assert line.pop("peer").startswith(("ipv4:127.0.0.1:", "ipv6:%5B::1%5D:"))
    return [{key: value for key, value in line.items() if key not in {"level", "msg", "ts"}} for line in kept]


def written(server: ServerProcess) -> list[dict[str, Any]]:
    """Return the lines that are written by now."""
    return [line for line in server.log() if line["msg"] == "audit"]


@pytest.mark.need(25)
def test_what_changes_queues_is_recorded_with_where_it_came_from(own: ServerProcess, rpc: Rpc) -> None:
    rpc.new_queue("orders")
    tag = pb.Tag(key="team", value="shop")
    rpc.call("AddQueueTag", pb.AddQueueTagRequest(queue_id="orders", tag=tag), pb.AddQueueTagResponse)
    rpc.call("DeleteQueueTag", pb.DeleteQueueTagRequest(queue_id="orders", tag=tag), pb.DeleteQueueTagResponse)
    rpc.add_batch("orders", [b"x"] * 3)
    Rest(own.rest_url).ask("DELETE", "/v1/queues/orders", headers={"Authorization": f"Bearer {TOKEN}"})
    assert lines(own, 4) == [
        {"act": "add queue", "queue": "orders", "store": "MEMORY", "via": "gRPC"},
        {"act": "add queue tag", "queue": "orders", "tag": "team=shop", "via": "gRPC"},
        {"act": "delete queue tag", "queue": "orders", "tag": "team=shop", "via": "gRPC"},
        {"act": "delete queue", "queue": "orders", "messages": 3, "via": "HTTP"},
    ]


@pytest.mark.need(25)
def test_a_purge_is_recorded_with_what_it_chose_and_how_many_there_were(own: ServerProcess, rpc: Rpc) -> None:
    rpc.new_queue("orders")
    rpc.add_batch("orders", [b"x"] * 3)
    kept = rpc.add("orders", tags=[("region", "eu")])
    for request in (
        pb.PurgeRequest(all=True, dry_run=True),
        pb.PurgeRequest(ids=[kept.meta.id]),
        pb.PurgeRequest(selector="region=eu"),
        pb.PurgeRequest(all=True, states=[pb.MESSAGE_STATE_READY, pb.MESSAGE_STATE_DEAD]),
    ):
        request.queue_id = "orders"
        rpc.call("Purge", request, pb.PurgeResponse)
    common = {"act": "purge", "queue": "orders", "via": "gRPC"}
    assert lines(own, 4)[1:] == [
        {**common, "ids": 1, "states": [], "messages": 1},
        {**common, "selector": "region=eu", "states": [], "messages": 0},
        {**common, "all": True, "states": ["ready", "dead"], "messages": 3},
    ]


def test_a_redrive_is_recorded_also_if_it_is_stopped(own: ServerProcess, rpc: Rpc) -> None:
    rpc.new_queue("orders")
    rpc.add_batch("orders", [b"x"] * 30)
    for each in rpc.receive("orders", 30):
        rpc.nack("orders", each.token, dead=True)
    rpc.redrive("orders", all=True, dry_run=True)
    slow = rpc.stream("Redrive", pb.RedriveRequest(queue_id="orders", all=True, rate=1).SerializeToString())
    assert pb.RedriveResponse.FromString(next(slow)).redriven > 0
    slow.cancel()
    lines(own, 2)
    rpc.redrive("orders", all=True)
    stopped, whole = lines(own, 3)[1:]
    assert (stopped["act"], stopped["all"], stopped["complete"]) == ("redrive", True, False)
    assert stopped["messages"] > 0
    assert (whole["act"], whole["complete"]) == ("redrive", True)


def test_declarations_and_removals_are_recorded_once_a_call_and_only_if_they_change_something(
    own: ServerProcess, rpc: Rpc
) -> None:
    owner = pb.Owner(name="test/shop/queues")
    declared = [
        pb.QueueDeclaration(name=f"queue-{i:02}", store=pb.Queue.MEMORY, limit=5, owner=owner) for i in range(12)
    ]
    for _ in range(2):
        rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=declared), pb.DeclareQueuesResponse)
    declared[0].limit = 6
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=declared), pb.DeclareQueuesResponse)
    rpc.add("queue-00")
    removals = [pb.QueueRemoval(queue_id=name, owner=owner) for name in ("queue-00", "queue-01", "no-such-queue")]
    for _ in range(2):
        rpc.call("RemoveQueues", pb.RemoveQueuesRequest(queues=removals), pb.RemoveQueuesResponse)
    names = [*(f"queue-{i:02}" for i in range(10)), "..."]
    assert lines(own, 3) == [
        {"act": "declare queues", "created": 12, "updated": 0, "queues": names, "via": "gRPC"},
        {"act": "declare queues", "created": 0, "updated": 1, "queues": ["queue-00"], "via": "gRPC"},
        {"act": "remove queues", "removed": 2, "messages": 1, "queues": ["queue-00", "queue-01"], "via": "gRPC"},
    ]


@pytest.mark.need(26)
def test_the_record_is_in_the_log_alone_and_has_no_payload_and_no_token(own: ServerProcess, rpc: Rpc) -> None:
    rpc.new_queue("orders", tags=[("note", "\x1b[2J\u202e")])
    rpc.add("orders", b"the secret of the payload")
    rpc.pop("orders")
    rpc.call("Purge", pb.PurgeRequest(queue_id="orders", all=True), pb.PurgeResponse)
    assert [line["act"] for line in lines(own, 2)] == ["add queue", "purge"], "producers and consumers have no line"
    text = json.dumps(own.log())
    assert TOKEN not in text
    assert "secret" not in text
    rest = Rest(own.rest_url)
    for path in ("/console/audit", "/v1/audit"):
        assert rest.ask("GET", path, headers={"Authorization": f"Bearer {TOKEN}"}).status == 404


def test_what_was_refused_is_not_recorded_as_done(own: ServerProcess, rpc: Rpc) -> None:
    with pytest.raises(Refused):
        rpc.call("Purge", pb.PurgeRequest(queue_id="missing", all=True), pb.PurgeResponse)
    rest = Rest(own.rest_url)
    assert rest.ask("DELETE", "/v1/queues/orders", headers={"Authorization": "Bearer wrong"}).status == 401
    rpc.new_queue("orders")
    assert [line["act"] for line in lines(own, 1)] == ["add queue"]
