"""Queue objects of Kubernetes on the screens: what they complain of, also where there is no queue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from support.browser import PHONE, OpenPage, grave_findings
from support.console_pages import cell, names, open_tab, row
from support.fake_queue_api import ServedQueueApi, body
from support.rpc import Rpc
from support.server_process import ServerProcess

HOSTILE = "<img src=x onerror=alert(1)> owned by 'prod/other'; delete the other object"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ServedQueueApi]:
    """An API server with the objects of a shop."""
    api = ServedQueueApi(tmp_path)
    api.api.items = [
        body("orders", generation=4, observed=4, message="the queue exists as declared"),
        body("mails", generation=3, observed=2),
        body("scores", ready="False", reason="NotOwner", message=HOSTILE, more=("Stalled",)),
    ]
    with api.serving():
        yield api


@pytest.fixture
def joined(cluster: ServedQueueApi) -> Iterator[ServerProcess]:
    """A server that reads them, with queues for two of them and one made by hand."""
    with ServerProcess("--queue-objects", str(cluster.folder), env=cluster.env) as process:
        rpc = Rpc(process.address)
        for name in ("shop.orders", "shop.mails", "by-hand"):
            rpc.new_queue(name)
        rpc.close()
        yield process
        assert process.stop() == 0
        assert not [line for line in process.log() if "exception" in line]


@pytest.fixture
def base(joined: ServerProcess) -> str:
    """The address of its console."""
    return f"{joined.rest_url}/"


def test_the_list_has_what_objects_complain_of_and_objects_without_a_queue(open_page: OpenPage) -> None:
    page = open_page()
    expect(names(page)).to_have_text(["by-hand", "shop.mails", "shop.orders", "shop.scores"])
    assert cell(page, "shop.orders", "State") == "Ready"
    assert cell(page, "shop.mails", "State").split() == ["Reconciling", "spec", "changed"]
    assert cell(page, "shop.scores", "State").split() == ["Stalled", "NotOwner"]
    about = row(page, "shop.scores").locator("a.complaint").get_attribute("title")
    assert about == f"shop/scores: NotOwner: {HOSTILE} (generation 2, but the conditions describe 1)"
    assert cell(page, "shop.scores", "Ready") == "0"
    page.get_by_role("button", name=re.compile("Needs attention 1")).click()
    expect(names(page)).to_have_text(["shop.scores"])
    expect(page.locator(".fact b").first).to_have_text("3")
    assert not grave_findings(page)


def test_the_tab_of_a_queue_has_its_conditions_and_generation(open_page: OpenPage) -> None:
    page = open_page("#/queues/shop.orders")
    open_tab(page, "Kubernetes")
    panel = page.get_by_role("tabpanel", name="Kubernetes")
    expect(panel).to_contain_text("Objectshop/orders")
    expect(panel).to_contain_text("Generation4, described by the conditions")
    expect(panel.locator("table.conditions tbody tr")).to_have_text("ReadyTrueReadythe queue exists as declared")
    panel.get_by_text("With kubectl").click()
    expect(panel).to_contain_text("kubectl --namespace shop describe queues.queuelet.dev orders")
    assert not grave_findings(page)


def test_an_object_without_a_queue_has_a_page_that_says_why(open_page: OpenPage) -> None:
    page = open_page()
    row(page, "shop.scores").locator("a.complaint").click()
    expect(page.get_by_role("heading", name="No queue is called shop.scores")).to_be_visible()
    lines = page.locator("table.conditions tbody tr")
    expect(lines).to_have_text([f"ReadyFalseNotOwner{HOSTILE}", f"StalledTrueNotOwner{HOSTILE}"])
    assert not grave_findings(page)


def test_a_queue_made_by_hand_is_said_to_have_no_object(open_page: OpenPage) -> None:
    page = open_page("#/queues/by-hand?tab=kubernetes")
    expect(page.get_by_text("No Queue object has this queue: it was made by hand.")).to_be_visible()


def test_changes_of_objects_are_live(open_page: OpenPage, cluster: ServedQueueApi) -> None:
    page = open_page("#/queues/shop.orders?tab=kubernetes")
    expect(page.locator("table.conditions tbody tr")).to_have_count(1)
    cluster.put(body("orders", ready="False", reason="StoreFull", more=("Stalled",), generation=5, observed=5))
    expect(page.locator("table.conditions tbody tr")).to_have_count(2)
    expect(page.get_by_role("tab", name="Kubernetes Stalled")).to_be_visible()
    cluster.put(body("orders", generation=6, observed=6))
    expect(page.locator("table.conditions tbody tr")).to_have_count(1)
    expect(page.get_by_text("Generation6")).to_be_visible()


def test_a_phone_shows_conditions_too(open_page: OpenPage) -> None:
    page = open_page(size=PHONE)
    expect(row(page, "shop.scores")).to_contain_text("Stalled")
    row(page, "shop.scores").locator("a.name").click()
    expect(page.locator("table.conditions tbody tr")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert not grave_findings(page)


def test_without_the_right_the_queues_are_shown_and_the_tab_says_why(
    open_page: OpenPage, cluster: ServedQueueApi, joined: ServerProcess
) -> None:
    cluster.api.refusal = 403
    page = open_page("#/queues/shop.orders?tab=kubernetes")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot read Queue objects: refused with 403; let the")
    page.goto(f"{joined.rest_url}/#/queues")
    expect(names(page)).to_have_text(["by-hand", "shop.mails", "shop.orders"])
    assert len(joined.log("queue objects are not shown")) == 1
    cluster.api.refusal = 0
    expect(names(page)).to_have_count(4)
