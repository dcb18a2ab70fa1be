"""Acts: what changes queues asks first, says how much it changes, and can be stopped."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import OpenPage
from support.console_pages import row, tile
from support.console_shop import die
from support.rpc import Refused, Rpc, unique_name


@pytest.fixture
def dead(rpc: Rpc) -> Iterator[str]:
    """A queue with 30 dead messages and 2 ready ones."""
    name = unique_name("dead")
    rpc.new_queue(name, delivery=pb.DeliverySettings(max_deliveries=2))
    rpc.add_batch(name, [b"%d" % n for n in range(30)])
    die(rpc, name, "worker", "broken", most=30)
    rpc.add_batch(name, [b"a", b"b"])
    yield name
    rpc.delete_queue(name)


@pytest.mark.need(27)
def test_a_redrive_counts_first_and_then_reports_progress(open_page: OpenPage, dead: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{dead}?tab=dead")
    page.get_by_role("button", name="Redrive all 30…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("30 messages would be made ready")
    assert rpc.get_queue(dead).messages.dead == 30
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_label("Messages a second").fill("0")
    dialog.get_by_role("button", name="Redrive 30 messages").click()
    expect(dialog).to_contain_text("30 of 30 are ready again. Done.")
    assert rpc.get_queue(dead).messages.ready == 32
    dialog.get_by_role("button", name="Close").click()
    expect(tile(page, "Dead")).to_have_text("0")


@pytest.mark.need(29, 31)
def test_a_redrive_can_be_stopped_and_loses_nothing(open_page: OpenPage, dead: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{dead}?tab=dead")
    page.get_by_role("button", name="Redrive all 30…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Messages a second").fill("2")
    dialog.get_by_role("button", name="Redrive 30 messages").click()
    expect(dialog).to_contain_text(re.compile("[1-9][0-9]? of 30 are ready again"))
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog).to_contain_text("Stopped; the others stay dead.")
    counts = rpc.get_queue(dead).messages
    assert counts.dead > 0
    assert counts.dead + counts.ready == 32


@pytest.mark.need(29)
def test_selected_dead_messages_alone_are_redriven(open_page: OpenPage, dead: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{dead}?tab=dead")
    boxes = page.locator("table.messages tbody input[type=checkbox]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("button", name="Redrive 2 selected…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Redrive 2 messages").click()
    expect(dialog).to_contain_text("2 of 2 are ready again. Done.")
    assert rpc.get_queue(dead).messages.dead == 28


@pytest.fixture
def two_regions(rpc: Rpc) -> Iterator[str]:
    """A queue with 4 dead messages, of which 2 have region=eu."""
    name = unique_name("regions")
    rpc.new_queue(name, delivery=pb.DeliverySettings(max_deliveries=2))
    for region in ("eu", "us") * 2:
        rpc.add(name, f"sent to {region}".encode(), tags=[("region", region)])
    die(rpc, name, "worker", "broken", most=4)
    yield name
    rpc.delete_queue(name)


@pytest.mark.need(28)
def test_a_filter_by_tags_chooses_what_is_redriven(open_page: OpenPage, two_regions: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{two_regions}?tab=dead")
    page.get_by_role("searchbox", name="Select by tags").fill("region=eu")
    page.get_by_role("button", name="Redrive all that match…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 messages would be made ready")
    dialog.get_by_role("button", name="Redrive 2 messages").click()
    expect(dialog).to_contain_text("2 of 2 are ready again. Done.")
    assert rpc.get_queue(two_regions).messages == pb.MessageCounts(ready=2, dead=2)
    assert {each.message.meta.tags[0].value for each in rpc.browse(two_regions, pb.MESSAGE_STATE_DEAD)} == {"us"}


@pytest.mark.need(30)
def test_dead_messages_that_a_search_finds_are_purged_alone(open_page: OpenPage, two_regions: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{two_regions}?tab=dead")
    page.get_by_role("searchbox", name="Payload contains").fill("to us")
    expect(page.locator("table.messages tbody tr")).to_have_count(2)
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("button", name="Purge 2 selected…").click()
    page.get_by_role("dialog").get_by_role("button", name="Purge 2 messages").click()
    expect(page.get_by_role("status").last).to_contain_text("2 messages")
    assert {each.message.payload for each in rpc.browse(two_regions)} == {b"sent to eu"}


@pytest.mark.need(22)
def test_a_queue_of_an_object_is_not_deleted_here_but_by_the_command_that_is_shown(
    open_page: OpenPage, rpc: Rpc
) -> None:
    name, owner = unique_name("owned"), pb.Owner(name="main/shop/orders")
    declared = pb.QueueDeclaration(name=name, store=pb.Queue.MEMORY, limit=-1, owner=owner)
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
    page = open_page(f"#/queues/{name}?tab=settings")
    expect(page.locator(".command code").first).to_have_text(
        "kubectl --namespace shop delete queues.queuelet.dev orders"
    )
    expect(page.get_by_role("button", name="Delete queue")).to_have_count(0)
    removal = pb.QueueRemoval(queue_id=name, owner=owner)
    rpc.call("RemoveQueues", pb.RemoveQueuesRequest(queues=[removal]), pb.RemoveQueuesResponse)


@pytest.mark.need(27, 32, 34)
def test_a_purge_needs_the_name_and_says_the_count(open_page: OpenPage, dead: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{dead}?tab=dead")
    page.get_by_role("button", name="Purge all 30…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Removes 30 dead messages of {dead} for good.")
    act = dialog.get_by_role("button", name="Purge 30 messages")
    expect(act).to_be_disabled()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_role("textbox").fill(dead[:-1])
    expect(act).to_be_disabled()
    dialog.get_by_role("textbox").fill(dead)
    dialog.get_by_role("textbox").press("Enter")
    assert rpc.get_queue(dead).messages.dead == 30
    act.click()
    expect(page.get_by_role("status").last).to_contain_text("30 messages")
    counts = rpc.get_queue(dead).messages
    assert (counts.dead, counts.ready) == (0, 2)


@pytest.mark.need(32)
def test_a_cancelled_purge_removes_nothing(open_page: OpenPage, dead: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{dead}")
    page.get_by_role("button", name="Purge…").click()
    expect(page.get_by_role("dialog")).to_contain_text("32 messages")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert rpc.get_queue(dead).messages.dead == 30


def test_the_shown_command_purges_the_same(open_page: OpenPage, dead: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{dead}?tab=dead")
    page.get_by_role("button", name="Purge all 30…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("The same from a shell").click()
    lines = dialog.locator(".command code").all_inner_texts()
    assert lines[0] == f"queuelet purge {dead} --all --state dead"
    done = subprocess.run(["sh", "-c", lines[1]], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"purged": "30"}
    assert rpc.get_queue(dead).messages.dead == 0


@pytest.mark.need(39)
def test_a_message_is_added_with_tags_and_priority(open_page: OpenPage, dead: str, rpc: Rpc) -> None:
    page = open_page(f"#/queues/{dead}")
    page.get_by_role("button", name="Add message").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Payload").fill('{"n": 9007199254740993, "ü": "<b>"}')
    expect(dialog).to_contain_text("JSON")
    dialog.get_by_label("Tags").fill("region=eu, note=a=b")
    dialog.get_by_text("Priority, delay, time to live").click()
    dialog.get_by_label("Priority").fill("-1")
    dialog.get_by_role("button", name="Add message").click()
    expect(page.get_by_role("status").last).to_contain_text("was added")
    added = rpc.pop(dead)
    assert added.payload.decode() == '{"n": 9007199254740993, "ü": "<b>"}'
    assert [(tag.key, tag.value) for tag in added.meta.tags] == [("region", "eu"), ("note", "a=b")]
    assert added.priority == -1


def test_a_refused_message_says_why(open_page: OpenPage, rpc: Rpc) -> None:
    name = unique_name("full")
    rpc.new_queue(name, limit=1)
    rpc.add(name)
    page = open_page(f"#/queues/{name}")
    page.get_by_role("button", name="Add message").click()
    page.get_by_role("dialog").get_by_role("button", name="Add message").click()
    expect(page.get_by_role("alert")).to_contain_text("limit")
    rpc.delete_queue(name)


@pytest.mark.need(33)
def test_a_queue_is_created_and_deleted(open_page: OpenPage, rpc: Rpc) -> None:
    name = unique_name("new")
    page = open_page()
    page.get_by_role("button", name="New queue").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Store").select_option("MEMORY")
    dialog.get_by_role("textbox", name="Limit").fill("7")
    dialog.get_by_label("Tags").fill("team=a")
    dialog.get_by_role("button", name="Create queue").click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
    made = rpc.get_queue(name)
    assert (made.limit, made.store, made.meta.tags[0].key) == (7, pb.Queue.MEMORY, "team")
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("button", name="Delete queue…").click()
    page.get_by_role("dialog").get_by_role("textbox").fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Delete queue").click()
    expect(page.locator("table.queues")).to_be_visible()
    expect(row(page, name)).to_have_count(0)
    with pytest.raises(Refused):
        rpc.get_queue(name)


def test_a_bad_name_gets_the_servers_sentence(open_page: OpenPage, faults: object) -> None:
    page = open_page()
    page.get_by_role("button", name="New queue").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Not Allowed")
    page.get_by_role("dialog").get_by_role("button", name="Create queue").click()
    expect(page.get_by_role("alert")).to_contain_text("name:")


@pytest.mark.need(30)
def test_dead_messages_of_all_queues_are_grouped_by_reason(open_page: OpenPage, dead: str) -> None:
    page = open_page("#/dead")
    section = page.get_by_role("region", name=dead)
    expect(section.locator(".reason")).to_have_count(2)
    expect(section.locator(".reason").first).to_contain_text("max deliveries")
    expect(section.locator(".reason").first).to_contain_text("broken")
    expect(section.locator(".reason b").first).to_have_text("29")
