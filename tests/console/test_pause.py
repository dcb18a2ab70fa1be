"""Numbers that stand still: paused by the user, or as a plain table for screen readers and printers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from support.browser import OpenPage, grave_findings
from support.console_pages import row
from support.rpc import Rpc, eventually, unique_name


@pytest.fixture
def queue(rpc: Rpc) -> Iterator[str]:
    """An empty queue."""
    name = unique_name("still")
    rpc.new_queue(name)
    yield name
    rpc.delete_queue(name)


def _pause(page: Page) -> None:
    page.get_by_role("button", name="Pause the numbers").click()
    expect(page.locator(".note")).to_contain_text("Paused at")


def test_a_paused_page_stands_still_and_another_tab_goes_on(open_page: OpenPage, queue: str, rpc: Rpc) -> None:
    page = open_page()
    expect(row(page, queue)).to_be_visible()
    other = open_page(context=0)
    expect(row(other, queue)).to_be_visible()
    _pause(page)
    rpc.add(queue)
    expect(row(other, queue).locator("td").nth(2)).to_have_text("1")
    expect(row(page, queue).locator("td").nth(2)).to_have_text("0")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(row(page, queue).locator("td").nth(2)).to_have_text("1")
    rpc.add(queue)
    expect(row(page, queue).locator("td").nth(2)).to_have_text("2")
    expect(page.locator(".note")).to_have_count(0)


def test_the_key_p_pauses_and_goes_on(page: Page, queue: str, rpc: Rpc) -> None:
    expect(row(page, queue)).to_be_visible()
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Pause the numbers")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Pause the numbers")).to_have_attribute("aria-pressed", "false")
    rpc.add(queue)
    expect(row(page, queue).locator("td").nth(2)).to_have_text("1")


def _read_again(page: Page) -> str:
    """Read the plain table again; return its number of ready messages."""
    page.get_by_role("button", name="Read again").click()
    return page.locator("table.plain tbody td").nth(2).inner_text()


def test_a_plain_table_has_all_its_rows_and_stands_still(open_page: OpenPage, queue: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues?filter={queue}")
    # The page may begin with a board from before the queue, and a plain table stands still.
    expect(row(page, queue)).to_be_visible()
    page.get_by_role("link", name="Plain table").click()
    table = page.locator("table.plain")
    expect(table.locator("caption")).to_have_text("Queues 1 to 1 of 1")
    expect(table.get_by_role("rowheader", name=queue)).to_be_visible()
    expect(table.locator("tbody td").nth(2)).to_have_text("0")
    rpc.add(queue)
    eventually(lambda: _read_again(page) == "1", "the page has heard of the message")
    assert not grave_findings(page)
    page.get_by_role("link", name="Live table").click()
    expect(row(page, queue)).to_be_visible()


def test_a_printed_table_has_no_controls(open_page: OpenPage) -> None:
    page = open_page("#/queues?view=plain")
    expect(page.locator("table.plain tbody tr").first).to_be_visible()
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Read again")).to_be_hidden()
    expect(page.locator("header.top")).to_be_hidden()
    expect(page.locator("table.plain tbody tr").first).to_be_visible()
