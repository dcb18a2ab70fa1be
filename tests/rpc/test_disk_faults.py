"""A server whose disk is full or fails. What holds for each durable store is in test_store_failures.py."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.pages import fetch, samples
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess

TESTS = Path(__file__).parent.parent


@dataclass
class OnDisk:
    """A server on a disk with faults, and a queue in each of its stores."""

    server: ServerProcess
    rpc: Rpc
    control: Path
    folder: Path

    def break_it(self, words: str) -> None:
        """Inject the faults that the words name, or none."""
        self.control.write_text(words)

    def metric(self, name: str) -> float:
        """Return a metric without labels."""
        return samples(f"{self.server.metrics_url}/metrics", name)[""]

    def ready(self) -> tuple[int, str]:
        """Return status and text of the readiness page."""
        page = fetch(f"{self.server.metrics_url}/readyz")
        return page.status, page.text

    def add(self, size: int = 1_000, queue: str = "disk") -> str:
        """Add a message; return its ID."""
        return self.rpc.add(queue, bytes(size)).meta.id

    def why_not_added(self, size: int = 1_000) -> str:
        """Add a message; return the reason of its refusal, empty if it was accepted."""
        try:
            self.add(size)
        except Refused as refused:
            return refused.reason
        return ""

    def held(self) -> list[str]:
        """Return the IDs of the messages on disk."""
        return [message.meta.id for message in self.rpc.browse_all("disk")]


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[OnDisk]:
    """A server of its own, on a disk without faults at first."""
    control = tmp_path / "control"
    control.touch()
    program = [sys.executable, "-m", "support.faulty_disk", str(control), "server"]
    path = {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    with (
        ServerProcess("--data-dir", str(tmp_path / "data"), program=program, env=path) as server,
        closing(Rpc(server.address)) as rpc,
    ):
        rpc.new_queue("memory")
        rpc.call("NewQueue", pb.NewQueueRequest(name="disk", store=pb.Queue.DISK, limit=-1), pb.NewQueueResponse)
        yield OnDisk(server, rpc, control, tmp_path / "data")


def test_a_failing_fsync_leaves_the_outcome_open(on_disk: OnDisk) -> None:
    on_disk.break_it("sync")
    with pytest.raises(Refused) as refused:
        on_disk.add()
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")
    assert "not known" in refused.value.text


def test_a_full_disk_refuses_messages_and_lets_them_be_taken(on_disk: OnDisk) -> None:
    used = sum(file.stat().st_size for file in on_disk.folder.iterdir())
    on_disk.break_it(f"capacity={used + 4_000_000}")
    kept: list[str] = []
    while not (reason := on_disk.why_not_added(1_000_000)):
        kept = on_disk.held()
        assert len(kept) < 100
    assert reason == "STORE_FULL"
    assert on_disk.held() == kept, "what was refused is not there"
    assert on_disk.metric("queuelet_disk_full") == 1
    status, text = on_disk.ready()
    assert status == 200, "consumers are to drain it"
    assert re.fullmatch(r"ok\n.*full.*\n", text)
    (store,) = (each for each in on_disk.rpc.server_stats().stores if each.store == pb.Queue.DISK)
    assert store.reason == "STORE_FULL"
    assert "full" in store.problem

    (leased,) = on_disk.rpc.receive("disk", 1)
    assert on_disk.rpc.ack("disk", leased.token) == [""]
    assert on_disk.rpc.pop("disk").meta.id == kept[1]
    purge = pb.PurgeRequest(queue_id="disk", all=True)
    assert on_disk.rpc.call("Purge", purge, pb.PurgeResponse).purged == len(kept) - 2

    on_disk.break_it("")
    eventually(lambda: on_disk.metric("queuelet_disk_full") == 0, "it has room again")
    assert on_disk.why_not_added() == ""
    assert on_disk.server.stop() == 0


def test_a_store_that_has_given_back_its_room_goes_on(on_disk: OnDisk) -> None:
    for _ in range(10):
        on_disk.add(2_000_000)
    eventually(lambda: on_disk.metric("queuelet_disk_file_bytes") > 20_000_000, "the messages are in the file")
    assert len(on_disk.rpc.pop_all("disk")) == 10
    eventually(lambda: on_disk.metric("queuelet_disk_file_bytes") < 5_000_000, "their room is given back")
    added = on_disk.add()
    assert on_disk.held() == [added]
    assert on_disk.server.stop() == 0


def test_a_file_that_is_no_database_is_reported_with_what_to_do(on_disk: OnDisk) -> None:
    on_disk.add()
    assert on_disk.server.stop() == 0
    (database,) = on_disk.folder.glob("*.db")
    database.write_bytes(b"not a database, whatever it was" * 1_000)
    with ServerProcess("--data-dir", str(on_disk.folder)) as server:
        (line,) = server.log("disk store damaged; serving without it")
        for word in (str(database), "queuelet restore", "queuelet check"):
            assert word in line["error"]
        assert server.stop() == 0
