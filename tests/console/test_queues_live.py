"""All queues at a glance, live, on the real server."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from queuelet.v1 import queue_pb2 as pb
from support.console_pages import cell, names, row
from support.rpc import Rpc, unique_name


def test_the_page_shows_each_queue_with_its_numbers(page: Page) -> None:
    expect(row(page, "mail.outbox")).to_be_visible()
    assert cell(page, "mail.outbox", "Ready") == "4,800"
    assert cell(page, "mail.outbox", "Delayed") == "230"
    assert cell(page, "mail.outbox", "Dead") == "118"
    assert cell(page, "billing.invoices", "State") == "Full"
    expect(page.locator(".facts")).to_contain_text("142dead in 3 queues")


def test_numbers_change_without_a_reload(page: Page, rpc: Rpc) -> None:
    name = unique_name("live")
    rpc.new_queue(name)
    expect(row(page, name)).to_be_visible()
    rpc.add(name, b"one")
    expect(row(page, name).locator("td").nth(2)).to_have_text("1")
    rpc.pop(name)
    expect(row(page, name).locator("td").nth(2)).to_have_text("0")
    rpc.delete_queue(name)
    expect(row(page, name)).to_have_count(0)


def test_a_changed_definition_is_shown(page: Page, rpc: Rpc) -> None:
    name = unique_name("tagged")
    rpc.new_queue(name)
    expect(row(page, name)).to_be_visible()
    request = pb.AddQueueTagRequest(queue_id=name, tag=pb.Tag(key="tier", value="gold"))
    rpc.call("AddQueueTag", request, pb.AddQueueTagResponse)
    expect(row(page, name)).to_contain_text("tier=gold")
    rpc.delete_queue(name)


def test_a_filter_is_a_part_of_the_name_or_a_selector(page: Page) -> None:
    field = page.get_by_role("searchbox", name="Filter queues")
    field.fill("orders")
    expect(names(page)).to_have_text(["shop.orders"])
    field.fill("team in (checkout, search)")
    expect(names(page)).to_have_text(["search.reindex", "shop.orders", "shop.refunds"])
    field.fill("team=checkout,!tier")
    expect(names(page)).to_have_text(["shop.orders", "shop.refunds"])
    expect(page).to_have_url(re.compile(r"#/queues\?filter=team%3Dcheckout%2C%21tier"))
    field.fill("team=(")
    expect(page.get_by_role("alert")).to_contain_text("not understood")


def test_a_filter_that_hides_everything_says_so(page: Page) -> None:
    page.get_by_role("searchbox", name="Filter queues").fill("no-such-queue")
    expect(page.locator(".empty")).to_contain_text("The filter hides all")
    page.get_by_role("button", name="Show all queues").click()
    expect(row(page, "shop.orders")).to_be_visible()


def test_columns_sort_and_the_address_remembers_it(page: Page) -> None:
    page.get_by_role("button", name="Dead", exact=True).click()
    expect(names(page).first).to_have_text("mail.outbox")
    assert "sort=-dead" in page.url
    page.reload()
    expect(names(page).first).to_have_text("mail.outbox")


def test_what_needs_attention_is_one_click_away(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Dead 3")).click()
    expect(names(page)).to_have_text(["mail.outbox", "search.reindex", "shop.orders"])
