"""A server whose database has a damaged page, which is detected when the page is read and then stays reported."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.pages import fetch, samples
from support.rpc import Refused, Rpc, unique_name
from support.server_process import ServerProcess

PAGE = 4_096


def spoil_a_page(database: Path) -> None:
    """Overwrite the beginning of a page in the middle of a database, where it stores messages."""
    content = bytearray(database.read_bytes())
    start = len(content) // 2 // PAGE * PAGE
    content[start : start + 8] = bytes(8)
    database.write_bytes(content)


def test_a_damaged_page_is_reported_with_what_to_do_and_stays_reported(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path / "data"))
    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name="disk", store=pb.Queue.DISK, limit=-1), pb.NewQueueResponse)
        for _ in range(100):
            rpc.add("disk", bytes(3_000))
        assert server.stop() == 0
    spoil_a_page(tmp_path / "data" / "queuelet.db")

    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.new_queue("memory")
        for call in (lambda: rpc.browse_all("disk"), lambda: rpc.pop("disk"), lambda: rpc.add("disk", b"one")):
            with pytest.raises(Refused) as refused:
                call()
            assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")
            for words in ("is damaged", "stop the server", "`queuelet check`", "`queuelet restore`"):
                assert words in refused.value.text
        page = fetch(f"{server.metrics_url}/readyz")
        assert page.status == 200, "queues in memory are served"
        assert "is damaged" in page.text
        figures = {
            name: samples(f"{server.metrics_url}/metrics", f"queuelet_disk_{name}")[""]
            for name in ("open", "failures_total")
        }
        assert figures == {"open": 0, "failures_total": 1}
        added = rpc.add("memory", b"one").meta.id
        assert rpc.pop("memory").meta.id == added
        copy = ("--data-dir", str(tmp_path / "data"), str(tmp_path / "copy.db"))
        refused_copy = Cli(server.address)("backup", *copy)
        assert refused_copy.code != 0
        assert "`queuelet backup --salvage`" in refused_copy.err
        salvaged = Cli(server.address)("backup", "--salvage", *copy)
        assert salvaged.json["messages"] + salvaged.json["damaged"] == 100
        assert 90 < salvaged.json["messages"] < 100
        assert "left out because they are damaged" in salvaged.err
        assert server.stop() == 0


def spoil_the_queues(database: Path) -> None:
    """Overwrite the page with the definitions of queues, which is read at the start."""
    with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        rows = connection.execute("SELECT pgoffset FROM dbstat WHERE name = 'queues'").fetchall()
    content = bytearray(database.read_bytes())
    start = int(str(rows[0][0]))
    content[start : start + PAGE] = Random(1).randbytes(PAGE)
    database.write_bytes(content)


def test_a_server_whose_store_is_damaged_at_the_start_serves_queues_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    flags = ("--data-dir", str(folder))
    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name="disk", store=pb.Queue.DISK, limit=-1), pb.NewQueueResponse)
        rpc.add("disk", b"one")
        assert Cli(server.address)("backup", "--data-dir", str(folder), str(tmp_path / "copy.db")).code == 0
        assert server.stop() == 0
    spoil_the_queues(folder / "queuelet.db")

    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        (line,) = server.log("disk store damaged; serving without it")
        memory = rpc.new_queue().meta.id
        added = rpc.add(memory, b"two").meta.id
        assert rpc.pop(memory).meta.id == added
        on_disk = pb.NewQueueRequest(name="new", store=pb.Queue.DISK, limit=-1)
        of_object = pb.QueueDeclaration(
            name="owned", store=pb.Queue.MEMORY, limit=-1, owner=pb.Owner(name="cluster/shop/owned", uid=unique_name())
        )
        by_hand = pb.QueueDeclaration(name="disk", store=pb.Queue.MEMORY, limit=-1)
        declared = rpc.call(
            "DeclareQueues", pb.DeclareQueuesRequest(queues=[of_object, by_hand]), pb.DeclareQueuesResponse
        ).results
        assert [result.error.reason for result in declared] == ["", "STORE_FAILED"], "it may be on the disk"
        for call in (
            lambda: rpc.pop("disk"),
            lambda: rpc.get_queue("disk"),
            lambda: rpc.call("DeleteQueue", pb.DeleteQueueRequest(queue_id="disk"), pb.DeleteQueueResponse),
            lambda: rpc.call("NewQueue", on_disk, pb.NewQueueResponse),
            lambda: rpc.new_queue("disk"),
        ):
            with pytest.raises(Refused) as refused:
                call()
            assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")
            assert line["error"] in refused.value.text
        for words in (
            f"{folder}/queuelet.db is damaged",
            "`queuelet check`",
            "`queuelet restore`",
            "restart the server",
        ):
            assert words in line["error"]
        removal = pb.RemoveQueuesRequest(queues=[pb.QueueRemoval(queue_id="disk")])
        (removed,) = rpc.call("RemoveQueues", removal, pb.RemoveQueuesResponse).results
        assert removed.outcome == pb.RemoveResult.OUTCOME_REFUSED, "an operator does not take it for gone"
        assert removed.error.reason == "STORE_FAILED"
        page = fetch(f"{server.metrics_url}/readyz")
        assert (page.status, page.text) == (200, f"ok\n{line['error']}\n")
        assert samples(f"{server.metrics_url}/metrics", "queuelet_disk_open")[""] == 0
        assert "Traceback" not in server.output()
        # The folder is not locked, so a container whose Pod cannot be stopped can be repaired.
        restored = Cli(server.address)("restore", "--force", "--data-dir", str(folder), str(tmp_path / "copy.db"))
        assert restored.code == 0
        assert server.stop() == 0

    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        assert rpc.pop("disk").payload == b"one"
        assert server.stop() == 0
