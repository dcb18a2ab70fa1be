"""How `make run` shows its programs' logs and exits, and that it stops on a signal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from examples import run_local
from examples.run_local import RunError, process, sentence_of
from queuelet.client import Client
from support.documents import ROOT
from support.pages import fetch
from support.patience import patient
from tools.control_plane import binaries


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"level": "info", "msg": "serving"}, ""),
        ({"level": "warning", "msg": "a file is empty"}, "warning: a file is empty"),
        ({"level": "warning", "msg": "server unreachable", "why": "refused"}, "warning: server unreachable: refused"),
        (
            {"level": "warning", "msg": "waiting for the API server", "error": "no"},
            "warning: waiting for the API server: no",
        ),
        ({"level": "warning", "msg": "dropped queue shop.orders", "reason": "X"}, "warning: dropped queue shop.orders"),
        ({"level": "error", "msg": "pop failed", "error": "no queue", "reason": "QUEUE_NOT_FOUND"}, ""),
        ({"level": "error", "msg": "pop failed", "exception": "Traceback"}, "error: pop failed: Traceback"),
    ],
)
def test_it_shows_what_went_wrong_and_why(entry: dict[str, str], sentence: str) -> None:
    assert sentence_of(entry) == sentence


READY = 'import os, sys, time; print(\'{"msg": "ready", "level": "info"}\', file=sys.stderr, flush=True); '


@pytest.mark.parametrize(
    ("end", "ending"), [("sys.exit(3)", "with exit code 3"), ("os.kill(os.getpid(), 9)", "by SIGKILL")]
)
async def test_it_starts_a_program_again_that_has_ended(
    end: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_local, "RESTART_AFTER", 0.01)
    (tmp_path / "a_program.py").write_text(READY + end)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shown = ""
    async with process("The program", "a_program", ready="ready"):
        async with asyncio.timeout(patient(10)):
            while shown.count("The program is ready again.") < 2:
                shown += capsys.readouterr().err
                await asyncio.sleep(0.02)
    assert f"The program has ended {ending}. It is started again in 0.01 s." in shown


async def test_it_gives_up_if_a_program_ends_before_it_was_ever_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_program.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RunError, match="The program ended before it was ready"):
        async with process("The program", "a_program", ready="ready"):
            raise AssertionError


async def test_it_says_nothing_of_a_program_that_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_program.py").write_text(READY + "time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with process("The program", "a_program", ready="ready"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.timeout(120)
async def test_it_stops_in_the_midst_of_its_start() -> None:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.run_local"),
        cwd=ROOT,
        stdout=PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert running.stdout
    ending = ""
    while "knows the kind Queue" not in ending:
        ending = (await running.stdout.readline()).decode()
        assert ending
    running.send_signal(signal.SIGINT)
    rest = (await running.stdout.read()).decode()
    assert await running.wait() == 0
    assert "nothing is left of it" in rest
    assert "The operator leads" not in rest


@pytest.mark.timeout(240)
async def test_the_demo_goes_on_after_its_operator_lost_the_lease_and_its_server_ended(tmp_path: Path) -> None:
    """Another operator takes the Lease, as happens if a slow machine keeps the operator from renewing it."""
    errors = tmp_path / "errors"
    with errors.open("wb") as opened:
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.run_local"),
            cwd=ROOT,
            stdout=PIPE,
            stderr=opened,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        assert running.stdout
        shown = ""
        while "^C stops everything" not in shown:
            line = (await running.stdout.readline()).decode()
            assert line, errors.read_text()
            shown += line
        found = re.search(r"export KUBECONFIG=(\S+) QUEUELET_SERVER_ADDRESS=(\S+)", shown)
        assert found
        kubeconfig, address = found.groups()
        metrics = shown.partition("metrics on ")[2].partition(".\n")[0]
        (console,) = re.findall(r"^See the queues in a browser: (\S+)$", shown, re.MULTILINE)
        page = await asyncio.to_thread(fetch, f"{console}/")
        assert (page.status, "<title>" in page.text) == (200, True)
        assert "shop.orders" in (await asyncio.to_thread(fetch, f"{console}/v1/queues")).text

        async def seen(text: str) -> None:
            while text not in errors.read_text():  # noqa: ASYNC110  # polls a small file, which sets no event
                await asyncio.sleep(0.05)

        async def kubectl(*arguments: str) -> None:
            command = (str(binaries.get("kubectl")), "--kubeconfig", kubeconfig, *arguments)
            assert await (await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)).wait() == 0

        def hold(holder: str) -> tuple[str, ...]:
            patch = json.dumps({"spec": {"holderIdentity": holder}})
            return ("--namespace=default", "patch", "lease", "queuelet-operator", "--type=merge", f"--patch={patch}")

        async with asyncio.timeout(patient(90)):
            await kubectl(*hold("another"))
            await seen("The operator has ended with exit code 1.")
            await kubectl(*hold(""))
            await seen("The operator is ready again.")
            assert (await asyncio.to_thread(fetch, f"{metrics}/quitquitquit")).status == 200
            await seen("The queue server has ended with exit code 0.")
            await seen("The queue server is ready again.")
            # A successful call shows that both programs work again.
            ask = ("--namespace=shop", "annotate", "queue/notifications", "queuelet.dev/reconcile-requested-at=now")
            await kubectl(*ask)
            handled = "--for=jsonpath={.status.lastHandledReconcileAt}=now"
            await kubectl("--namespace=shop", "wait", "queue/notifications", handled, "--timeout=60s")
            async with Client(address) as client:
                added = await client.add("shop.notifications", b"after all that")
                assert (await client.pop("shop.notifications")).id == added.id
            # The restarted server has the same address of the console.
            assert (await asyncio.to_thread(fetch, f"{console}/")).status == 200
    finally:
        running.send_signal(signal.SIGINT)
        assert await running.wait() == 0
    assert "Traceback" not in errors.read_text()
