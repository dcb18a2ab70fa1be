"""The log of a server with errors: it never fails, never floods, and contains no payloads."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from support.rpc import Refused, Rpc, eventually, unique_name
from support.server_process import ServerProcess, server_command


def test_a_server_whose_log_is_not_read_goes_on_and_drains() -> None:
    reading, writing = os.pipe()
    command = [*server_command(), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--http", ""]
    with subprocess.Popen(command, stderr=writing) as server:
        os.close(writing)
        try:
            with os.fdopen(reading) as log:
                port = json.loads(log.readline())["port"]
            with closing(Rpc(f"127.0.0.1:{port}")) as rpc:
                name = rpc.new_queue(unique_name(), limit=1).name
                rpc.add(name)
                for _ in range(3):
                    with pytest.raises(Refused, match="RESOURCE_EXHAUSTED"):
                        rpc.add(name)
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            server.kill()


def test_scrapers_that_give_up_or_ask_for_the_head_leave_no_line() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        for _ in range(100):
            rpc.new_queue(tags=[(f"k{number}", "v" * 4_000) for number in range(10)])
        eventually(lambda: len(server.log("audit")) == 100, "all lines of the new queues are there")
        before = len(server.log())
        for request in (b"HEAD /metrics HTTP/1.1\r\nHost: q\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: q\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.metrics_port)) as scraper:
                scraper.sendall(request)
                assert scraper.recv(9) == b"HTTP/1.1 "
        rpc.get_queue(rpc.new_queue(unique_name()).name)
        assert server.stop() == 0
        lines = [line["msg"] for line in server.log()[before:]]
        assert lines == ["audit", "shutdown requested", "draining", "stopped"]


WATCHER = """
import grpc, sys, time
watch = grpc.insecure_channel(sys.argv[1]).unary_stream("/queuelet.v1.QueueService/WatchQueues")(b"")
next(watch)
print("watching", flush=True)
time.sleep(60)
"""


def test_a_watcher_that_is_killed_while_it_is_written_to_is_no_error() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        tags = [(f"k{number}", "v" * 4_000) for number in range(60)]
        for _ in range(60):
            rpc.new_queue(tags=tags)
        for _ in range(3):
            command = [sys.executable, "-c", WATCHER, server.address]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as watcher:
                assert watcher.stdout
                assert watcher.stdout.readline() == b"watching\n"
                rpc.new_queue(tags=tags)
                watcher.kill()
        calls = 'queuelet_rpc_calls_total{code="CANCELLED",method="WatchQueues"'
        eventually(lambda: f'{calls},service="queuelet.v1.QueueService"}} 3.0' in scrape(server), "all three are gone")
        assert server.stop() == 0
        assert not [line for line in server.log() if line["level"] == "error"]


def scrape(server: ServerProcess) -> str:
    """Return /metrics."""
    with socket.create_connection(("127.0.0.1", server.metrics_port)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: q\r\n\r\n")
        pieces = list(iter(lambda: connection.recv(65_536), b""))
    return b"".join(pieces).decode()
