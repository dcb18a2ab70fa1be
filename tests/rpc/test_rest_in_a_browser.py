"""A page of another site in a real browser cannot use the gateway of its reader's machine.

It needs Chromium and is skipped without it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.other_site import page_of_another_site
from support.patience import patient
from support.rest import Rest
from support.server_process import ServerProcess

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.timeout(180),
]

PAGE = """<!doctype html><title>waiting</title><body><script>
const queue = location.search.slice(1) + "/v1/queues/orders";
const outcome = promise => promise.then(answer => answer.type + " " + answer.status, error => "failed");
const picture = url => new Promise(done => {
  const image = new Image();
  image.onload = image.onerror = () => done("tried");
  image.src = url;
});
const frame = url => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.onload = () => done("tried");
  frame.src = url;
  document.body.append(frame);
});
const form = () => new Promise(done => {
  const form = document.createElement("form");
  form.action = queue;
  form.method = "post";
  form.enctype = "text/plain";
  form.target = "answer";
  const answer = document.createElement("iframe");
  answer.name = "answer";
  document.body.append(answer, form);
  answer.onload = () => done("tried");
  form.submit();
});
(async () => {
  const results = [
    await picture(queue + "/pop"),
    await frame(queue + "/pop"),
    await form(),
    await outcome(fetch(queue + "/pop", {mode: "no-cors"})),
    await outcome(fetch(queue, {mode: "no-cors", method: "POST", body: "{}"})),
    await outcome(fetch(queue)),
    await outcome(fetch(queue, {method: "DELETE"})),
    await outcome(fetch(queue + "/messages:pop", {method: "POST", body: "{}"})),
  ];
  document.body.textContent = "results: " + results.join(", ");
})();
</script>"""


def visit(url: str, profile: Path) -> str:
    """Open a page in Chromium; return its content once its scripts have ended."""
    assert CHROMIUM
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    )
    more = (f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom", url)
    done = subprocess.run([CHROMIUM, *flags, *more], check=True, capture_output=True, text=True, timeout=patient(120))
    return done.stdout


def served(server: ServerProcess) -> Rest:
    """Return a client, after making the queue with one message."""
    rest = Rest(server.rest_url)
    rest.new_queue(name="orders")
    rest.post("/v1/queues/orders", {"payload": "dGVh"})
    return rest


def test_a_page_of_another_site_reads_and_changes_nothing(tmp_path: Path) -> None:
    with ServerProcess() as server, page_of_another_site(PAGE) as origin:
        rest = served(server)
        content = visit(f"{origin}/?{server.rest_url}", tmp_path / "profile")
        assert "results: tried, tried, tried, failed, failed, failed, failed, failed" in content
        stats = rest.get("/v1/queues/orders/stats")["queue"]
        assert stats["queue"]["messages"] == {"ready": "1"}
        assert (stats["enqueued"], stats.get("consumed", "0")) == ("1", "0")
        assert server.stop() == 0


def test_a_page_whose_origin_is_allowed_can_use_it(tmp_path: Path) -> None:
    """This also shows that the requests of the other test reach the gateway. A picture has no origin and is refused."""
    with page_of_another_site(PAGE) as origin, ServerProcess("--cors", origin) as server:
        rest = served(server)
        content = visit(f"{origin}/?{server.rest_url}", tmp_path / "profile")
        assert "cors 200" in content
        stats = rest.ask("GET", "/v1/queues/orders")
        assert stats.status == 400, "the page has deleted the queue"
        assert server.stop() == 0
