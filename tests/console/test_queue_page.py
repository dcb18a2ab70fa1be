"""The page of a queue: its messages in every state, each with its life and tries, without touching them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from google.protobuf.duration_pb2 import Duration
from playwright.sync_api import Page, expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import OpenPage
from support.console_pages import open_tab, tile
from support.console_shop import GATEWAY, die, payload
from support.rpc import Rpc, unique_name


@pytest.fixture
def orders(rpc: Rpc) -> Iterator[str]:
    """A queue with messages in all states: 3 dead, 2 leased, 1 delayed and 60 ready."""
    name = unique_name("orders")
    rpc.new_queue(name, delivery=pb.DeliverySettings(max_deliveries=2))
    rpc.add_batch(name, [payload(n) for n in range(3)])
    die(rpc, name, "worker-3", GATEWAY)
    rpc.add_batch(name, [payload(n) for n in range(2)])
    receive = pb.ReceiveRequest(queue_id=name, max=2, consumer="worker-1", lease=Duration(seconds=3_600))
    rpc.call("Receive", receive, pb.ReceiveResponse)
    delayed = pb.NewMessage(payload=b"later", delay=Duration(seconds=3_600))
    rpc.call("AddBatch", pb.AddBatchRequest(queue_id=name, messages=[delayed]), pb.AddBatchResponse)
    for n in range(60):
        rpc.add(name, f"ready {n}".encode(), tags=[("region", "eu" if n % 2 else "us")])
    yield name
    rpc.delete_queue(name)


def _list(page: Page) -> list[str]:
    return page.locator("table.messages tbody tr").all_inner_texts()


@pytest.mark.need(36)
def test_messages_of_every_state_are_shown(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}")
    rows = page.locator("table.messages tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("ready 0")
    open_tab(page, "Delayed")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("later")
    open_tab(page, "Leased")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("worker-1")
    open_tab(page, "Dead")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text(f"max deliveries{GATEWAY}2")


@pytest.mark.need(35)
def test_looking_changes_nothing(open_page: OpenPage, orders: str, rpc: Rpc) -> None:
    before = rpc.get_queue(orders).messages
    page = open_page(f"#/queues/{orders}")
    for tab in ("Ready", "Delayed", "Leased", "Dead"):
        open_tab(page, tab)
        page.locator("table.messages tbody a").first.click()
        expect(page.get_by_role("complementary", name="Message")).to_contain_text("Payload")
    assert rpc.get_queue(orders).messages == before
    assert all(each.count < 2 for each in rpc.browse(orders, pb.MESSAGE_STATE_LEASED))


@pytest.mark.need(37)
def test_a_message_has_its_payload_exactly_and_its_tries(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}?tab=dead")
    page.locator("table.messages tbody a").nth(1).click()
    drawer = page.get_by_role("complementary", name="Message")
    expect(drawer.get_by_role("region", name="Payload")).to_contain_text('"order": 3544790567247868103,')
    expect(drawer.get_by_role("region", name="Payload")).to_contain_text('"note": "<img src=x onerror=alert(1)>"')
    expect(drawer.get_by_role("img", name=re.compile("Life of the message: it is dead, after 2"))).to_be_visible()
    expect(drawer.locator(".try")).to_have_count(2)
    expect(drawer.locator(".try").first).to_contain_text(f"worker-3 gave it back: {GATEWAY}")


@pytest.mark.need(42)
def test_the_newest_try_comes_first(open_page: OpenPage, rpc: Rpc) -> None:
    name = unique_name("tries")
    rpc.new_queue(name, delivery=pb.DeliverySettings(max_deliveries=2))
    rpc.add(name)
    for reason in ("the first error", "the last error"):
        rpc.nack(name, rpc.receive(name, 1)[0].token, reason=reason)
    page = open_page(f"#/queues/{name}?tab=dead")
    expect(page.locator("table.messages tbody tr")).to_contain_text("the last error")
    page.locator("table.messages tbody a").first.click()
    tries = page.get_by_role("complementary", name="Message").locator(".try")
    expect(tries).to_have_count(2)
    expect(tries.first).to_contain_text("the last error")
    expect(tries.last).to_contain_text("the first error")
    rpc.delete_queue(name)


@pytest.mark.need(42)
def test_a_payload_is_json_text_or_hex_and_the_choice_is_remembered(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}?tab=dead")
    page.locator("table.messages tbody a").first.click()
    drawer = page.get_by_role("complementary", name="Message")
    drawer.get_by_role("button", name="Hex").click()
    expect(drawer.get_by_role("region", name="Payload")).to_contain_text("000000  7b 22 6f 72 64 65 72")
    page.reload()
    expect(page.get_by_role("region", name="Payload")).to_contain_text("000000  7b 22 6f 72 64 65 72")


def test_pages_keep_their_place_while_numbers_move(open_page: OpenPage, orders: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{orders}")
    rows = page.locator("table.messages tbody tr")
    expect(rows).to_have_count(50)
    # The numbers come at most once a second, and the page compares with those that it had when it read the list.
    expect(page.get_by_role("tab", name="Ready 60")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).click()
    expect(rows).to_have_count(10)
    first = rows.first.inner_text()
    rpc.add(orders, b"one more")
    expect(page.get_by_role("button", name="60 → 61, read again")).to_be_visible()
    assert rows.first.inner_text() == first
    page.get_by_role("button", name="60 → 61, read again").click()
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Newest first").click()
    expect(rows.first).to_contain_text("one more")


@pytest.mark.need(40, 41)
def test_payloads_are_searched_and_tags_selected(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}")
    rows = page.locator("table.messages tbody tr")
    page.get_by_role("searchbox", name="Payload contains").fill("ready 59")
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox", name="Payload contains").fill("")
    page.get_by_role("searchbox", name="Select by tags").fill("region=eu")
    expect(rows).to_have_count(30)
    page.get_by_role("searchbox", name="Select by tags").fill("region=(")
    expect(page.get_by_role("alert")).to_contain_text("selector")


@pytest.mark.need(40)
def test_a_search_that_has_not_read_everything_says_so(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}")
    expect(page.locator("table.messages tbody tr")).to_have_count(50)
    # As if the messages were so many that the server reads only a part of them for each page.
    page.route(re.compile(r"contains=absent"), lambda route: route.fulfill(json={"next_page_token": "1"}))
    page.get_by_role("searchbox", name="Payload contains").fill("absent")
    expect(page.locator(".empty")).to_have_text("Nothing so far. Next searches on.")
    page.unroute(re.compile(r"contains=absent"))
    page.route(re.compile(r"contains=absent"), lambda route: route.fulfill(json={}))
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.locator(".empty")).to_have_text("No message matches.")


def test_a_message_that_left_meanwhile_is_said_to_be_gone(open_page: OpenPage, orders: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{orders}")
    expect(page.locator("table.messages tbody tr")).to_have_count(50)
    rpc.pop(orders)
    page.locator("table.messages tbody a").first.click()
    expect(page.get_by_role("complementary", name="Message")).to_contain_text("It is no longer in the queue")


def test_the_commands_that_are_shown_work(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}")
    page.locator("table.messages tbody a").first.click()
    drawer = page.get_by_role("complementary", name="Message")
    drawer.get_by_text("The same from a shell").click()
    line = drawer.locator(".command code").first.inner_text()
    assert line.startswith("curl -fsS http://127.0.0.1:")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert '"state":"MESSAGE_STATE_READY"' in done.stdout


def test_consumers_are_listed_with_what_they_hold(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}?tab=consumers")
    expect(page.get_by_text("No consumer is connected.")).to_be_visible()
    expect(page.get_by_text("2 leases belong to no stream")).to_be_visible()


def test_the_settings_have_the_definition_and_the_counters(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}?tab=settings")
    expect(page.get_by_text("Dead after2 deliveries")).to_be_visible()
    expect(page.get_by_text("given back5")).to_be_visible()
    expect(page.get_by_text("none: made by hand")).to_be_visible()


def test_a_queue_that_does_not_exist_is_said_so(open_page: OpenPage) -> None:
    page = open_page("#/queues/no-such-queue")
    expect(page.get_by_role("heading", name="No queue is called no-such-queue")).to_be_visible()


def test_the_tiles_follow_the_queue(open_page: OpenPage, orders: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{orders}")
    expect(tile(page, "Ready").first).to_have_text("60")
    rpc.pop(orders)
    expect(tile(page, "Ready").first).to_have_text("59")


def test_the_tail_shows_what_happens_and_can_be_paused(open_page: OpenPage, orders: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{orders}")
    with page.expect_response(re.compile("messages:tail")):
        open_tab(page, "Live tail")
    log = page.get_by_role("log", name="Events")
    rpc.add(orders, b"seen in the tail")
    expect(log).to_contain_text("seen in the tail")
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    rpc.add(orders, b"not seen")
    expect(tile(page, "Ready").first).to_have_text("62")
    expect(log).not_to_contain_text("not seen")


@pytest.mark.need(14)
def test_the_history_is_drawn(open_page: OpenPage, orders: str) -> None:
    page = open_page(f"#/queues/{orders}")
    expect(
        page.get_by_role("img", name="Ready, delayed and leased messages, last 1 h").locator("canvas")
    ).to_be_visible()
    page.get_by_role("button", name="24 h").click()
    expect(page.get_by_role("img", name="Dead messages, last 24 h").locator("canvas")).to_be_visible()
