"""The pictures in the documents: the shop while it is busy. `make pictures` makes them again.

`QUEUELET_DOCUMENT_PICTURES=folder` keeps the pictures. `QUEUELET_TRAFFIC_STEPS` says how long the shop is busy before
that, in quarters of a second, so that the charts have something to show.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import PHONE, OpenPage, Scheme, grave_findings
from support.console_shop import fill_shop
from support.console_traffic import Traffic
from support.rpc import Rpc
from support.server_process import ServerProcess

STEPS = int(os.environ.get("QUEUELET_TRAFFIC_STEPS") or 8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own, with the shop and its traffic."""
    with ServerProcess("--data-dir", str(tmp_path_factory.mktemp("data"))) as process:
        rpc = Rpc(process.address)
        fill_shop(rpc, store=pb.Queue.DISK)
        rpc.close()
        with Traffic(process.address) as traffic:
            traffic.wait(STEPS)
            yield process
        assert process.stop() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the pictures."""
    found = Path(os.environ.get("QUEUELET_DOCUMENT_PICTURES") or tmp_path)
    found.mkdir(parents=True, exist_ok=True)
    return found


def _has_rates(page: Page) -> None:
    """Wait until the page has seen traffic for a moment."""
    expect(page.locator(".fact", has_text="in / out a second").locator("b")).to_have_text(
        re.compile(r"^\d{2,} / \d{2,}$")
    )


def _dead_message(page: Page) -> None:
    page.locator("table.messages tbody a").nth(1).click()
    expect(page.get_by_role("complementary", name="Message")).to_contain_text("Tries")


def _redrive(page: Page) -> None:
    page.get_by_role("button", name="Redrive all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("would be made ready")
    dialog.get_by_text("The same from a shell").click()


PICTURES: dict[str, tuple[str, tuple[int, int], Scheme, Callable[[Page], None]]] = {
    "queues": ("#/queues?sort=-ready", (1280, 580), "light", _has_rates),
    "message": ("#/queues/shop.orders?tab=dead", (1280, 1270), "dark", _dead_message),
    "redrive": ("#/queues/mail.outbox?tab=dead", (1280, 760), "light", _redrive),
    "phone": ("#/queues?sort=-ready", PHONE, "dark", _has_rates),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PICTURES)
def test_a_busy_shop_can_be_read(open_page: OpenPage, folder: Path, name: str) -> None:
    place, size, scheme, act = PICTURES[name]
    page = open_page("#/queues", size=size, scheme=scheme)
    _has_rates(page)
    page.goto(page.url.partition("#")[0] + place)
    act(page)
    page.evaluate("document.fonts.ready")
    page.screenshot(path=folder / f"console-{name}.png")
    assert not grave_findings(page)
