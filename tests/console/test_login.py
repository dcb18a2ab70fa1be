"""A server with a token: the page asks for it once, or `queuelet console` signs it in with a key that works once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

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


def _sign_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def _asks(page: Page) -> None:
    expect(page.get_by_role("heading", name="This server needs a token")).to_be_visible()


def test_the_right_token_opens_the_console(open_page: OpenPage) -> None:
    page = open_page()
    _asks(page)
    _sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("This is not the server's token.")
    _sign_in(page, TOKEN)
    expect(row(page, "behind.token")).to_be_visible()
    row(page, "behind.token").locator("a.name").click()
    expect(page.get_by_text("No ready messages.")).to_be_visible()
    page.get_by_role("button", name="Add message").click()
    page.get_by_role("dialog").get_by_role("button", name="Add message").click()
    expect(page.get_by_role("status").last).to_contain_text("was added")


def test_a_session_lasts_over_a_reload_and_in_other_tabs_and_the_token_is_nowhere(open_page: OpenPage) -> None:
    page = open_page()
    other = open_page(context=0)
    _asks(other)
    _sign_in(page, TOKEN)
    for each in (page, other):
        expect(row(each, "behind.token")).to_be_visible()
        each.reload()
        expect(row(each, "behind.token")).to_be_visible()
    kept = page.evaluate(
        "JSON.stringify(Object.assign({}, localStorage, sessionStorage)) + document.cookie + location.href"
    )
    assert TOKEN not in kept
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert cookie["value"] not in kept


def test_signing_out_ends_the_session_in_all_tabs(open_page: OpenPage) -> None:
    page = open_page("#/server")
    _sign_in(page, TOKEN)
    expect(page.get_by_text("You are signed in with the server's token until")).to_be_visible()
    other = open_page("#/queues", context=0)
    expect(row(other, "behind.token")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    _asks(page)
    _asks(other)
    page.reload()
    _asks(page)
    assert not page.context.cookies()


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
