"""A real Chromium, and pages that fail a test if anything on them is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from support.patience import patient
from tools.browser import FLAGS, program

WIDE = (1280, 860)
PHONE = (390, 844)

_AXE = Axe()
_GRAVE = {"serious", "critical"}

_WATCH_CSP = """
  document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""

Scheme = Literal["light", "dark"]

OpenPage = Callable[..., Page]
"""Opens a place of the console, such as `#/queues/orders`, in a window of its own."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser."""
    expect.set_options(timeout=patient(15_000))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Faults:
    """What went wrong on the pages of a test."""

    base: str
    """The address that requests may go to."""
    found: list[str] = field(default_factory=list)
    expected: list[Callable[[str], bool]] = field(default_factory=list)
    """Faults that the test provokes."""

    def watch(self, context: BrowserContext) -> None:
        """Watch all pages of a context."""
        context.set_default_timeout(patient(15_000))
        context.add_init_script(_WATCH_CSP)
        context.on("console", self._console)
        context.on("request", self._request)
        context.on("page", lambda page: page.on("pageerror", lambda error: self.found.append(f"error: {error}")))

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium reports each response that is an error. The page shows it as a sentence, and tests look for that.
        if message.type in {"error", "warning"} and not re.search(r"status of 4\d\d", message.text):
            self.found.append(f"console: {message.text} {message.location.get('url', '')}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.found.append(f"foreign request: {request.url}")

    def check(self) -> None:
        """Fail if something went wrong that the test did not expect."""
        left = [each for each in self.found if not any(expects(each) for expects in self.expected)]
        assert not left, left


def grave_findings(page: Page) -> list[str]:
    """Return the findings of axe that are serious or worse."""
    results: dict[str, Any] = _AXE.run(page).response
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
        for each in results["violations"]
        if each["impact"] in _GRAVE
        for node in each["nodes"]
    ]
