"""The console stays small: what a browser loads at the start, what is on a page, and the modules themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

import queuelet.console
from queuelet.v1 import queue_pb2 as pb
from support.browser import PHONE, OpenPage
from support.console_pages import names
from support.rpc import Rpc
from support.server_process import ServerProcess

QUEUES = 10_000
MAX_BYTES_AT_START = 150 * 1024
"""Bytes of all files that a page loads before it shows queues, compressed. What it shows of queues is not in them."""
MAX_BYTES_OF_BOARD = 100 * 1024
MAX_NODES = 2_000
MAX_LINES = 200

STATIC = Path(queuelet.console.__file__).parent / "static"


@pytest.fixture(scope="module")
def crowded() -> Iterator[ServerProcess]:
    """A server with 10,000 queues."""
    with ServerProcess() as server:
        rpc = Rpc(server.address)
        declarations = [
            pb.QueueDeclaration(
                name=f"team-{i % 50}.queue-{i:05}",
                store=pb.Queue.MEMORY,
                limit=-1,
                tags=[pb.Tag(key="team", value=f"t{i % 50}")],
            )
            for i in range(QUEUES)
        ]
        rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=declarations), pb.DeclareQueuesResponse)
        rpc.close()
        yield server
        assert server.stop() == 0


@pytest.fixture
def base(crowded: ServerProcess) -> str:
    """The address of its console."""
    return f"{crowded.rest_url}/"


NODES = "document.querySelectorAll('*').length"
AT_THE_END = "scrollY + innerHeight >= document.documentElement.scrollHeight - 1"
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Until a scroll that has begun is drawn: the rows are drawn in the frame after the scroll's event."""


@pytest.mark.need(2, 4, 56)
def test_ten_thousand_queues_are_one_list(open_page: OpenPage, crowded: ServerProcess) -> None:
    page = open_page("#/queues")
    expect(page.locator(".fact b").first).to_have_text("10,000")
    expect(page.locator("table.queues")).to_have_attribute("aria-rowcount", "10001")
    assert page.evaluate(NODES) <= MAX_NODES
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(names(page).last).to_have_text("team-9.queue-09959")
    assert page.evaluate(NODES) <= MAX_NODES
    page.get_by_role("searchbox", name="Filter queues").fill("queue-04321")
    expect(names(page)).to_have_text(["team-21.queue-04321"])
    page.get_by_role("searchbox", name="Filter queues").fill("team=t7")
    expect(page.locator("table.queues")).to_have_attribute("aria-rowcount", "201")
    rpc = Rpc(crowded.address)
    rpc.add("team-7.queue-00007")
    rpc.close()
    page.get_by_role("button", name="Ready", exact=True).click()
    expect(names(page).first).to_have_text("team-7.queue-00007")


def test_names_can_be_read_on_a_phone(open_page: OpenPage) -> None:
    page = open_page("#/queues", size=PHONE)
    box = names(page).first.bounding_box()
    assert box is not None
    assert box["width"] > 120, "rows that do not exist take no columns"


@pytest.mark.need(56)
def test_a_plain_table_has_a_hundred_queues_at_a_time(open_page: OpenPage) -> None:
    page = open_page("#/queues?view=plain&sort=-name")
    caption = page.locator("table.plain caption")
    expect(caption).to_have_text("Queues 1 to 100 of 10,000")
    expect(page.locator("table.plain tbody tr")).to_have_count(100)
    assert page.evaluate(NODES) <= MAX_NODES
    page.get_by_role("button", name="Next 100").click()
    expect(caption).to_have_text("Queues 101 to 200 of 10,000")
    page.get_by_role("button", name="Previous 100").click()
    expect(page.get_by_role("button", name="Previous 100")).to_be_disabled()


@pytest.mark.need(4)
def test_every_row_can_be_reached_by_scrolling(open_page: OpenPage) -> None:
    page = open_page("#/queues?filter=team=t7")
    expect(page.locator("table.queues")).to_have_attribute("aria-rowcount", "201")
    seen: set[str] = set()
    seen.update(names(page).all_inner_texts())
    while not page.evaluate(AT_THE_END):
        before = page.evaluate("scrollY")
        page.mouse.wheel(0, 400)
        page.wait_for_function("before => scrollY > before", arg=before)
        page.evaluate(TWO_FRAMES)
        seen.update(names(page).all_inner_texts())
    assert len(seen) == 200


@pytest.mark.need(55, 56)
def test_the_end_of_a_long_list_is_keys_away(open_page: OpenPage) -> None:
    page = open_page("#/queues?filter=team=t7")
    expect(page.locator("table.queues")).to_have_attribute("aria-rowcount", "201")
    for _ in range(60):
        page.keyboard.press("j")
    focused = page.locator("table.queues a.name:focus")
    expect(focused).to_have_count(1)
    expect(focused.locator("xpath=ancestor::tr")).to_have_attribute("aria-rowindex", "61")
    expect(focused).to_be_in_viewport()


@pytest.mark.need(1)
def test_a_page_loads_little_at_the_start(open_page: OpenPage) -> None:
    page = open_page("")
    expect(names(page).first).to_be_visible()
    sizes: dict[str, int] = page.evaluate(
        """() => Object.fromEntries(["resource", "navigation"].flatMap((kind) => performance.getEntriesByType(kind))
          .filter((each) => !/\\/(live|history)$/.test(new URL(each.name).pathname))
          .map((each) => [new URL(each.name).pathname, each.encodedBodySize]))"""
    )
    assert sizes.pop("/console/board") <= MAX_BYTES_OF_BOARD
    assert sum(sizes.values()) <= MAX_BYTES_AT_START, sizes


@pytest.mark.parametrize("file", sorted(STATIC.rglob("*.mjs")), ids=lambda file: str(file.relative_to(STATIC)))
def test_a_module_stays_short(file: Path) -> None:
    lines = file.read_text().count("\n")
    assert lines <= MAX_LINES, f"{file}: {lines} lines; divide it"
