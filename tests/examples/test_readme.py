"""Every command of the README and of CONTRIBUTING does what it says."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import ROOT, commands

MAKE_RUN = "make run     # starts a server here and passes a message through it"
BY_MAKE = {MAKE_RUN, "make test    # runs every behaviour on real parts"}
IN_CI = {"make sync", "make check", "make test ARGS='tests/unit -q'"}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.timeout(120)
def test_the_tour_of_the_readme_runs_from_its_first_command_to_its_last(tmp_path: Path) -> None:
    """All commands run in one shell that stops at the first failure, on ports of their own."""
    grpc, http = free_ports(2)
    tour = [command for command in commands("README.md") if command not in BY_MAKE | IN_CI]
    script = "\n".join(tour).replace("10002", str(grpc)).replace("10003", str(http)).replace("$PWD/.venv/bin:", "")
    tools = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "QUEUELET_SERVER_ADDRESS": f"localhost:{grpc}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in (
        "refused with exit code 1",
        "nothing left",
        "a lemonade",
        "hello from Python",
        "queue_messages_enqueued_total",
        '"messages_lost": 0',
    ):
        assert expected in done.stdout
    assert "at most 3 messages" in done.stderr


def test_make_run_passes_a_message_and_stays_until_interrupted() -> None:
    assert MAKE_RUN in commands("README.md")
    running = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "run_local.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert running.stdout
        told = []
        for line in running.stdout:
            told.append(line)
            if "^C stops the server" in line:
                break
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(timeout=30)
    finally:
        running.kill()
    assert any("Took it: one espresso." in line for line in told), told
    assert "drained and stopped" in rest
    assert running.returncode == 0


def test_make_prints_its_targets() -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    told = subprocess.run(["make"], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    for target in ("run", "test", "soak", "check", "generate", "bench"):
        assert f"make {target}" in told


def test_contributing_names_only_commands_that_ci_or_this_suite_runs() -> None:
    assert set(commands("CONTRIBUTING.md")) <= IN_CI
    targets = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ": " in line and "## " in line
    }
    assert {"sync", "check", "test"} <= targets
