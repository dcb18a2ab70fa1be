"""Each screen in light and dark, wide and on a phone: no serious finding of axe, and a picture for people to look at.

`QUEUELET_PICTURES=folder` keeps the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.browser import PHONE, WIDE, OpenPage, Scheme, grave_findings


def _open_message(page: Page) -> None:
    page.locator("table.messages tbody a").nth(1).click()
    expect(page.get_by_role("complementary", name="Message")).to_contain_text("Tries")


def _press(name: str) -> Callable[[Page], None]:
    def press(page: Page) -> None:
        page.get_by_role("button", name=name).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_visible()

    return press


def _keys(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def _nothing(_: Page) -> None:
    pass


SCREENS: dict[str, tuple[str, str, Callable[[Page], None]]] = {
    "queues": ("#/queues?sort=-ready", "table.queues", _nothing),
    "no-match": ("#/queues?filter=no-such-queue", ".empty", _nothing),
    "queue": ("#/queues/shop.orders", "table.messages", _nothing),
    "message": ("#/queues/shop.orders?tab=dead", "table.messages", _open_message),
    "binary": ("#/queues/media.thumbnails?tab=leased", "table.messages", _nothing),
    "tail": ("#/queues/shop.orders?tab=tail", ".tail", _nothing),
    "consumers": ("#/queues/shop.orders?tab=consumers", ".tabs", _nothing),
    "settings": ("#/queues/shop.orders?tab=settings", ".settings", _nothing),
    "dead": ("#/dead", ".reason", _nothing),
    "server": ("#/server", ".tiles", _nothing),
    "new-queue": ("#/queues", "table.queues", _press("New queue")),
    "add": ("#/queues/shop.orders", ".tabs", _press("Add message")),
    "redrive": ("#/queues/mail.outbox?tab=dead", "table.messages", _press("Redrive all")),
    "purge": ("#/queues/mail.outbox?tab=dead", "table.messages", _press("Purge all")),
    "keys": ("#/queues", "table.queues", _keys),
}


@pytest.mark.need(14)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["1280", "390"])
def test_everybody_can_read_each_screen(
    open_page: OpenPage, pictures: Path, size: tuple[int, int], scheme: Scheme
) -> None:
    page = open_page(size=size, scheme=scheme)
    console = page.url.partition("#")[0]
    found: list[str] = []
    for screen, (place, wanted, act) in SCREENS.items():
        page.goto(console + place)
        expect(page.locator(wanted).first).to_be_visible()
        act(page)
        page.evaluate("document.fonts.ready")
        page.screenshot(path=pictures / f"{screen}-{scheme}-{size[0]}.png")
        found += [f"{screen}: {each}" for each in grave_findings(page)]
        page.keyboard.press("Escape")
    assert not found
