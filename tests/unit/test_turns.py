"""All long work shares one line."""

from __future__ import annotations

import asyncio

import pytest

from queuelet.service import turns
from queuelet.service.turns import Turns


async def test_in_one_pass_of_the_loop_only_one_piece_of_work_has_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", -1.0)
    slices = 0
    most = 0
    done = False

    async def work() -> None:
        nonlocal slices
        mine = Turns()
        for _ in range(5):
            await mine.give()
            slices += 1

    async def short_calls() -> None:
        nonlocal most
        while not done:
            before = slices
            await asyncio.sleep(0)
            most = max(most, slices - before)

    watcher = asyncio.ensure_future(short_calls())
    await asyncio.gather(*(work() for _ in range(20)))
    done = True
    await watcher
    assert slices == 100
    assert most == 1


async def test_work_that_was_cancelled_does_not_hold_up_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", -1.0)
    cancelled = [asyncio.ensure_future(Turns().give()) for _ in range(3)]
    other = asyncio.ensure_future(Turns().give())
    await asyncio.sleep(0)
    for each in cancelled:
        each.cancel()
    await asyncio.wait_for(other, 30)
