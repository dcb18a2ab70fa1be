"""A real server with the queues of a shop, and a real browser that looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from support.browser import WIDE, Faults, OpenPage, Scheme, chromium
from support.console_shop import fill_shop
from support.rpc import Rpc
from support.server_process import ServerProcess
from tools.browser import why_not


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that the tests of a module share. They are skipped without Chromium.

    It must end before a test of another folder begins, because its event loop counts as running until then.
    """
    if reason := why_not():
        pytest.skip(reason)
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the queues of a shop. A test changes only queues that it made itself."""
    with ServerProcess("--data-dir", str(tmp_path_factory.mktemp("data"))) as process:
        rpc = Rpc(process.address)
        fill_shop(rpc)
        rpc.close()
        yield process
        assert process.stop() == 0
        assert not [line for line in process.log() if "exception" in line], "the server logged no defect"


@pytest.fixture
def rpc(server: ServerProcess) -> Iterator[Rpc]:
    """A client of the server."""
    client = Rpc(server.address)
    yield client
    client.close()


@pytest.fixture
def base(server: ServerProcess) -> str:
    """The address of the console; a module may have another one."""
    return f"{server.rest_url}/"


@pytest.fixture
def faults(base: str) -> Iterator[Faults]:
    """What goes wrong on the pages of the test; it fails the test at its end."""
    found = Faults(base)
    yield found
    found.check()


@pytest.fixture
def open_page(browser: Browser, base: str, faults: Faults) -> Iterator[OpenPage]:
    """Open a place of the console in a window of its own."""
    contexts: list[BrowserContext] = []

    def make(
        place: str = "#/queues", *, size: tuple[int, int] = WIDE, scheme: Scheme = "light", context: int | None = None
    ) -> Page:
        if context is None:
            new = browser.new_context(
                viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, locale="en-GB"
            )
            faults.watch(new)
            contexts.append(new)
        page = contexts[-1 if context is None else context].new_page()
        page.goto(base + place)
        return page

    yield make
    for each in contexts:
        each.close()


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """The console's first page."""
    return open_page()


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures: that of QUEUELET_PICTURES, or a temporary one."""
    import os  # noqa: PLC0415  # only here

    folder = Path(os.environ.get("QUEUELET_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
