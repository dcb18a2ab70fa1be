"""A server with a token: the page asks for it, and remembers it only as long as it is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from support.browser import OpenPage
from support.console_pages import row
from support.rpc import Rpc
from support.server_process import ServerProcess

TOKEN = "opensesame-opensesame"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with a token and a queue."""
    (tmp_path / "token").write_text(TOKEN)
    with ServerProcess("--token-file", str(tmp_path / "token")) as process:
        rpc = Rpc(process.address, metadata=(("authorization", f"Bearer {TOKEN}"),))
        rpc.new_queue("behind.token")
        rpc.close()
        yield process
        assert process.stop() == 0


@pytest.fixture
def base(guarded: ServerProcess) -> str:
    """The address of its console."""
    return f"{guarded.rest_url}/"


def test_the_right_token_opens_the_console(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.get_by_role("heading", name="This server needs a token")).to_be_visible()
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="This server needs a token")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(row(page, "behind.token")).to_be_visible()
    row(page, "behind.token").locator("a.name").click()
    expect(page.get_by_text("No ready messages.")).to_be_visible()
    assert (
        page.evaluate(
            "JSON.stringify(Object.assign({}, localStorage, sessionStorage)) + document.cookie + location.href"
        ).count(TOKEN)
        == 0
    )
    page.reload()
    expect(page.get_by_role("heading", name="This server needs a token")).to_be_visible()
