"""A call of another thread always has an outcome, and leaves no coroutine behind."""

from __future__ import annotations

import asyncio
import gc

import pytest

from queuelet.client.blocking.loop_thread import PendingCall
from queuelet.client.errors import Closed


async def work() -> str:
    return "done"


def test_a_call_that_begins_in_the_last_turn_of_a_loop_is_closed() -> None:
    """Its task never gets a turn. Otherwise Python would warn that it was never awaited, and warnings are errors."""
    loop = asyncio.new_event_loop()
    pending_call = PendingCall(work())
    pending_call.begin(loop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    with pytest.raises(Closed):
        pending_call.result(10)
    del pending_call
    gc.collect()


def test_a_call_of_a_loop_that_is_closed_before_its_turn_is_closed() -> None:
    loop = asyncio.new_event_loop()
    pending_call = PendingCall(work())
    pending_call.begin(loop)
    loop.close()
    with pytest.raises(Closed):
        pending_call.result(10)
    del pending_call
    gc.collect()
