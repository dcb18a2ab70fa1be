"""docs/curator.md: its snippets run, and each behaviour that it lists has a test named with its number."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from queuelet.client import Client
from support.documents import ROOT
from support.server_process import ServerProcess

DOCUMENT = (ROOT / "docs/curator.md").read_text()
QUEUES = ("orders", "mail", "jobs", "simple")
ELSEWHERE = {"c40"}
"""Held by tests/curator and tests/unit."""


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server of its own, because the snippets name their queues."""
    with ServerProcess() as process:
        yield process


def compiled(snippet: str) -> CodeType:
    """Compile a snippet that may await, as it would in a coroutine."""
    code: CodeType = compile(snippet, "docs/curator.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def test_every_snippet_runs_in_its_order(own_server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    async with Client(own_server.address) as client:
        for name in QUEUES:
            await client.new_queue(name=name)
        await run_snippets(client, own_server)
    assert capsys.readouterr().out == "nothing came\n"


async def run_snippets(client: Client, server: ServerProcess) -> None:
    """Run one after the other, each with the names defined before."""
    names: dict[str, Any] = {"client": client}
    for snippet in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        code = compiled(snippet.replace("localhost:10002", server.address))
        if "import blocking" in snippet:
            await asyncio.to_thread(exec, code, dict(names))
        elif code.co_flags & inspect.CO_COROUTINE:
            await FunctionType(code, names)()
        else:
            exec(code, names)  # noqa: S102  # it is ours


def test_each_behaviour_has_a_test_and_each_test_a_line() -> None:
    listed = {number.lower() for number in re.findall(r"^\| (CX?\d+) \|", DOCUMENT, re.MULTILINE)}
    assert listed == {f"c{number:02}" for number in range(1, 42)} | {f"cx{number}" for number in range(1, 10)}
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert set(re.findall(r"def test_(cx?\d+)_", tests)) == listed - ELSEWHERE
