"""Everything can be done by keys, and no key changes a queue by itself."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import OpenPage
from support.console_shop import die
from support.rpc import Rpc, unique_name


def _tab_to(page: Page, text: str) -> None:
    """Press Tab until an element with this text has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if text in str(page.evaluate("document.activeElement.textContent || document.activeElement.ariaLabel")):
            return
    raise AssertionError(f"no Tab leads to {text!r}")


def test_dead_messages_are_redriven_by_keys_alone(open_page: OpenPage, rpc: Rpc) -> None:
    name = unique_name("keys")
    rpc.new_queue(name, delivery=pb.DeliverySettings(max_deliveries=2))
    rpc.add_batch(name, [b"1", b"2", b"3"])
    die(rpc, name, "worker", "broken")
    page = open_page()
    expect(page.locator("table.queues")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Filter queues")).to_be_focused()
    page.keyboard.type(name)
    expect(page.locator("table.queues tbody a.name")).to_have_count(1)
    _tab_to(page, name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
    for _ in range(3):
        page.keyboard.press("]")
    expect(page.get_by_role("tab", name=re.compile("^Dead"))).to_have_attribute("aria-selected", "true")
    expect(page.locator("table.messages tbody tr")).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Redrive 1 selected…")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Message")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary", name="Message")).to_have_count(0)
    page.get_by_role("tab", name=re.compile("^Dead")).focus()
    _tab_to(page, "Redrive 1 selected…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("1 message would be made ready")
    assert rpc.get_queue(name).messages.dead == 3
    _tab_to(page, "Redrive 1 message")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Done.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert rpc.get_queue(name).messages.dead == 2
    page.keyboard.press("Escape")
    expect(page.locator("table.queues")).to_be_visible()
    rpc.delete_queue(name)


def test_rows_are_walked_with_j_and_k(page: Page) -> None:
    expect(page.locator("table.queues")).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("table.queues tbody a.name").first).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("table.queues tbody a.name").nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(page.locator("table.queues tbody a.name").first).to_be_focused()


def test_pages_are_a_sequence_away_and_the_keys_are_listed(page: Page) -> None:
    expect(page.locator("table.queues")).to_be_visible()
    for keys, heading in (("gs", "Server"), ("gd", "Dead messages"), ("gq", "Queues")):
        for key in keys:
            page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1, name=heading)).to_be_attached()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Go to dead messages")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_times_turn_from_local_to_utc_to_relative(open_page: OpenPage) -> None:
    page = open_page("#/queues/shop.orders?tab=dead")
    when = page.locator("table.messages tbody time").first
    expect(when).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    page.keyboard.press("t")
    expect(when).to_have_text(re.compile(r"^\d\d:\d\d:\d\dZ$"))
    page.keyboard.press("t")
    expect(when).to_have_text(re.compile("ago$"))
    page.reload()
    expect(when).to_have_text(re.compile("ago$"))


def test_no_key_changes_a_queue(open_page: OpenPage, rpc: Rpc) -> None:
    before = rpc.get_queue("shop.orders").messages
    page = open_page("#/queues/shop.orders?tab=dead")
    expect(page.locator("table.messages tbody tr")).to_have_count(3)
    for key in "abcdefghijklmnopqrstuvwxyz0123456789[]/?":
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.goto(page.url.partition("#")[0] + "#/queues/shop.orders?tab=dead")
    assert rpc.get_queue("shop.orders").messages == before


def test_the_first_tab_skips_to_the_content(page: Page) -> None:
    expect(page.locator("table.queues")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
