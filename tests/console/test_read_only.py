"""The console of a read-only port: it shows everything, and offers nothing that would be refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from support.browser import OpenPage, grave_findings
from support.console_shop import fill_shop
from support.rpc import Rpc
from support.server_process import ServerProcess

PLACES = (
    "#/queues",
    "#/queues?filter=no-such-queue",
    "#/queues/shop.orders",
    "#/queues/shop.orders?tab=dead",
    "#/queues/shop.orders?tab=settings",
    "#/dead",
)


@pytest.fixture(scope="module")
def closed() -> Iterator[ServerProcess]:
    """A server with the queues of a shop and a read-only port."""
    with ServerProcess("--http-read-only") as process:
        rpc = Rpc(process.address)
        fill_shop(rpc)
        rpc.close()
        yield process
        assert process.stop() == 0


@pytest.fixture
def base(closed: ServerProcess) -> str:
    """The address of its console."""
    return f"{closed.rest_url}/"


@pytest.mark.need(19, 20)
def test_a_read_only_console_says_so_and_has_no_button_that_changes_something(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator("body")).to_have_attribute("data-access", "read-only")
    for place in PLACES:
        page.goto(page.url.partition("#")[0] + place)
        expect(page.locator("main h1")).to_be_attached()
        expect(page.get_by_role("button", name=re.compile("New queue|Add message|Redrive|Purge|Delete"))).to_have_count(
            0
        )
    page.goto(page.url.partition("#")[0] + "#/queues/shop.orders?tab=dead")
    page.locator("table.messages tbody a").first.click()
    drawer = page.get_by_role("complementary", name="Message")
    expect(drawer).to_contain_text("Tries")
    expect(drawer.get_by_role("button", name=re.compile("Redrive|Purge"))).to_have_count(0)
    assert not grave_findings(page)


@pytest.mark.need(23)
def test_a_key_that_opens_a_form_changes_nothing_all_the_same(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator("table.queues")).to_be_visible()
    page.keyboard.press("n")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("not.made")
    dialog.get_by_role("button", name="Create queue").click()
    expect(page.get_by_role("alert")).to_contain_text("this address is read-only")
