"""A link in a chat or on another site opens the console, and nothing else of the server."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from support.console_pages import row
from support.other_site import page_of_another_site
from support.server_process import ServerProcess

PAGE = """<!doctype html><title>chat</title>
<a id="console" href="{base}#/queues/shop.orders">console</a>
<a id="new" href="{base}" target="_blank">console in a new window</a>
<a id="api" href="{base}api">API</a>
<a id="queues" href="{base}v1/queues">queues</a>
<a id="pop" href="{base}v1/queues/shop.orders/pop">pop</a>
<iframe src="{base}"></iframe>"""


def test_a_link_on_another_site_opens_the_console(browser: Browser, base: str) -> None:
    with page_of_another_site(PAGE.format(base=base), "localhost") as origin, browser.new_context() as context:
        page = context.new_page()
        page.goto(origin)
        page.locator("#console").click()
        expect(page.get_by_role("heading", level=1, name="shop.orders")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", level=1, name="shop.orders")).to_be_visible()
        page.goto(origin)
        page.locator("#api").click()
        expect(page).to_have_title("API · Queuelet")
        page.goto(origin)
        with context.expect_page() as opened:
            page.locator("#new").click()
        expect(row(opened.value, "shop.orders")).to_be_visible()
        assert opened.value.evaluate("window.opener") is None


def test_another_site_opens_no_route_of_the_api_and_frames_no_page(
    browser: Browser, base: str, server: ServerProcess
) -> None:
    with page_of_another_site(PAGE.format(base=base), "localhost") as origin, browser.new_context() as context:
        page = context.new_page()
        statuses: dict[str, int] = {}
        context.on("response", lambda response: statuses.update({response.url: response.status}))
        page.goto(origin)
        assert statuses[base] == 403, "a frame is no link"
        for link in ("#queues", "#pop"):
            page.goto(origin)
            with page.expect_response(lambda response: "/v1/" in response.url) as answered:
                page.locator(link).click()
            assert answered.value.status == 403
