"""The programs of examples/client work as described, each as a process against a real server."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from queuelet.client import Client, Counts
from support.documents import ROOT, free_ports
from support.durable_server import DurableServer, durable
from support.patience import patient
from support.server_process import ServerProcess
from tools.zookeeper import Curator, jars, why_not

__all__ = ["durable"]

EXAMPLES = ROOT / "examples/client"

PATIENCE = patient(60)
"""Timeout of a program, in seconds. It only keeps a defect from hanging a run."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """The shared server of these tests. Each example has a queue of its own."""
    with ServerProcess() as process:
        yield process
        assert process.stop() == 0


def command(server: ServerProcess, name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-u", str(EXAMPLES / name), "--server", server.address, *arguments]


def run(server: ServerProcess, name: str, *arguments: str) -> list[str]:
    """Run an example; return the lines of its output."""
    done = subprocess.run(
        command(server, name, *arguments), check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def counts(server: ServerProcess, queue: str) -> Counts:
    """Return how many messages in a state a queue has."""

    async def ask() -> Counts:
        async with Client(server.address) as client:
            return (await client.get_queue(queue)).messages

    return asyncio.run(ask())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_explains_itself(path: Path) -> None:
    text = path.read_text()
    assert text.startswith('"""')
    assert 30 <= len(text.splitlines()) <= 85


def test_a_worker_pool_ends_when_all_jobs_are_done_or_dead(server: ServerProcess) -> None:
    printed = run(server, "worker_pool.py")
    assert printed[-1] == "18 done, 2 failed"
    assert sorted(printed[:-1]) == sorted(f"did job {number}" for number in range(20) if number % 10 != 9)
    assert counts(server, "jobs").dead == 2


