"""Whatever names, tags, payloads and reasons contain is shown as text, and nothing of it runs."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Dialog, Page, expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import OpenPage
from support.console_pages import open_tab, row
from support.console_shop import die
from support.rpc import Rpc, unique_name

CORPUS = {
    "an image": "<img src=x onerror=alert(1)>",
    "a script": "<script>alert(1)</script>",
    "an end of a script": "</script><script>alert(1)</script>",
    "a drawing": "<svg onload=alert(1)>",
    "an attribute": '" autofocus onfocus=alert(1) x="',
    "another attribute": "' onmouseover='alert(1)",
    "a template": "${alert(1)}{{alert(1)}}`",
    "an address": "javascript:alert(1)",
    "a style": "</style><style>*{display:none}</style>",
    "a comment": "<!--<img title='--><img src=x onerror=alert(1)>'>",
    "an entity": "&lt;img src=x onerror=alert(1)&gt;",
    "a frame": "<iframe srcdoc='<script>parent.alert(1)</script>'>",
    "other directions": "\u202ealert(1)\u202c\u2028\u2029",
    "a prototype": '{"__proto__":{"dangerouslySetInnerHTML":{"__html":"<img src=x onerror=alert(1)>"}}}',
    "a vnode": '{"type":"script","props":{"children":"alert(1)"},"constructor":null}',
}


def _refuse_alerts(page: Page) -> list[str]:
    shown: list[str] = []

    def refuse(dialog: Dialog) -> None:
        shown.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    return shown


@pytest.mark.need(7, 8, 9, 11, 12)
@pytest.mark.parametrize("kind", CORPUS)
def test_a_hostile_text_is_only_text_in_every_field(open_page: OpenPage, rpc: Rpc, kind: str) -> None:
    text = CORPUS[kind]
    name = unique_name("hostile")
    rpc.new_queue(name, tags=[("note", text)], delivery=pb.DeliverySettings(max_deliveries=2))
    rpc.add(name, text.encode(), tags=[("note", text)])
    die(rpc, name, text, text, most=1)
    rpc.add(name, text.encode(), tags=[(text, text)])
    page = open_page(f"#/queues?filter={name}")
    alerts = _refuse_alerts(page)
    expect(row(page, name).locator(".tag")).to_have_text(f"note={text}")
    page.goto(page.url.partition("#")[0] + f"#/queues/{name}?tab=dead")
    page.locator("table.messages tbody a").first.click()
    drawer = page.get_by_role("complementary", name="Message")
    drawer.get_by_role("button", name="Text").click()
    assert drawer.get_by_role("region", name="Payload").evaluate("(pre) => pre.textContent") == text
    expect(drawer.locator(".try").first).to_contain_text("gave it back")
    assert text in str(drawer.locator(".try").first.evaluate("(each) => each.textContent"))
    open_tab(page, "Ready")
    expect(page.locator("table.messages tbody tr")).to_have_count(1)
    page.goto(page.url.partition("#")[0] + "#/dead")
    expect(page.get_by_role("region", name=name)).to_be_visible()
    page.goto(page.url.partition("#")[0] + f"#/queues/{quote(text, safe='')}")
    expect(page.get_by_role("heading", level=2)).to_contain_text("No queue is called")
    page.goto(page.url.partition("#")[0] + f"#/queues?filter={quote(text, safe='')}")
    expect(page.get_by_role("searchbox", name="Filter queues")).to_have_value(text.replace("\n", ""))
    assert not alerts
    assert page.evaluate("document.querySelectorAll('main script, main iframe, main style, main img').length") == 0
    rpc.delete_queue(name)


@pytest.mark.need(10)
@pytest.mark.parametrize("kind", CORPUS)
def test_what_a_consumer_calls_itself_is_only_text(open_page: OpenPage, rpc: Rpc, kind: str) -> None:
    text = CORPUS[kind]
    name = unique_name("consumer")
    rpc.new_queue(name)
    stream = rpc.consume(name, credit=1, consumer=text)
    page = open_page(f"#/queues/{name}?tab=consumers")
    alerts = _refuse_alerts(page)
    first = page.locator(".wide tbody td").first
    expect(first).to_be_visible()
    assert first.evaluate("(cell) => cell.textContent") == text
    with page.expect_response(re.compile("messages:tail")):
        open_tab(page, "Live tail")
    rpc.add(name, text.encode())
    leased = page.get_by_role("log", name="Events").locator(":scope > div").first
    expect(leased).to_contain_text("leased")
    assert text in str(leased.evaluate("(line) => line.textContent"))
    assert not alerts
    assert page.evaluate("document.querySelectorAll('main script, main iframe, main style, main img').length") == 0
    stream.cancel()
    rpc.delete_queue(name)


PAYLOADS = {
    "numbers that a double cannot hold": (
        b'{"a": 9223372036854775807, "b": 0.1000000000000000055511151231257827, "c": 1e400, "d": -0}',
        ["9223372036854775807", "0.1000000000000000055511151231257827", "1e400", "-0"],
    ),
    "keys that repeat": (b'{"a": 1, "a": 2}', ['"a": 1', '"a": 2']),
    "deep nesting": (b"[" * 5_000 + b"]" * 5_000, ["["]),
    "JSON that is not": (b'{"a": 01}', ['{"a": 01}']),
    "escapes": (rb'{"a": "\u003cimg\u003e\ud800"}', [r'"\u003cimg\u003e\ud800"']),
    "no bytes": (b"", []),
    "control characters": (b"\x00\x01\x1b[31mred", ["00 01 1b 5b"]),
    "broken UTF-8": (b"\xff\xfe{}", ["ff fe 7b 7d"]),
    "one long line": (b"x" * 100_000, ["xxxx"]),
}


@pytest.mark.need(37, 38)
@pytest.mark.parametrize("kind", PAYLOADS)
def test_any_payload_is_shown_as_it_is(open_page: OpenPage, rpc: Rpc, kind: str) -> None:
    data, parts = PAYLOADS[kind]
    name = unique_name("payload")
    rpc.new_queue(name)
    message = rpc.add(name, data)
    page = open_page(f"#/queues/{name}?m={message.meta.id}")
    drawer = page.get_by_role("complementary", name="Message")
    if not data:
        expect(drawer).to_contain_text("No bytes.")
    for part in parts:
        expect(drawer.get_by_role("region", name="Payload")).to_contain_text(part)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rpc.delete_queue(name)


def test_a_large_payload_is_cut_until_all_of_it_is_wanted(open_page: OpenPage, rpc: Rpc) -> None:
    name = unique_name("large")
    rpc.new_queue(name)
    message = rpc.add(name, b"a" * 1_000_000 + b"the end")
    page = open_page(f"#/queues/{name}?m={message.meta.id}")
    drawer = page.get_by_role("complementary", name="Message")
    expect(drawer).to_contain_text("The first 64 KiB of 977 KiB.")
    drawer.get_by_role("button", name="Show all").click()
    expect(drawer.get_by_role("region", name="Payload")).to_contain_text("the end")
    rpc.delete_queue(name)
