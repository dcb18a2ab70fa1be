"""A server with a token: the page asks for it, or `queuelet console` signs it in with a key that works once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from support.browser import Faults, OpenPage
from support.console_command import ConsoleCommand
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


def test_an_address_with_a_key_signs_in_once_and_leaves_nothing_behind(
    browser: Browser, guarded: ServerProcess, tmp_path: Path
) -> None:
    token = str(tmp_path / "token")
    with ConsoleCommand("--server", guarded.address, "--token-file", token) as console:
        address = console.addresses[0]
        faults = Faults(f"{console.url}/")
        context = browser.new_context()
        faults.watch(context)
        requests: list[str] = []
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.goto(address)
        expect(row(page, "behind.token")).to_be_visible()
        key = address.partition("#key=")[2]
        kept = "JSON.stringify(Object.assign({}, localStorage, sessionStorage)) + document.cookie + location.href"
        assert not [secret for secret in (TOKEN, key) if secret in page.evaluate(kept)]
        assert not [url for url in requests if key in url.partition("#")[0] or TOKEN in url]
        page.reload()
        expect(row(page, "behind.token")).to_be_visible()
        page.goto(f"{console.url}/#/queues/behind.token")
        expect(page.get_by_text("No ready messages.")).to_be_visible()

        stranger = browser.new_context().new_page()
        stranger.goto(address)
        expect(stranger.get_by_role("alert")).to_contain_text("key: it was used already")
        expect(stranger.get_by_role("heading", name="This server needs a token")).to_be_visible()
        assert key not in stranger.url
        faults.check()
        for each in (context, stranger.context):
            each.close()
        assert console.stop() == 0