def test_a_worker_pool_that_gets_sigterm_finishes_its_work_and_gives_back_the_rest(server: ServerProcess) -> None:
    with subprocess.Popen(
        command(server, "worker_pool.py", "--queue", "many-jobs", "--count", "1000", "--forever"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as pool:
        assert pool.stdout is not None
        first = pool.stdout.readline()
        pool.send_signal(signal.SIGTERM)
        printed = [first.strip(), *pool.stdout.read().splitlines()]
    assert pool.returncode == 0
    end = re.fullmatch(r"(\d+) done, (\d+) failed", printed[-1])
    assert end
    done, failed = int(end[1]), int(end[2])
    assert done == len(printed) - 1 < 1_000
    left = counts(server, "many-jobs")
    assert (left.ready, left.leased, left.dead) == (1_000 - done - failed, 0, failed)


def test_a_periodic_producer_that_runs_twice_puts_each_message_once(server: ServerProcess) -> None:
    line = command(server, "periodic_producer.py")
    both = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=PATIENCE)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    put = [line for lines in printed for line in lines if line.startswith("put ")]
    assert [len(lines) for lines in printed] == [5, 5]
    assert len(put) == len(set(put)) == counts(server, "ticks").ready


def test_a_periodic_producer_goes_on_when_a_server_that_was_away_is_back(durable: DurableServer) -> None:
    """It continues with the first message that it can put again."""
    (port,) = free_ports(1)
    flags = ("--listen", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", *durable.flags)
    server = ServerProcess(*flags, free_ports=False).start()
    make_durable_queue(server, "ticks", durable.store_name)
    with subprocess.Popen(
        command(server, "periodic_producer.py", "--count", "1000000"), stdout=subprocess.PIPE, text=True
    ) as producer:
        try:
            assert producer.stdout
            assert next(producer.stdout).startswith("put tick ")
            server.kill()
            assert any(line.startswith("skipped tick ") for line in producer.stdout)
            with ServerProcess(*flags, free_ports=False):
                assert any(line.startswith("put tick ") for line in producer.stdout)
        finally:
            producer.kill()


def make_durable_queue(server: ServerProcess, name: str, store: str) -> None:
    """Create a queue that survives its server."""

    async def make() -> None:
        async with Client(server.address) as client:
            await client.new_queue(name=name, store=store)

    asyncio.run(make())


def test_an_ordered_pipeline_writes_all_in_order_each_run_under_a_larger_token(
    server: ServerProcess, tmp_path: Path
) -> None:
    database = str(tmp_path / "ledger.sqlite")
    assert run(server, "ordered_pipeline.py", "--database", database) == [
        "the bookings come to 45, written under 1 token"
    ]
    assert run(server, "ordered_pipeline.py", "--database", database) == [
        "the bookings come to 90, written under 2 tokens"
    ]
    with closing(sqlite3.connect(database)) as ledger:
        rows = ledger.execute("SELECT amount, token FROM bookings ORDER BY place").fetchall()
        fence = ledger.execute("SELECT token FROM fence").fetchone()[0]
    assert [amount for amount, _ in rows] == [*range(10), *range(10)]
    tokens = [token for _, token in rows]
    assert tokens == sorted(tokens)
    assert fence == tokens[-1]


def test_an_ordered_pipeline_that_was_overtaken_writes_nothing(server: ServerProcess, tmp_path: Path) -> None:
    arguments = ("--queue", "overtaken", "--database", str(tmp_path / "ledger.sqlite"))
    run(server, "ordered_pipeline.py", *arguments)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE fence SET token = ?", (2**63 - 1,))
    late = subprocess.run(
        command(server, "ordered_pipeline.py", *arguments),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert late.returncode == 1
    assert late.stderr.rstrip().endswith("OvertakenError: another process holds the queue now")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT count(*) FROM bookings").fetchone() == (10,)
    assert counts(server, "overtaken").ready == 10


def test_two_ordered_pipelines_at_once_take_turns(server: ServerProcess, tmp_path: Path) -> None:
    """Every booking is written once, in the order of the queue, and tokens only increase."""
    line = command(server, "ordered_pipeline.py", "--queue", "both", "--database", str(tmp_path / "both.sqlite"))
    both = [subprocess.Popen(line) for _ in range(2)]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    with closing(sqlite3.connect(tmp_path / "both.sqlite")) as ledger:
        rows = ledger.execute("SELECT amount, token FROM bookings ORDER BY place").fetchall()
    assert sorted(amount for amount, _ in rows) == sorted([*range(10)] * 2)
    tokens = [token for _, token in rows]
    assert tokens == sorted(tokens)


def test_a_web_app_responds_once_an_order_is_durable(server: ServerProcess) -> None:
    printed = run(server, "web_app.py")
    assert [line.split()[0] for line in printed] == ["202"] * 3
    assert counts(server, "web-orders").ready == 3


def test_a_web_app_serves_until_sigterm(server: ServerProcess) -> None:
    (port,) = free_ports(1)
    with subprocess.Popen(
        command(server, "web_app.py", "--queue", "served", "--port", str(port)), stdout=subprocess.PIPE, text=True
    ) as app:
        assert app.stdout is not None
        assert "Running on" in app.stdout.readline()
        with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as web:
            web.request("POST", "/orders", b'{"number": 7}', {"Content-Type": "application/json"})
            response = web.getresponse()
            assert response.status == 202
            assert json.loads(response.read())["id"]
        app.send_signal(signal.SIGTERM)
    assert app.returncode == 0
    assert counts(server, "served").ready == 1


def test_redis_lists_are_replaced_and_moved(server: ServerProcess, tmp_path: Path) -> None:
    pytest.importorskip("redis", reason="redis-py is not installed: it is in the dependency group bench")
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    (port,) = free_ports(1)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, text=True) as lists:
        try:
            assert lists.stdout is not None
            assert any("Ready to accept connections" in line for line in lists.stdout)
            printed = run(server, "from_redis_lists.py", "--redis", f"redis://127.0.0.1:{port}")
        finally:
            lists.kill()
    assert printed == ["the same items in the same order: True", "moved: 10 - now here: 10"]


def test_the_redis_example_says_what_it_needs(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ImportError\n")
    done = subprocess.run(
        command(server, "from_redis_lists.py"),
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (1, "this example needs redis: pip install redis\n")


def test_negz_q_and_the_client_library_use_the_same_queue(server: ServerProcess) -> None:
    printed = run(server, "from_negz_q.py")
    assert printed[:-1] == [
        "b'message 0'",
        "b'message 1' Tag(key='by', value='negz/q')",
        "b'message 2' Tag(key='by', value='negz/q')",
        "b'one more' Tag(key='by', value='queuelet')",
    ]
    assert "has no message that is ready" in printed[-1]


def test_the_curator_example_runs_without_zookeeper(server: ServerProcess) -> None:
    assert run(server, "from_curator.py", "--queue", "nothing-yet") == ["connection: CONNECTED", "0 done"]


@pytest.mark.xdist_group("curator")
@pytest.mark.timeout(180)
def test_items_of_curator_are_brought_over_and_consumed(server: ServerProcess, tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    jars()
    with Curator(tmp_path) as curator:
        curator.put("queue", "/queues/orders", [(b"order %d" % number, "") for number in range(5)])
        printed = run(server, "from_curator.py", "--zookeeper", curator.address)
        again = run(server, "from_curator.py", "--zookeeper", curator.address)
    assert [line for line in printed if line.startswith("got")] == [f"got order {number}" for number in range(5)]
    assert printed[-1] == "5 done"
    assert again[-1] == "0 done"
