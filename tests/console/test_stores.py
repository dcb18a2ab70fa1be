"""What the console says about stores: what messages in each survive, also while that changes, and when one is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import OpenPage
from support.postgres_server import PostgresServer, Standby
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL that the tests here may stop and configure."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def own(database: PostgresServer, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with all stores."""
    file = tmp_path / "uri"
    file.write_text(database.url)
    with ServerProcess("--data-dir", str(tmp_path / "data"), "--postgres-file", str(file)) as process:
        yield process
    database.drop("queuelet")


@pytest.fixture
def base(own: ServerProcess) -> str:
    """The address of its console."""
    return f"{own.rest_url}/"


def survives(page: Page, store: str) -> str:
    """Return what the page Server says that messages of a store survive."""
    return page.locator("tr").filter(has=page.get_by_text(store, exact=True)).locator("td").nth(2).inner_text()


def new_queue(server: ServerProcess) -> None:
    """Create a queue in the database."""
    with closing(Rpc(server.address)) as rpc:
        request = pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name="orders")
        rpc.call("NewQueue", request, pb.NewQueueResponse)
        rpc.add_batch("orders", [b"1", b"2", b"3"])


def test_each_store_says_what_its_messages_survive(open_page: OpenPage, own: ServerProcess) -> None:
    new_queue(own)
    page = open_page("#/server")
    expect(page.locator("tbody tr")).to_have_count(3)
    found = {store: survives(page, store) for store in ("Memory", "Disk", "Postgres")}
    assert found == {"Memory": "nothing", "Disk": "crashes", "Postgres": "crashes"}
    page = open_page("#/queues/orders")
    expect(page.locator(".head")).to_contain_text("Postgres, not replicated")
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator(".settings")).to_contain_text("Postgres: messages survive crashes")


def test_a_change_of_the_database_is_shown_while_the_page_is_open(
    open_page: OpenPage, own: ServerProcess, database: PostgresServer
) -> None:
    new_queue(own)
    server, queue = open_page("#/server"), open_page("#/queues/orders")
    expect(queue.locator(".head")).to_contain_text("not replicated")
    standby = Standby(database)
    try:
        database.configure(synchronous_standby_names="standby")
        expect(queue.locator(".head")).to_contain_text("Postgres, replicated")
        eventually(lambda: survives(server, "Postgres") == "a lost machine", "shown on the page Server")
        database.configure(synchronous_standby_names="")
        expect(queue.locator(".head")).to_contain_text("Postgres, not replicated")
    finally:
        database.configure(synchronous_standby_names="")
        standby.stop()


def test_a_queue_is_created_in_the_most_durable_store_unless_another_is_chosen(
    open_page: OpenPage, own: ServerProcess
) -> None:
    page = open_page()
    page.get_by_role("button", name="New queue").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("made.here")
    expect(dialog.get_by_label("Store")).to_have_value("POSTGRES")
    dialog.get_by_role("button", name="Create").click()
    expect(page.locator(".head")).to_contain_text("Postgres")
    with closing(Rpc(own.address)) as rpc:
        assert rpc.get_queue("made.here").store == pb.Queue.POSTGRES


def test_a_database_that_is_away_is_a_problem_and_one_that_went_back_a_loss(
    open_page: OpenPage, own: ServerProcess, database: PostgresServer
) -> None:
    """A database that was away for a while has lost nothing."""
    new_queue(own)
    page = open_page("#/server")
    expect(page.locator("tbody tr")).to_have_count(3)
    database.stop(keep=True)
    expect(page.get_by_role("alert")).to_contain_text("Store Postgres:")
    database.copy_to("older")
    database.start()
    expect(page.get_by_role("alert")).to_have_count(0)
    with closing(Rpc(own.address)) as rpc:
        rpc.add_batch("orders", [b"4"])
        database.stop(keep=True)
        database.replace_by("older")
        database.start()
        expect(page.get_by_role("alert")).to_contain_text("Store Postgres went back to an older state")
        expect(page.get_by_role("alert")).to_contain_text("1 queue with 4 messages had been in it.")
