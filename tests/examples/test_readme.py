"""Every command of the README and of CONTRIBUTING does what it says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.documents import ROOT, TOOLS, commands, free_ports, run_in_one_shell
from support.patience import patient

MAKE_RUN = "make run           # a Kubernetes API server, the server and the operator here, with example queues in use"
IN_CI = {"make sync", "make check", "make test-quick", "make test ARGS='tests/unit -q'"}


def test_every_block_of_the_readme_can_be_pasted_whole() -> None:
    """Blocks have no prompts, and bash can parse each one."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)
    for kind, block in blocks:
        assert kind == "sh", block
        assert not re.search(r"^(\$|>)( |$)", block, re.MULTILINE), block
        read = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=True)
        assert not read.stderr, "nothing is left open"


@pytest.mark.timeout(120)
def test_the_tour_as_one_process_runs_from_its_first_command_to_its_last(tmp_path: Path) -> None:
    """All commands run in one shell that stops at the first failure, on free ports."""
    grpc, http, rest = free_ports(3)
    tour = [command for command in commands("README.md", "As one process") if command not in IN_CI]
    script = (
        "\n".join(tour).replace("10002", str(grpc)).replace("10003", str(http)).replace("$PWD/.venv/bin", str(TOOLS))
    ).replace("8080", str(rest))
    environment = {"QUEUELET_SERVER_ADDRESS": f"localhost:{grpc}", "QUEUELET_SERVER_HTTP": f"127.0.0.1:{rest}"}
    done = run_in_one_shell(script, tmp_path, environment)
    for expected in (
        "<title>Queuelet</title>",
        "refused with exit code 1",
        "nothing left",
        "a lemonade",
        "serving a cake",
        "some failed",
        "a unicorn",
        "hello from Python",
        "paid: one espresso",
        "queue_messages_enqueued_total",
        '"messages_lost": 0',
    ):
        assert expected in done.stdout
    assert "at most 3 messages" in done.stderr


def test_the_tour_begins_with_the_console_in_a_browser() -> None:
    """The command runs as it is, on free ports, until ^C."""
    sync, command = commands("README.md", "In a browser")
    assert sync in IN_CI
    grpc, http, rest = free_ports(3)
    ports = {"LISTEN": f"127.0.0.1:{grpc}", "METRICS": f"127.0.0.1:{http}", "HTTP": f"127.0.0.1:{rest}"}
    running = subprocess.Popen(
        command.replace(".venv/bin", str(TOOLS)).split(),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **{f"QUEUELET_SERVER_{name}": value for name, value in ports.items()}},
    )
    try:
        assert running.stderr
        assert any('"serving"' in line for line in running.stderr)
        with urlopen(f"http://127.0.0.1:{rest}", timeout=patient(10)) as page:  # an address of ours
            assert "<title>Queuelet</title>" in page.read().decode()
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=patient(30))
    finally:
        running.kill()
    assert running.returncode == 0


@pytest.mark.timeout(180)
def test_make_run_and_the_tour_work_until_it_is_interrupted() -> None:
    """The commands run as a user would run them, with the environment that `make run` prints."""
    assert MAKE_RUN in commands("README.md")
    running = subprocess.Popen(
        [sys.executable, "-m", "examples.run_local"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert running.stdout
        printed = []
        for line in running.stdout:
            printed.append(line)
            if "^C stops everything" in line:
                break
        text = "".join(printed)
        assert "took it: hello, shop.orders." in text
        exports = re.findall(r"^ *(export .*)$", text, re.MULTILINE)
        kubectl = re.search(r"alias kubectl=(\S+)", text)
        assert len(exports) == 2
        assert kubectl
        done = run_in_one_shell(
            # Bash expands aliases only in interactive shells.
            "\n".join([*exports, f'kubectl() {{ {kubectl[1]} "$@"; }}', *commands("README.md", "As manifests")]),
            ROOT,
            {},
        )
        assert "condition met" in done.stdout
        assert "shop.orders" in done.stdout
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(timeout=patient(60))
    finally:
        running.kill()
    assert "nothing is left of it" in rest
    assert running.returncode == 0


def test_make_prints_its_targets() -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    printed = subprocess.run(["make"], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    for target in ("run", "test", "soak", "check", "generate", "bench"):
        assert f"make {target}" in printed


def test_contributing_names_only_commands_that_ci_or_this_suite_runs() -> None:
    assert set(commands("CONTRIBUTING.md")) <= IN_CI
    targets = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ": " in line and "## " in line
    }
    assert {"sync", "check", "test"} <= targets
