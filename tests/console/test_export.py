"""Messages of a state are saved as a file, as the shown commands do it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from queuelet.v1 import queue_pb2 as pb
from support.browser import OpenPage
from support.rpc import Rpc, unique_name


@pytest.fixture
def queue(rpc: Rpc) -> Iterator[str]:
    """A queue with 700 messages."""
    name = unique_name("export")
    rpc.new_queue(name)
    messages = [pb.NewMessage(payload=b"%d" % n, tags=[pb.Tag(key="n", value=str(n % 7))]) for n in range(700)]
    rpc.call("AddBatch", pb.AddBatchRequest(queue_id=name, messages=messages), pb.AddBatchResponse)
    yield name
    rpc.delete_queue(name)


def test_the_file_has_what_the_commands_print(open_page: OpenPage, queue: str, rpc: Rpc, tmp_path: Path) -> None:
    page = open_page(f"#/queues/{queue}?selector=n%3D3")
    page.get_by_role("button", name="Export…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing is removed.")
    with page.expect_download() as saving:
        dialog.get_by_role("button", name="Export").click()
    expect(dialog).to_contain_text(re.compile("100 messages, .*Saved"))
    assert saving.value.suggested_filename == f"{queue}-ready.ndjson"
    saved = Path(saving.value.path()).read_bytes()
    assert [json.loads(line)["message"]["meta"]["tags"] for line in saved.splitlines()] == [
        [{"key": "n", "value": "3"}]
    ] * 100
    dialog.get_by_text("The same from a shell").click()
    command = dialog.locator(".command code").first.inner_text()
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
    assert (tmp_path / f"{queue}-ready.ndjson").read_bytes() == saved
    assert rpc.get_queue(queue).messages.ready == 700


def test_a_refused_export_says_why(open_page: OpenPage, queue: str) -> None:
    page = open_page(f"#/queues/{queue}?selector=(")
    page.get_by_role("button", name="Export…").click()
    page.get_by_role("dialog").get_by_role("button", name="Export").click()
    expect(page.get_by_role("dialog")).to_contain_text("selector")
    expect(page.get_by_role("dialog")).to_contain_text("nothing was saved")
