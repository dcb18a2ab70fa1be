"""The benchmarks run. Tests check no speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.contenders import PEERS, contender
from bench.errors import NotHere
from support.documents import ROOT
from support.patience import patient
from tools.browser import why_not


def bench(*arguments: str, seconds: float = 110) -> str:
    """Run benchmarks; return their output."""
    command = [sys.executable, "-m", "bench", *arguments]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True, timeout=patient(seconds))
    return done.stdout


@pytest.mark.timeout(120)
def test_the_handlers_and_the_plain_implementation_are_measured() -> None:
    printed = bench("micro", "--only", "steps*", "handler-unary-128B", "--rounds", "1", "--seconds", "0.05")
    assert "handler-unary-128B  Add" in printed
    assert "Targets" in printed
    assert "plain" in printed


@pytest.mark.timeout(120)
def test_the_server_is_measured_over_its_socket() -> None:
    printed = bench(
        "server",
        "--only",
        "batch100-128B-1",
        "--against",
        "plain",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--drivers",
        "1",
    )
    assert "batch100-128B-1" in printed


@pytest.mark.skipif(why_not() is not None, reason="needs Chromium")
@pytest.mark.timeout(120)
def test_the_console_is_measured_in_a_browser() -> None:
    command = [sys.executable, "-m", "bench.console", "--queues=60", "--changes=20", "--seconds=0.2", "--rounds=1"]
    printed = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True, timeout=patient(110)).stdout
    assert "at rest" in printed
    assert "scrolling" in printed


@pytest.mark.timeout(120)
def test_add_is_measured_over_rest_and_over_grpc_on_one_server() -> None:
    printed = bench("rest", "--only", "rest-unary-128B-64", "--rounds", "1", "--quick")
    assert "CPU: REST Add / gRPC Add" in printed


def test_the_cases_are_listed() -> None:
    assert "unary-128B-64" in bench("--list")


@pytest.mark.parametrize(("peer", "system"), PEERS.items())
@pytest.mark.timeout(200)
def test_the_quorum_of_three_is_compared_with_other_systems_of_three_nodes(peer: str, system: str) -> None:
    try:
        assert contender(peer).binary
    except NotHere as missing:
        pytest.skip(str(missing))
    cases = ("--only", "postgres-cycle-batch100", "--against", system)
    printed = bench("postgres", *cases, "--rounds", "1", "--seconds", "0.02", seconds=190)
    assert f"put, handle, ack, relative to {system} of three" in printed


@pytest.mark.timeout(180)
def test_all_messages_of_the_full_cycle_are_handled_and_acknowledged_in_every_system_that_is_there(
    tmp_path: Path,
) -> None:
    figures = tmp_path / "figures.json"
    cases = ("--only", "memory-default", "disk-default", "alone-memory")
    command = [sys.executable, "-m", "bench", "cycle", *cases, "--rounds", "1", "--seconds", "0.02"]
    done = subprocess.run(
        [*command, "--json", str(figures)], check=True, cwd=ROOT, capture_output=True, text=True, timeout=patient(170)
    )
    assert "failed" not in done.stderr
    assert "time: put / grpc.aio Add" in done.stdout

    measured = json.loads(figures.read_text())["cycle"]
    assert [each["case"] for each in measured if each["name"] == "queuelet"] == ["memory-default", "disk-default"]
    for each in measured:
        assert each["put"] > 0
        assert (each["handled"], each["left"]) == (each["put"], 0)
