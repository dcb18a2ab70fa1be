"""The page of the REST API: every operation can be read and tried, and nothing violates the page's strict policy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from queuelet.console.api_page import FILES, OPENAPI, POLICY
from support.browser import Faults, Scheme, grave_findings
from support.prefix_proxy import PrefixProxy
from support.rest import Rest
from support.rpc import unique_name
from support.server_process import ServerProcess
from tools.proxy import why_not as why_no_proxy

OpenPage = Callable[[str], AbstractContextManager[Page]]

pytestmark = pytest.mark.xdist_group("browser")

DOCUMENT = json.loads(OPENAPI.read_text())

OPERATIONS = [
    (each["tags"][0].replace(" ", "_"), each["operationId"])
    for item in DOCUMENT["paths"].values()
    for each in item.values()
]


@pytest.fixture
def queue(rest: Rest) -> Iterator[str]:
    """The name of a queue."""
    name = unique_name()
    rest.new_queue(name=name)
    yield name
    rest.delete(f"/v1/queues/{name}")


def opened(page: Page, tag: str, operation: str) -> Locator:
    """Open an operation in the page."""
    block = page.locator(f"[id='operations-{tag}-{operation}']")
    block.locator(".opblock-summary-control").click()
    return block


def executed(block: Locator) -> tuple[str, str]:
    """Execute an operation; return the status and the body of the response."""
    block.locator(".execute").click()
    row = block.locator(".live-responses-table .response").first
    row.wait_for()
    return row.locator(".response-col_status").inner_text().split()[0], row.locator(
        ".highlight-code pre"
    ).first.inner_text()


def test_the_document_is_served_as_it_is_committed(rest: Rest) -> None:
    answer = rest.ask("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == OPENAPI.read_bytes()


@pytest.mark.need(15)
def test_the_page_has_a_strict_policy(rest: Rest) -> None:
    answer = rest.ask("GET", "/api/")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"<script>" not in answer.body
    assert b"style=" not in answer.body


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_sent_compressed_and_only_if_it_changed(rest: Rest, name: str) -> None:
    plain = rest.ask("GET", f"/api/{name}")
    assert plain.status == 200
    compressed = rest.ask("GET", f"/api/{name}", headers={"Accept-Encoding": "gzip"})
    assert len(compressed.body) <= len(plain.body)
    assert rest.ask("HEAD", f"/api/{name}").body == b""
    again = rest.ask("GET", f"/api/{name}", headers={"If-None-Match": plain.headers["Etag"]})
    assert (again.status, again.body) == (304, b"")
    other = rest.ask("GET", f"/api/{name}", headers={"If-None-Match": '"other"'})
    assert other.status == 200


def test_the_address_without_a_slash_leads_to_the_page(rest: Rest) -> None:
    answer = rest.ask("GET", "/api")
    assert (answer.status, answer.headers["Location"]) == (308, "api/")


def test_another_file_is_not_found(rest: Rest) -> None:
    for path in ("/api/other.js", "/api/..%2Fapi_page.py", "/api/%2e%2e"):
        answer = rest.ask("GET", path)
        assert (answer.status, answer.json["reason"]) == (404, "NO_ROUTE")


def test_it_shows_every_operation(server: ServerProcess, open_page: OpenPage) -> None:
    with open_page(f"{server.rest_url}/api/") as page:
        expect(page.locator(".opblock")).to_have_count(len(OPERATIONS))
        for tag, operation in OPERATIONS:
            assert page.locator(f"[id='operations-{tag}-{operation}']").count() == 1, operation


@pytest.mark.need(15)
@pytest.mark.timeout(300)
def test_every_operation_opens_without_a_complaint(server: ServerProcess, open_page: OpenPage) -> None:
    # One of each subject, and all of them in a soak, because each takes a second.
    chosen = OPERATIONS if os.environ.get("QUEUELET_SOAK") == "1" else list(dict(OPERATIONS).items())
    with open_page(f"{server.rest_url}/api/") as page:
        for tag, operation in chosen:
            block = opened(page, tag, operation)
            block.locator(".responses-wrapper").wait_for()
            block.locator(".opblock-summary-control").click()


@pytest.mark.need(15)
def test_an_operation_is_executed_with_its_example(
    server: ServerProcess, rest: Rest, open_page: OpenPage, queue: str
) -> None:
    with open_page(f"{server.rest_url}/api/") as page:
        block = opened(page, "Messages", "Add")
        block.locator("[data-param-name=queue_id] input").fill(queue)
        status, body = executed(block)
    assert status == "200"
    assert json.loads(body)["message"]["payload"] == "eyJvcmRlciI6IDM1fQ=="
    assert rest.get(f"/v1/queues/{queue}/peek")["message"]["payload"] == "eyJvcmRlciI6IDM1fQ=="


def test_a_refused_request_shows_the_error(server: ServerProcess, open_page: OpenPage, queue: str) -> None:
    with open_page(f"{server.rest_url}/api/") as page:
        block = opened(page, "Messages", "Peek")
        block.locator("[data-param-name=queue_id] input").fill(queue)
        status, body = executed(block)
    assert status == "404"
    assert "is empty" in json.loads(body)["error"]


@pytest.mark.need(44)
def test_it_works_below_any_prefix(server: ServerProcess, open_page: OpenPage, queue: str, tmp_path: Path) -> None:
    if reason := why_no_proxy():
        pytest.skip(reason)
    with PrefixProxy(tmp_path, server.http_port, "/a/b/") as proxy, open_page(f"{proxy.url}api") as page:
        assert page.url.startswith(f"{proxy.url}api/")
        block = opened(page, "Queues", "GetQueue")
        block.locator("[data-param-name=queue_id] input").fill(queue)
        status, body = executed(block)
        assert status == "200"
        assert json.loads(body)["queue"]["name"] == queue
        assert f"{proxy.url}v1/queues/{queue}" in block.locator(".request-url").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_used_by_people_with_disabilities(
    browser: Browser, server: ServerProcess, scheme: Scheme, width: int
) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        faults = Faults(server.rest_url)
        faults.watch(context)
        page = context.new_page()
        page.goto(f"{server.rest_url}/api/")
        opened(page, "Queues", "NewQueue").locator(".responses-wrapper").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Before axe runs, which applies styles that the policy refuses.
        faults.check()
        assert grave_findings(page) == []
