"""What tests look for on the pages of the console."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

COLUMNS = ("Queue", "State", "Ready", "Delayed", "Leased", "Dead", "Mix", "Trend", "Rate", "Oldest")


def row(page: Page, queue: str) -> Locator:
    """The row of a queue in the table of all queues."""
    exact = re.compile(f"^{re.escape(queue)}$")
    return page.locator("table.queues tbody tr").filter(has=page.locator("a.name", has_text=exact))


def cell(page: Page, queue: str, column: str) -> str:
    """The text of a cell in the table of all queues."""
    return row(page, queue).locator("td").nth(COLUMNS.index(column)).inner_text()


def names(page: Page) -> Locator:
    """The names in the table of all queues."""
    return page.locator("table.queues tbody tr a.name")


def tile(page: Page, label: str) -> Locator:
    """The number of a tile."""
    return page.locator(".tile", has_text=label).locator("b")


def open_tab(page: Page, label: str) -> None:
    """Open a tab of a queue's page."""
    page.get_by_role("tab", name=re.compile(f"^{label}")).click()
    expect(page.get_by_role("tab", name=re.compile(f"^{label}"))).to_have_attribute("aria-selected", "true")
