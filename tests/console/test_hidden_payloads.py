"""A server that hides payloads: the console shows sizes, and nothing leads to a payload."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from support.browser import OpenPage
from support.console_pages import open_tab
from support.console_shop import die
from support.rest import Rest
from support.rpc import Rpc
from support.server_process import ServerProcess

SECRET = "the secret of the shop"


@pytest.fixture
def hiding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that hides payloads, with a queue."""
    with ServerProcess("--hide-payloads") as process:
        rpc = Rpc(process.address)
        rpc.new_queue("orders")
        rpc.add("orders", SECRET.encode())
        die(rpc, "orders", "worker-1", "smtp 421")
        rpc.add("orders", SECRET.encode())
        rpc.close()
        yield process
        assert process.stop() == 0


@pytest.fixture
def base(hiding: ServerProcess) -> str:
    """The address of its console."""
    return f"{hiding.rest_url}/"


@pytest.mark.need(24)
def test_sizes_are_shown_in_place_of_payloads(open_page: OpenPage, hiding: ServerProcess) -> None:
    page = open_page("#/queues/orders")
    rows = page.locator("table.messages tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("hidden")
    expect(rows).to_contain_text("22 B")
    expect(page.get_by_label("Payload contains")).to_have_count(0)
    page.locator("table.messages tbody a").first.click()
    drawer = page.get_by_role("complementary", name="Message")
    expect(drawer).to_contain_text("This server shows no payloads")
    expect(drawer).to_contain_text("22 B")
    open_tab(page, "Dead")
    expect(rows).to_contain_text("smtp 421")
    with page.expect_response(re.compile("messages:tail")):
        open_tab(page, "Live tail")
    rpc = Rpc(hiding.address)
    rpc.add("orders", SECRET.encode())
    rpc.close()
    expect(page.get_by_role("log", name="Events")).to_contain_text("22 B")
    assert SECRET not in page.content()


def test_rest_has_sizes_too(hiding: ServerProcess) -> None:
    rest = Rest(hiding.rest_url)
    (found, _) = rest.get("/v1/queues/orders/messages?payload_bytes=1000")["messages"]
    assert found["payload_size"] == "22"
    assert "payload" not in found["message"]
    for path in ("peek", "messages:peek", "messages?contains=secret"):
        assert rest.ask("GET", f"/v1/queues/orders/{path}").status == 403, path
    assert rest.post("/v1/queues/orders/messages:pop")["message"]["payload"]
