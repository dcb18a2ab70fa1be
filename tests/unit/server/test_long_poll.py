"""Long polls without a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from queuelet.clock import now_ns
from queuelet.server.handlers.long_poll import LongPoll
from queuelet.server.lifecycle import Lifecycle
from queuelet.wire.errors import SERVICE
from support.drafts import payload_of
from support.queues import add, make_queue


class _Call:
    service, peer, peer_host, owner = SERVICE, "ipv4:127.0.0.1:1", "127.0.0.1", ""
    seconds_left = None
    metadata: Mapping[str, str] = MappingProxyType({})


async def test_a_pop_that_is_cancelled_once_it_was_woken_wakes_the_next_even_if_others_took_messages() -> None:
    queue = make_queue(now=now_ns())
    polls = LongPoll(Lifecycle())

    async def pop() -> bytes:
        response = polls.take(queue, 60.0, _Call(), b"p", "", lambda: queue.pop(now_ns()))
        assert not isinstance(response, bytes), "it waits"
        return payload_of(await response)

    first, cancelled, last = (asyncio.create_task(pop()) for _ in range(3))
    await asyncio.sleep(0)
    assert len(queue.waiters) == 3
    add(queue, b"one", b"two")  # it wakes the first two
    cancelled.cancel()
    async with asyncio.timeout(30):
        assert {await first, await last} == {b"one", b"two"}
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert not queue.waiters
