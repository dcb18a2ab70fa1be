"""A server whose database has a damaged page, which is detected when the page is read and then stays reported."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import grpc
import pytest

from queuelet.v1 import queue_pb2 as pb
from support.pages import fetch, samples
from support.rpc import Refused, Rpc
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
        assert server.stop() == 0
