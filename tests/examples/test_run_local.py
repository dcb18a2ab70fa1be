"""What `make run` shows of its programs' logs and of their ends, and that it stops when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from examples.run_local import process, sentence_of
from support.documents import ROOT
from support.patience import patient


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"level": "info", "msg": "serving"}, ""),
        ({"level": "warning", "msg": "a file is empty"}, "warning: a file is empty"),
        ({"level": "warning", "msg": "the server is away", "why": "refused"}, "warning: the server is away: refused"),
        ({"level": "warning", "msg": "cannot start yet", "error": "no"}, "warning: cannot start yet: no"),
        ({"level": "warning", "msg": "dropped queue shop.orders", "reason": "X"}, "warning: dropped queue shop.orders"),
        ({"level": "error", "msg": "pop failed", "error": "no queue", "reason": "QUEUE_NOT_FOUND"}, ""),
        ({"level": "error", "msg": "pop failed", "exception": "Traceback"}, "error: pop failed: Traceback"),
    ],
)
def test_it_shows_what_went_wrong_and_why(entry: dict[str, str], sentence: str) -> None:
    assert sentence_of(entry) == sentence


READY = 'import os, sys, time; print(\'{"msg": "ready", "level": "info"}\', file=sys.stderr, flush=True); '


@pytest.mark.parametrize(
    ("end", "told"), [("sys.exit(3)", "with exit code 3"), ("os.kill(os.getpid(), 9)", "by SIGKILL")]
)
async def test_it_says_that_a_program_has_ended(
    end: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_program.py").write_text(READY + end)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with process("The program", "a_program", ready="ready"):
        async with asyncio.timeout(patient(10)):
            while "has ended" not in (shown := capsys.readouterr().err):  # noqa: ASYNC110  # nothing to wait on
                await asyncio.sleep(0.02)
    assert f"The program has ended {told}." in shown


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
    told = ""
    while "knows the kind Queue" not in told:
        told = (await running.stdout.readline()).decode()
        assert told
    running.send_signal(signal.SIGINT)
    rest = (await running.stdout.read()).decode()
    assert await running.wait() == 0
    assert "nothing is left of it" in rest
    assert "The operator leads" not in rest
