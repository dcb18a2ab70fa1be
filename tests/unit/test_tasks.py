"""Tasks: several run side by side until the first of them ends, and a task knows whether it is cancelled itself."""

from __future__ import annotations

import asyncio

import pytest

from queuelet.tasks import first_ended, is_cancelled


async def _forever(cancelled: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        cancelled.append(name)


async def _soon() -> str:
    return "done"


async def test_the_first_is_returned_once_the_others_have_ended() -> None:
    cancelled: list[str] = []
    soon = asyncio.create_task(_soon())
    later = asyncio.create_task(_forever(cancelled, "later"))
    await asyncio.sleep(0)
    assert await first_ended(soon, later) == {soon}
    assert soon.result() == "done"
    assert cancelled == ["later"]
    assert later.cancelled()


async def test_an_error_of_the_first_is_left_to_the_caller() -> None:
    async def fail() -> None:
        raise OSError

    failing = asyncio.create_task(fail())
    cancelled: list[str] = []
    later = asyncio.create_task(_forever(cancelled, "later"))
    await asyncio.sleep(0)
    (ended,) = await first_ended(later, failing)
    with pytest.raises(OSError):  # noqa: PT011  # it has no text
        ended.result()
    assert cancelled == ["later"]


async def test_a_cancellation_ends_all_tasks_and_goes_on() -> None:
    cancelled: list[str] = []
    tasks = [asyncio.create_task(_forever(cancelled, name)) for name in ("one", "two")]
    waiting = asyncio.create_task(first_ended(*tasks))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sorted(cancelled) == ["one", "two"]


async def test_a_task_whose_work_was_cancelled_elsewhere_is_not_cancelled_itself() -> None:
    found: list[bool] = []
    waited_for = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        try:
            await waited_for
        except asyncio.CancelledError:
            found.append(is_cancelled())

    waited_for.cancel()
    await asyncio.create_task(wait())
    waited_for = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await waiting
    assert found == [False, True]
