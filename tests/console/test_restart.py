"""A server that goes away in mid-view: the page says so, goes on by itself, and names what a store has lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import Faults, OpenPage
from support.console_pages import row, tile
from support.ports import lasting_port
from support.postgres_server import own_schema
from support.rpc import Rpc
from support.server_process import ServerProcess


class Restartable:
    """A server that comes back at the same addresses."""

    def __init__(self, *flags: str) -> None:
        self._flags = (*flags, "--http", f"127.0.0.1:{lasting_port()}")
        self.process = ServerProcess(*self._flags).start()

    def restart(self) -> None:
        """Start it again."""
        self.process = ServerProcess(*self._flags).start()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Restartable]:
    """A server of the test, with all stores."""
    with own_schema() as postgres:
        # The lease of a killed server has to end before the next one takes over.
        server = Restartable("--data-dir", str(tmp_path), *postgres, "--postgres-lease", "1")
        yield server
        server.process.stop()


@pytest.fixture
def base(own: Restartable) -> str:
    """The address of its console."""
    return f"{own.process.rest_url}/"


def test_a_restart_shows_what_the_memory_store_lost(open_page: OpenPage, own: Restartable, faults: Faults) -> None:
    faults.expected.append(lambda fault: "ERR_" in fault or "503" in fault)
    rpc = Rpc(own.process.address)
    rpc.new_queue("memory.queue")
    rpc.add_batch("memory.queue", [b"1", b"2", b"3"])
    for store, name in ((pb.Queue.DISK, "disk.queue"), (pb.Queue.POSTGRES, "postgres.queue")):
        rpc.call("NewQueue", pb.NewQueueRequest(store=store, limit=-1, name=name), pb.NewQueueResponse)
        rpc.add_batch(name, [b"1", b"2"])
    rpc.close()
    page = open_page()
    expect(row(page, "memory.queue").locator("td").nth(2)).to_have_text("3")
    other = open_page("#/queues/memory.queue")
    expect(tile(other, "Ready").first).to_have_text("3")
    own.process.kill()
    expect(page.get_by_role("alert")).to_contain_text("No word from the server")
    expect(page.locator("body[data-live=stale]")).to_have_count(1)
    own.restart()
    expect(page.get_by_role("alert")).to_contain_text("Store Memory was emptied")
    expect(page.get_by_role("alert")).to_contain_text("1 queue with 3 messages had been in it.")
    for name in ("disk.queue", "postgres.queue"):
        expect(row(page, name).locator("td").nth(2)).to_have_text("2")
    expect(row(page, "memory.queue")).to_have_count(0)
    expect(other.get_by_role("heading", name="No queue is called memory.queue")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("body[data-live=live]")).to_have_count(1)
