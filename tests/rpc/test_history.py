"""GetHistory of a real server, on both stores."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from queuelet.client import Client
from queuelet.errors import InvalidArgument
from queuelet.v1 import queue_pb2 as pb
from support.both_stores import STORES, both, cli, client, new_queue, rpc, store
from support.commands import Cli, assert_failed
from support.rpc import Refused, Rpc, eventually

__all__ = ["both", "cli", "client", "rpc", "store"]


def history(rpc: Rpc, queue: str) -> pb.GetHistoryResponse:
    """Return the history of a queue."""
    return rpc.call("GetHistory", pb.GetHistoryRequest(queue_id=queue), pb.GetHistoryResponse)


def is_recorded(response: pb.GetHistoryResponse) -> bool:
    """Return whether the last point is of a step and not of now, and has all that was added."""
    last = response.points[-1]
    return last.enqueued == 3 and last.time.ToNanoseconds() % 10_000_000_000 == 0


def test_changes_become_points_and_idle_queues_have_one(rpc: Rpc) -> None:
    busy = {new_queue(rpc, store): store for store in STORES.values()}
    idle = {new_queue(rpc, store): store for store in STORES.values()}
    for queue in busy:
        rpc.add_batch(queue, [b"x"] * 3)
        rpc.pop(queue)
    # A queue that was created in the step in which it changed has one point.
    eventually(lambda: all(is_recorded(history(rpc, queue)) for queue in busy), "a step has ended", timeout=30)
    for queue in busy:
        response = history(rpc, queue)
        assert response.since == response.points[0].time
        assert response.points[0].enqueued in {0, 3}
        last = response.points[-1]
        assert (last.messages.ready, last.enqueued, last.removed) == (2, 3, 1)
        assert last.time.ToNanoseconds() % 10_000_000_000 == 0
        assert abs(last.time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=5)
    for queue in idle:
        (point,) = history(rpc, queue).points
        assert (point.messages, point.enqueued, point.removed) == (pb.MessageCounts(), 0, 0)


def test_an_unknown_queue_is_not_found(rpc: Rpc) -> None:
    with pytest.raises(Refused, match="NOT_FOUND"):
        history(rpc, "absent")


async def test_the_client_returns_points_as_values(client: Client) -> None:
    queue = await client.new_queue()
    found = await client.history(queue.id, max_points=5)
    (point,) = found.points
    assert (point.messages.ready, point.enqueued, point.removed) == (0, 0, 0)
    assert point.time == found.since
    assert not (await client.history(queue.id, after=datetime.now(UTC) + timedelta(days=1))).points
    with pytest.raises(InvalidArgument, match="after"):
        await client.history(queue.id, after=datetime.max.replace(tzinfo=UTC))


def test_the_command_draws_a_line_for_each_number(rpc: Rpc, cli: Cli, store: pb.Queue.Store) -> None:
    queue = new_queue(rpc, store)
    rpc.add_batch(queue, [b"x"] * 3)
    rpc.pop(queue)
    eventually(lambda: is_recorded(history(rpc, queue)), "a step has ended", timeout=30)
    title, heading, ready, delayed, leased, dead, added, removed, *rest = (
        cli("history", queue, "--last", "10m", "-o", "table").out.decode().splitlines()
    )
    assert re.fullmatch(rf"{queue}: [-0-9]+ [:0-9]+ to [-0-9]+ [:0-9]+ UTC, 20 s a bar", title)
    assert heading.split() == ["LAST", "MOST"]
    assert re.fullmatch(r"ready +[▁█]*█ +2 +2", ready)
    for name, line in {"delayed": delayed, "leased": leased, "dead": dead}.items():
        assert re.fullmatch(rf"{name} +▁+ +0 +0", line)
    assert re.fullmatch(r"added/s +[▁█]+ +0\.\d +0\.\d", added)
    assert re.fullmatch(r"removed/s +[▁█]+ +0\.\d +0\.\d", removed)
    assert re.fullmatch(r"The history begins at [-0-9]+ [:0-9]+ UTC\.", rest[0])


def test_the_command_prints_json(rpc: Rpc, cli: Cli, store: pb.Queue.Store) -> None:
    queue = new_queue(rpc, store)
    (point,) = cli("history", queue).json["points"]
    assert point["messages"] == {"ready": "0", "delayed": "0", "leased": "0", "dead": "0"}
    assert (point["enqueued"], point["removed"]) == ("0", "0")


def test_the_command_says_what_is_wrong(cli: Cli) -> None:
    assert_failed(cli("history", "no\x1b[2J"), 1, "cannot show the history of a queue: there is no queue no\\x1b[2J")
    assert_failed(cli("history", "orders", "--last", "2d"), 2, "'--last'", "172800.0 is not in the range")
