"""How much of a browser the console needs: `python -m bench.console`.

A server with many queues, of which some change each second, and a headless Chromium that shows the table of all queues:
at rest, and while it is scrolled. It prints the frames that the page gets in a second, and the milliseconds of a second
that its main thread works, as Chromium counts them: with the time that it waits for a core. On Linux, `CPU` is without.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import grpc
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from bench.processes import HOST, Child
from queuelet.v1 import queue_pb2 as pb
from tools.browser import FLAGS, program, why_not

SERVICE = "/queuelet.v1.QueueService"
STEP_SECONDS = 0.05
PIXELS = 24
"""How far a frame scrolls: 1,440 pixels a second at 60 frames."""

FRAMES = """([seconds, pixels]) => new Promise((done) => {
  let frames = 0;
  const end = performance.now() + seconds * 1000;
  const next = (now) => {
    frames += 1;
    if (pixels) scrollBy(0, pixels);
    if (now < end) requestAnimationFrame(next);
    else done(frames / seconds);
  };
  requestAnimationFrame(next);
})"""

PARTS = {
    "main thread": "TaskDuration",
    "scripts": "ScriptDuration",
    "layout": "LayoutDuration",
    "styles": "RecalcStyleDuration",
}


class Load(NamedTuple):
    """What the server has to show."""

    queues: int
    changes: int
    """Queues that change in a second."""


def main() -> int:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=1_000, help="queues that change in a second")
    parser.add_argument("--seconds", type=float, default=10, help="the length of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sort", default="", help="the column to sort by, such as -ready")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    load = Load(arguments.queues, arguments.changes)
    with TemporaryDirectory() as folder, _server(Path(folder), load) as url:
        found = list(_rounds(f"{url}/#/queues?sort={arguments.sort}", arguments.rounds, arguments.seconds))
    shown = [part for part in ("CPU", *PARTS) if part in found[0][1]]
    print(
        f"{load.queues:,} queues, {load.changes:,} changes a second; medians of {arguments.rounds} rounds, ms a second"
    )
    for name in ("at rest", "scrolling"):
        figures = [figure for each, figure in found if each == name]
        parts = ", ".join(f"{part} {median(each[part] for each in figures):.0f}" for part in shown)
        print(f"{name:9}  {median(each['frames'] for each in figures):.1f} frames a second, {parts}")
    return 0


@contextmanager
def _server(folder: Path, load: Load) -> Iterator[str]:
    """Run a server whose queues change, and yield its URL."""
    flags = ["--listen", f"{HOST}:0", "--metrics", f"{HOST}:0", "--http", f"{HOST}:0"]
    with closing(Child("queuelet", [sys.executable, "-m", "queuelet", "server", *flags], folder)) as server:
        server.start()
        serving = json.loads(server.logged('"serving"'))
        address = f"{HOST}:{serving['port']}"
        with grpc.insecure_channel(address) as channel:
            declarations = [
                pb.QueueDeclaration(
                    name=_name(i), store=pb.Queue.MEMORY, limit=-1, tags=[pb.Tag(key="team", value=f"t{i % 50}")]
                )
                for i in range(load.queues)
            ]
            request = pb.DeclareQueuesRequest(queues=declarations).SerializeToString()
            channel.unary_unary(f"{SERVICE}/DeclareQueues")(request)
        traffic = multiprocessing.get_context("spawn").Process(target=_change, args=(address, load), daemon=True)
        traffic.start()
        try:
            yield f"http://{HOST}:{serving['http_port']}"
        finally:
            traffic.terminate()
            traffic.join()


def _name(i: int) -> str:
    return f"team-{i % 50}.queue-{i:05}"


def _change(address: str, load: Load) -> None:
    """Add messages to random queues, until the process is terminated."""
    with grpc.insecure_channel(address) as channel:
        add = channel.unary_unary(f"{SERVICE}/Add")
        due = time.monotonic()
        while True:
            calls = [
                add.future(
                    pb.AddRequest(
                        queue_id=_name(random.randrange(load.queues)), message=pb.NewMessage(payload=b"x")
                    ).SerializeToString()
                )
                for _ in range(round(load.changes * STEP_SECONDS))
            ]
            for each in calls:
                each.result()
            due += STEP_SECONDS
            time.sleep(max(0, due - time.monotonic()))


def _rounds(url: str, rounds: int, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(url)
        page.locator("table.queues tbody a.name").first.wait_for()
        cdp = page.context.new_cdp_session(page)
        cdp.send("Performance.enable")
        stats = _stats_of_renderers(browser)
        _figure(page, cdp, stats, seconds, 0)  # the first seconds read the trends
        for _ in range(rounds):
            yield "at rest", _figure(page, cdp, stats, seconds, 0)
            yield "scrolling", _figure(page, cdp, stats, seconds, PIXELS)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(2_000)
        browser.close()


def _figure(page: Page, cdp: CDPSession, stats: list[Path], seconds: float, pixels: int) -> dict[str, float]:
    before, began = _metrics(cdp, stats), time.monotonic()
    frames = page.evaluate(FRAMES, [seconds, pixels])
    after, took = _metrics(cdp, stats), time.monotonic() - began
    return {"frames": frames, **{part: (after[part] - before[part]) * 1000 / took for part in before}}


def _metrics(cdp: CDPSession, stats: list[Path]) -> dict[str, float]:
    """Return the seconds that the main thread has worked, in all and by part."""
    found = {each["name"]: each["value"] for each in cdp.send("Performance.getMetrics")["metrics"]}
    metrics = {part: found[name] for part, name in PARTS.items()}
    if all(stat.exists() for stat in stats):
        fields = [stat.read_text().rpartition(")")[2].split() for stat in stats]
        metrics["CPU"] = sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")
    return metrics


def _stats_of_renderers(browser: Browser) -> list[Path]:
    """Return where Linux has the figures of the main threads of all renderers. All but that of the page are idle."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [each["id"] for each in processes if each["type"] == "renderer"]
    return [Path(f"/proc/{pid}/task/{pid}/stat") for pid in renderers]


if __name__ == "__main__":
    sys.exit(main())
