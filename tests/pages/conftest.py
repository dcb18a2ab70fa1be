"""A real server, and a real browser if Chromium is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from playwright.sync_api import Browser, Page

from support.browser import Faults, chromium
from support.rest import Rest
from support.server_process import ServerProcess
from tools.browser import why_not

OpenPage = Callable[[str], AbstractContextManager[Page]]
"""Opens an address in a window of its own."""


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server that the tests of a worker share."""
    with ServerProcess() as process:
        yield process
        assert process.stop() == 0


@pytest.fixture(scope="session")
def rest(server: ServerProcess) -> Rest:
    """The server's REST API."""
    return Rest(server.rest_url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that the tests of a module share. They are skipped without Chromium.

    It must end before a test of another folder begins, because its event loop counts as running until then.
    """
    if reason := why_not():
        pytest.skip(reason)
    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser) -> OpenPage:
    """Open an address. Then the test fails if the page logged an error, violated its policy or asked another host."""

    @contextmanager
    def opened(url: str) -> Iterator[Page]:
        faults = Faults("/".join(url.split("/")[:3]))
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        faults.watch(context)
        page = context.new_page()
        page.goto(url)
        try:
            yield page
        finally:
            context.close()
        faults.check()

    return opened
