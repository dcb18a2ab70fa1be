"""The console behind a prefix, in many tabs, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import PHONE, WIDE, Faults, OpenPage
from support.console_pages import row
from support.prefix_proxy import PrefixProxy
from support.rpc import Rpc, unique_name
from support.server_process import ServerProcess
from tools.proxy import why_not


@pytest.fixture
def prefixed(server: ServerProcess, tmp_path: Path) -> Iterator[str]:
    """The address of the console behind nginx at /a/b/."""
    if reason := why_not():
        pytest.skip(reason)
    with PrefixProxy(tmp_path, server.http_port, "/a/b/") as proxy:
        yield proxy.url


@pytest.mark.need(43)
def test_the_console_works_behind_a_prefix(browser: Browser, prefixed: str, faults: Faults, rpc: Rpc) -> None:
    faults.base = prefixed
    context = browser.new_context()
    faults.watch(context)
    page = context.new_page()
    page.goto(prefixed)
    name = unique_name("prefix")
    rpc.new_queue(name)
    expect(row(page, name)).to_be_visible()
    row(page, name).locator("a.name").click()
    page.get_by_role("button", name="Add message").click()
    page.get_by_role("dialog").get_by_role("button", name="Add message").click()
    expect(page.locator("table.messages tbody tr")).to_have_count(0)
    page.get_by_role("button", name="0 → 1, read again").click()
    expect(page.locator("table.messages tbody tr")).to_have_count(1)
    page.reload()
    expect(page.locator("table.messages tbody tr")).to_have_count(1)
    context.close()
    rpc.delete_queue(name)


@pytest.mark.need(16, 50, 51)
def test_eight_tabs_share_one_stream_and_another_takes_over(open_page: OpenPage, rpc: Rpc) -> None:
    first = open_page()
    streams: list[str] = []
    first.context.on("request", lambda request: streams.append(request.url) if "live?" in request.url else None)
    expect(row(first, "shop.orders")).to_be_visible()
    tabs = [open_page(context=0) for _ in range(7)]
    for tab in tabs:
        expect(row(tab, "shop.orders")).to_be_visible()
    name = unique_name("tabs")
    rpc.new_queue(name)
    for tab in tabs:
        expect(row(tab, name)).to_be_visible()
    assert len(streams) <= 1
    first.close()
    rpc.add(name)
    for tab in tabs:
        expect(row(tab, name).locator("td").nth(2)).to_have_text("1")
    assert len(streams) <= 2
    rpc.delete_queue(name)


SCREENS = (
    "#/queues",
    "#/queues/shop.orders",
    "#/queues/shop.orders?tab=dead",
    "#/queues/shop.orders?tab=leased",
    "#/queues/shop.orders?tab=consumers",
    "#/queues/shop.orders?tab=settings",
    "#/dead",
    "#/server",
    "#/queues?filter=no-such-queue",
)


@pytest.mark.parametrize("size", [PHONE, (720, 900), (960, 700), WIDE, (1920, 1080)])
def test_no_screen_scrolls_sideways(open_page: OpenPage, size: tuple[int, int]) -> None:
    page = open_page(size=size)
    for screen in SCREENS:
        page.goto(page.url.partition("#")[0] + screen)
        expect(page.locator("main h1")).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, screen


def _too_small(page: Page) -> list[str]:
    """Return what is hard to hit with a finger."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("button.chip:not(.small), .tabs a, nav a, .field")]
          .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 44)
          .map((each) => each.outerHTML.slice(0, 80))"""
    )
    return found


def test_a_phone_has_what_matters_and_targets_for_fingers(open_page: OpenPage) -> None:
    page = open_page(size=PHONE)
    expect(page.locator("table.queues thead th:visible")).to_have_text(["Queue ↑", "Ready", "Dead", "Oldest"])
    assert not _too_small(page)
    page.goto(page.url.partition("#")[0] + "#/queues/shop.orders?tab=dead")
    page.locator("table.messages tbody a").first.click()
    drawer = page.get_by_role("complementary", name="Message")
    expect(drawer).to_be_visible()
    box = drawer.bounding_box()
    assert box is not None
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, *PHONE)
    assert not _too_small(page)
    drawer.get_by_role("button", name="Close").click()
    expect(drawer).to_have_count(0)
