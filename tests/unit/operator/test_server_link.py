"""Calls of the operator to the server in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from queuelet.definition import QueueDefinition
from queuelet.tags import Tag
from queuelet.values import QueueDeclaration
from queuelet_operator import server_link
from queuelet_operator.server_link import Batcher, declaration_bytes


def declaration(name: str, tag: str = "") -> QueueDeclaration:
    """Return a declaration of a queue with one tag."""
    return QueueDeclaration(definition=QueueDefinition(name=name, tags=(Tag("note", tag),)))


async def batches(declarations: Sequence[QueueDeclaration]) -> tuple[list[list[str]], list[object]]:
    """Return the names in each call, and the result of each declaration, or its error."""
    calls: list[list[str]] = []

    async def declare(batch: Sequence[QueueDeclaration]) -> list[str]:
        calls.append([each.definition.name for each in batch])
        return calls[-1]

    batcher = Batcher(declare, declaration_bytes)
    running = asyncio.create_task(batcher.run())
    results = await asyncio.gather(*map(batcher.call, declarations), return_exceptions=True)
    running.cancel()
    return calls, list(results)


async def test_declarations_go_in_one_call_and_get_their_own_results() -> None:
    calls, results = await batches([declaration("a"), declaration("b")])
    assert calls == [["a", "b"]]
    assert results == ["a", "b"]


async def test_a_declaration_that_cannot_be_encoded_fails_alone() -> None:
    calls, results = await batches([declaration("a"), declaration("b", "men\udcfc"), declaration("c")])
    assert calls == [["a", "c"]]
    assert [str(results[0]), type(results[1]), str(results[2])] == ["a", UnicodeEncodeError, "c"]


async def test_a_batch_is_bounded_in_bytes_and_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_link, "MAX_BATCH", 2)
    calls, _ = await batches([declaration(name) for name in "abcde"])
    assert calls == [["a", "b"], ["c", "d"], ["e"]]
    monkeypatch.setattr(server_link, "MAX_BATCH_BYTES", 1_000)
    calls, _ = await batches([declaration(name, "x" * 600) for name in "abc"])
    assert calls == [["a"], ["b"], ["c"]]
