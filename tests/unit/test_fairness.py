"""All long work of an event loop waits in one line."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from queuelet import fairness as turns
from queuelet.fairness import Line, TimeSlice


async def test_in_one_pass_of_the_loop_only_one_piece_of_work_has_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", -1.0)
    slices = 0
    most = 0
    done = False

    async def work() -> None:
        nonlocal slices
        mine = TimeSlice("a")
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
    cancelled = [asyncio.ensure_future(TimeSlice("a").give()) for _ in range(3)]
    other = asyncio.ensure_future(TimeSlice("a").give())
    await asyncio.sleep(0)
    for each in cancelled:
        each.cancel()
    await asyncio.wait_for(other, 30)


async def test_the_first_slice_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", -1.0)
    begun = 0

    async def work() -> None:
        nonlocal begun
        await TimeSlice("a").begin()
        begun += 1

    all_of_it = asyncio.gather(*(work() for _ in range(10)))
    most = 0
    while not all_of_it.done():
        before = begun
        await asyncio.sleep(0)
        most = max(most, begun - before)
    assert begun == 10
    assert most == 1


async def test_addresses_get_slices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", -1.0)
    order: list[str] = []

    async def work(peer: str, slices: int) -> None:
        mine = TimeSlice(peer)
        for _ in range(slices):
            await mine.give()
            order.append(peer)

    await asyncio.gather(*(work("greedy", 10) for _ in range(5)), work("modest", 5))
    assert order[:10] == ["greedy", "modest"] * 5


def test_work_leaves_the_rest_of_the_time_to_others() -> None:
    line = Line()
    line.share = 0.25
    began = monotonic()
    for number in range(1, 5):
        line.used(60, began + number * 60)
    assert line.seconds == 240
    assert line.is_busy
    line.share = 1
    idle = Line()
    idle.used(60, began - 100)
    assert not idle.is_busy


async def test_work_waits_until_the_others_had_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(turns, "monotonic", lambda: now)
    line = Line()
    line.share = 0.5
    line.used(0.02, now)
    waiting = asyncio.ensure_future(line.wait("a"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done(), "the clock stands still"
    assert line.waiting == 1
    now += 0.02
    await asyncio.wait_for(waiting, 30)
