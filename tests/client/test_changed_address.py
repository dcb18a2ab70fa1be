"""The client follows a server name whose address changes, like that of a headless Service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import free_ports
from support.patience import patient
from support.server_process import ServerProcess

PROGRAM = """
import sys, time
from queuelet.client import blocking
from queuelet.errors import QueueletError

with blocking.Client(sys.argv[1]) as client:
    client.list_queues()
    print("reached", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    queues = client.list_queues()
    print(len(queues), time.monotonic() - began, flush=True)
"""


def can_mount() -> bool:
    """Return whether a process may have its own /etc/hosts."""
    if os.geteuid() or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs root on Linux: the client gets a /etc/hosts of its own")
def test_a_client_follows_a_name_to_its_new_address(tmp_path: Path) -> None:
    """It used to take 29 seconds, because by default gRPC resolves a name every 30 seconds at most."""
    hosts, (port,) = tmp_path / "hosts", free_ports(1)
    hosts.write_text("127.0.0.1 queues.example\n")
    command = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    program = ["unshare", "--mount", "sh", "-c", command, "sh", sys.executable, "-c", PROGRAM, f"queues.example:{port}"]
    with (
        ServerProcess("--listen", f"127.0.0.1:{port}") as old,
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            assert client.stdout.readline() == "reached\n"
            old.kill()
            with ServerProcess("--listen", f"127.0.0.2:{port}"):
                hosts.write_text("127.0.0.2 queues.example\n")
                client.stdin.write("\n")
                client.stdin.flush()
                count, seconds = client.stdout.readline().split()
        finally:
            client.kill()
    assert count == "0"
    assert float(seconds) < patient(10)
